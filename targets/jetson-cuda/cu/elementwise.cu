// Additions, multiplications, tables, changes of scale: one thread an element.
#pragma once
#include "types.cuh"

/// Writes element `index` as a code, and its bit of the mask where there is one.
template <typename P> __device__ __forceinline__ void put_code(const P& p, i32 index, bool known, float v) {
    if (known) at<i8>(p.output)[index] = to_code(v == v ? v : 0.0f, p.lo, p.hi, p.out_zero_point);
    if (p.mask) put_mask(p.mask, index, true, ~0u, known, passes(v, p.lo, p.hi));
}

extern "C" __global__ void add_qs8_qs8_qs8(const __grid_constant__ Pair p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, a, b;
    bool known = index < p.count;
    offsets(known ? index : 0, p.rank, p.extents, p.lhs_strides, p.rhs_strides, a, b);
    float left = (float)(at<const i8>(p.lhs)[a] - p.zero_points[0]) * p.factors[0];
    float right = (float)(at<const i8>(p.rhs)[b] - p.zero_points[1]) * p.factors[1];
    put_code(p, index, known, left + right);
}

/// Four elements a thread: operands of one shape whose count is whole words, without a mask.
extern "C" __global__ void add_qs8_fours(const __grid_constant__ Pair p) {
    i32 index = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    lead();
    follow();
    if (index >= p.count) return;
    u32 lhs = fresh(reinterpret_cast<const u32*>(at<const i8>(p.lhs) + index));
    u32 rhs = fresh(reinterpret_cast<const u32*>(at<const i8>(p.rhs) + index)), out = 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) {
        float left = (float)((i8)(lhs >> (8 * i)) - p.zero_points[0]) * p.factors[0];
        float right = (float)((i8)(rhs >> (8 * i)) - p.zero_points[1]) * p.factors[1], v = left + right;
        out |= (u32)(u8)to_code(v == v ? v : 0.0f, p.lo, p.hi, p.out_zero_point) << (8 * i);
    }
    *reinterpret_cast<u32*>(at<i8>(p.output) + index) = out;
}

extern "C" __global__ void mul_qs8_qs8_qs8(const __grid_constant__ Pair p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, a, b;
    bool known = index < p.count;
    offsets(known ? index : 0, p.rank, p.extents, p.lhs_strides, p.rhs_strides, a, b);
    i32 product = (at<const i8>(p.lhs)[a] - p.zero_points[0]) * (at<const i8>(p.rhs)[b] - p.zero_points[1]);
    put_code(p, index, known, (float)product * p.factors[0]);
}

extern "C" __global__ void lookup_qs8_qs8(const __grid_constant__ Lookup p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    at<i8>(p.output)[index] = at<const i8>(p.table)[at<const i8>(p.input)[index] + 128];
}

extern "C" __global__ void quantize_f32_qs8(const __grid_constant__ Rescale p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    bool known = index < p.count;
    put_code(p, index, known, known ? __fdiv_rn(at<const float>(p.input)[index], p.out_scale) : 0.0f);
}

/// The same of four, as above.
extern "C" __global__ void quantize_f32_fours(const __grid_constant__ Rescale p) {
    i32 index = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    lead();
    follow();
    if (index >= p.count) return;
    const float4 real = fresh(reinterpret_cast<const float4*>(at<const float>(p.input) + index));
    const float values[4] = {real.x, real.y, real.z, real.w};
    u32 out = 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) {
        float v = __fdiv_rn(values[i], p.out_scale);
        out |= (u32)(u8)to_code(v == v ? v : 0.0f, p.lo, p.hi, p.out_zero_point) << (8 * i);
    }
    *reinterpret_cast<u32*>(at<i8>(p.output) + index) = out;
}

extern "C" __global__ void requantize_qs8_qs8(const __grid_constant__ Rescale p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    bool known = index < p.count;
    float real = known ? (float)(at<const i8>(p.input)[index] - p.in_zero_point) * p.in_scale : 0.0f;
    put_code(p, index, known, __fdiv_rn(real, p.out_scale));
}

extern "C" __global__ void dequantize_qs8_f32(const __grid_constant__ Rescale p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    at<float>(p.output)[index] = (float)(at<const i8>(p.input)[index] - p.in_zero_point) * p.in_scale;
}

extern "C" __global__ void dequantize_s32_f32(const __grid_constant__ Rescale p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    at<float>(p.output)[index] = (float)(at<const i32>(p.input)[index] - p.in_zero_point) * p.in_scale;
}
