// int8 pooling: one thread a pixel and channel; eight for large windows, whose taps they share.
#pragma once
#include "types.cuh"

/// What taps of a window come to: the same in any order.
struct Taps {
    i32 sum, best, inside, padded;
};

__device__ __forceinline__ void take(const Pool& p, i32 image, i32 oy, i32 ox, i32 channel, i32 tap, Taps& taps) {
    i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
    i32 y = oy * p.window.stride[0] - p.window.pad[0] + ky * p.window.dilation[0];
    i32 x = ox * p.window.stride[1] - p.window.pad[1] + kx * p.window.dilation[1];
    bool inside = (u32)y < (u32)p.h && (u32)x < (u32)p.w;
    i32 code = inside ? (i32)fresh(at<const i8>(p.input) + ((i64)(image * p.h + y) * p.w + x) * p.c + channel) : -128;
    taps.sum += inside ? code - p.in_zero_point : 0;
    taps.best = max(taps.best, code);
    taps.inside += inside;
    taps.padded += y < p.h + p.pad_end[0] && x < p.w + p.pad_end[1];
}

/// The pooled value in output steps.
__device__ __forceinline__ float value(const Pool& p, const Taps& taps) {
    if (p.kind == 0) return (float)(taps.best - p.in_zero_point) * p.ratio;
    return (float)taps.sum * __fdiv_rn(p.ratio, (float)max(p.kind == 2 ? taps.padded : taps.inside, 1));
}

extern "C" __global__ void pool_qs8_qs8(const __grid_constant__ Pool p) {
    lead();
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    bool known = index < p.n * p.oh * p.ow * p.c;
    if (!known && !p.mask) return;
    i32 channel = index % p.c, rest = index / p.c, ox = rest % p.ow, oy = (rest / p.ow) % p.oh, image = rest / p.ow / p.oh;
    Taps taps = {0, -128, 0, 0};
#pragma unroll 8
    for (i32 tap = 0; known && tap < p.window.kernel[0] * p.window.kernel[1]; tap++) {
        take(p, image, oy, ox, channel, tap, taps);
    }
    float v = value(p, taps);
    if (known) at<i8>(p.output)[index] = to_code(v, p.lo, p.hi, p.out_zero_point);
    if (p.mask) put_mask(p.mask, index, true, ~0u, known, passes(v, p.lo, p.hi));
}

const i32 POOL_CHANNELS = 32, POOL_PARTS = 8;

extern "C" __global__ void pool_qs8_split(const __grid_constant__ Pool p) {
    lead();
    follow();
    __shared__ Taps parts[POOL_PARTS][POOL_CHANNELS];
    i32 lane = threadIdx.x % POOL_CHANNELS, part = threadIdx.x / POOL_CHANNELS;
    i32 channel = blockIdx.y * POOL_CHANNELS + lane, pixel = blockIdx.x;
    i32 ox = pixel % p.ow, oy = (pixel / p.ow) % p.oh, image = pixel / p.ow / p.oh;
    Taps taps = {0, -128, 0, 0};
    if (channel < p.c) {
#pragma unroll 8
        for (i32 tap = part; tap < p.window.kernel[0] * p.window.kernel[1]; tap += POOL_PARTS) {
            take(p, image, oy, ox, channel, tap, taps);
        }
    }
    parts[part][lane] = taps;
    __syncthreads();
    if (part) return;
    for (i32 other = 1; other < POOL_PARTS; other++) {
        const Taps& more = parts[other][lane];
        taps.sum += more.sum;
        taps.best = max(taps.best, more.best);
        taps.inside += more.inside;
        taps.padded += more.padded;
    }
    float v = value(p, taps);
    i32 index = pixel * p.c + channel;
    bool known = channel < p.c;
    if (known) at<i8>(p.output)[index] = to_code(v, p.lo, p.hi, p.out_zero_point);
    // Split windows begin a byte only where channels are whole bytes.
    if (p.mask) put_mask(p.mask, index, p.c % 8 == 0, ~0u, known, passes(v, p.lo, p.hi));
}
