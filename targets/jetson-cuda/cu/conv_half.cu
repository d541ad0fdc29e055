// Convolution and linear layers by products in f16, with every real adapter term in the epilogue: the twin of `conv.cu`
// for who asks for it. Activations stay f32 in memory and are rounded as they are read; weights are packed at bind.
//
// A warp takes a tile of pixels and channels, with its operands read in place: no products of others are waited for. A
// block is four warps with pixels of their own, or eight that share out the depth of one tile. Eight rows of an adapter's
// first factor are one more tile of columns, multiplied in TF32, so that no factor is too small.
#pragma once
#include "conv.cu"
#include "half.cuh"

/// Depth that a warp takes in one turn; packed rows are padded to it.
const i32 HALF_DEPTH = 32;
/// Columns of a tensor-core product.
const i32 HALF_COLUMNS = 8;

/// Halves of a packed row, and a channel's factor behind all rows.
__device__ __forceinline__ i32 half_stride(i32 row) { return (row + HALF_DEPTH - 1) / HALF_DEPTH * HALF_DEPTH; }
__device__ __forceinline__ const u16* half_row(const HalfConv& p, i32 channel) {
    return at<const u16>(p.packed) + (i64)channel * half_stride(p.conv.row);
}
__device__ __forceinline__ float half_scale(const HalfConv& p, i32 channel) {
    u64 scales = p.packed + (u64)p.conv.o * half_stride(p.conv.row) * sizeof(u16);
    return __ldg(at<const float>(scales) + channel);
}

/// Packs a row a warp: each multiplied with a power of two (`half_factor`).
extern "C" __global__ void __launch_bounds__(WARP) pack_f16(const __grid_constant__ HalfPack p) {
    follow();
    i32 stride = half_stride(p.row), lane = threadIdx.x;
    const float* from = at<const float>(p.weight) + (i64)blockIdx.x * p.row;
    u16* to = at<u16>(p.packed) + (i64)blockIdx.x * stride;
    float largest = 0.0f;
    for (i32 k = lane; k < p.row; k += WARP) largest = Larger()(largest, fabsf(from[k]));
    largest = together<WARP>(largest, Larger());
    const HalfFactor factor = half_factor(largest);
    for (i32 k = lane; k < stride; k += WARP) to[k] = k < p.row ? to_half(from[k] * factor.to) : 0;
    u64 scales = p.packed + (u64)p.rows * stride * sizeof(u16);
    if (lane == 0) at<float>(scales)[blockIdx.x] = factor.back;
}

/// Eight neighbors of a row's depth of a lane's pixels. Which of them a product takes when is all the same, as long as both
/// sides agree.
template <i32 PIXEL_TILES> struct Eights {
    Fours<4 * PIXEL_TILES> half[2];
};

template <Reading READING, i32 PIXEL_TILES>
__device__ __forceinline__ Eights<PIXEL_TILES> eights_at(const Conv& p, const Patch* patch, i32 group, i32 k) {
    return {{values_at<READING, 4 * PIXEL_TILES>(p, patch, group, k), values_at<READING, 4 * PIXEL_TILES>(p, patch, group, k + 4)}};
}

/// The same of row `line` of `lines` rows of f32, zero past the end. WORDS: such as can be read in fours.
template <bool WORDS> __device__ __forceinline__ void floats_of_row(const float* rows, i32 lines, i32 line, i32 row, i32 k, float* out) {
#pragma unroll
    for (i32 half = 0; half < 2; half++) {
        float4 v = row_at<WORDS>(rows, lines, line, row, k + 4 * half);
        out[4 * half] = v.x;
        out[4 * half + 1] = v.y;
        out[4 * half + 2] = v.z;
        out[4 * half + 3] = v.w;
    }
}

/// Adds products with columns of packed weights, in f16.
template <i32 PIXEL_TILES, i32 TILES>
__device__ __forceinline__ void multiply_columns(const Eights<PIXEL_TILES>& x, const uint4* weights, float (*sums)[TILES][4]) {
    u32 a[PIXEL_TILES][2][4];
#pragma unroll
    for (i32 i = 0; i < PIXEL_TILES; i++) {
#pragma unroll
        for (i32 half = 0; half < 2; half++) {
            const float4 upper = x.half[half].at[2 * i], lower = x.half[half].at[2 * i + 1];
            a[i][half][0] = halves(upper.x, upper.y);
            a[i][half][1] = halves(lower.x, lower.y);
            a[i][half][2] = halves(upper.z, upper.w);
            a[i][half][3] = halves(lower.z, lower.w);
        }
    }
#pragma unroll
    for (i32 n = 0; n < TILES; n++) {
#pragma unroll
        for (i32 i = 0; i < PIXEL_TILES; i++) {
            multiply_halves(sums[i][n], a[i][0], weights[n].x, weights[n].y);
            multiply_halves(sums[i][n], a[i][1], weights[n].z, weights[n].w);
        }
    }
}

