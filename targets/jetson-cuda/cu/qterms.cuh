// What adapters add to an int8 layer beside the products that it has anyway.
#pragma once
#include "product.cuh"

/// The sparse term of `channel`: what it adds to the accumulator, and to the real value.
__device__ __forceinline__ void sparse_sum(const QConv& p, const Terms& terms, i32 pixel, i32 group, i32 channel,
                                           i32& acc, float& real) {
    const Patch patch = patch_of<false>(p, pixel, group);
    const u32* indptr = at<const u32>(terms.indptr);
    const u16* indices = at<const u16>(terms.indices);
    for (u32 i = indptr[channel]; i < indptr[channel + 1]; i++) {
        i32 x = code_at(p, patch, group, indices[i]) - p.in_zero_point;
        if (terms.sparse == 1) acc += x * at<const i16>(terms.values)[i];
        else real += (float)x * at<const float>(terms.values)[i];
    }
}

/// Neighbors of a pixel's channels that a thread finishes.
const i32 RUN = 4;

/// What is added to a run: to its accumulators, and in input steps to its real values.
struct Deltas {
    i32 integer[RUN];
    float real[RUN];
};

/// The sparse terms of `count` channels from `channel` on. Calls take a copy of the record: with the address of a kernel's
/// parameters, all of these would be read from memory everywhere.
__device__ __noinline__ Deltas sparse_run(const QConv p, const Terms& terms, i32 pixel, i32 group, i32 channel, i32 count) {
    Deltas deltas = {};
#pragma unroll 1
    for (i32 i = 0; i < count; i++) {
        sparse_sum(p, terms, pixel, group, channel + i, deltas.integer[i], deltas.real[i]);
    }
    return deltas;
}

/// Pixels that share what is read of real factors.
const i32 TOGETHER = 4;

/// A*x of TOGETHER pixels for `count` real rows, at most BESIDE, by the lanes of a warp together: `out[i * stride + r]`.
__device__ __forceinline__ void real_latents(const QConv& p, const float* a, i32 count, i32 first, i32 group, float* out,
                                          i32 stride) {
    i32 lane = threadIdx.x & 31, pixels = p.n * p.oh * p.ow;
    float sums[TOGETHER][BESIDE] = {};
    if (p.linear) {
        // Loads of what is not there are of what is: no load waits for another. Nobody reads those sums.
        const i8* from[TOGETHER];
        const float* rows[BESIDE];
#pragma unroll
        for (i32 i = 0; i < TOGETHER; i++) {
            from[i] = at<const i8>(p.input) + (i64)min(first + i, pixels - 1) * p.c + group * p.in_group;
        }
#pragma unroll
        for (i32 r = 0; r < BESIDE; r++) rows[r] = a + (i64)min(r, count - 1) * p.row;
#pragma unroll 4
        for (i32 k = lane; k < p.row; k += 32) {
            float x[TOGETHER], factors[BESIDE];
#pragma unroll
            for (i32 i = 0; i < TOGETHER; i++) x[i] = (float)((i32)fresh(from[i] + k) - p.in_zero_point);
#pragma unroll
            for (i32 r = 0; r < BESIDE; r++) factors[r] = __ldg(rows[r] + k);
#pragma unroll
            for (i32 r = 0; r < BESIDE; r++) {
#pragma unroll
                for (i32 i = 0; i < TOGETHER; i++) sums[i][r] = __fmaf_rn(factors[r], x[i], sums[i][r]);
            }
        }
    } else {
        Patch patch[TOGETHER];
#pragma unroll
        for (i32 i = 0; i < TOGETHER; i++) patch[i] = patch_of<false>(p, min(first + i, pixels - 1), group);
#pragma unroll 1
        for (i32 k = lane; k < p.row; k += 32) {
            float x[TOGETHER];
#pragma unroll
            for (i32 i = 0; i < TOGETHER; i++) x[i] = (float)(code_at(p, patch[i], group, k) - p.in_zero_point);
#pragma unroll
            for (i32 r = 0; r < BESIDE; r++) {
                float factor = __ldg(a + (i64)min(r, count - 1) * p.row + k);
#pragma unroll
                for (i32 i = 0; i < TOGETHER; i++) sums[i][r] = __fmaf_rn(factor, x[i], sums[i][r]);
            }
        }
    }
#pragma unroll
    for (i32 i = 0; i < TOGETHER; i++) {
#pragma unroll
        for (i32 r = 0; r < BESIDE; r++) {
            float sum = sums[i][r];
            for (i32 half = 16; half; half /= 2) sum += __shfl_xor_sync(~0u, sum, half);
            if (lane == 0 && r < count) out[i * stride + r] = sum * p.in_scale;
        }
    }
}

