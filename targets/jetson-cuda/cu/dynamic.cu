// int8 on scales that are found at run time: the range of a tensor, and convolutions that read it as an operand.
#pragma once
#include "float.cuh"
#include "group.cuh"
#include "qconv.cu"
#include "tile.cuh"

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

/// The range of what the threads of a warp found, in each of them.
__device__ __forceinline__ Range warp_range(Range range) {
#pragma unroll
    for (i32 half = WARP / 2; half; half /= 2) {
        widen(range, __shfl_xor_sync(~0u, range.lo, half));
        widen(range, __shfl_xor_sync(~0u, range.hi, half));
    }
    return range;
}

/// The same of a block.
__device__ __forceinline__ Range block_range(Range range) {
    __shared__ Range parts[WARP];
    range = warp_range(range);
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = range;
    __syncthreads();
    if (threadIdx.x % WARP < blockDim.x / WARP) range = parts[threadIdx.x % WARP];
    return warp_range(range);
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
    follow();
    write_codes(p, block_range(own_range(p)));
}

/// A pair a block.
extern "C" __global__ void __launch_bounds__(DYNAMIC_THREADS) quantize_f32_qd8_range(const __grid_constant__ DynamicQuantize p) {
    follow();
    Range range = block_range(own_range(p));
    if (threadIdx.x == 0) at<Range>(p.partials)[blockIdx.x] = range;
}

/// The codes, from all pairs.
extern "C" __global__ void __launch_bounds__(DYNAMIC_THREADS) quantize_f32_qd8_codes(const __grid_constant__ DynamicQuantize p) {
    follow();
    Range range = {0.0f, 0.0f};
    for (i32 i = threadIdx.x; i < p.parts; i += blockDim.x) {
        Range part = at<const Range>(p.partials)[i];
        widen(range, part.lo);
        widen(range, part.hi);
    }
    write_codes(p, block_range(range));
}

/// Ranks whose entries of A*x are held at a time; ranks and pixels of which a warp computes those at once.
const i32 RANKS_AT_ONCE = 8;
const i32 RANKS_OF_WARP = 2;
const i32 PIXELS_AT_ONCE = 8;

/// The sums over a warp of 16 values: that of value `lane / 2`.
__device__ __forceinline__ float sum_of_own(float* values) {
    i32 lane = threadIdx.x % WARP;
#pragma unroll
    for (i32 half = 8; half; half /= 2) {
        bool upper = lane & 2 * half;
#pragma unroll
        for (i32 i = 0; i < half; i++) {
            float sent = upper ? values[i] : values[i + half], kept = upper ? values[i + half] : values[i];
            values[i] = kept + __shfl_xor_sync(~0u, sent, 2 * half);
        }
    }
    return values[0] + __shfl_xor_sync(~0u, values[0], 1);
}

/// Adds to `sums`, in each lane a part, the products of rows of real factors, `next` apart, and the words of PIXELS_AT_ONCE pixels.
template <bool UNIT>
__device__ __forceinline__ void word_latents(const QConv& p, const float* a, i64 next, i32 first_pixel, i32 group, float* sums) {
    Patch patch[PIXELS_AT_ONCE];
    bool words = in_fours(a, p.row);
#pragma unroll
    for (i32 i = 0; i < PIXELS_AT_ONCE; i++) patch[i] = patch_of<UNIT>(p, first_pixel + i, group);
#pragma unroll 2
    for (i32 k = threadIdx.x % WARP * 4; k < p.row; k += WARP * 4) {
        float4 w[RANKS_OF_WARP];
        u32 codes[PIXELS_AT_ONCE];
#pragma unroll
        for (i32 r = 0; r < RANKS_OF_WARP; r++) w[r] = fours_at<false>(a + r * next, p.row, k, words);
#pragma unroll
        for (i32 i = 0; i < PIXELS_AT_ONCE; i++) codes[i] = codes_at<UNIT>(p, patch[i], group, k);
#pragma unroll
        for (i32 i = 0; i < PIXELS_AT_ONCE; i++) {
            float x[4];
#pragma unroll
            for (i32 j = 0; j < 4; j++) x[j] = (float)((i32)(i8)(codes[i] >> (8 * j)) - p.in_zero_point);
#pragma unroll
            for (i32 r = 0; r < RANKS_OF_WARP; r++) {
                sums[r * PIXELS_AT_ONCE + i] = dot_fours(w[r], make_float4(x[0], x[1], x[2], x[3]), sums[r * PIXELS_AT_ONCE + i]);
            }
        }
    }
}

/// The same code by code. Takes a copy of the record: with its address, all of it would be read from memory everywhere.
__device__ __noinline__ void byte_latents(const QConv p, const float* a, i64 next, i32 first_pixel, i32 group, float* sums) {
    for (i32 i = 0; i < PIXELS_AT_ONCE; i++) {
        const Patch patch = patch_of<false>(p, first_pixel + i, group);
        for (i32 k = threadIdx.x % WARP; patch.valid && k < p.row; k += WARP) {
            float x = (float)(code_at(p, patch, group, k) - p.in_zero_point);
            for (i32 r = 0; r < RANKS_OF_WARP; r++) sums[r * PIXELS_AT_ONCE + i] = __fmaf_rn(a[r * next + k], x, sums[r * PIXELS_AT_ONCE + i]);
        }
    }
}

