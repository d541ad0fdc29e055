// int8 on scales that are found at run time: the range of a tensor, and convolutions that read it as an operand.
#pragma once
#include "float.cuh"
#include "group.cuh"
#include "qconv.cu"

const i32 DYNAMIC_THREADS = 1024;
const float SCALE_MIN = 8.673617379884035e-19f, SCALE_MAX = 1.152921504606847e18f;

/// A range that contains zero. NaN does not widen it.
struct Range {
    float lo, hi;
};

__device__ __forceinline__ void widen(Range& range, float v) {
    range.lo = v < range.lo ? v : range.lo;
    range.hi = v > range.hi ? v : range.hi;
}

/// The range of what the threads of a block found, in each of them.
__device__ __forceinline__ Range block_range(Range range) {
    __shared__ Range parts[WARP];
#pragma unroll
    for (i32 half = WARP / 2; half; half /= 2) {
        widen(range, __shfl_xor_sync(~0u, range.lo, half));
        widen(range, __shfl_xor_sync(~0u, range.hi, half));
    }
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = range;
    __syncthreads();
#pragma unroll 1
    for (i32 i = 0; i < blockDim.x / WARP; i++) {
        widen(range, parts[i].lo);
        widen(range, parts[i].hi);
    }
    return range;
}

/// What the threads of all blocks read, a block its share.
__device__ __forceinline__ Range own_range(const DynamicQuantize& p) {
    Range range = {0.0f, 0.0f};
    const float* input = at<const float>(p.input);
    i32 step = gridDim.x * blockDim.x * 4;
    bool fours = (p.input & 15) == 0;
#pragma unroll 4
    for (i32 i = (blockIdx.x * blockDim.x + threadIdx.x) * 4; i < p.count; i += step) {
        if (fours && i + 4 <= p.count) {
            float4 v = *reinterpret_cast<const float4*>(input + i);
            widen(range, v.x);
            widen(range, v.y);
            widen(range, v.z);
            widen(range, v.w);
        } else {
#pragma unroll 1
            for (i32 j = i; j < min(i + 4, p.count); j++) widen(range, input[j]);
        }
    }
    return range;
}

/// Codes of this block's share, and from the first block the parameters.
__device__ __forceinline__ void write_codes(const DynamicQuantize& p, Range range) {
    float scale = range.hi == range.lo ? 1.0f : clamp(__fdiv_rn(range.hi - range.lo, 255.0f), SCALE_MIN, SCALE_MAX);
    i32 zero = round_even(clamp(0.0f - __fdiv_rn(range.lo, scale), 0.0f, 255.0f));
    float lo = (float)-zero, hi = (float)(255 - zero);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        *at<float>(p.scale) = scale;
        *at<i8>(p.zero_point) = (i8)(zero - 128);
    }
    i32 step = gridDim.x * blockDim.x;
#pragma unroll 4
    for (i32 i = blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += step) {
        float v = __fdiv_rn(at<const float>(p.input)[i], scale);
        at<i8>(p.output)[i] = to_code(v == v ? v : 0.0f, lo, hi, zero - 128);
    }
}

/// Everything, in one block.
extern "C" __global__ void __launch_bounds__(DYNAMIC_THREADS) quantize_f32_qd8_one(const __grid_constant__ DynamicQuantize p) {
    write_codes(p, block_range(own_range(p)));
}

/// A pair a block.
extern "C" __global__ void __launch_bounds__(DYNAMIC_THREADS) quantize_f32_qd8_range(const __grid_constant__ DynamicQuantize p) {
    Range range = block_range(own_range(p));
    if (threadIdx.x == 0) at<Range>(p.partials)[blockIdx.x] = range;
}

/// The codes, from all pairs.
extern "C" __global__ void __launch_bounds__(DYNAMIC_THREADS) quantize_f32_qd8_codes(const __grid_constant__ DynamicQuantize p) {
    Range range = {0.0f, 0.0f};
    for (i32 i = threadIdx.x; i < p.parts; i += blockDim.x) {
        Range part = at<const Range>(p.partials)[i];
        widen(range, part.lo);
        widen(range, part.hi);
    }
    write_codes(p, block_range(range));
}

template <bool WORDS, bool UNIT, i32 SPLIT> __device__ __forceinline__ void dynamic_conv(const DynamicConv& d) {
    const i32 COVERED = SPLIT == 1 ? WARPS * PIXELS : PIXELS;
    __shared__ Tile tile;
    __shared__ Latents latents;
    __shared__ Extra extra[COVERED][CHANNELS];
    QConv p = d.conv;
    p.in_zero_point = *at<const i8>(d.zero_point);
    p.in_scale = *at<const float>(d.scale);
    i32 warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, group = blockIdx.z;
    i32 first_pixel = blockIdx.x * COVERED, first_channel = blockIdx.y * CHANNELS;
    i32 own = first_pixel + (SPLIT == 1 ? warp * PIXELS : 0) + g;
    const Patch patch[2] = {patch_of<UNIT>(p, own, group), patch_of<UNIT>(p, own + 8, group)};
    const Terms* terms = at<const Terms>(p.terms);
    bool factors = terms && terms->factors, sparse = terms && terms->sparse, affine = terms && terms->scale;
    i32 left = min(p.out_group - first_channel, CHANNELS), channel0 = group * p.out_group + first_channel;
    const i8* rows = at<const i8>(p.weight) + (i64)channel0 * p.row;
    i32 lane = threadIdx.x % CHANNELS, channel = channel0 + lane, folded = 0;
    float multiplier = 0.0f, bias = 0.0f;
    if (lane < left) {
        folded = -p.in_zero_point * __ldg(at<const i32>(d.sums) + channel);
        multiplier = p.in_scale * __ldg(at<const float>(p.multiplier) + channel);
        bias = __ldg(at<const float>(d.shift) + channel);
    }
    products<WORDS, UNIT, SPLIT, false, false>(p, patch, group, rows, left, tile, 0, 0, latents);
    if (factors) many_ranks<WORDS, UNIT, SPLIT, COVERED>(p, *terms, patch, group, first_pixel, channel0, left, latents, extra);
    __syncthreads();
    if (lane >= left) return;
    i32 pixels = p.n * p.oh * p.ow;
#pragma unroll 4
    for (i32 local = threadIdx.x / CHANNELS; local < COVERED; local += WARPS * 32 / CHANNELS) {
        i32 pixel = first_pixel + local, acc = product<SPLIT, CHANNELS>(tile, local, lane) + folded;
        if (pixel >= pixels) break;
        float v = (float)acc * multiplier + bias;
        if (factors) v += extra[local][lane].real;
        if (sparse) {
            i32 unused = 0;
            float delta = 0.0f;
            sparse_term(p, *terms, pixel, group, channel, unused, delta);
            v += delta * p.in_scale;
        }
        if (affine) v = v * at<const float>(terms->scale)[channel] + at<const float>(terms->shift)[channel];
        at<float>(p.output)[(i64)pixel * p.o + channel] = clamp(v, p.lo, p.hi);
    }
}

#define DYNAMIC_CONV(name, words, unit, split)                                                               \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) name(const __grid_constant__ DynamicConv p) {   \
        dynamic_conv<words, unit, split>(p);                                                                 \
    }
DYNAMIC_CONV(dynamic_conv_bytes_split, false, false, 4)
DYNAMIC_CONV(dynamic_conv_words_split, true, false, 4)
DYNAMIC_CONV(dynamic_conv_unit_wide, true, true, 1)
DYNAMIC_CONV(dynamic_conv_unit_split, true, true, 4)
