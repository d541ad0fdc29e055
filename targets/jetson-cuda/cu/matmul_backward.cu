// Gradients of batched products: a block a tile of 32 by 32 of one matrix, through all products that it had a part in.
#pragma once
#include "gradient.cuh"
#include "real_backward.cu"

const i32 SIDE_BACK = 32, BACK_THREADS = 256;

extern "C" __global__ void __launch_bounds__(BACK_THREADS) matmul_backward_f32(const __grid_constant__ MatMulBack p) {
    follow();
    __shared__ float left[SIDE_BACK][SIDE_BACK + 1], right[SIDE_BACK][SIDE_BACK + 1];
    const i32 STEP = BACK_THREADS / SIDE_BACK;
    i32 tiles = (p.rows + SIDE_BACK - 1) / SIDE_BACK, batch = blockIdx.x / tiles;
    i32 row0 = blockIdx.x % tiles * SIDE_BACK, column0 = blockIdx.y * SIDE_BACK, x = threadIdx.x % SIDE_BACK, y = threadIdx.x / SIDE_BACK;
    const i32* const strides[3] = {p.strides[0], p.strides[1], p.strides[2]};
    const i32* const summed[3] = {p.summed_strides[0], p.summed_strides[1], p.summed_strides[2]};
    i64 from[3], more[3];
    walk<3>(batch, p.rank, p.extents, strides, from);
    float sums[SIDE_BACK / STEP] = {};
    for (i32 repeat = 0; repeat < p.repeats; repeat++) {
        walk<3>(repeat, p.summed_rank, p.summed, summed, more);
        // Left: dy [rows, depth], other [columns, depth]. Right: other [depth, rows], dy [depth, columns].
        const float* dy = at<const float>(p.dy) + (from[0] + more[0]) * p.depth * (p.left ? p.rows : p.columns);
        const float* other = at<const float>(p.other) + (from[1] + more[1]) * p.depth * (p.left ? p.columns : p.rows);
        for (i32 depth0 = 0; depth0 < p.depth; depth0 += SIDE_BACK) {
#pragma unroll
            for (i32 i = y; i < SIDE_BACK; i += STEP) {
                if (p.left) {
                    bool deep = depth0 + x < p.depth;
                    left[i][x] = deep && row0 + i < p.rows ? dy[(i64)(row0 + i) * p.depth + depth0 + x] : 0.0f;
                    right[x][i] = deep && column0 + i < p.columns ? other[(i64)(column0 + i) * p.depth + depth0 + x] : 0.0f;
                } else {
                    bool deep = depth0 + i < p.depth;
                    left[x][i] = deep && row0 + x < p.rows ? other[(i64)(depth0 + i) * p.rows + row0 + x] : 0.0f;
                    right[i][x] = deep && column0 + x < p.columns ? dy[(i64)(depth0 + i) * p.columns + column0 + x] : 0.0f;
                }
            }
            __syncthreads();
#pragma unroll 8
            for (i32 k = 0; k < SIDE_BACK; k++) {
#pragma unroll
                for (i32 i = 0; i < SIDE_BACK / STEP; i++) sums[i] = __fmaf_rn(left[y + i * STEP][k], right[k][x], sums[i]);
            }
            __syncthreads();
        }
    }
#pragma unroll
    for (i32 i = 0; i < SIDE_BACK / STEP; i++) {
        i32 row = row0 + y + i * STEP, column = column0 + x;
        if (row < p.rows && column < p.columns) put_gradient(p.dx, (from[2] * p.rows + row) * p.columns + column, p.accumulate, sums[i]);
    }
}
