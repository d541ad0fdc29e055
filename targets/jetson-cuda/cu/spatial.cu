// f32 pooling and resizing of channels-last images: one thread a pixel and channel; large windows are shared out as int8's are.
#pragma once
#include "float.cuh"
#include "pool.cu"

/// What taps of a window come to.
struct RealTaps {
    float sum, best;
    i32 inside, padded;
};

__device__ __forceinline__ void take(const Pool& p, i32 image, i32 oy, i32 ox, i32 channel, i32 tap, RealTaps& taps) {
    i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
    i32 y = oy * p.window.stride[0] - p.window.pad[0] + ky * p.window.dilation[0];
    i32 x = ox * p.window.stride[1] - p.window.pad[1] + kx * p.window.dilation[1];
    bool inside = (u32)y < (u32)p.h && (u32)x < (u32)p.w;
    float v = inside ? fresh(at<const float>(p.input) + ((i64)(image * p.h + y) * p.w + x) * p.c + channel) : 0.0f;
    taps.sum += v;
    taps.best = inside && v > taps.best ? v : taps.best;
    taps.inside += inside;
    taps.padded += y < p.h + p.pad_end[0] && x < p.w + p.pad_end[1];
}

__device__ __forceinline__ void put(const Pool& p, const RealTaps& taps, i64 index) {
    float v = taps.best;
    if (p.kind) v = __fdiv_rn(taps.sum, (float)max(p.kind == 2 ? taps.padded : taps.inside, 1));
    at<float>(p.output)[index] = clamp(v, p.lo, p.hi);
}

extern "C" __global__ void pool_f32(const __grid_constant__ Pool p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.c) return;
    i32 channel = index % p.c, rest = index / p.c, ox = rest % p.ow, oy = (rest / p.ow) % p.oh, image = rest / p.ow / p.oh;
    RealTaps taps = {0.0f, -INFINITE, 0, 0};
#pragma unroll 8
    for (i32 tap = 0; tap < p.window.kernel[0] * p.window.kernel[1]; tap++) take(p, image, oy, ox, channel, tap, taps);
    put(p, taps, index);
}

extern "C" __global__ void pool_f32_split(const __grid_constant__ Pool p) {
    follow();
    __shared__ RealTaps parts[POOL_PARTS][POOL_CHANNELS];
    i32 lane = threadIdx.x % POOL_CHANNELS, part = threadIdx.x / POOL_CHANNELS;
    i32 channel = blockIdx.y * POOL_CHANNELS + lane, pixel = blockIdx.x;
    i32 ox = pixel % p.ow, oy = (pixel / p.ow) % p.oh, image = pixel / p.ow / p.oh;
    RealTaps taps = {0.0f, -INFINITE, 0, 0};
    if (channel < p.c) {
#pragma unroll 8
        for (i32 tap = part; tap < p.window.kernel[0] * p.window.kernel[1]; tap += POOL_PARTS) {
            take(p, image, oy, ox, channel, tap, taps);
        }
    }
    parts[part][lane] = taps;
    __syncthreads();
    if (part || channel >= p.c) return;
    for (i32 other = 1; other < POOL_PARTS; other++) {
        const RealTaps& more = parts[other][lane];
        taps.sum += more.sum;
        taps.best = more.best > taps.best ? more.best : taps.best;
        taps.inside += more.inside;
        taps.padded += more.padded;
    }
    put(p, taps, (i64)pixel * p.c + channel);
}

/// The two input positions around an output position along an axis, and the weight of the second.
struct Neighbors {
    i32 first, second;
    float weight;
};

__device__ __forceinline__ Neighbors neighbors(const Resize& p, i32 axis, i32 index, i32 extent) {
    float position = __fdiv_rn(((float)index + p.before[axis]) * p.numerator[axis], p.denominator[axis]) + p.after[axis];
    position = clamp(position, 0.0f, (float)(extent - 1));
    float floor = floorf(position), fraction = position - floor;
    i32 first = min((i32)floor, extent - 1), second = min(first + 1, extent - 1);
    if (p.mode == 1) return {first, second, fraction};
    bool up = p.rounding == 0 ? fraction > 0.5f : p.rounding == 1 ? fraction >= 0.5f : p.rounding == 3 && fraction > 0.0f;
    i32 chosen = up ? second : first;
    return {chosen, chosen, 0.0f};
}

__device__ __forceinline__ float mixed(const Resize& p, float a, float b, float c, float d, float y, float x) {
    if (p.mode == 0) return a;
    float top = a * (1.0f - x) + b * x, bottom = c * (1.0f - x) + d * x;
    return top * (1.0f - y) + bottom * y;
}

__device__ __forceinline__ i8 mixed(const Resize&, i8 a, i8, i8, i8, float, float) { return a; }

template <class T> __device__ __forceinline__ void resize(const Resize& p) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.c) return;
    i32 channel = index % p.c, rest = index / p.c, ox = rest % p.ow, oy = (rest / p.ow) % p.oh, image = rest / p.ow / p.oh;
    Neighbors y = neighbors(p, 0, oy, p.h), x = neighbors(p, 1, ox, p.w);
    const T* from = at<const T>(p.input) + channel;
    auto value = [&](i32 row, i32 column) { return from[((i64)(image * p.h + row) * p.w + column) * p.c]; };
    T a = value(y.first, x.first), b = value(y.first, x.second), c = value(y.second, x.first), d = value(y.second, x.second);
    at<T>(p.output)[index] = mixed(p, a, b, c, d, y.weight, x.weight);
}

extern "C" __global__ void resize_f32(const __grid_constant__ Resize p) { follow(); resize<float>(p); }
extern "C" __global__ void resize_qs8(const __grid_constant__ Resize p) { follow(); resize<i8>(p); }
