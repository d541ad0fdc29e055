// Functions of one, two and three operands on reals, integers and bools: one thread an element. The codes of
// functions are those of `ingraft_kernel::elementwise`.
#pragma once
#include "float.cuh"

/// Offsets of element `index` of a row-major block in `N` operands.
template <i32 N> __device__ __forceinline__ void walk(i32 index, i32 rank, const i32* extents, const i32* const* strides, i64* at_) {
#pragma unroll
    for (i32 n = 0; n < N; n++) at_[n] = 0;
    if (rank == 1) {
#pragma unroll
        for (i32 n = 0; n < N; n++) at_[n] = (i64)index * strides[n][0];
        return;
    }
#pragma unroll 1
    for (i32 d = rank - 1; d >= 0; d--) {
        i32 rest = index / extents[d], i = index - rest * extents[d];
        index = rest;
#pragma unroll
        for (i32 n = 0; n < N; n++) at_[n] += (i64)i * strides[n][d];
    }
}

enum { ADD, SUB, MUL, DIV, MAX, MIN, POW, MOD, FMOD, PRELU };
enum { EQUAL = 16, LESS, LESS_OR_EQUAL, GREATER, GREATER_OR_EQUAL };
enum { AND = 24, OR, XOR };

__device__ __forceinline__ float binary(i32 function, float a, float b) {
    switch (function) {
        case ADD: return a + b;
        case SUB: return a - b;
        case MUL: return a * b;
        case DIV: return __fdiv_rn(a, b);
        case MAX: return a > b || a != a ? a : b;
        case MIN: return a < b || a != a ? a : b;
        case POW: return powf(a, b);
        case MOD: {
            float rest = fmodf(a, b);
            return rest != 0.0f && (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
        }
        case FMOD: return fmodf(a, b);
        default: return a < 0.0f ? a * b : a;
    }
}

__device__ __forceinline__ i32 product_of(i32 a, i32 b) { return (i32)((u32)a * (u32)b); }
__device__ __forceinline__ i64 product_of(i64 a, i64 b) { return (i64)((u64)a * (u64)b); }
__device__ __forceinline__ i32 sum_of(i32 a, i32 b) { return (i32)((u32)a + (u32)b); }
__device__ __forceinline__ i64 sum_of(i64 a, i64 b) { return (i64)((u64)a + (u64)b); }
__device__ __forceinline__ i32 negative(i32 a) { return (i32)(0u - (u32)a); }
__device__ __forceinline__ i64 negative(i64 a) { return (i64)(0ull - (u64)a); }

/// Truncated toward zero; 0 where there is nothing to divide by, wrapping.
template <class T> __device__ __forceinline__ T quotient(T a, T b) {
    return b == 0 ? 0 : b == -1 ? negative(a) : a / b;
}

template <class T> __device__ __forceinline__ T remainder_of(T a, T b) { return b == 0 || b == -1 ? 0 : a % b; }

/// Exponents that are no u32 leave 1, −1 or 0, as the power truncated toward zero does.
template <class T> __device__ __forceinline__ T power(T base, T exponent) {
    if (exponent < 0 || (i64)exponent > 0xffffffffll) {
        if (base == 1) return 1;
        return base == -1 ? (exponent & 1 ? -1 : 1) : 0;
    }
    T result = 1;
    for (u32 left = (u32)exponent; left; left >>= 1) {
        if (left & 1) result = product_of(result, base);
        base = product_of(base, base);
    }
    return result;
}

template <class T> __device__ __forceinline__ T binary_integer(i32 function, T a, T b) {
    switch (function) {
        case ADD: return sum_of(a, b);
        case SUB: return sum_of(a, negative(b));
        case MUL: return product_of(a, b);
        case DIV: return quotient(a, b);
        case MAX: return a > b ? a : b;
        case MIN: return a < b ? a : b;
        case POW: return power(a, b);
        case MOD: {
            T rest = remainder_of(a, b);
            return rest != 0 && (rest < 0) != (b < 0) ? sum_of(rest, b) : rest;
        }
        case FMOD: return remainder_of(a, b);
        default: return a < 0 ? product_of(a, b) : a;
    }
}

template <class T> __device__ __forceinline__ bool compare(i32 function, T a, T b) {
    switch (function) {
        case EQUAL: return a == b;
        case LESS: return a < b;
        case LESS_OR_EQUAL: return a <= b;
        case GREATER: return a > b;
        default: return a >= b;
    }
}

template <class T, class R, class F> __device__ __forceinline__ void each_pair(const Binary& p, F function) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    const i32* const strides[2] = {p.lhs_strides, p.rhs_strides};
    i64 from[2];
    walk<2>(index, p.rank, p.extents, strides, from);
    at<R>(p.output)[index] = function(at<const T>(p.lhs)[from[0]], at<const T>(p.rhs)[from[1]]);
}