/// Adds products with up to eight rows of an adapter's first factor, in TF32.
template <i32 PIXEL_TILES> __device__ __forceinline__ void multiply_ranks(const Eights<PIXEL_TILES>& x, const float* down, float (*low)[4]) {
#pragma unroll
    for (i32 i = 0; i < PIXEL_TILES; i++) {
#pragma unroll
        for (i32 half = 0; half < 2; half++) {
            const float4 upper = x.half[half].at[2 * i], lower = x.half[half].at[2 * i + 1];
            const float first[4] = {upper.x, lower.x, upper.y, lower.y}, second[4] = {upper.z, lower.z, upper.w, lower.w};
            multiply_floats(low[i], first, down[4 * half], down[4 * half + 1]);
            multiply_floats(low[i], second, down[4 * half + 2], down[4 * half + 3]);
        }
    }
}

/// Writes a tensor-core product to columns from `column` on of `tile`.
template <i32 WIDTH> __device__ __forceinline__ void put_floats(float (*tile)[WIDTH], i32 column, const float* sums) {
    i32 g = threadIdx.x % WARP >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (i32 i = 0; i < 4; i++) tile[g + 8 * (i >> 1)][column + 2 * t + (i & 1)] = sums[i];
}

/// SHARES 1: four warps with PIXEL_TILES by TILES products each; else as many warps share one such tile. Weights and rank rows of
/// TURNS turns are in registers at once, the first ones ahead of the wait.
template <Reading READING, i32 PIXEL_TILES, i32 TILES, i32 SHARES, i32 TURNS> __device__ __forceinline__ void conv_half(const HalfConv& whole) {
    const i32 OWN = 16 * PIXEL_TILES, COVERED = SHARES == 1 ? 4 * OWN : OWN, WIDE = HALF_COLUMNS * TILES;
    const i32 THREADS = (SHARES == 1 ? 4 : SHARES) * WARP;
    __shared__ float tile[SHARES][COVERED][WIDE + 8];
    __shared__ float latents[SHARES][COVERED][LOW];
    const Conv& p = whole.conv;
    i32 warp = threadIdx.x / WARP, g = threadIdx.x % WARP >> 2, t = threadIdx.x & 3, group = blockIdx.z;
    i32 first_pixel = blockIdx.x * COVERED, first_channel = blockIdx.y * WIDE;
    i32 columns = min(p.out_group - first_channel, WIDE), channel0 = group * p.out_group + first_channel;
    i32 part = SHARES == 1 ? 0 : warp, own = SHARES == 1 ? warp * OWN : 0;
    Patch patch[2 * PIXEL_TILES];
#pragma unroll
    for (i32 i = 0; i < 2 * PIXEL_TILES; i++) patch[i] = patch_of<READING == UNIT>(p, first_pixel + own + g + 8 * i, group);
    const Terms* terms = at<const Terms>(p.terms);
    const u16* weight = half_row(whole, channel0);
    i32 stride = half_stride(p.row);
    uint4 weights[TURNS][TILES];
    auto hold = [&](i32 turn) {
#pragma unroll
        for (i32 i = 0; i < TURNS; i++) {
            i32 k = (turn + i * SHARES) * HALF_DEPTH + 8 * t;
#pragma unroll
            for (i32 n = 0; n < TILES; n++) {
                i32 column = n * HALF_COLUMNS + g;
                weights[i][n] = {0, 0, 0, 0};
                if (column < columns && k < stride) weights[i][n] = __ldg(reinterpret_cast<const uint4*>(weight + (i64)column * stride + k));
            }
        }
    };
    hold(part);
    Terms entry = {};
    if (terms) entry = *terms;
    i32 rank = entry.factors ? entry.rank : 0;
    const float* down = rank ? at<const float>(entry.down) + (i64)group * rank * p.row : 0;
    // A file has its factors aligned, a vector of parameters has them where they come to stand.
    bool aligned = READING != SINGLE && (reinterpret_cast<u64>(down) & 15) == 0;
    i32 r0 = 0;
    float ranks[TURNS][8] = {};
    auto hold_ranks = [&](i32 turn) {
#pragma unroll
        for (i32 i = 0; i < TURNS; i++) {
            i32 k = (turn + i * SHARES) * HALF_DEPTH + 8 * t;
            const float* rows = down + (i64)r0 * p.row;
            if (aligned) floats_of_row<true>(rows, rank - r0, g, p.row, k, ranks[i]);
            else floats_of_row<false>(rows, rank - r0, g, p.row, k, ranks[i]);
        }
    };
    if (rank) hold_ranks(part);
    // A thread has one channel in every pixel of the epilogue: what belongs to it is read ahead of the products.
    i32 column = threadIdx.x % WIDE, channel = channel0 + column;
    bool mine = column < columns;
    float bias = mine && p.bias ? __ldg(at<const float>(p.bias) + channel) : 0.0f;
    float scale = mine ? half_scale(whole, channel) : 0.0f, up[LOW];
    const float* ups = rank ? at<const float>(entry.up) + (i64)channel * rank : 0;
    auto hold_up = [&] {
#pragma unroll
        for (i32 r = 0; r < LOW; r++) up[r] = mine && r0 + r < rank ? __ldg(ups + r0 + r) : 0.0f;
    };
    hold_up();
    const Affine affine = affine_of(entry, channel, mine);
    follow();
    i32 turns = stride / HALF_DEPTH;
    auto put_latents = [&](float (*low)[4]) {
#pragma unroll
        for (i32 i = 0; i < PIXEL_TILES; i++) put_floats(latents[part] + own + 16 * i, 0, low[i]);
    };
    {
        float sums[PIXEL_TILES][TILES][4] = {}, low[PIXEL_TILES][4] = {};
#pragma unroll 1
        for (i32 turn = part; turn < turns;) {
            Eights<PIXEL_TILES> x[TURNS];
#pragma unroll
            for (i32 i = 0; i < TURNS; i++) x[i] = eights_at<READING, PIXEL_TILES>(p, patch, group, (turn + i * SHARES) * HALF_DEPTH + 8 * t);
#pragma unroll
            for (i32 i = 0; i < TURNS; i++) {
                if (i > 0 && turn + i * SHARES >= turns) break;
                multiply_columns<PIXEL_TILES, TILES>(x[i], weights[i], sums);
                if (rank) multiply_ranks<PIXEL_TILES>(x[i], ranks[i], low);
            }
            turn += TURNS * SHARES;
            if (turn >= turns) break;
            hold(turn);
            if (rank) hold_ranks(turn);
        }
        if (rank) put_latents(low);
#pragma unroll
        for (i32 i = 0; i < PIXEL_TILES; i++) {
#pragma unroll
            for (i32 n = 0; n < TILES; n++) put_floats(tile[part] + own + 16 * i, HALF_COLUMNS * n, sums[i][n]);
        }
    }
    __syncthreads();
    // Once for all columns: the sums of all shares, where the first has its own.
    auto join_latents = [&] {
        if (SHARES == 1 || !rank) return;
        for (i32 index = threadIdx.x; index < COVERED * LOW; index += THREADS) {
            float sum = latents[0][index / LOW][index % LOW];
#pragma unroll
            for (i32 share = 1; share < SHARES; share++) sum += latents[share][index / LOW][index % LOW];
            latents[0][index / LOW][index % LOW] = sum;
        }
        __syncthreads();
    };
    join_latents();
    i32 pixels = p.n * p.oh * p.ow;
    for (;;) {
        bool last = r0 + LOW >= rank;
#pragma unroll 4
        for (i32 local = threadIdx.x / WIDE; local < COVERED; local += THREADS / WIDE) {
            i32 pixel = first_pixel + local;
            if (!mine || pixel >= pixels) break;
            float y = tile[0][local][column];
            if (r0 == 0) {
#pragma unroll
                for (i32 share = 1; share < SHARES; share++) y += tile[share][local][column];
                y = y * scale + bias;
            }
            if (rank) {
#pragma unroll
                for (i32 r = 0; r < LOW; r++) y += up[r] * latents[0][local][r];
            }
            if (last) {
                if (entry.sparse) y += sparse_value(p, *terms, pixel, group, channel);
                at<float>(p.output)[(i64)pixel * p.o + channel] = finished(p, affine, y);
            } else {
                tile[0][local][column] = y;
            }
        }
        if (last) return;
        r0 += LOW;
        hold_up();
        float low[PIXEL_TILES][4] = {};
#pragma unroll 1
        for (i32 turn = part; turn < turns; turn += SHARES) {
            hold_ranks(turn);
            multiply_ranks<PIXEL_TILES>(eights_at<READING, PIXEL_TILES>(p, patch, group, turn * HALF_DEPTH + 8 * t), ranks[0], low);
        }
        __syncthreads();
        put_latents(low);
        __syncthreads();
        join_latents();
    }
}

#define CONV_HALF(name, reading, pixel_tiles, tiles, shares, turns)                                                                 \
    extern "C" __global__ void __launch_bounds__((shares == 1 ? 4 : shares) * WARP, 2) name(const __grid_constant__ HalfConv p) {  \
        conv_half<reading, pixel_tiles, tiles, shares, turns>(p);                                                                   \
    }
CONV_HALF(conv_f16_single_wide, SINGLE, 1, 4, 1, 1)
CONV_HALF(conv_f16_single_split, SINGLE, 1, 4, 8, 1)
CONV_HALF(conv_f16_fours_large, FOURS, 2, 8, 1, 1)
CONV_HALF(conv_f16_fours_wide, FOURS, 1, 4, 1, 2)
CONV_HALF(conv_f16_fours_split, FOURS, 1, 4, 8, 2)
CONV_HALF(conv_f16_unit_large, UNIT, 2, 8, 1, 1)
CONV_HALF(conv_f16_unit_wide, UNIT, 1, 4, 1, 2)
CONV_HALF(conv_f16_unit_split, UNIT, 1, 4, 8, 2)
