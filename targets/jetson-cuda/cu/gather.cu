// Elements picked by index: one thread an element. An index outside is told of in `status`, and zero stands in its place.
#pragma once
#include "float.cuh"

/// Where along an axis the index at `position` points; −1 outside, which is noted.
__device__ __forceinline__ i64 picked(u64 indices, i32 wide, i32 position, i32 extent, u64 status) {
    i64 index = wide ? at<const i64>(indices)[position] : at<const i32>(indices)[position];
    if (index < 0) index += extent;
    if (index >= 0 && index < extent) return index;
    *at<u32>(status) = 1;
    return -1;
}

template <class T> __device__ __forceinline__ void place(u64 output, i32 index, u64 data, i64 from) {
    at<T>(output)[index] = from < 0 ? (T)0 : at<const T>(data)[from];
}

__device__ __forceinline__ void place(u64 output, i32 size, i32 index, u64 data, i64 from) {
    switch (size) {
        case 1: place<u8>(output, index, data, from); break;
        case 2: place<u16>(output, index, data, from); break;
        case 4: place<u32>(output, index, data, from); break;
        default: place<u64>(output, index, data, from);
    }
}

/// What the terms of a table add to element `column` of `row`.
__device__ __forceinline__ float adapted(const Gather& p, const Terms& terms, float y, i64 row, i32 column) {
    if (terms.factors) {
        const float* up = at<const float>(terms.up) + row * terms.rank;
        for (u32 r = 0; r < terms.rank; r++) y += up[r] * at<const float>(terms.down)[(i64)r * p.slice + column];
    }
    if (terms.sparse) {
        const u32* indptr = at<const u32>(terms.indptr);
        for (u32 i = indptr[row]; i < indptr[row + 1]; i++) {
            if (at<const u16>(terms.indices)[i] == column) y += at<const float>(terms.values)[i];
        }
    }
    return y;
}

extern "C" __global__ void gather_x_x(const __grid_constant__ Gather p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.outer * p.picks * p.slice) return;
    i32 column = index % p.slice, rest = index / p.slice, pick = rest % p.picks, outer = rest / p.picks;
    i64 row = picked(p.indices, p.wide, pick, p.axis, p.status);
    i64 from = row < 0 ? -1 : ((i64)outer * p.axis + row) * p.slice + column;
    const Terms* terms = at<const Terms>(p.terms);
    if (terms && row >= 0 && (terms->factors || terms->sparse)) {
        at<float>(p.output)[index] = adapted(p, *terms, at<const float>(p.data)[from], row, column);
    } else {
        place(p.output, p.size, index, p.data, from);
    }
}

extern "C" __global__ void gather_elements_x_x(const __grid_constant__ Elements p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    i64 from = 0, position = picked(p.indices, p.wide, index, p.extent, p.status);
    for (i32 d = p.rank - 1, rest = index; d >= 0; d--) {
        from += (i64)(rest % p.extents[d]) * p.strides[d];
        rest /= p.extents[d];
    }
    place(p.output, p.size, index, p.data, position < 0 ? -1 : from + position * p.stride);
}
