// Conversion between element types, as `ingraft_kernel::cast` does it, to the bit.
#pragma once
#include "float.cuh"

enum Scalar { S_F32, S_F16, S_I8, S_U8, S_BOOL, S_I16, S_I32, S_I64 };

__device__ __forceinline__ float half_value(u16 bits) {
    u32 sign = (u32)(bits & 0x8000) << 16, exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    float magnitude;
    // Zero and subnormals are a whole number of 2^-24.
    if (exponent == 0) magnitude = (float)fraction * 5.9604644775390625e-8f;
    else if (exponent == 0x1f) magnitude = __uint_as_float(0x7f800000 | fraction << 13);
    else magnitude = __uint_as_float((exponent + 112) << 23 | fraction << 13);
    return __uint_as_float(__float_as_uint(magnitude) | sign);
}

/// The nearest binary16, ties to even.
__device__ __forceinline__ u16 half_of(float value) {
    u32 sign = __float_as_uint(value) >> 16 & 0x8000, magnitude = __float_as_uint(value) & 0x7fffffff, half;
    if (magnitude > 0x7f800000) half = 0x7e00;
    else if (magnitude >= 0x477ff000) half = 0x7c00;
    else if (magnitude < 0x38800000) {
        float units = __fadd_rn(__uint_as_float(magnitude) * 16777216.0f, 12582912.0f);
        half = __float_as_uint(units) & 0x7ff;
    } else {
        half = (magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13;
        half -= 112 << 10;
    }
    return (u16)(half | sign);
}

/// Truncated toward zero and saturated; 0 for NaN. `lo` and `hi` are the type's ends, `hi` as a float one past.
__device__ __forceinline__ i64 saturated(float v, i64 lo, i64 hi) {
    if (!(v == v)) return 0;
    if (v <= (float)lo) return lo;
    return v >= (float)hi ? hi : (i64)v;
}

extern "C" __global__ void cast_x_x(const __grid_constant__ Cast p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    bool real = p.from == S_F32 || p.from == S_F16;
    float v = 0.0f;
    i64 n = 0;
    switch (p.from) {
        case S_F32: v = at<const float>(p.input)[index]; break;
        case S_F16: v = half_value(at<const u16>(p.input)[index]); break;
        case S_I8: n = at<const i8>(p.input)[index]; break;
        case S_U8: n = at<const u8>(p.input)[index]; break;
        case S_BOOL: n = at<const u8>(p.input)[index] != 0; break;
        case S_I16: n = at<const i16>(p.input)[index]; break;
        case S_I32: n = at<const i32>(p.input)[index]; break;
        default: n = at<const i64>(p.input)[index];
    }
    if (!real) v = __ll2float_rn(n);
    switch (p.to) {
        case S_F32: at<float>(p.output)[index] = v; break;
        case S_F16: at<u16>(p.output)[index] = half_of(v); break;
        case S_I8: at<i8>(p.output)[index] = (i8)(real ? saturated(v, -128, 127) : n); break;
        case S_U8: at<u8>(p.output)[index] = (u8)(real ? saturated(v, 0, 255) : n); break;
        case S_BOOL: at<u8>(p.output)[index] = real ? v != 0.0f : n != 0; break;
        case S_I16: at<i16>(p.output)[index] = (i16)(real ? saturated(v, -32768, 32767) : n); break;
        case S_I32: at<i32>(p.output)[index] = (i32)(real ? saturated(v, -2147483648ll, 2147483647ll) : n); break;
        default: at<i64>(p.output)[index] = real ? saturated(v, -9223372036854775807ll - 1, 9223372036854775807ll) : n;
    }
}

extern "C" __global__ void recode_x8_x8(const __grid_constant__ Cast p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < p.count) at<u8>(p.output)[index] = at<const u8>(p.input)[index] ^ 0x80;
}
