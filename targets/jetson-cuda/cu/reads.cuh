// What a lane reads of a row of codes or weights in one turn of the depth.
//
// Four lanes share a row. A lane reads VEC neighbors at once, which need not be the positions that a tensor-core product has them
// for: sums are the same in any order, as long as codes and weights agree.
#pragma once
#include "product.cuh"

/// Words of a lane in a turn, and the depth that four lanes cover.
template <i32 VEC> constexpr i32 words_of_turn() { return VEC == 16 ? 4 : 2; }
template <i32 VEC> constexpr i32 depth_of_turn() { return 16 * words_of_turn<VEC>(); }

/// Where the part of this lane begins in turn `turn`; with VEC below 8 its second word lies 16 behind.
template <i32 VEC> __device__ __forceinline__ i32 place_of_turn(i32 turn) {
    return turn * depth_of_turn<VEC>() + (VEC < 8 ? 4 : VEC) * (threadIdx.x & 3);
}

/// Where the codes of two pixels lie.
template <i32 VEC> struct Sources {
    Patch patch[2];
    const i8* from[2];               // of a window of one tap: what this lane reads in turn 0
    i32 row[2];                      // and how far its row goes, 0 in the padding
    i32 bytes[VEC == 1 ? 8 : 1][2];  // where rows are no whole words: elements of a turn, below 0 in the padding
};

/// Finds the elements of turn `turn`.
template <i32 VEC> __device__ __forceinline__ void find_bytes(const QConv& p, i32 group, i32 turn, Sources<VEC>& sources) {
#pragma unroll
    for (i32 i = 0; i < (VEC == 1 ? 8 : 0); i++) {
        i32 k = place_of_turn<VEC>(turn) + (i & 3) + 16 * (i >> 2), tap = k / p.in_group, channel = k - tap * p.in_group;
        i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
#pragma unroll
        for (i32 pixel = 0; pixel < 2; pixel++) {
            const Patch& patch = sources.patch[pixel];
            i32 y = patch.y + ky * p.window.dilation[0], x = patch.x + kx * p.window.dilation[1];
            bool inside = patch.valid && k < p.row && (u32)y < (u32)p.h && (u32)x < (u32)p.w;
            i32 place = ((patch.image * p.h + y) * p.w + x) * p.c + group * p.in_group + channel;
            sources.bytes[i][pixel] = inside ? place : -1;
        }
    }
}

/// Those of `pixel` and the eighth behind it; what takes long to find is found ahead of the wait.
template <i32 VEC, bool UNIT> __device__ __forceinline__ Sources<VEC> sources_of(const QConv& p, i32 pixel, i32 group, i32 turn) {
    Sources<VEC> sources;
#pragma unroll
    for (i32 i = 0; i < 2; i++) {
        sources.patch[i] = patch_of<UNIT>(p, pixel + 8 * i, group);
        if (!UNIT) {
            settled(sources.patch[i].y, sources.patch[i].x);
            continue;
        }
        bool inside = sources.patch[i].valid && sources.patch[i].first >= 0;
        sources.row[i] = inside ? p.row : 0;
        sources.from[i] = at<const i8>(p.input) + (inside ? sources.patch[i].first : 0) + place_of_turn<VEC>(0);
        settled((i32)reinterpret_cast<u64>(sources.from[i]), sources.row[i]);
    }
    find_bytes(p, group, turn, sources);
#pragma unroll
    for (i32 i = 0; i < (VEC == 1 ? 8 : 0); i++) settled(sources.bytes[i][0], sources.bytes[i][1]);
    return sources;
}