/// What a delta of every weight adds for `channel`, in input steps.
__device__ __forceinline__ float dense_term(const QConv& p, const Terms& terms, i32 pixel, i32 group, i32 channel) {
    const Patch patch = patch_of<false>(p, pixel, group);
    const float* row = at<const float>(terms.dense) + (i64)channel * p.row;
    float sum = 0.0f;
    for (i32 k = 0; k < p.row; k++) sum = __fmaf_rn(row[k], (float)(code_at(p, patch, group, k) - p.in_zero_point), sum);
    return sum;
}

/// The same of a run.
__device__ __noinline__ Deltas dense_run(const QConv p, const Terms& terms, i32 pixel, i32 group, i32 channel, i32 count) {
    Deltas deltas = {};
#pragma unroll 1
    for (i32 i = 0; i < count; i++) deltas.real[i] = dense_term(p, terms, pixel, group, channel + i);
    return deltas;
}

/// An entry of A*x as an int16 code.
__device__ __forceinline__ i32 latent_code(i32 sum, float scale) {
    return round_even(clamp((float)sum * scale, -32768.0f, 32767.0f));
}

/// What a site's two factors add, per pixel and channel: an integer sum, or a real one.
union Extra {
    i32 integer;
    float real;
};

/// Factors of more rows than fit beside, or real ones: a pass over the pixels for every CHANNELS ranks. `nearest` is the first pixel of
/// this thread. Called with a copy of the record: what is seldom stays out of the way of what is usual.
template <bool WORDS, bool UNIT, i32 SPLIT, i32 COVERED>
__device__ __noinline__ void many_ranks(const QConv p, const Terms& terms, i32 nearest, i32 group, i32 first_pixel, i32 channel0, i32 left,
                                        Extra (*extra)[CHANNELS]) {
    const i32 COUNT = warps_of(SPLIT);
    __shared__ i32 ranks[COUNT][PIXELS][CHANNELS];
    __shared__ float latent[COVERED][CHANNELS + 1];
    const Patch patch[2] = {patch_of<UNIT>(p, nearest, group), patch_of<UNIT>(p, nearest + 8, group)};
    bool integer = terms.factors == 2;
    i32 rank = terms.rank;
    for (i32 index = threadIdx.x; index < COVERED * CHANNELS; index += COUNT * 32) extra[0][index].integer = 0;
#pragma unroll 1
    for (i32 r0 = 0; r0 < rank; r0 += CHANNELS) {
        i32 count = min(rank - r0, CHANNELS), rank0 = group * rank + r0;
        i64 first = (i64)rank0 * p.row;
        __syncthreads();
        if (integer) {
            const i8* down = at<const i8>(terms.down) + first;
            products<WORDS, UNIT, SPLIT, true>(p, patch, group, down, count, ranks);
        }
        __syncthreads();
        if (integer) {
#pragma unroll 1
            for (i32 index = threadIdx.x; index < COVERED * count; index += COUNT * 32) {
                i32 pixel = index / count, r = index % count;
                i32 sum = product<SPLIT, CHANNELS>(ranks, pixel, r);
                latent[pixel][r] = (float)latent_code(sum, at<const float>(terms.down_scale)[rank0 + r]);
            }
        } else {
#pragma unroll 1
            for (i32 pixel = (threadIdx.x >> 5) * TOGETHER; pixel < COVERED; pixel += COUNT * TOGETHER) {
#pragma unroll 1
                for (i32 r = 0; r < count; r += BESIDE) {
                    const float* a = at<const float>(terms.down) + first + (i64)r * p.row;
                    real_latents(p, a, min(count - r, BESIDE), first_pixel + pixel, group, &latent[pixel][r], CHANNELS + 1);
                }
            }
        }
        __syncthreads();
        i32 channel = threadIdx.x % CHANNELS;
        if (channel < left && integer) {
#pragma unroll 1
            for (i32 pixel = threadIdx.x / CHANNELS; pixel < COVERED; pixel += COUNT) {
                i64 row = (i64)(channel0 + channel) * rank + r0;
                i32 sum = extra[pixel][channel].integer;
                for (i32 r = 0; r < count; r++) sum += (i32)latent[pixel][r] * at<const i8>(terms.up)[row + r];
                extra[pixel][channel].integer = sum;
            }
        } else if (channel < left) {
            const float* row = at<const float>(terms.up) + (i64)(channel0 + channel) * rank + r0;
#pragma unroll 1
            for (i32 first = 0; first < count; first += BESIDE) {
                float up[BESIDE];
#pragma unroll
                for (i32 r = 0; r < BESIDE; r++) up[r] = __ldg(row + min(first + r, count - 1));
#pragma unroll 4
                for (i32 pixel = threadIdx.x / CHANNELS; pixel < COVERED; pixel += COUNT) {
                    float sum = extra[pixel][channel].real;
#pragma unroll
                    for (i32 r = 0; r < BESIDE; r++) sum += first + r < count ? up[r] * latent[pixel][first + r] : 0.0f;
                    extra[pixel][channel].real = sum;
                }
            }
        }
    }
}
