// f32 softmax and normalization: a warp a row, or a block of GROUP_THREADS where rows are long.
#pragma once
#include "float.cuh"
#include "group.cuh"

/// The row of this thread's group, and the thread's place in the group.
template <i32 SIZE> __device__ __forceinline__ i32 own_row() {
    return blockIdx.x * (blockDim.x / SIZE) + threadIdx.x / SIZE;
}

template <i32 SIZE> __device__ __forceinline__ void softmax(const Softmax& p) {
    i32 row = own_row<SIZE>(), own = threadIdx.x % SIZE;
    if (row >= p.rows) return;
    const float* x = at<const float>(p.input) + (i64)row * p.len;
    float* y = at<float>(p.output) + (i64)row * p.len;
    float most = -INFINITE, sum = 0.0f;
    for (i32 i = own; i < p.len; i += SIZE) most = Larger()(most, x[i]);
    most = together<SIZE>(most, Larger());
    if (p.log) {
        for (i32 i = own; i < p.len; i += SIZE) sum += expf(x[i] - most);
        float log = logf(together<SIZE>(sum, Plus()));
        for (i32 i = own; i < p.len; i += SIZE) y[i] = x[i] - most - log;
        return;
    }
    // The output may be the input: each thread reads an element before it writes it.
    for (i32 i = own; i < p.len; i += SIZE) {
        float e = expf(x[i] - most);
        y[i] = e;
        sum += e;
    }
    sum = together<SIZE>(sum, Plus());
    for (i32 i = own; i < p.len; i += SIZE) y[i] = __fdiv_rn(y[i], sum);
}

extern "C" __global__ void softmax_f32_warp(const __grid_constant__ Softmax p) { softmax<WARP>(p); }
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) softmax_f32_block(const __grid_constant__ Softmax p) {
    softmax<GROUP_THREADS>(p);
}

enum { LAYER, RMS, AFFINE };

template <i32 SIZE> __device__ __forceinline__ void norm(const Norm& p) {
    i32 row = own_row<SIZE>(), own = threadIdx.x % SIZE;
    if (row >= p.rows) return;
    const float* x = at<const float>(p.input) + (i64)row * p.len;
    const float* scale = at<const float>(p.scale);
    const float* shift = at<const float>(p.shift);
    const Terms* terms = at<const Terms>(p.terms);
    // An adapter's pair stands in place of the base's.
    if (terms && terms->scale) {
        scale = at<const float>(terms->scale);
        shift = at<const float>(terms->shift);
    }
    float mean = 0.0f, deviation = 1.0f, sum = 0.0f;
    if (p.kind == LAYER) {
        for (i32 i = own; i < p.len; i += SIZE) sum += x[i];
        mean = __fdiv_rn(together<SIZE>(sum, Plus()), (float)p.len);
        sum = 0.0f;
    }
    if (p.kind != AFFINE) {
        for (i32 i = own; i < p.len; i += SIZE) sum += (x[i] - mean) * (x[i] - mean);
        deviation = __fsqrt_rn(__fdiv_rn(together<SIZE>(sum, Plus()), (float)p.len) + p.epsilon);
    }
    float* y = at<float>(p.output) + (i64)row * p.len;
    for (i32 i = own; i < p.len; i += SIZE) {
        float v = __fdiv_rn(x[i] - mean, deviation);
        if (scale) v *= scale[i];
        if (shift) v += shift[i];
        y[i] = v;
    }
}

extern "C" __global__ void norm_f32_warp(const __grid_constant__ Norm p) { norm<WARP>(p); }
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) norm_f32_block(const __grid_constant__ Norm p) {
    norm<GROUP_THREADS>(p);
}
