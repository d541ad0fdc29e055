// Values that threads of a group hold in common: a warp, or a block of GROUP_THREADS.
#pragma once
#include "types.cuh"

const i32 WARP = 32;
const i32 GROUP_THREADS = 256;

struct Plus {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

/// The larger; the first where there is no larger.
struct Larger {
    __device__ __forceinline__ float operator()(float a, float b) const { return b > a ? b : a; }
};

/// What `combine` makes of the values of all SIZE threads of a group, in each of them.
template <i32 SIZE, class F> __device__ __forceinline__ float together(float value, F combine) {
#pragma unroll
    for (i32 half = WARP / 2; half; half /= 2) value = combine(value, __shfl_xor_sync(~0u, value, half));
    if (SIZE == WARP) return value;
    __shared__ float parts[GROUP_THREADS / WARP];
    __syncthreads();
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    value = parts[0];
#pragma unroll
    for (i32 i = 1; i < GROUP_THREADS / WARP; i++) value = combine(value, parts[i]);
    return value;
}
