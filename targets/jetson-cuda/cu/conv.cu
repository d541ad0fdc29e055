// f32 convolution and linear layers as an implicit product, with every real adapter term in the epilogue.
//
// What no kernel of a recording writes is read ahead of the wait: terms, and of weights and rank rows the first step of every group.
#pragma once
#include "float.cuh"
#include "group.cuh"
#include "qconv.cu"
#include "tile.cuh"

/// How patches are read: element by element; in fours that lie in one tap; in fours of a window of one tap.
enum Reading { SINGLE, FOURS, UNIT };

/// The value at position `k` of a patch; zero in the padding.
__device__ __forceinline__ float value_at(const Conv& p, const Patch& patch, i32 group, i32 k) {
    i32 tap = k / p.in_group, channel = k - tap * p.in_group;
    i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
    i32 y = patch.y + ky * p.window.dilation[0], x = patch.x + kx * p.window.dilation[1];
    if ((u32)y >= (u32)p.h || (u32)x >= (u32)p.w) return 0.0f;
    i64 pixel = (i64)(patch.image * p.h + y) * p.w + x;
    return fresh(at<const float>(p.input) + pixel * p.c + group * p.in_group + channel);
}

/// Four values of each patch from position `k`.
template <Reading READING, i32 SIDE>
__device__ __forceinline__ Fours<SIDE> values_at(const Conv& p, const Patch* patch, i32 group, i32 k) {
    Fours<SIDE> out;
    i32 channel = k, ky = 0, kx = 0;
    if (READING != UNIT) {
        i32 tap = k / p.in_group;
        channel = k - tap * p.in_group;
        ky = tap / p.window.kernel[1];
        kx = tap - ky * p.window.kernel[1];
    }
    if (READING == SINGLE) {
        float found[SIDE / 2][4];
#pragma unroll
        for (i32 i = 0; i < 4; i++) {
#pragma unroll
            for (i32 line = 0; line < SIDE / 2; line++) {
                i32 y = patch[line].y + ky * p.window.dilation[0], x = patch[line].x + kx * p.window.dilation[1];
                bool inside = patch[line].valid && k + i < p.row && (u32)y < (u32)p.h && (u32)x < (u32)p.w;
                i64 place = (i64)((patch[line].image * p.h + y) * p.w + x) * p.c + group * p.in_group + channel;
                found[line][i] = inside ? fresh(at<const float>(p.input) + place) : 0.0f;
            }
            if (++channel == p.in_group) {
                channel = 0;
                if (++kx == p.window.kernel[1]) {
                    kx = 0;
                    ky++;
                }
            }
        }
#pragma unroll
        for (i32 line = 0; line < SIDE / 2; line++) {
            out.at[line] = make_float4(found[line][0], found[line][1], found[line][2], found[line][3]);
        }
        return out;
    }
#pragma unroll
    for (i32 line = 0; line < SIDE / 2; line++) {
        bool inside = patch[line].valid && k < p.row;
        i64 place;
        if (READING == FOURS) {
            i32 y = patch[line].y + ky * p.window.dilation[0], x = patch[line].x + kx * p.window.dilation[1];
            inside = inside && (u32)y < (u32)p.h && (u32)x < (u32)p.w;
            place = (i64)((patch[line].image * p.h + y) * p.w + x) * p.c + group * p.in_group + channel;
        } else {
            inside = inside && patch[line].first >= 0;
            place = patch[line].first + k;
        }
        out.at[line] = inside ? fresh(reinterpret_cast<const float4*>(at<const float>(p.input) + place)) : zeros();
    }
    return out;
}

/// What the sparse term adds to `channel` of `pixel`.
__device__ __noinline__ float sparse_value(const Conv p, const Terms& terms, i32 pixel, i32 group, i32 channel) {
    const Patch patch = patch_of<false>(p, pixel, group);
    const u32* indptr = at<const u32>(terms.indptr);
    float sum = 0.0f;
    for (u32 i = indptr[channel]; i < indptr[channel + 1]; i++) {
        sum += value_at(p, patch, group, at<const u16>(terms.indices)[i]) * at<const float>(terms.values)[i];
    }
    return sum;
}

/// Scale and shift, then the clamp.
__device__ __forceinline__ float finished(const Conv& p, const Affine& affine, float y) {
    if (affine.present) y = y * affine.scale + affine.shift;
    return clamp(y, p.lo, p.hi);
}

