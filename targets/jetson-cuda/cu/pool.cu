// int8 pooling: one thread a pixel and channel.
#pragma once
#include "types.cuh"

extern "C" __global__ void pool_qs8_qs8(const __grid_constant__ Pool p) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.c) return;
    i32 channel = index % p.c, rest = index / p.c, ox = rest % p.ow, oy = (rest / p.ow) % p.oh, image = rest / p.ow / p.oh;
    i32 sum = 0, best = -128, inside = 0, padded = 0;
    i32 x0 = ox * p.window.stride[1] - p.window.pad[1];
    for (i32 ky = 0; ky < p.window.kernel[0]; ky++) {
        i32 y = oy * p.window.stride[0] - p.window.pad[0] + ky * p.window.dilation[0];
        bool row = (u32)y < (u32)p.h;
        const i8* codes = at<const i8>(p.input) + (i64)(image * p.h + y) * p.w * p.c + channel;
#pragma unroll 8
        for (i32 kx = 0; kx < p.window.kernel[1]; kx++) {
            i32 x = x0 + kx * p.window.dilation[1];
            padded += y < p.h + p.pad_end[0] && x < p.w + p.pad_end[1];
            bool tap = row && (u32)x < (u32)p.w;
            i32 code = tap ? (i32)codes[(i64)x * p.c] : -128;
            sum += tap ? code - p.in_zero_point : 0;
            best = max(best, code);
            inside += tap;
        }
    }
    float v;
    if (p.kind == 0) v = (float)(best - p.in_zero_point) * p.ratio;
    else v = (float)sum * __fdiv_rn(p.ratio, (float)max(p.kind == 2 ? padded : inside, 1));
    at<i8>(p.output)[index] = to_code(v, p.lo, p.hi, p.out_zero_point);
}
