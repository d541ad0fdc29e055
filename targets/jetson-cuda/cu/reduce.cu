// Reductions over any axes. A block computes LANES results with PARTS threads each. Where results lie side by
// side, so do the threads of one part (SIDE); else the threads of one result, which read its elements in order.
#pragma once
#include "arithmetic.cu"
#include "group.cuh"

enum { R_SUM, R_MEAN, R_MAX, R_MIN, R_PROD, R_L1, R_L2, R_SUM_SQUARE, R_LOG_SUM, R_LOG_SUM_EXP };

__device__ __forceinline__ i64 place_of(i32 index, i32 rank, const i32* extents, const i32* strides) {
    i64 place;
    const i32* const one[1] = {strides};
    walk<1>(index, rank, extents, one, &place);
    return place;
}

/// What one element is before it is combined.
__device__ __forceinline__ float element(i32 function, float x, float shift) {
    switch (function) {
        case R_MIN: return -x;
        case R_L1: return fabsf(x);
        case R_L2:
        case R_SUM_SQUARE: return x * x;
        case R_LOG_SUM_EXP: return expf(x - shift);
        default: return x;
    }
}

template <class T> __device__ __forceinline__ T element(i32 function, T x, T) {
    switch (function) {
        case R_L1: return x < 0 ? negative(x) : x;
        case R_SUM_SQUARE: return product_of(x, x);
        default: return x;
    }
}

__device__ __forceinline__ float identity(i32 function, float) {
    return function == R_MAX || function == R_MIN ? -INFINITE : function == R_PROD ? 1.0f : 0.0f;
}

template <class T> __device__ __forceinline__ T identity(i32 function, T) {
    const T least = (T)((T)1 << (sizeof(T) * 8 - 1));
    return function == R_MAX ? least : function == R_MIN ? ~least : function == R_PROD ? 1 : 0;
}

/// The larger; NaN where there is one.
__device__ __forceinline__ float largest(float a, float b) { return b > a || b != b ? b : a; }

__device__ __forceinline__ float combine(i32 function, float a, float b) {
    if (function == R_MAX || function == R_MIN) return largest(a, b);
    return function == R_PROD ? a * b : a + b;
}

template <class T> __device__ __forceinline__ T combine(i32 function, T a, T b) {
    switch (function) {
        case R_MAX: return a > b ? a : b;
        case R_MIN: return a < b ? a : b;
        case R_PROD: return product_of(a, b);
        default: return sum_of(a, b);
    }
}

/// What reductions of a type read and write, and the loads they have under way.
struct Reals {
    typedef float Value;
    static const i32 LOADS = 4;
    static __device__ __forceinline__ float load(const Reduce& p, i64 place) { return at<const float>(p.input)[place]; }
    static __device__ __forceinline__ void write(const Reduce& p, i32 result, float v, float shift) {
        switch (p.function) {
            case R_MEAN: v = __fdiv_rn(v, (float)p.count); break;
            case R_MIN: v = -v; break;
            case R_L2: v = __fsqrt_rn(v); break;
            case R_LOG_SUM: v = logf(v); break;
            case R_LOG_SUM_EXP: v = shift + logf(v); break;
        }
        at<float>(p.output)[result] = v;
    }
};

template <class T> struct Integers {
    typedef T Value;
    static const i32 LOADS = 1;
    static __device__ __forceinline__ T load(const Reduce& p, i64 place) { return at<const T>(p.input)[place]; }
    static __device__ __forceinline__ void write(const Reduce& p, i32 result, T v, T) {
        at<T>(p.output)[result] = p.function == R_MEAN ? quotient(v, (T)p.count) : v;
    }
};

/// The mean's divisor is in the factor.
struct Codes {
    typedef i32 Value;
    static const i32 LOADS = 1;
    static __device__ __forceinline__ i32 load(const Reduce& p, i64 place) { return at<const i8>(p.input)[place] - p.in_zero_point; }
    static __device__ __forceinline__ void write(const Reduce& p, i32 result, i32 v, i32) {
        at<i8>(p.output)[result] = to_code((float)v * p.factor, p.lo, p.hi, p.out_zero_point);
    }
};

