// Batched products of two activations in f16, both rounded as they are read: the twin of `matmul.cu` for who asks for it.
//
// A warp takes 16 rows by 32 columns. At each of its depths a lane reads four neighboring columns, one for each of four tensor-core
// products: which columns a product takes is all the same, and so a lane's sums are neighbors in the output. Blocks are four warps with
// rows of their own, or four that share out the depth of one tile.
#pragma once
#include "float.cuh"
#include "half.cuh"
#include "tile.cuh"

const i32 HALF_TILE_ROWS = 16, HALF_TILE_COLUMNS = 32, HALF_WARPS = 4;
/// Depth of a tensor-core product, and how many of them a warp reads at once.
const i32 HALF_STEP = 16, HALF_STEPS = 2;

/// Writes four neighbors of a row.
template <bool WORDS> __device__ __forceinline__ void put_neighbors(const MatMul& p, float* out, i32 row, i32 column, float4 v) {
    if (row >= p.m || column >= p.n) return;
    float* to = out + (i64)row * p.n + column;
    if (WORDS) {
        *reinterpret_cast<float4*>(to) = v;
        return;
    }
    to[0] = v.x;
    if (column + 1 < p.n) to[1] = v.y;
    if (column + 2 < p.n) to[2] = v.z;
    if (column + 3 < p.n) to[3] = v.w;
}

/// LEFT and RIGHT: whether rows of the operands can be read in fours.
template <bool LEFT, bool RIGHT, i32 SHARES> __device__ __forceinline__ void matmul_half(const MatMul& p) {
    const i32 COVERED = HALF_TILE_ROWS * HALF_WARPS / SHARES, RUNS = HALF_TILE_COLUMNS / 4, THREADS = HALF_WARPS * 32;
    i32 warp = threadIdx.x / 32, g = threadIdx.x % 32 >> 2, t = threadIdx.x & 3;
    i32 tiles = (p.m + COVERED - 1) / COVERED, batch = blockIdx.x / tiles, in_lhs, in_rhs;
    i32 first_row = blockIdx.x % tiles * COVERED + (SHARES == 1 ? warp * HALF_TILE_ROWS : 0), row = first_row + g;
    i32 first_column = blockIdx.y * HALF_TILE_COLUMNS;
    offsets(batch, p.rank, p.extents, p.lhs_strides, p.rhs_strides, in_lhs, in_rhs);
    settled(in_lhs, in_rhs);
    const float* lhs = at<const float>(p.lhs) + (i64)in_lhs * p.m * p.k;
    const float* rhs = at<const float>(p.rhs) + (i64)in_rhs * p.k * p.n;
    float* out = at<float>(p.output) + (i64)batch * p.m * p.n;
    follow();
    float sums[4][4] = {};
#pragma unroll 1
    for (i32 step = SHARES == 1 ? 0 : warp; step * HALF_STEP < p.k; step += SHARES * HALF_STEPS) {
        float4 upper[HALF_STEPS], lower[HALF_STEPS], w[HALF_STEPS][4];
#pragma unroll
        for (i32 s = 0; s < HALF_STEPS; s++) {
            i32 k = (step + s * SHARES) * HALF_STEP + 4 * t;
            upper[s] = row_at<LEFT>(lhs, p.m, row, p.k, k);
            lower[s] = row_at<LEFT>(lhs, p.m, row + 8, p.k, k);
#pragma unroll
            for (i32 i = 0; i < 4; i++) w[s][i] = row_at<RIGHT>(rhs, p.k, k + i, p.n, first_column + 4 * g);
        }
#pragma unroll
        for (i32 s = 0; s < HALF_STEPS; s++) {
            const u32 a[4] = {halves(upper[s].x, upper[s].y), halves(lower[s].x, lower[s].y), halves(upper[s].z, upper[s].w),
                              halves(lower[s].z, lower[s].w)};
            multiply_halves(sums[0], a, halves(w[s][0].x, w[s][1].x), halves(w[s][2].x, w[s][3].x));
            multiply_halves(sums[1], a, halves(w[s][0].y, w[s][1].y), halves(w[s][2].y, w[s][3].y));
            multiply_halves(sums[2], a, halves(w[s][0].z, w[s][1].z), halves(w[s][2].z, w[s][3].z));
            multiply_halves(sums[3], a, halves(w[s][0].w, w[s][1].w), halves(w[s][2].w, w[s][3].w));
        }
    }
    // Eight neighbors of two rows: entry `i` of all four products.
    auto run = [&](i32 i) { return make_float4(sums[0][i], sums[1][i], sums[2][i], sums[3][i]); };
    if (SHARES == 1) {
#pragma unroll
        for (i32 i = 0; i < 4; i++) put_neighbors<RIGHT>(p, out, row + 8 * (i >> 1), first_column + 8 * t + 4 * (i & 1), run(i));
        return;
    }
    __shared__ __align__(16) float4 shares[SHARES][HALF_TILE_ROWS][RUNS + 1];
#pragma unroll
    for (i32 i = 0; i < 4; i++) shares[warp][g + 8 * (i >> 1)][2 * t + (i & 1)] = run(i);
    __syncthreads();
#pragma unroll
    for (i32 index = threadIdx.x; index < HALF_TILE_ROWS * RUNS; index += THREADS) {
        float4 sum = shares[0][index / RUNS][index % RUNS];
#pragma unroll
        for (i32 share = 1; share < SHARES; share++) {
            const float4 more = shares[share][index / RUNS][index % RUNS];
            sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
        }
        put_neighbors<RIGHT>(p, out, first_row + index / RUNS, first_column + index % RUNS * 4, sum);
    }
}

#define MATMUL_HALF(name, left, right, shares)                                                                      \
    extern "C" __global__ void __launch_bounds__(HALF_WARPS * 32) name(const __grid_constant__ MatMul p) {           \
        matmul_half<left, right, shares>(p);                                                                         \
    }
MATMUL_HALF(matmul_f16_fours_wide, true, true, 1)
MATMUL_HALF(matmul_f16_fours_split, true, true, 4)
MATMUL_HALF(matmul_f16_left_wide, true, false, 1)
MATMUL_HALF(matmul_f16_left_split, true, false, 4)
MATMUL_HALF(matmul_f16_right_wide, false, true, 1)
MATMUL_HALF(matmul_f16_right_split, false, true, 4)
MATMUL_HALF(matmul_f16_single_wide, false, false, 1)
MATMUL_HALF(matmul_f16_single_split, false, false, 4)
