// Products of int8 codes and rows of weights by a warp: 16 pixels by 32 channels with m16n8k32 tensor-core products
// (sm_80 and later; dp4a below).
#pragma once
#include "fragments.cuh"
#include "patch.cuh"

const i32 WARPS = 4;
/// Those of a block.
constexpr i32 warps_of(i32 split) { return split == 1 ? WARPS : split; }
const i32 PIXELS = 16;
const i32 CHANNELS = 32;
const i32 TILES = CHANNELS / 8;

/// Four weights of row `column` of `rows`, zero past the end.
template <bool WORDS>
__device__ __forceinline__ u32 weights_at(const i8* rows, i32 columns, i32 column, i32 row, i32 k) {
    if (column >= columns || k >= row) return 0;
    const i8* from = rows + (i64)column * row + k;
    if (WORDS) return __ldg(reinterpret_cast<const u32*>(from));
    u32 word = 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) word |= k + i < row ? (u32)(u8)__ldg(from + i) << (8 * i) : 0;
    return word;
}

__device__ __forceinline__ i32 dot4(u32 a, u32 b, i32 c) {
    asm("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(c) : "r"(a), "r"(b));
    return c;
}

/// Two codes of sixteen bits by two of the bytes of `b`, the first two or the last.
template <bool LAST> __device__ __forceinline__ i32 dot2(u32 a, u32 b, i32 c) {
    if (LAST) asm("dp2a.hi.s32.s32 %0, %1, %2, %0;" : "+r"(c) : "r"(a), "r"(b));
    else asm("dp2a.lo.s32.s32 %0, %1, %2, %0;" : "+r"(c) : "r"(a), "r"(b));
    return c;
}

__device__ __forceinline__ void multiply(i32* c, const u32* a, u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    shuffled(c, a, b0, b1, [](u32 x, u32 w, i32 sum) { return dot4(x, w, sum); });
#endif
}

typedef i32 Tile[WARPS][PIXELS][CHANNELS];

/// Rank rows that are multiplied beside the weight rows, in one tile of the product.
const i32 BESIDE = 8;

/// Writes a warp's part of a product of `columns` columns.
template <i32 COLUMNS>
__device__ __forceinline__ void put(i32 (*tile)[COLUMNS], i32 n, const i32* sums) {
    i32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    for (i32 i = 0; i < 4; i++) tile[g + 8 * (i >> 1)][n * 8 + 2 * t + (i & 1)] = sums[i];
}

/// Products of this warp's pixels with `columns` rows of `rows`, into its part of `tile`.
///
/// Under CENTER they have the zero point taken off: x is an offset code, and rank rows carry no folded bias.
template <bool WORDS, bool UNIT, i32 SPLIT, bool CENTER>
__device__ __forceinline__ void products(const QConv& p, const Patch* patch, i32 group, const i8* rows, i32 columns,
                                         i32 (*tile)[PIXELS][CHANNELS]) {
    i32 warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    i32 sums[TILES][4] = {}, weights[TILES][4] = {};
    const u32 ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
#pragma unroll (WORDS ? 4 : 1)
    for (i32 block = SPLIT == 1 ? 0 : warp; block * 32 < p.row; block += SPLIT) {
        i32 k = block * 32 + 4 * t;
        u32 a[4];
        if (WORDS) {
            a[0] = codes_at<UNIT>(p, patch[0], group, k);
            a[1] = codes_at<UNIT>(p, patch[1], group, k);
            a[2] = codes_at<UNIT>(p, patch[0], group, k + 16);
            a[3] = codes_at<UNIT>(p, patch[1], group, k + 16);
        } else {
            gather(p, patch, group, k, a);
        }
#pragma unroll
        for (i32 n = 0; n < TILES; n++) {
            u32 b0 = weights_at<WORDS>(rows, columns, n * 8 + g, p.row, k);
            u32 b1 = weights_at<WORDS>(rows, columns, n * 8 + g, p.row, k + 16);
            multiply(sums[n], a, b0, b1);
            if (CENTER) multiply(weights[n], ones, b0, b1);
        }
    }
#pragma unroll
    for (i32 n = 0; n < TILES; n++) {
        if (CENTER) for (i32 i = 0; i < 4; i++) sums[n][i] -= p.in_zero_point * weights[n][i];
        put<CHANNELS>(tile[warp], n, sums[n]);
    }
}

/// A product of a tile: its own with SPLIT 1, else the sum of the parts.
template <i32 SPLIT, i32 COLUMNS>
__device__ __forceinline__ i32 product(const i32 (*tile)[PIXELS][COLUMNS], i32 pixel, i32 column) {
    if (SPLIT == 1) return tile[pixel / PIXELS][pixel % PIXELS][column];
    i32 sum = 0;
#pragma unroll
    for (i32 warp = 0; warp < SPLIT; warp++) sum += tile[warp][pixel][column];
    return sum;
}
