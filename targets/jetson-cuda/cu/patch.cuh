// Where the window of an output pixel lies, and its codes.
#pragma once
#include "types.cuh"

/// Where a pixel's window begins; `valid` is false past the last pixel. `first` is the element that a window of one tap
/// begins with, negative in the padding.
struct Patch {
    i32 image, y, x;
    bool valid;
    i64 first;
};

template <bool UNIT, class P> __device__ __forceinline__ Patch patch_of(const P& p, i32 pixel, i32 group) {
    Patch patch;
    patch.valid = pixel < p.n * p.oh * p.ow;
    if (UNIT && p.linear) {
        // Output pixels are the input's: nothing to divide.
        patch.first = (i64)pixel * p.c + group * p.in_group;
        return patch;
    }
    i32 x = pixel % p.ow, rest = pixel / p.ow;
    patch.image = rest / p.oh;
    patch.y = (rest % p.oh) * p.window.stride[0] - p.window.pad[0];
    patch.x = x * p.window.stride[1] - p.window.pad[1];
    if (UNIT) {
        bool inside = (u32)patch.y < (u32)p.h && (u32)patch.x < (u32)p.w;
        i64 at_pixel = (i64)(patch.image * p.h + patch.y) * p.w + patch.x;
        patch.first = inside ? at_pixel * p.c + group * p.in_group : -1;
    }
    return patch;
}

/// The code at position `k` of a patch; the zero point in the padding.
__device__ __forceinline__ i32 code_at(const QConv& p, const Patch& patch, i32 group, i32 k) {
    i32 tap = k / p.in_group, channel = k - tap * p.in_group;
    i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
    i32 y = patch.y + ky * p.window.dilation[0], x = patch.x + kx * p.window.dilation[1];
    if ((u32)y >= (u32)p.h || (u32)x >= (u32)p.w) return p.in_zero_point;
    i32 pixel = (patch.image * p.h + y) * p.w + x;
    return at<const i8>(p.input)[(i64)pixel * p.c + group * p.in_group + channel];
}

/// Four codes from position `k` of a row of whole words. What lies past the end of a row meets weights of zero.
template <bool UNIT> __device__ __forceinline__ u32 codes_at(const QConv& p, const Patch& patch, i32 group, i32 k) {
    if (!patch.valid || k >= p.row) return 0;
    if (UNIT) {
        if (patch.first < 0) return 0x01010101u * (u8)p.in_zero_point;
        return fresh(reinterpret_cast<const u32*>(at<const i8>(p.input) + patch.first + k));
    }
    i32 tap = k / p.in_group, channel = k - tap * p.in_group;
    i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
    i32 y = patch.y + ky * p.window.dilation[0], x = patch.x + kx * p.window.dilation[1];
    if ((u32)y >= (u32)p.h || (u32)x >= (u32)p.w) return 0x01010101u * (u8)p.in_zero_point;
    i64 first = (i64)((patch.image * p.h + y) * p.w + x) * p.c + group * p.in_group + channel;
    return fresh(reinterpret_cast<const u32*>(at<const i8>(p.input) + first));
}

/// The fragment of two pixels at positions `k` and `k + 16` of rows that are no whole words, byte by byte: no load waits
/// for another.
__device__ __forceinline__ void gather(const QConv& p, const Patch* patch, i32 group, i32 k, u32* a) {
#pragma unroll
    for (i32 half = 0; half < 2; half++) {
        i32 position = k + 16 * half, tap = position / p.in_group, channel = position - tap * p.in_group;
        i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
        a[2 * half] = a[2 * half + 1] = 0;
#pragma unroll
        for (i32 i = 0; i < 4; i++) {
#pragma unroll
            for (i32 pixel = 0; pixel < 2; pixel++) {
                i32 y = patch[pixel].y + ky * p.window.dilation[0], x = patch[pixel].x + kx * p.window.dilation[1];
                bool known = patch[pixel].valid && position + i < p.row;
                bool inside = known && (u32)y < (u32)p.h && (u32)x < (u32)p.w;
                i64 place = (i64)((patch[pixel].image * p.h + y) * p.w + x) * p.c + group * p.in_group + channel;
                i32 code = inside ? fresh(at<const i8>(p.input) + place) : known ? p.in_zero_point : 0;
                a[2 * half + pixel] |= (u32)(u8)code << (8 * i);
            }
            if (++channel == p.in_group) {
                channel = 0;
                if (++kx == p.window.kernel[1]) {
                    kx = 0;
                    ky++;
                }
            }
        }
    }
}
