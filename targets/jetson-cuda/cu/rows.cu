// f32 softmax and normalization: a warp a row, or a block of GROUP_THREADS where rows are long.
#pragma once
#include "float.cuh"
#include "group.cuh"

/// The row of this thread's group, and the thread's place in the group.
template <i32 SIZE> __device__ __forceinline__ i32 own_row() {
    return blockIdx.x * (blockDim.x / SIZE) + threadIdx.x / SIZE;
}

/// Elements of a row that a thread keeps in registers, where they are all there are.
const i32 KEPT = 8;

/// A row as the threads of its group see it: each its elements, from registers where the row is short.
template <i32 SIZE> struct Row {
    const float* from;
    i32 len, own;
    bool is_short;
    float kept[KEPT];

    __device__ __forceinline__ Row(const float* row, i32 length) : from(row), len(length), own(threadIdx.x % SIZE) {
        is_short = len <= SIZE * KEPT;
#pragma unroll
        for (i32 i = 0; i < KEPT; i++) kept[i] = is_short && own + i * SIZE < len ? row[own + i * SIZE] : 0.0f;
    }

    /// Calls `visit` with the position and value of every element of this thread.
    template <class F> __device__ __forceinline__ void each(F visit) {
        if (is_short) {
#pragma unroll
            for (i32 i = 0; i < KEPT; i++) {
                if (own + i * SIZE < len) visit(own + i * SIZE, kept[i]);
            }
        } else {
#pragma unroll 4
            for (i32 i = own; i < len; i += SIZE) visit(i, from[i]);
        }
    }
};

template <i32 SIZE> __device__ __forceinline__ void softmax(const Softmax& p) {
    i32 row = own_row<SIZE>();
    if (row >= p.rows) return;
    Row<SIZE> x(at<const float>(p.input) + (i64)row * p.len, p.len);
    float* y = at<float>(p.output) + (i64)row * p.len;
    float most = -INFINITE, sum = 0.0f;
    x.each([&](i32, float v) { most = Larger()(most, v); });
    most = together<SIZE>(most, Larger());
    x.each([&](i32, float v) { sum += expf(v - most); });
    sum = together<SIZE>(sum, Plus());
    float log = logf(sum);
    x.each([&](i32 i, float v) { y[i] = p.log ? v - most - log : __fdiv_rn(expf(v - most), sum); });
}

extern "C" __global__ void softmax_f32_warp(const __grid_constant__ Softmax p) { follow(); softmax<WARP>(p); }
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) softmax_f32_block(const __grid_constant__ Softmax p) {
    follow();
    softmax<GROUP_THREADS>(p);
}

enum { LAYER, RMS, AFFINE };

template <i32 SIZE> __device__ __forceinline__ void norm(const Norm& p) {
    i32 row = own_row<SIZE>();
    if (row >= p.rows) return;
    Row<SIZE> x(at<const float>(p.input) + (i64)row * p.len, p.len);
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
        x.each([&](i32, float v) { sum += v; });
        mean = __fdiv_rn(together<SIZE>(sum, Plus()), (float)p.len);
        sum = 0.0f;
    }
    if (p.kind != AFFINE) {
        x.each([&](i32, float v) { sum += (v - mean) * (v - mean); });
        deviation = __fsqrt_rn(__fdiv_rn(together<SIZE>(sum, Plus()), (float)p.len) + p.epsilon);
    }
    float* y = at<float>(p.output) + (i64)row * p.len;
    x.each([&](i32 i, float v) {
        v = __fdiv_rn(v - mean, deviation);
        if (scale) v *= scale[i];
        if (shift) v += shift[i];
        y[i] = v;
    });
}

extern "C" __global__ void norm_f32_warp(const __grid_constant__ Norm p) { follow(); norm<WARP>(p); }
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) norm_f32_block(const __grid_constant__ Norm p) {
    follow();
    norm<GROUP_THREADS>(p);
}
