// int8 softmax: a block a row; integer sums, so that no order matters.
#pragma once
#include "types.cuh"

const i32 SOFTMAX_THREADS = 128;

extern "C" __global__ void __launch_bounds__(SOFTMAX_THREADS) softmax_qs8_qs8(const __grid_constant__ QSoftmax p) {
    follow();
    __shared__ i64 shared[SOFTMAX_THREADS];
    const i8* row = at<const i8>(p.input) + (i64)blockIdx.x * p.len;
    const i32* table = at<const i32>(p.table);
    i64 best = -128;
    for (i32 i = threadIdx.x; i < p.len; i += SOFTMAX_THREADS) best = max(best, (i64)row[i]);
    shared[threadIdx.x] = best;
    for (i32 half = SOFTMAX_THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] = max(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
    __syncthreads();
    i32 top = (i32)shared[0];
    i64 sum = 0;
    for (i32 i = threadIdx.x; i < p.len; i += SOFTMAX_THREADS) sum += table[top - row[i]];
    __syncthreads();
    shared[threadIdx.x] = sum;
    for (i32 half = SOFTMAX_THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    __syncthreads();
    float factor = __fdiv_rn(p.inv_scale, __ll2float_rn(shared[0]));
    float lo = (float)(-128 - p.out_zero_point), hi = (float)(127 - p.out_zero_point);
    i8* out = at<i8>(p.output) + (i64)blockIdx.x * p.len;
    for (i32 i = threadIdx.x; i < p.len; i += SOFTMAX_THREADS) {
        out[i] = to_code((float)table[top - row[i]] * factor, lo, hi, p.out_zero_point);
    }
}
