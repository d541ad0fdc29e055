// Products of f16 and of f32 rounded to TF32 on tensor cores, summed in f32 (sm_80 and later; below, the same by shuffles).
#pragma once
#include "fragments.cuh"

__device__ __forceinline__ u16 to_half(float v) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
}

__device__ __forceinline__ float from_half(u16 h) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
    return v;
}

/// Four values in two words.
__device__ __forceinline__ float4 four_halves(uint2 v) {
    return make_float4(from_half((u16)v.x), from_half((u16)(v.x >> 16)), from_half((u16)v.y), from_half((u16)(v.y >> 16)));
}

/// The power of two that brings what is largest to 1/2..1, and its inverse.
struct HalfFactor {
    float to, back;
};

__device__ __forceinline__ HalfFactor half_factor(float largest) {
    i32 exponent = min(max((i32)(__float_as_uint(largest) >> 23) - 126, -110), 110);
    return {__uint_as_float((u32)(127 - exponent) << 23), __uint_as_float((u32)(127 + exponent) << 23)};
}

/// Two values in a word, `low` in its lower half.
__device__ __forceinline__ u32 halves(float low, float high) {
#if __CUDA_ARCH__ >= 800
    u32 word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#else
    return to_half(low) | (u32)to_half(high) << 16;
#endif
}

/// 16 pixels by 8 channels of depth 16, in f16.
__device__ __forceinline__ void multiply_halves(float* c, const u32* a, u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    shuffled(c, a, b0, b1, [](u32 x, u32 w, float sum) {
        sum = __fmaf_rn(from_half((u16)x), from_half((u16)w), sum);
        return __fmaf_rn(from_half((u16)(x >> 16)), from_half((u16)(w >> 16)), sum);
    });
#endif
}

/// The same of depth 8, in f32 rounded to TF32: eleven bits of f16, the range of f32.
__device__ __forceinline__ void multiply_floats(float* c, const float* a, float b0, float b1) {
#if __CUDA_ARCH__ >= 800
    u32 left[4], right[2];
#pragma unroll
    for (i32 i = 0; i < 4; i++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(left[i]) : "f"(a[i]));
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(right[0]) : "f"(b0));
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(right[1]) : "f"(b1));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#else
    shuffled(c, a, b0, b1, [](float x, float w, float sum) { return __fmaf_rn(x, w, sum); });
#endif
}