template <Reading READING, i32 SIDE, i32 SLICES> __device__ __forceinline__ void conv(const Conv& p) {
    const i32 TILE = 8 * SIDE, THREADS = SLICES * TILE_THREADS, LINES = THREADS / TILE, EACH = (TILE + LINES - 1) / LINES;
    __shared__ Shared<SIDE, SLICES> shared;
    __shared__ float joined[SLICES == 1 ? 1 : TILE][LOW];
    i32 group = blockIdx.z, first_pixel = blockIdx.x * TILE, first_channel = blockIdx.y * TILE;
    i32 columns = min(p.out_group - first_channel, TILE), channel0 = group * p.out_group + first_channel;
    i32 line = threadIdx.x % TILE_THREADS / 4;
    Patch patch[SIDE / 2];
#pragma unroll
    for (i32 i = 0; i < SIDE / 2; i++) patch[i] = patch_of<READING == UNIT>(p, first_pixel + line + 16 * i, group);
    const Terms* terms = at<const Terms>(p.terms);
    Terms entry = {};
    if (terms) entry = *terms;
    i32 rank = entry.factors ? entry.rank : 0;
    const float* weight = at<const float>(p.weight) + (i64)channel0 * p.row;
    const float* down = rank ? at<const float>(entry.down) + (i64)group * rank * p.row : 0;
    auto right = [&](i32 k) {
        Fours<SIDE> out;
#pragma unroll
        for (i32 i = 0; i < SIDE / 2; i++) out.at[i] = row_at<READING != SINGLE>(weight, columns, line + 16 * i, p.row, k);
        return out;
    };
    i32 r0 = 0;
    auto low = [&](i32 r, i32 k) {
        return r0 + r < rank && k < p.row ? __ldg(down + (i64)(r0 + r) * p.row + k) : 0.0f;
    };
    const Held<SIDE> first = hold<SIDE, true, true, true>(own_depth(), right, low);
    // A thread has one channel in every pixel of the epilogue: what belongs to it is read ahead of the products.
    i32 column = threadIdx.x % TILE, channel = channel0 + column, row0 = threadIdx.x / TILE % TILE;
    bool mine = column < columns && threadIdx.x < TILE * TILE;
    float bias = mine && p.bias ? __ldg(at<const float>(p.bias) + channel) : 0.0f, up[LOW];
    const float* ups = rank ? at<const float>(entry.up) + (i64)channel * rank : 0;
#pragma unroll
    for (i32 r = 0; r < LOW; r++) up[r] = mine && r < rank ? __ldg(ups + r) : 0.0f;
    const Affine affine = affine_of(entry, channel, mine);
    follow();
    auto left = [&](i32 k) { return values_at<READING, SIDE>(p, patch, group, k); };
    Sums<SIDE> sums = {};
    if (rank) {
        tile_products<SIDE, SLICES, true, true, true>(p.row, first, left, right, low, shared.stages, sums);
        share<SIDE, SLICES, true, true>(sums, shared);
    } else {
        tile_products<SIDE, SLICES, true, false, true>(p.row, first, left, right, low, shared.stages, sums);
        share<SIDE, SLICES, true, false>(sums, shared);
    }
    float y[EACH];
#pragma unroll
    for (i32 i = 0; i < EACH; i++) y[i] = tile_sum<SIDE, SLICES>(shared, row0 + i * LINES, column) + bias;
    while (r0 < rank) {
        const float(*latents)[LOW] = SLICES == 1 ? shared.found[0].low : joined;
        if (SLICES > 1) {
            for (i32 index = threadIdx.x; index < TILE * LOW; index += THREADS) {
                joined[index / LOW][index % LOW] = low_sum<SIDE, SLICES>(shared, index / LOW, index % LOW);
            }
            __syncthreads();
        }
#pragma unroll
        for (i32 i = 0; i < EACH; i++) {
#pragma unroll
            for (i32 r = 0; r < LOW; r++) y[i] += up[r] * latents[row0 + i * LINES][r];
        }
        r0 += LOW;
        if (r0 < rank) {
#pragma unroll
            for (i32 r = 0; r < LOW; r++) up[r] = mine && r0 + r < rank ? __ldg(ups + r0 + r) : 0.0f;
            Sums<SIDE> more = {};
            const Held<SIDE> next = hold<SIDE, false, true, true>(own_depth(), right, low);
            tile_products<SIDE, SLICES, false, true, true>(p.row, next, left, right, low, shared.stages, more);
            share<SIDE, SLICES, false, true>(more, shared);
        }
    }
    if (!mine) return;
    i32 pixels = p.n * p.oh * p.ow;
#pragma unroll
    for (i32 i = 0; i < EACH; i++) {
        i32 pixel = first_pixel + row0 + i * LINES;
        if (pixel >= pixels) break;
        if (entry.sparse) y[i] += sparse_value(p, *terms, pixel, group, channel);
        at<float>(p.output)[(i64)pixel * p.o + channel] = finished(p, affine, y[i]);
    }
}

#define CONV(name, reading, side, slices)                                                                       \
    extern "C" __global__ void __launch_bounds__(slices * TILE_THREADS) name(const __grid_constant__ Conv p) {  \
        conv<reading, side, slices>(p);                                                                         \
    }
CONV(conv_f32_single_wide, SINGLE, 4, 1)
CONV(conv_f32_single_split, SINGLE, 4, 8)
CONV(conv_f32_fours_large, FOURS, 8, 1)
CONV(conv_f32_fours_wide, FOURS, 4, 1)
CONV(conv_f32_fours_split, FOURS, 4, 8)
CONV(conv_f32_fours_small, FOURS, 2, 8)
CONV(conv_f32_unit_large, UNIT, 8, 1)
CONV(conv_f32_unit_wide, UNIT, 4, 1)
CONV(conv_f32_unit_split, UNIT, 4, 8)
CONV(conv_f32_unit_small, UNIT, 2, 8)

/// One byte of a mask: eight values.
extern "C" __global__ void mask_f32(const __grid_constant__ Mask p) {
    follow();
    i32 byte = blockIdx.x * blockDim.x + threadIdx.x, first = byte * 8;
    if (first >= p.count) return;
    u32 bits = first + 8 > p.count ? at<const u8>(p.mask)[byte] : 0;
    for (i32 i = 0; i < 8 && first + i < p.count; i++) {
        float v = at<const float>(p.values)[first + i];
        bits = v > p.lo && v < p.hi ? bits | 1u << i : bits & ~(1u << i);
    }
    at<u8>(p.mask)[byte] = (u8)bits;
}