/// What real factors add to the pixels of a thread: its channel in every fourth pixel of a block.
template <bool WORDS, bool UNIT, i32 COVERED>
__device__ __forceinline__ void real_ranks(const QConv& p, const Terms& terms, i32 group, i32 first_pixel, i32 channel,
                                           bool mine, float* added) {
    __shared__ float latents[COVERED][RANKS_AT_ONCE];
    i32 rank = terms.rank, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, pixels = p.n * p.oh * p.ow;
    const float* ups = at<const float>(terms.up) + (i64)channel * rank;
#pragma unroll 1
    for (i32 r0 = 0; r0 < rank; r0 += RANKS_AT_ONCE) {
        i32 count = min(rank - r0, RANKS_AT_ONCE);
        float up[RANKS_AT_ONCE];
#pragma unroll
        for (i32 r = 0; r < RANKS_AT_ONCE; r++) up[r] = mine && r < count ? __ldg(ups + r0 + r) : 0.0f;
        __syncthreads();
#pragma unroll 1
        for (i32 job = warp; job < COVERED / PIXELS_AT_ONCE * (RANKS_AT_ONCE / RANKS_OF_WARP); job += WARPS) {
            i32 pixel = job / (RANKS_AT_ONCE / RANKS_OF_WARP) * PIXELS_AT_ONCE, r = job % (RANKS_AT_ONCE / RANKS_OF_WARP) * RANKS_OF_WARP;
            if (first_pixel + pixel >= pixels) break;
            float sums[RANKS_OF_WARP * PIXELS_AT_ONCE] = {};
            if (r < count) {
                const float* a = at<const float>(terms.down) + (i64)(group * rank + r0 + r) * p.row;
                // A rank that is not there is the one before once more, and meets a factor of zero.
                i64 next = r + 1 < count ? p.row : 0;
                if (WORDS) word_latents<UNIT>(p, a, next, first_pixel + pixel, group, sums);
                else byte_latents(p, a, next, first_pixel + pixel, group, sums);
            }
            float sum = sum_of_own(sums) * p.in_scale;
            if (lane % 2 == 0) latents[pixel + lane / 2 % PIXELS_AT_ONCE][r + lane / 2 / PIXELS_AT_ONCE] = sum;
        }
        __syncthreads();
#pragma unroll
        for (i32 i = 0; i < COVERED / WARPS; i++) {
            const float* latent = latents[i * WARPS + threadIdx.x / CHANNELS];
#pragma unroll
            for (i32 r = 0; r < RANKS_AT_ONCE; r++) added[i] += up[r] * latent[r];
        }
    }
}

/// What the sparse term of `channel` adds, in input steps.
__device__ __noinline__ float dynamic_sparse(const QConv p, const Terms& terms, i32 pixel, i32 group, i32 channel) {
    i32 unused = 0;
    float delta = 0.0f;
    sparse_sum(p, terms, pixel, group, channel, unused, delta);
    return delta;
}

template <bool WORDS, bool UNIT, i32 SPLIT> __device__ __forceinline__ void dynamic_conv(const DynamicConv& d) {
    const i32 COVERED = SPLIT == 1 ? WARPS * PIXELS : PIXELS;
    __shared__ Tile tile;
    QConv p = d.conv;
    i32 warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, group = blockIdx.z;
    i32 first_pixel = blockIdx.x * COVERED, first_channel = blockIdx.y * CHANNELS;
    i32 own = first_pixel + (SPLIT == 1 ? warp * PIXELS : 0) + g;
    const Patch patch[2] = {patch_of<UNIT>(p, own, group), patch_of<UNIT>(p, own + 8, group)};
    i32 left = min(p.out_group - first_channel, CHANNELS), channel0 = group * p.out_group + first_channel;
    const i8* rows = at<const i8>(p.weight) + (i64)channel0 * p.row;
    i32 lane = threadIdx.x % CHANNELS, channel = channel0 + lane, folded = 0;
    bool mine = lane < left;
    float multiplier = 0.0f, bias = 0.0f;
    if (mine) {
        folded = __ldg(at<const i32>(d.sums) + channel);
        multiplier = __ldg(at<const float>(p.multiplier) + channel);
        bias = __ldg(at<const float>(d.shift) + channel);
    }
    const Terms* terms = at<const Terms>(p.terms);
    Terms entry = {};
    if (terms) entry = *terms;
    const Affine affine = affine_of(entry, channel, mine);
    follow();
    p.in_zero_point = fresh(at<const i8>(d.zero_point));
    p.in_scale = fresh(at<const float>(d.scale));
    folded *= -p.in_zero_point;
    multiplier *= p.in_scale;
    products<WORDS, UNIT, SPLIT, false>(p, patch, group, rows, left, tile);
    float added[COVERED / WARPS] = {};
    if (entry.factors) real_ranks<WORDS, UNIT, COVERED>(p, entry, group, first_pixel, channel, mine, added);
    __syncthreads();
    if (!mine) return;
    i32 pixels = p.n * p.oh * p.ow;
#pragma unroll
    for (i32 i = 0; i < COVERED / WARPS; i++) {
        i32 local = i * WARPS + threadIdx.x / CHANNELS, pixel = first_pixel + local;
        if (pixel >= pixels) break;
        i32 acc = product<SPLIT, CHANNELS>(tile, local, lane) + folded;
        float v = (float)acc * multiplier + bias;
        if (entry.factors) v += added[i];
        if (entry.sparse) v += dynamic_sparse(p, *terms, pixel, group, channel) * p.in_scale;
        if (affine.present) v = v * affine.scale + affine.shift;
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
