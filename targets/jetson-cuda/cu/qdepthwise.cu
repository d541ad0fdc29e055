// int8 depthwise convolution: one thread a pixel and four channels, which are one word; one channel
// where the channels are no whole words. The usual windows are known when compiled: all their loads are
// under way before the first product.
#pragma once
#include "qterms.cuh"

__device__ __forceinline__ i32 depthwise_code(const QConv& p, i32 image, i32 y, i32 x, i32 channel) {
    if ((u32)y >= (u32)p.h || (u32)x >= (u32)p.w) return p.in_zero_point;
    return at<const i8>(p.input)[(i64)((image * p.h + y) * p.w + x) * p.c + channel];
}

/// What terms add at the window that begins at `(y0, x0)` to `lanes` channels from `channel` on: the sparse one, and with `dense` a
/// delta of every weight.
__device__ __noinline__ Deltas depthwise_run(const QConv p, const Terms& terms, i32 image, i32 y0, i32 x0, i32 channel, i32 lanes,
                                             bool dense) {
    Deltas deltas = {};
#pragma unroll 1
    for (i32 i = 0; i < lanes; i++) {
        auto code = [&](i32 ky, i32 kx) {
            i32 y = y0 + ky * p.window.dilation[0], x = x0 + kx * p.window.dilation[1];
            return depthwise_code(p, image, y, x, channel + i) - p.in_zero_point;
        };
        i32 sum = 0, taps = p.window.kernel[0] * p.window.kernel[1];
        float real = 0.0f;
        for (i32 tap = 0; dense && tap < taps; tap++) {
            float delta = at<const float>(terms.dense)[tap * p.c + channel + i];
            real += delta * (float)code(tap / p.window.kernel[1], tap % p.window.kernel[1]);
        }
        if (terms.sparse) {
            const u32* indptr = at<const u32>(terms.indptr);
            for (u32 j = indptr[channel + i]; j < indptr[channel + i + 1]; j++) {
                i32 tap = at<const u16>(terms.indices)[j], x = code(tap / p.window.kernel[1], tap % p.window.kernel[1]);
                if (terms.sparse == 1) sum += x * at<const i16>(terms.values)[j];
                else real += (float)x * at<const float>(terms.values)[j];
            }
        }
        deltas.integer[i] = sum;
        deltas.real[i] = real;
    }
    return deltas;
}