extern "C" __global__ void binary_f32(const __grid_constant__ Binary p) {
    follow();
    // Without a fused activation values pass unchanged, NaN included.
    bool clamped = p.lo > -INFINITE || p.hi < INFINITE;
    each_pair<float, float>(p, [&](float a, float b) {
        float y = binary(p.function, a, b);
        return clamped ? clamp(y, p.lo, p.hi) : y;
    });
}

template <class T> __device__ __forceinline__ void binary_integers(const Binary& p) {
    each_pair<T, T>(p, [&](T a, T b) { return binary_integer(p.function, a, b); });
}

template <class T> __device__ __forceinline__ void comparisons(const Binary& p) {
    each_pair<T, u8>(p, [&](T a, T b) { return (u8)compare(p.function, a, b); });
}

extern "C" __global__ void binary_s32(const __grid_constant__ Binary p) { follow(); binary_integers<i32>(p); }
extern "C" __global__ void binary_s64(const __grid_constant__ Binary p) { follow(); binary_integers<i64>(p); }
extern "C" __global__ void compare_f32(const __grid_constant__ Binary p) { follow(); comparisons<float>(p); }
extern "C" __global__ void compare_s32(const __grid_constant__ Binary p) { follow(); comparisons<i32>(p); }
extern "C" __global__ void compare_s64(const __grid_constant__ Binary p) { follow(); comparisons<i64>(p); }

/// Comparison and logic.
extern "C" __global__ void binary_bool(const __grid_constant__ Binary p) {
    follow();
    each_pair<u8, u8>(p, [&](u8 a, u8 b) {
        switch (p.function) {
            case AND: return (u8)(a != 0 && b != 0);
            case OR: return (u8)(a != 0 || b != 0);
            case XOR: return (u8)((a != 0) != (b != 0));
            default: return (u8)compare(p.function, a, b);
        }
    });
}

__device__ __forceinline__ float sigmoid(float x) { return __fdiv_rn(1.0f, 1.0f + expf(-x)); }

/// Written so that exp never overflows.
__device__ __forceinline__ float softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x))); }

__device__ __forceinline__ float unary(i32 function, float alpha, float beta, float x) {
    switch (function) {
        case 0: {
            float v = x < alpha ? alpha : x;
            return v > beta ? beta : v;
        }
        case 1: return sigmoid(x);
        case 2: return tanhf(x);
        case 3: return expf(x);
        case 4: return logf(x);
        case 5: return __fsqrt_rn(x);
        case 6: return erff(x);
        case 7: return fabsf(x);
        case 8: return -x;
        case 9: return __fdiv_rn(1.0f, x);
        case 10: return floorf(x);
        case 11: return ceilf(x);
        case 12: return rintf(x);
        case 13: return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x * 0.0f;
        case 14: return sinf(x);
        case 15: return cosf(x);
        case 16: return clamp(alpha * x + beta, 0.0f, 1.0f);
        case 17: return x * clamp(__fdiv_rn(x, 6.0f) + 0.5f, 0.0f, 1.0f);
        case 18: return x < 0.0f ? alpha * x : x;
        case 19: return x < 0.0f ? alpha * expm1f(x) : x;
        case 20: return beta * (x > 0.0f ? x : alpha * expm1f(x));
        case 21: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case 22: return 0.5f * x * (1.0f + tanhf(0.7978846f * (x + 0.044715f * x * x * x)));
        case 23: return x * tanhf(softplus(x));
        case 24: return softplus(x);
        case 25: return __fdiv_rn(x, 1.0f + fabsf(x));
        case 26: return x > 0.0f ? x : alpha * expm1f(__fdiv_rn(x, alpha));
        case 27: return x > alpha ? x : 0.0f;
        default: return x * sigmoid(alpha * x);
    }
}

extern "C" __global__ void unary_f32(const __grid_constant__ Unary p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < p.count) at<float>(p.output)[index] = unary(p.function, p.alpha, p.beta, at<const float>(p.input)[index]);
}

extern "C" __global__ void not_bool(const __grid_constant__ Unary p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < p.count) at<u8>(p.output)[index] = at<const u8>(p.input)[index] == 0;
}

template <class T> __device__ __forceinline__ void choose(const Select& p, i32 index, const i64* from) {
    bool first = at<const u8>(p.condition)[from[0]] != 0;
    at<T>(p.output)[index] = first ? at<const T>(p.lhs)[from[1]] : at<const T>(p.rhs)[from[2]];
}

extern "C" __global__ void where_x(const __grid_constant__ Select p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    const i32* const strides[3] = {p.condition_strides, p.lhs_strides, p.rhs_strides};
    i64 from[3];
    walk<3>(index, p.rank, p.extents, strides, from);
    switch (p.size) {
        case 1: choose<u8>(p, index, from); break;
        case 2: choose<u16>(p, index, from); break;
        case 4: choose<u32>(p, index, from); break;
        default: choose<u64>(p, index, from);
    }
}
