// Batched products of two activations: f32 in tiles, int8 a thread an element.
#pragma once
#include "float.cuh"
#include "tile.cuh"

template <bool FOURS, i32 SLICES> __device__ __forceinline__ void matmul(const MatMul& p) {
    const i32 THREADS = SLICES * TILE_THREADS;
    __shared__ Shared<SLICES> shared;
    i32 tiles = (p.m + TILE - 1) / TILE, batch = blockIdx.x / tiles;
    i32 row0 = blockIdx.x % tiles * TILE, column0 = blockIdx.y * TILE, in_lhs, in_rhs;
    offsets(batch, p.rank, p.extents, p.lhs_strides, p.rhs_strides, in_lhs, in_rhs);
    const float* lhs = at<const float>(p.lhs) + (i64)in_lhs * p.m * p.k;
    const float* rhs = at<const float>(p.rhs) + (i64)in_rhs * p.k * p.n;
    i32 thread = threadIdx.x % TILE_THREADS, line = thread / 4;
    auto left = [&](i32 k, float4* out) {
        out[0] = row_at<FOURS>(lhs, p.m, row0 + line, p.k, k);
        out[1] = row_at<FOURS>(lhs, p.m, row0 + line + 16, p.k, k);
    };
    auto right = [&](i32 k, float4* out) {
        i32 depth = k + thread / 8, column = column0 + thread % 8 * 4;
        out[0] = row_at<FOURS>(rhs, p.k, depth, p.n, column);
        out[1] = row_at<FOURS>(rhs, p.k, depth + 8, p.n, column);
    };
    auto low = [](i32, i32) { return 0.0f; };
    Sums sums = {};
    tile_products<SLICES, true, false, false>(p.k, left, right, low, shared.stages, sums);
    share<SLICES, true, false>(sums, shared);
    float* out = at<float>(p.output) + (i64)batch * p.m * p.n;
#pragma unroll
    for (i32 index = threadIdx.x; index < TILE * TILE; index += THREADS) {
        i32 row = row0 + index / TILE, column = column0 + index % TILE;
        if (row < p.m && column < p.n) out[(i64)row * p.n + column] = tile_sum(shared, index / TILE, index % TILE);
    }
}

#define MATMUL(name, fours, slices)                                                                               \
    extern "C" __global__ void __launch_bounds__(slices * TILE_THREADS) name(const __grid_constant__ MatMul p) {  \
        matmul<fours, slices>(p);                                                                                 \
    }
MATMUL(matmul_f32_single_wide, false, 1)
MATMUL(matmul_f32_single_split, false, 8)
MATMUL(matmul_f32_fours_wide, true, 1)
MATMUL(matmul_f32_fours_split, true, 8)

extern "C" __global__ void matmul_qs8_qs8_s32(const __grid_constant__ MatMul p) {
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
    for (i32 k = 0; k < p.k; k++) sum += (u32)((__ldg(lhs + k) - lhs_zero) * (__ldg(rhs + (i64)k * p.n) - rhs_zero));
    at<i32>(p.output)[index] = (i32)sum;
}
