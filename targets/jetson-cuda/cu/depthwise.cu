// f32 depthwise convolution: one thread a pixel and four channels; one channel where they are no fours. The
// usual windows are known when compiled: all their loads are under way before the first product.
#pragma once
#include "float.cuh"
#include "tile.cuh"

__device__ __forceinline__ float depthwise_value(const Conv& p, i32 image, i32 y, i32 x, i32 channel) {
    bool inside = (u32)y < (u32)p.h && (u32)x < (u32)p.w;
    return inside ? at<const float>(p.input)[(i64)((image * p.h + y) * p.w + x) * p.c + channel] : 0.0f;
}

/// The sparse term of `channel` at the window that begins at `(y0, x0)`.
__device__ __noinline__ float depthwise_sparse(const Conv p, const Terms& terms, i32 image, i32 y0, i32 x0, i32 channel) {
    const u32* indptr = at<const u32>(terms.indptr);
    float sum = 0.0f;
    for (u32 i = indptr[channel]; i < indptr[channel + 1]; i++) {
        i32 tap = at<const u16>(terms.indices)[i], ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
        i32 y = y0 + ky * p.window.dilation[0], x = x0 + kx * p.window.dilation[1];
        sum += depthwise_value(p, image, y, x, channel) * at<const float>(terms.values)[i];
    }
    return sum;
}

template <i32 LANES, i32 SIZE> __device__ __forceinline__ void depthwise(const Conv& p) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, columns = p.c / LANES;
    if (index >= p.n * p.oh * p.ow * columns) return;
    i32 pixel = index / columns, channel = (index - pixel * columns) * LANES;
    i32 ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, image = rest / p.oh;
    i32 y0 = oy * p.window.stride[0] - p.window.pad[0], x0 = ox * p.window.stride[1] - p.window.pad[1];
    float sums[LANES];
#pragma unroll
    for (i32 i = 0; i < LANES; i++) sums[i] = __ldg(at<const float>(p.bias) + channel + i);
    i32 kernel_h = SIZE ? SIZE : p.window.kernel[0], kernel_w = SIZE ? SIZE : p.window.kernel[1];
    // Larger filters have no room.
    const bool HELD = LANES == 4 && SIZE == 3;
    float4 held[HELD ? SIZE * SIZE : 1];
#pragma unroll
    for (i32 tap = 0; tap < (HELD ? SIZE * SIZE : 0); tap++) {
        held[tap] = __ldg(reinterpret_cast<const float4*>(at<const float>(p.weight) + tap * p.c + channel));
    }
    follow();
#pragma unroll (SIZE ? SIZE : 1)
    for (i32 ky = 0; ky < kernel_h; ky++) {
        i32 y = y0 + ky * p.window.dilation[0];
#pragma unroll (SIZE ? SIZE : 1)
        for (i32 kx = 0; kx < kernel_w; kx++) {
            i32 x = x0 + kx * p.window.dilation[1];
            const float* w = at<const float>(p.weight) + (ky * kernel_w + kx) * p.c + channel;
            if (LANES == 4) {
                bool inside = (u32)y < (u32)p.h && (u32)x < (u32)p.w;
                i64 first = (i64)((image * p.h + y) * p.w + x) * p.c + channel;
                const float* from = at<const float>(p.input) + (inside ? first : 0);
                float4 v = inside ? fresh(reinterpret_cast<const float4*>(from)) : zeros();
                float4 f = HELD ? held[HELD ? ky * SIZE + kx : 0] : __ldg(reinterpret_cast<const float4*>(w));
                const float values[4] = {v.x, v.y, v.z, v.w}, filter[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
                for (i32 i = 0; i < LANES; i++) sums[i] = __fmaf_rn(values[i], filter[i], sums[i]);
            } else {
                sums[0] = __fmaf_rn(*w, depthwise_value(p, image, y, x, channel), sums[0]);
            }
        }
    }
    const Terms* terms = at<const Terms>(p.terms);
#pragma unroll
    for (i32 i = 0; i < LANES; i++) {
        i32 lane = channel + i;
        if (terms && terms->sparse) sums[i] += depthwise_sparse(p, *terms, image, y0, x0, lane);
        if (terms && terms->scale) sums[i] = sums[i] * at<const float>(terms->scale)[lane] + at<const float>(terms->shift)[lane];
        sums[i] = clamp(sums[i], p.lo, p.hi);
    }
    float* to = at<float>(p.output) + (i64)pixel * p.c + channel;
    if (LANES == 4) *reinterpret_cast<float4*>(to) = make_float4(sums[0], sums[1], sums[2], sums[3]);
    else *to = sums[0];
}

extern "C" __global__ void depthwise_f32_three(const __grid_constant__ Conv p) { depthwise<4, 3>(p); }
extern "C" __global__ void depthwise_f32_five(const __grid_constant__ Conv p) { depthwise<4, 5>(p); }
extern "C" __global__ void depthwise_f32_fours(const __grid_constant__ Conv p) { depthwise<4, 0>(p); }
extern "C" __global__ void depthwise_f32_single(const __grid_constant__ Conv p) { depthwise<1, 0>(p); }
