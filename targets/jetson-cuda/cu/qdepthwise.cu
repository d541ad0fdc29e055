// int8 depthwise convolution: one thread a pixel and four channels, which are one word; one channel
// where the channels are no whole words. The usual windows are known when compiled: all their loads are
// under way before the first product.
#pragma once
#include "types.cuh"

__device__ __forceinline__ i32 depthwise_code(const QConv& p, i32 image, i32 y, i32 x, i32 channel) {
    if ((u32)y >= (u32)p.h || (u32)x >= (u32)p.w) return p.in_zero_point;
    return at<const i8>(p.input)[(i64)((image * p.h + y) * p.w + x) * p.c + channel];
}

/// What a delta of every weight adds, in input steps.
__device__ __noinline__ float depthwise_dense(const QConv& p, const Terms& terms, i32 image, i32 y0, i32 x0, i32 channel) {
    float sum = 0.0f;
    for (i32 ky = 0; ky < p.window.kernel[0]; ky++) {
        for (i32 kx = 0; kx < p.window.kernel[1]; kx++) {
            i32 y = y0 + ky * p.window.dilation[0], x = x0 + kx * p.window.dilation[1];
            float code = (float)(depthwise_code(p, image, y, x, channel) - p.in_zero_point);
            sum += at<const float>(terms.dense)[(ky * p.window.kernel[1] + kx) * p.c + channel] * code;
        }
    }
    return sum;
}

/// TRAIN: with a mask, and a delta of every weight.
template <i32 LANES, i32 SIZE, bool TRAIN> __device__ __forceinline__ void qdepthwise(const QConv& p) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, columns = p.c / LANES;
    bool known = index < p.n * p.oh * p.ow * columns;
    if (!known) {
        if (!TRAIN || !p.mask) return;
        // Lanes past the end take part in writing the mask.
        index = 0;
    }
    i32 pixel = index / columns, channel = (index - pixel * columns) * LANES;
    i32 ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, image = rest / p.oh;
    i32 y0 = oy * p.window.stride[0] - p.window.pad[0], x0 = ox * p.window.stride[1] - p.window.pad[1];
    const Terms* terms = at<const Terms>(p.terms);
    const i8* weight = at<const i8>(p.weight);
    const i32* bias = at<const i32>(p.bias);
    if (terms && terms->weight) {
        weight = at<const i8>(terms->weight);
        bias = at<const i32>(terms->bias);
    }
    i32 acc[LANES];
    for (i32 i = 0; i < LANES; i++) acc[i] = bias[channel + i];
    i32 kernel_h = SIZE ? SIZE : p.window.kernel[0], kernel_w = SIZE ? SIZE : p.window.kernel[1];
    u32 filter[SIZE ? SIZE * SIZE : 1];
#pragma unroll
    for (i32 tap = 0; tap < SIZE * SIZE; tap++) filter[tap] = __ldg(reinterpret_cast<const u32*>(weight + tap * p.c + channel));
    follow();
    const u32 outside = 0x01010101u * (u8)p.in_zero_point;
#pragma unroll (SIZE ? SIZE : 1)
    for (i32 ky = 0; ky < kernel_h; ky++) {
        i32 y = y0 + ky * p.window.dilation[0];
#pragma unroll (SIZE ? SIZE : 1)
        for (i32 kx = 0; kx < kernel_w; kx++) {
            i32 x = x0 + kx * p.window.dilation[1];
            const i8* w = weight + (ky * kernel_w + kx) * p.c + channel;
            if (LANES == 4) {
                bool inside = (u32)y < (u32)p.h && (u32)x < (u32)p.w;
                i64 first = (i64)((image * p.h + y) * p.w + x) * p.c + channel;
                u32 codes = inside ? fresh(reinterpret_cast<const u32*>(at<const i8>(p.input) + first)) : outside;
                u32 weights = SIZE ? filter[ky * SIZE + kx] : __ldg(reinterpret_cast<const u32*>(w));
#pragma unroll
                for (i32 i = 0; i < LANES; i++) acc[i] += (i32)(i8)(weights >> (8 * i)) * (i32)(i8)(codes >> (8 * i));
            } else {
                acc[0] += (i32)w[0] * depthwise_code(p, image, y, x, channel);
            }
        }
    }
    u32 out = 0, open = 0;
#pragma unroll
    for (i32 i = 0; i < LANES; i++) {
        i32 lane = channel + i;
        float real = 0.0f;
        if (TRAIN && terms && terms->dense) real = depthwise_dense(p, *terms, image, y0, x0, lane);
        if (terms && terms->sparse) {
            const u32* indptr = at<const u32>(terms->indptr);
            for (u32 j = indptr[lane]; j < indptr[lane + 1]; j++) {
                i32 tap = at<const u16>(terms->indices)[j], ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
                i32 code = depthwise_code(p, image, y0 + ky * p.window.dilation[0], x0 + kx * p.window.dilation[1], lane);
                code -= p.in_zero_point;
                if (terms->sparse == 1) acc[i] += code * at<const i16>(terms->values)[j];
                else real += (float)code * at<const float>(terms->values)[j];
            }
        }
        float v = (float)acc[i] * at<const float>(p.multiplier)[lane];
        if (terms && (terms->sparse == 2 || TRAIN && terms->dense)) v += real * p.in_scale * p.inv_out_scale;
        if (terms && terms->scale) v = v * at<const float>(terms->scale)[lane] + at<const float>(terms->shift)[lane] * p.inv_out_scale;
        out |= (u32)(u8)to_code(v, p.lo, p.hi, p.out_zero_point) << (8 * i);
        if (TRAIN) open |= (u32)passes(v, p.lo, p.hi) << i;
    }
    i8* to = at<i8>(p.output) + (i64)pixel * p.c + channel;
    if (LANES == 1) {
        if (known) *to = (i8)out;
        if (TRAIN && p.mask) put_mask(p.mask, index, true, ~0u, known, open);
        return;
    }
    if (known) *reinterpret_cast<u32*>(to) = out;
    if (TRAIN && p.mask) {
        // Two lanes make a byte.
        u32 other = __shfl_down_sync(~0u, known ? open : ~0u, 1);
        if (known && !(threadIdx.x & 1)) {
            u8* byte = at<u8>(p.mask) + (index >> 1);
            *byte = (u8)(open | (other == ~0u ? *byte & 0xf0 : other << 4));
        }
    }
}

#define QDEPTHWISE(name, lanes, size)                                                                        \
    extern "C" __global__ void name(const __grid_constant__ QConv p) { qdepthwise<lanes, size, false>(p); }  \
    extern "C" __global__ void name##_train(const __grid_constant__ QConv p) { qdepthwise<lanes, size, true>(p); }
QDEPTHWISE(qdepthwise_qs8_three, 4, 3)
QDEPTHWISE(qdepthwise_qs8_five, 4, 5)
QDEPTHWISE(qdepthwise_qs8_words, 4, 0)
QDEPTHWISE(qdepthwise_qs8_bytes, 1, 0)
