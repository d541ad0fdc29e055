// f32 depthwise convolution: one thread a pixel and four channels; one channel where they are no fours. The
// usual windows are known when compiled: all their loads are under way before the first product. Terms are read ahead of the wait.
// With weights in f16 (for who asks for it), so are all those of a window of 25 taps; products are f32 ones.
#pragma once
#include "float.cuh"
#include "group.cuh"
#include "half.cuh"
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

/// HALF: weights are packed in f16, and held in registers ahead of the wait whatever the window.
template <i32 LANES, i32 SIZE, bool HALF> __device__ __forceinline__ void depthwise(const Conv& p, u64 packed) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, columns = p.c / LANES;
    if (index >= p.n * p.oh * p.ow * columns) return;
    i32 pixel = index / columns, channel = (index - pixel * columns) * LANES;
    i32 ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, image = rest / p.oh;
    i32 y0 = oy * p.window.stride[0] - p.window.pad[0], x0 = ox * p.window.stride[1] - p.window.pad[1];
    settled(y0, x0);
    Terms entry = {};
    if (p.terms) entry = *at<const Terms>(p.terms);
    i32 kernel_h = SIZE ? SIZE : p.window.kernel[0], kernel_w = SIZE ? SIZE : p.window.kernel[1];
    // In f32, larger filters have no room.
    const bool HELD = LANES == 4 && (HALF || SIZE == 3);
    const i32 TAPS = HELD ? SIZE * SIZE : 1;
    float4 held[TAPS];
    uint2 codes[TAPS];
#pragma unroll
    for (i32 tap = 0; tap < (HELD ? TAPS : 0); tap++) {
        if (HALF) codes[tap] = __ldg(reinterpret_cast<const uint2*>(at<const u16>(packed) + tap * p.c + channel));
        else held[tap] = __ldg(reinterpret_cast<const float4*>(at<const float>(p.weight) + tap * p.c + channel));
    }
    float bias[LANES], factor[LANES], scale[LANES], shift[LANES];
#pragma unroll
    for (i32 i = 0; i < LANES; i++) {
        bias[i] = __ldg(at<const float>(p.bias) + channel + i);
        factor[i] = HALF ? __ldg(at<const float>(packed + (u64)TAPS * p.c * sizeof(u16)) + channel + i) : 1.0f;
        scale[i] = entry.scale ? __ldg(at<const float>(entry.scale) + channel + i) : 1.0f;
        shift[i] = entry.scale ? __ldg(at<const float>(entry.shift) + channel + i) : 0.0f;
    }
    follow();
    float sums[LANES];
#pragma unroll
    for (i32 i = 0; i < LANES; i++) sums[i] = HALF ? 0.0f : bias[i];
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
                const i32 tap = HELD ? ky * SIZE + kx : 0;
                float4 f = HALF ? four_halves(codes[tap]) : HELD ? held[tap] : __ldg(reinterpret_cast<const float4*>(w));
                const float values[4] = {v.x, v.y, v.z, v.w}, filter[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
                for (i32 i = 0; i < LANES; i++) sums[i] = __fmaf_rn(values[i], filter[i], sums[i]);
            } else {
                sums[0] = __fmaf_rn(*w, depthwise_value(p, image, y, x, channel), sums[0]);
            }
        }
    }
#pragma unroll
    for (i32 i = 0; i < LANES; i++) {
        if (HALF) sums[i] = sums[i] * factor[i] + bias[i];
        if (entry.sparse) sums[i] += depthwise_sparse(p, *at<const Terms>(p.terms), image, y0, x0, channel + i);
        if (entry.scale) sums[i] = sums[i] * scale[i] + shift[i];
        sums[i] = clamp(sums[i], p.lo, p.hi);
    }
    float* to = at<float>(p.output) + (i64)pixel * p.c + channel;
    if (LANES == 4) *reinterpret_cast<float4*>(to) = make_float4(sums[0], sums[1], sums[2], sums[3]);
    else *to = sums[0];
}

extern "C" __global__ void depthwise_f32_three(const __grid_constant__ Conv p) { depthwise<4, 3, false>(p, 0); }
extern "C" __global__ void depthwise_f32_five(const __grid_constant__ Conv p) { depthwise<4, 5, false>(p, 0); }
extern "C" __global__ void depthwise_f32_fours(const __grid_constant__ Conv p) { depthwise<4, 0, false>(p, 0); }
extern "C" __global__ void depthwise_f32_single(const __grid_constant__ Conv p) { depthwise<1, 0, false>(p, 0); }
extern "C" __global__ void depthwise_f16_three(const __grid_constant__ HalfConv p) { depthwise<4, 3, true>(p.conv, p.packed); }
extern "C" __global__ void depthwise_f16_five(const __grid_constant__ HalfConv p) { depthwise<4, 5, true>(p.conv, p.packed); }

/// Packs the taps of a channel a thread, as they stand, and behind all of them a factor a channel.
extern "C" __global__ void pack_f16_taps(const __grid_constant__ HalfPack p) {
    follow();
    i32 channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= p.rows) return;
    const float* from = at<const float>(p.weight) + channel;
    float largest = 0.0f;
    for (i32 tap = 0; tap < p.row; tap++) largest = Larger()(largest, fabsf(from[tap * p.rows]));
    const HalfFactor factor = half_factor(largest);
    for (i32 tap = 0; tap < p.row; tap++) at<u16>(p.packed)[tap * p.rows + channel] = to_half(from[tap * p.rows] * factor.to);
    at<float>(p.packed + (u64)p.row * p.rows * sizeof(u16))[channel] = factor.back;
}
