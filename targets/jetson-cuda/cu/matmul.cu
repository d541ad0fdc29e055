// Batched products of two activations: f32 in tiles, int8 a thread an element.
#pragma once
#include "float.cuh"
#include "tile.cuh"

template <bool WORDS, i32 SIDE, i32 SLICES> __device__ __forceinline__ void matmul(const MatMul& p) {
    const i32 TILE = 8 * SIDE, THREADS = SLICES * TILE_THREADS;
    __shared__ Shared<SIDE, SLICES> shared;
    i32 tiles = (p.m + TILE - 1) / TILE, batch = blockIdx.x / tiles;
    i32 row0 = blockIdx.x % tiles * TILE, column0 = blockIdx.y * TILE, in_lhs, in_rhs;
    offsets(batch, p.rank, p.extents, p.lhs_strides, p.rhs_strides, in_lhs, in_rhs);
    settled(in_lhs, in_rhs);
    const float* lhs = at<const float>(p.lhs) + (i64)in_lhs * p.m * p.k;
    const float* rhs = at<const float>(p.rhs) + (i64)in_rhs * p.k * p.n;
    follow();
    i32 thread = threadIdx.x % TILE_THREADS;
    auto left = [&](i32 k) {
        Fours<SIDE> out;
#pragma unroll
        for (i32 i = 0; i < SIDE / 2; i++) out.at[i] = row_at<WORDS>(lhs, p.m, row0 + thread / 4 + 16 * i, p.k, k);
        return out;
    };
    auto right = [&](i32 k) {
        Fours<SIDE> out;
        i32 depth = k + depth_of<SIDE>(thread), column = column0 + column_of<SIDE>(thread);
#pragma unroll
        for (i32 i = 0; i < SIDE / 2; i++) out.at[i] = row_at<WORDS>(rhs, p.k, depth + depth_step<SIDE>() * i, p.n, column);
        return out;
    };
    auto low = [](i32, i32) { return 0.0f; };
    Sums<SIDE> sums = {};
    const Held<SIDE> first = hold<SIDE, true, false, false>(own_depth(), right, low);
    tile_products<SIDE, SLICES, true, false, false>(p.k, first, left, right, low, shared.stages, sums);
    share<SIDE, SLICES, true, false>(sums, shared);
    float* out = at<float>(p.output) + (i64)batch * p.m * p.n;
#pragma unroll 4
    for (i32 index = threadIdx.x; index < TILE * TILE; index += THREADS) {
        i32 row = row0 + index / TILE, column = column0 + index % TILE;
        if (row >= p.m || column >= p.n) continue;
        out[(i64)row * p.n + column] = tile_sum<SIDE, SLICES>(shared, index / TILE, index % TILE);
    }
}

#define MATMUL(name, words, side, slices)                                                                         \
    extern "C" __global__ void __launch_bounds__(slices * TILE_THREADS) name(const __grid_constant__ MatMul p) {  \
        matmul<words, side, slices>(p);                                                                           \
    }
MATMUL(matmul_f32_single_wide, false, 4, 1)
MATMUL(matmul_f32_single_small, false, 2, 8)
MATMUL(matmul_f32_fours_wide, true, 4, 1)
MATMUL(matmul_f32_fours_small, true, 2, 8)

extern "C" __global__ void matmul_qs8_qs8_s32(const __grid_constant__ MatMul p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, in_lhs, in_rhs;
    if (index >= p.batches * p.m * p.n) return;
    i32 column = index % p.n, rest = index / p.n, row = rest % p.m;
    offsets(rest / p.m, p.rank, p.extents, p.lhs_strides, p.rhs_strides, in_lhs, in_rhs);
    const i8* lhs = at<const i8>(p.lhs) + ((i64)in_lhs * p.m + row) * p.k;
    const i8* rhs = at<const i8>(p.rhs) + (i64)in_rhs * p.k * p.n + column;
    i32 lhs_zero = at<const i8>(p.lhs_zero)[p.lhs_zeros == 1 ? 0 : row];
    i32 rhs_zero = at<const i8>(p.rhs_zero)[p.rhs_zeros == 1 ? 0 : column];
    u32 sum = 0;
#pragma unroll 8
    for (i32 k = 0; k < p.k; k++) sum += (u32)((fresh(lhs + k) - lhs_zero) * (fresh(rhs + (i64)k * p.n) - rhs_zero));
    at<i32>(p.output)[index] = (i32)sum;
}