template <class K, i32 LANES, i32 PARTS, bool SIDE> __device__ __forceinline__ void reduce(const Reduce& p) {
    typedef typename K::Value T;
    __shared__ T shared[PARTS][LANES];
    i32 lane = SIDE ? threadIdx.x % LANES : threadIdx.x / PARTS, part = SIDE ? threadIdx.x / LANES : threadIdx.x % PARTS;
    i32 result = blockIdx.x * LANES + lane;
    bool valid = result < p.results;
    i64 first = valid ? place_of(result, p.kept_rank, p.kept, p.kept_strides) : 0;
    auto reduced = [&](i32 function, T shift) {
        T value = identity(function, T());
#pragma unroll (K::LOADS)
        for (i32 i = part; valid && i < p.count; i += PARTS) {
            i64 place = first + place_of(i, p.reduced_rank, p.reduced, p.reduced_strides);
            value = combine(function, value, element(function, K::load(p, place), shift));
        }
        __syncthreads();
        shared[part][lane] = value;
#pragma unroll 1
        for (i32 half = PARTS / 2; half; half /= 2) {
            __syncthreads();
            if (part < half) shared[part][lane] = combine(function, shared[part][lane], shared[part + half][lane]);
        }
        __syncthreads();
        return shared[0][lane];
    };
    T shift = T();
    if (p.function == R_LOG_SUM_EXP) {
        T most = reduced(R_MAX, shift);
        // A largest element of infinity is the result; subtracting it would make NaN.
        shift = most > -INFINITE && most < INFINITE ? most : T();
    }
    T value = reduced(p.function, shift);
    if (valid && part == 0) K::write(p, result, value, shift);
}

const i32 DEEP_THREADS = 1024;

#define REDUCE(type, kind)                                                                                              \
    extern "C" __global__ void __launch_bounds__(GROUP_THREADS) reduce_##type##_side(const __grid_constant__ Reduce p) { \
        follow();                                                                                                        \
        reduce<kind, 32, 8, true>(p);                                                                                   \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(GROUP_THREADS) reduce_##type##_rows(const __grid_constant__ Reduce p) { \
        follow();                                                                                                        \
        reduce<kind, 8, 32, false>(p);                                                                                  \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(GROUP_THREADS) reduce_##type##_one(const __grid_constant__ Reduce p) {  \
        follow();                                                                                                        \
        reduce<kind, 1, 256, false>(p);                                                                                 \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(DEEP_THREADS) reduce_##type##_deep(const __grid_constant__ Reduce p) {  \
        follow();                                                                                                        \
        reduce<kind, 8, 128, true>(p);                                                                                  \
    }
REDUCE(f32, Reals)
REDUCE(s32, Integers<i32>)
REDUCE(s64, Integers<i64>)
REDUCE(qs8, Codes)

/// Whether `v` at `i` comes before `best` at `have`. NaN is never the extreme.
template <class T> __device__ __forceinline__ bool better(const ArgReduce& p, T v, i32 i, T best, i32 have) {
    if (best != best) return v == v || i < have;
    if (v == best) return p.last ? i > have : i < have;
    return p.smallest ? v < best : v > best;
}

/// A warp a result.
template <class T> __device__ __forceinline__ void arg_reduce(const ArgReduce& p) {
    i32 result = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (result >= p.results) return;
    i64 first = (i64)(result / p.inner) * p.extent * p.inner + result % p.inner;
    // A lane past the end repeats the first element.
    i32 have = lane < p.extent ? lane : 0;
    T best = at<const T>(p.input)[first + (i64)have * p.inner];
    for (i32 i = lane + WARP; i < p.extent; i += WARP) {
        T v = at<const T>(p.input)[first + (i64)i * p.inner];
        if (better(p, v, i, best, have)) best = v, have = i;
    }
#pragma unroll
    for (i32 half = WARP / 2; half; half /= 2) {
        T v = __shfl_xor_sync(~0u, best, half);
        i32 i = __shfl_xor_sync(~0u, have, half);
        if (better(p, v, i, best, have)) best = v, have = i;
    }
    if (lane == 0) at<i64>(p.output)[result] = have;
}

extern "C" __global__ void arg_f32(const __grid_constant__ ArgReduce p) { follow(); arg_reduce<float>(p); }
extern "C" __global__ void arg_qs8(const __grid_constant__ ArgReduce p) { follow(); arg_reduce<i8>(p); }
extern "C" __global__ void arg_s32(const __grid_constant__ ArgReduce p) { follow(); arg_reduce<i32>(p); }
extern "C" __global__ void arg_s64(const __grid_constant__ ArgReduce p) { follow(); arg_reduce<i64>(p); }
