// Gradients of pools, additions, tables and copies: each element gathers what reaches it, so that nothing is added at once.
#pragma once
#include "types.cuh"

__device__ __forceinline__ float incoming(u64 dy, u64 mask, i64 index) {
    if (mask && !(at<const u8>(mask)[index >> 3] >> (index & 7) & 1)) return 0.0f;
    return at<const float>(dy)[index];
}

__device__ __forceinline__ void put_gradient(u64 dx, i64 index, i32 accumulate, float value) {
    float* to = at<float>(dx) + index;
    *to = accumulate ? *to + value : value;
}

/// Where element `index` of a block stands.
__device__ __forceinline__ i64 offset_of(i32 index, i32 rank, const i32* extents, const i32* strides) {
    i64 offset = 0;
    for (i32 d = rank - 1; d >= 0; d--) {
        offset += (i64)(index % extents[d]) * strides[d];
        index /= extents[d];
    }
    return offset;
}

/// Elements that are each read once or a few times: one thread an element.
extern "C" __global__ void gather_backward_each(const __grid_constant__ GatherBack p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    i64 from = p.dy_first + offset_of(index, p.rank, p.extents, p.dy_strides);
    float sum = 0.0f;
    for (i32 i = 0; i < p.repeats; i++) {
        sum += incoming(p.dy, p.mask, from + offset_of(i, p.rank, p.repeat_extents, p.repeat_strides));
    }
    put_gradient(p.dx, p.dx_first + offset_of(index, p.rank, p.extents, p.dx_strides), p.accumulate, sum);
}

const i32 REPEATERS = 128;

/// Elements that are each read often: a block an element.
extern "C" __global__ void __launch_bounds__(REPEATERS) gather_backward_many(const __grid_constant__ GatherBack p) {
    follow();
    __shared__ float parts[REPEATERS];
    i64 from = p.dy_first + offset_of(blockIdx.x, p.rank, p.extents, p.dy_strides);
    float sum = 0.0f;
    for (i32 i = threadIdx.x; i < p.repeats; i += REPEATERS) {
        sum += incoming(p.dy, p.mask, from + offset_of(i, p.rank, p.repeat_extents, p.repeat_strides));
    }
    parts[threadIdx.x] = sum;
    for (i32 half = REPEATERS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    if (threadIdx.x) return;
    put_gradient(p.dx, p.dx_first + offset_of(blockIdx.x, p.rank, p.extents, p.dx_strides), p.accumulate, parts[0]);
}

extern "C" __global__ void lookup_backward_f32_f32(const __grid_constant__ LookupBack p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    float slope = at<const float>(p.table)[at<const i8>(p.input)[index] + 128];
    put_gradient(p.dx, index, p.accumulate, at<const float>(p.dy)[index] * slope);
}

/// The taps of a window along one axis that lie inside `extent`: from `first` on, `last` not among them.
__device__ __forceinline__ void inside(i32 begin, i32 taps, i32 step, i32 pad, i32 extent, i32& first, i32& last) {
    first = (max(pad - begin, 0) + step - 1) / step;
    last = min((max(pad + extent - begin, 0) + step - 1) / step, taps);
}

__device__ __forceinline__ float pooled_at(const PoolBack& p, i64 index) {
    return p.codes ? (float)at<const i8>(p.input)[index] : at<const float>(p.input)[index];
}

/// One thread an element of the input: it asks every window over it.
extern "C" __global__ void pool_backward_f32_f32(const __grid_constant__ PoolBack p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.n * p.h * p.w * p.c) return;
    i32 pixel = index / p.c, channel = index - pixel * p.c, x = pixel % p.w, y = pixel / p.w % p.h, image = pixel / p.w / p.h;
    const i32 *kernel = p.window.kernel, *stride = p.window.stride, *step = p.window.dilation, *pad = p.window.pad;
    i32 last_y = min((y + pad[0]) / stride[0], p.oh - 1), last_x = min((x + pad[1]) / stride[1], p.ow - 1);
    i32 first_y = (max(y + pad[0] - (kernel[0] - 1) * step[0], 0) + stride[0] - 1) / stride[0];
    i32 first_x = (max(x + pad[1] - (kernel[1] - 1) * step[1], 0) + stride[1] - 1) / stride[1];
    float sum = 0.0f;
    for (i32 oy = first_y; oy <= last_y; oy++) {
        if ((y + pad[0] - oy * stride[0]) % step[0]) continue;
        for (i32 ox = first_x; ox <= last_x; ox++) {
            if ((x + pad[1] - ox * stride[1]) % step[1]) continue;
            float dy = incoming(p.dy, p.mask, ((i64)(image * p.oh + oy) * p.ow + ox) * p.c + channel);
            i32 from_y, to_y, from_x, to_x;
            bool padded = p.kind == 2;
            i32 tall = p.h + (padded ? pad[0] + p.pad_end[0] : 0), wide = p.w + (padded ? pad[1] + p.pad_end[1] : 0);
            inside(oy * stride[0], kernel[0], step[0], padded ? 0 : pad[0], tall, from_y, to_y);
            inside(ox * stride[1], kernel[1], step[1], padded ? 0 : pad[1], wide, from_x, to_x);
            if (p.kind) {
                i32 taps = max(to_y - from_y, 0) * max(to_x - from_x, 0);
                sum += __fdiv_rn(1.0f, (float)max(taps, 1)) * dy;
                continue;
            }
            i64 best = -1;
            float most = 0.0f;
            for (i32 ky = from_y; ky < to_y; ky++) {
                for (i32 kx = from_x; kx < to_x; kx++) {
                    i32 ty = oy * stride[0] + ky * step[0] - pad[0], tx = ox * stride[1] + kx * step[1] - pad[1];
                    i64 tap = ((i64)(image * p.h + ty) * p.w + tx) * p.c + channel;
                    float value = pooled_at(p, tap);
                    if (best < 0 || value > most) {
                        best = tap;
                        most = value;
                    }
                }
            }
            if (best == index) sum += dy;
        }
    }
    put_gradient(p.dx, index, p.accumulate, sum);
}