/// The codes of two pixels, the zero point in the padding. What stands behind a row meets weights of zero, what stands for pixels that
/// are not there nobody reads.
template <i32 VEC, bool UNIT>
__device__ __forceinline__ void read_codes(const QConv& p, const Sources<VEC>& sources, i32 group, i32 turn,
                                           u32 (*out)[words_of_turn<VEC>()]) {
    i32 k = place_of_turn<VEC>(turn);
    if (VEC == 1) {
        u32 codes[8][2];
#pragma unroll
        for (i32 i = 0; i < 8; i++) {
#pragma unroll
            for (i32 pixel = 0; pixel < 2; pixel++) {
                i32 place = sources.bytes[VEC == 1 ? i : 0][pixel];
                codes[i][pixel] = (u8)(place >= 0 ? (i32)fresh(at<const i8>(p.input) + place) : p.in_zero_point);
            }
        }
#pragma unroll
        for (i32 i = 0; i < 4; i++) {
            const i32 pixel = i & 1, first = 4 * (i >> 1);
            out[pixel][i >> 1] = codes[first][pixel] | codes[first + 1][pixel] << 8 | codes[first + 2][pixel] << 16 | codes[first + 3][pixel] << 24;
        }
        return;
    }
    i32 channel = k, ky = 0, kx = 0;
    if (VEC >= 8 && !UNIT) {
        i32 tap = k / p.in_group;
        channel = k - tap * p.in_group;
        ky = tap / p.window.kernel[1];
        kx = tap - ky * p.window.kernel[1];
    }
    const u32 fill = 0x01010101u * (u8)p.in_zero_point;
#pragma unroll
    for (i32 pixel = 0; pixel < 2; pixel++) {
        const Patch& patch = sources.patch[pixel];
        if (VEC == 4) {
            out[pixel][0] = codes_at<UNIT>(p, patch, group, k);
            out[pixel][1] = codes_at<UNIT>(p, patch, group, k + 16);
            continue;
        }
        bool inside = k < sources.row[pixel];
        const i8* from = sources.from[pixel] + turn * depth_of_turn<VEC>();
        if (!UNIT) {
            i32 y = patch.y + ky * p.window.dilation[0], x = patch.x + kx * p.window.dilation[1];
            inside = patch.valid && k < p.row && (u32)y < (u32)p.h && (u32)x < (u32)p.w;
            from = at<const i8>(p.input) + (i64)((patch.image * p.h + y) * p.w + x) * p.c + group * p.in_group + channel;
        }
        if (VEC == 16) {
            uint4 v = {fill, fill, fill, fill};
            if (inside) v = fresh(reinterpret_cast<const uint4*>(from));
            out[pixel][0] = v.x;
            out[pixel][1] = v.y;
            out[pixel][words_of_turn<VEC>() - 2] = v.z;
            out[pixel][words_of_turn<VEC>() - 1] = v.w;
        } else {
            uint2 v = {fill, fill};
            if (inside) v = fresh(reinterpret_cast<const uint2*>(from));
            out[pixel][0] = v.x;
            out[pixel][1] = v.y;
        }
    }
}

/// The weights of row `column` of `columns` rows, zero past the end.
template <i32 VEC>
__device__ __forceinline__ void read_weights(const i8* rows, i32 columns, i32 column, i32 row, i32 turn, u32* out) {
    i32 k = place_of_turn<VEC>(turn);
    if (VEC < 8) {
        out[0] = weights_at<VEC == 4>(rows, columns, column, row, k);
        out[1] = weights_at<VEC == 4>(rows, columns, column, row, k + 16);
        return;
    }
    bool known = column < columns && k < row;
    const i8* from = rows + (known ? (i64)column * row + k : 0);
    if (VEC == 16) {
        uint4 v = {0, 0, 0, 0};
        if (known) v = __ldg(reinterpret_cast<const uint4*>(from));
        out[0] = v.x;
        out[1] = v.y;
        out[words_of_turn<VEC>() - 2] = v.z;
        out[words_of_turn<VEC>() - 1] = v.w;
    } else {
        uint2 v = {0, 0};
        if (known) v = __ldg(reinterpret_cast<const uint2*>(from));
        out[0] = v.x;
        out[1] = v.y;
    }
}

/// The sums of a turn's weights.
template <i32 WORDS> __device__ __forceinline__ void add_weights(i32* sums, const u32* weights) {
    const u32 ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
#pragma unroll
    for (i32 i = 0; i < WORDS; i += 2) multiply(sums, ones, weights[i], weights[i + 1]);
}

/// Adds the products of a turn to `sums`.
template <i32 WORDS> __device__ __forceinline__ void multiply_turn(i32* sums, const u32 (*codes)[WORDS], const u32* weights) {
#pragma unroll
    for (i32 i = 0; i < WORDS; i += 2) {
        const u32 a[4] = {codes[0][i], codes[1][i], codes[0][i + 1], codes[1][i + 1]};
        multiply(sums, a, weights[i], weights[i + 1]);
    }
}
