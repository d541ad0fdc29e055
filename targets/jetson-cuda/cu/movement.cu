// Strided copies and fills of elements of 1, 2, 4 or 8 bytes.
#pragma once
#include "types.cuh"

template <typename T> __device__ __forceinline__ void move(const Copy& p, i32 from, i32 to) {
    at<T>(p.output)[to] = at<const T>(p.input)[from];
}

extern "C" __global__ void copy_x_x(const __grid_constant__ Copy p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x, from, to;
    if (index >= p.count) return;
    offsets(index, p.rank, p.extents, p.in_strides, p.out_strides, from, to);
    switch (p.size) {
        case 1: move<u8>(p, from, to); break;
        case 2: move<u16>(p, from, to); break;
        case 4: move<u32>(p, from, to); break;
        default: move<u64>(p, from, to);
    }
}

extern "C" __global__ void fill_x(const __grid_constant__ Fill p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    switch (p.size) {
        case 1: at<u8>(p.output)[index] = (u8)p.value; break;
        case 2: at<u16>(p.output)[index] = (u16)p.value; break;
        case 4: at<u32>(p.output)[index] = (u32)p.value; break;
        default: at<u64>(p.output)[index] = p.value;
    }
}