/// TRAIN: with a mask, and a delta of every weight.
template <i32 LANES, i32 SIZE, bool TRAIN> __device__ __forceinline__ void qdepthwise(const QConv& p) {
    if (!TRAIN) lead();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, columns = p.c / LANES;
    bool known = index < p.n * p.oh * p.ow * columns;
    if (!known) {
        if (!TRAIN || !p.mask) return;
        // Lanes past the end take part in writing the mask.
        index = 0;
    }
    i32 pixel = index / columns, channel = (index - pixel * columns) * LANES;
    const Terms* terms = at<const Terms>(p.terms);
    if (p.samples > 1) terms += pixel / (p.n / p.samples * p.oh * p.ow);
    const i8* weight = at<const i8>(p.weight);
    const i32* bias = at<const i32>(p.bias);
    // All that no kernel of a recording writes, ahead of the wait and at once: the base's weights without looking for others.
    u32 filter[SIZE ? SIZE * SIZE : 1];
    i32 acc[LANES];
    float multiplier[LANES], scale[LANES], shift[LANES];
    auto hold = [&] {
#pragma unroll
        for (i32 tap = 0; tap < SIZE * SIZE; tap++) {
            filter[tap] = __ldg(reinterpret_cast<const u32*>(weight + tap * p.c + channel));
        }
#pragma unroll
        for (i32 i = 0; i < LANES; i++) acc[i] = __ldg(bias + channel + i);
    };
    hold();
#pragma unroll
    for (i32 i = 0; i < LANES; i++) multiplier[i] = __ldg(at<const float>(p.multiplier) + channel + i);
    bool affine = false, deltas = false, dense = false, real = false;
    if (terms) {
        const Terms entry = *terms;
        affine = entry.scale;
        dense = TRAIN && entry.dense;
        deltas = entry.sparse || dense;
        real = entry.sparse == 2 || dense;
        if (entry.weight) {
            weight = at<const i8>(entry.weight);
            bias = at<const i32>(entry.bias);
            hold();
        }
        if (affine) {
#pragma unroll
            for (i32 i = 0; i < LANES; i++) {
                scale[i] = __ldg(at<const float>(entry.scale) + channel + i);
                shift[i] = __ldg(at<const float>(entry.shift) + channel + i);
            }
        }
    }
    i32 ox = pixel % p.ow, rest = pixel / p.ow, oy = rest % p.oh, image = rest / p.oh;
    i32 y0 = oy * p.window.stride[0] - p.window.pad[0], x0 = ox * p.window.stride[1] - p.window.pad[1];
    // Outside of the input where the window begins in the padding.
    const i8* origin = at<const i8>(p.input) + ((i64)((image * p.h + y0) * p.w + x0) * p.c + channel);
    i32 down = p.window.dilation[0] * p.w * p.c, right = p.window.dilation[1] * p.c;
    // Bit `tap` of those of a window that are no padding.
    u32 inside = 0;
#pragma unroll
    for (i32 tap = 0; tap < SIZE * SIZE; tap++) {
        i32 y = y0 + tap / (SIZE ? SIZE : 1) * p.window.dilation[0], x = x0 + tap % (SIZE ? SIZE : 1) * p.window.dilation[1];
        inside |= (u32)((u32)y < (u32)p.h && (u32)x < (u32)p.w) << tap;
    }
    settled((i32)reinterpret_cast<u64>(origin), (i32)inside);
    follow();
    const u32 outside = 0x01010101u * (u8)p.in_zero_point;
    u32 codes[SIZE ? SIZE * SIZE : 1];
    if (SIZE) {
#pragma unroll
        for (i32 tap = 0; tap < SIZE * SIZE; tap++) {
            const i8* from = origin + (tap / (SIZE ? SIZE : 1) * down + tap % (SIZE ? SIZE : 1) * right);
            codes[tap] = inside >> tap & 1 ? fresh(reinterpret_cast<const u32*>(from)) : outside;
        }
    } else {
        i32 kernel_h = p.window.kernel[0], kernel_w = p.window.kernel[1];
#pragma unroll 1
        for (i32 ky = 0; ky < kernel_h; ky++) {
            i32 y = y0 + ky * p.window.dilation[0];
#pragma unroll 1
            for (i32 kx = 0; kx < kernel_w; kx++) {
                i32 x = x0 + kx * p.window.dilation[1];
                const i8* w = weight + (ky * kernel_w + kx) * p.c + channel;
                if (LANES == 4) {
                    bool known = (u32)y < (u32)p.h && (u32)x < (u32)p.w;
                    i64 place = (i64)((image * p.h + y) * p.w + x) * p.c + channel;
                    u32 code = known ? fresh(reinterpret_cast<const u32*>(at<const i8>(p.input) + place)) : outside;
                    u32 weights = __ldg(reinterpret_cast<const u32*>(w));
#pragma unroll
                    for (i32 i = 0; i < LANES; i++) acc[i] += (i32)(i8)(weights >> (8 * i)) * (i32)(i8)(code >> (8 * i));
                } else {
                    acc[0] += (i32)__ldg(w) * depthwise_code(p, image, y, x, channel);
                }
            }
        }
    }
#pragma unroll
    for (i32 tap = 0; tap < SIZE * SIZE; tap++) {
#pragma unroll
        for (i32 i = 0; i < LANES; i++) acc[i] += (i32)(i8)(filter[tap] >> (8 * i)) * (i32)(i8)(codes[tap] >> (8 * i));
    }
    Deltas more = {};
    if (deltas) more = depthwise_run(p, *terms, image, y0, x0, channel, LANES, dense);
    u32 out = 0, open = 0;
#pragma unroll
    for (i32 i = 0; i < LANES; i++) {
        float v = (float)(acc[i] + more.integer[i]) * multiplier[i];
        if (real) v += more.real[i] * p.in_scale * p.inv_out_scale;
        if (affine) v = v * scale[i] + shift[i] * p.inv_out_scale;
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
