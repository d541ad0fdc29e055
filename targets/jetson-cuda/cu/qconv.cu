// int8 convolution and linear layers as an implicit product, with every adapter term in the epilogue.
//
// A warp computes 16 pixels by 32 channels with m16n8k32 tensor-core products (sm_80 and later; dp4a
// below). A block of four warps covers 64 pixels (SPLIT 1) or, where the reduction is long and pixels
// are few, one set of 16 with the reduction shared out (SPLIT 4; a block of eight warps with SPLIT 8): integer
// sums come out the same in any order. Pixels are read in place; nothing is gathered first. A two-factor term takes its products
// A*x from the same pixels: up to eight rank rows stand beside the weight rows as one more tile of the
// product, more take a second pass. An idle site costs the read of its table entry.
#pragma once
#include "types.cuh"

const i32 WARPS = 4;
/// Those of a block.
constexpr i32 warps_of(i32 split) { return split == 1 ? WARPS : split; }
const i32 PIXELS = 16;
const i32 CHANNELS = 32;
const i32 TILES = CHANNELS / 8;

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
__device__ __noinline__ i32 code_at(const QConv& p, const Patch& patch, i32 group, i32 k) {
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
__device__ __noinline__ void gather(const QConv& p, const Patch* patch, i32 group, i32 k, u32* a) {
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

/// Four weights of row `column` of `rows`, zero past the end.
template <bool WORDS>
__device__ __forceinline__ u32 weights_at(const i8* rows, i32 columns, i32 column, i32 row, i32 k) {
    if (column >= columns || k >= row) return 0;
    const i8* from = rows + (i64)column * row + k;
    if (WORDS) return __ldg(reinterpret_cast<const u32*>(from));
    u32 word = 0;
#pragma unroll
    for (i32 i = 0; i < 4; i++) word |= k + i < row ? (u32)(u8)__ldg(from + i) << (8 * i) : 0;
    return word;
}

__device__ __forceinline__ i32 dot4(u32 a, u32 b, i32 c) {
    asm("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(c) : "r"(a), "r"(b));
    return c;
}

__device__ __forceinline__ void multiply(i32* c, const u32* a, u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    // The same fragments: words travel from the lanes that hold them.
    i32 lane = threadIdx.x & 31, row = lane & ~3, first = (lane & 3) * 8;
#pragma unroll 1
    for (i32 i = 0; i < 4; i++) {
        u32 a0 = __shfl_sync(~0u, a[0], row + i), a1 = __shfl_sync(~0u, a[1], row + i);
        u32 a2 = __shfl_sync(~0u, a[2], row + i), a3 = __shfl_sync(~0u, a[3], row + i);
        u32 left0 = __shfl_sync(~0u, b0, first + i), left1 = __shfl_sync(~0u, b1, first + i);
        u32 right0 = __shfl_sync(~0u, b0, first + 4 + i), right1 = __shfl_sync(~0u, b1, first + 4 + i);
        c[0] = dot4(a2, left1, dot4(a0, left0, c[0]));
        c[1] = dot4(a2, right1, dot4(a0, right0, c[1]));
        c[2] = dot4(a3, left1, dot4(a1, left0, c[2]));
        c[3] = dot4(a3, right1, dot4(a1, right0, c[3]));
    }
#endif
}

typedef i32 Tile[WARPS][PIXELS][CHANNELS];

/// Rank rows that are multiplied beside the weight rows, in one tile of the product.
const i32 BESIDE = 8;
typedef i32 Latents[WARPS][PIXELS][BESIDE];

/// Writes a warp's part of a product of `columns` columns.
template <i32 COLUMNS>
__device__ __forceinline__ void put(i32 (*tile)[COLUMNS], i32 n, const i32* sums) {
    i32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    for (i32 i = 0; i < 4; i++) tile[g + 8 * (i >> 1)][n * 8 + 2 * t + (i & 1)] = sums[i];
}

/// Products of this warp's pixels with `columns` rows of `rows`, into its part of `tile`; with RANKS also with `ranks`
/// rows of `down`, at most BESIDE, into `latents`.
///
/// What is multiplied with `down`, or with everything under CENTER, has the zero point taken off: x is an offset code, and
/// these rows carry no folded bias.
template <bool WORDS, bool UNIT, i32 SPLIT, bool CENTER, bool RANKS>
__device__ __forceinline__ void products(const QConv& p, const Patch* patch, i32 group, const i8* rows, i32 columns,
                                         i32 (*tile)[PIXELS][CHANNELS], const i8* down, i32 ranks, i32 (*latents)[PIXELS][BESIDE]) {
    i32 warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    i32 sums[TILES][4] = {}, weights[TILES][4] = {}, low[4] = {}, low_weights[4] = {};
    const u32 ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
#pragma unroll (WORDS ? 4 : 1)
    for (i32 block = SPLIT == 1 ? 0 : warp; block * 32 < p.row; block += SPLIT) {
        i32 k = block * 32 + 4 * t;
        u32 a[4];
        if (WORDS) {
            a[0] = codes_at<UNIT>(p, patch[0], group, k);
            a[1] = codes_at<UNIT>(p, patch[1], group, k);
            a[2] = codes_at<UNIT>(p, patch[0], group, k + 16);
            a[3] = codes_at<UNIT>(p, patch[1], group, k + 16);
        } else {
            gather(p, patch, group, k, a);
        }
#pragma unroll
        for (i32 n = 0; n < TILES; n++) {
            u32 b0 = weights_at<WORDS>(rows, columns, n * 8 + g, p.row, k);
            u32 b1 = weights_at<WORDS>(rows, columns, n * 8 + g, p.row, k + 16);
            multiply(sums[n], a, b0, b1);
            if (CENTER) multiply(weights[n], ones, b0, b1);
        }
        if (RANKS) {
            u32 b0 = weights_at<WORDS>(down, ranks, g, p.row, k), b1 = weights_at<WORDS>(down, ranks, g, p.row, k + 16);
            multiply(low, a, b0, b1);
            multiply(low_weights, ones, b0, b1);
        }
    }
#pragma unroll
    for (i32 n = 0; n < TILES; n++) {
        if (CENTER) for (i32 i = 0; i < 4; i++) sums[n][i] -= p.in_zero_point * weights[n][i];
        put<CHANNELS>(tile[warp], n, sums[n]);
    }
    if (RANKS) {
        for (i32 i = 0; i < 4; i++) low[i] -= p.in_zero_point * low_weights[i];
        put<BESIDE>(latents[warp], 0, low);
    }
}

/// A product of a tile: its own with SPLIT 1, else the sum of the parts.
template <i32 SPLIT, i32 COLUMNS>
__device__ __forceinline__ i32 product(const i32 (*tile)[PIXELS][COLUMNS], i32 pixel, i32 column) {
    if (SPLIT == 1) return tile[pixel / PIXELS][pixel % PIXELS][column];
    i32 sum = 0;
#pragma unroll
    for (i32 warp = 0; warp < SPLIT; warp++) sum += tile[warp][pixel][column];
    return sum;
}

/// The sparse term of `channel`: what it adds to the accumulator, and to the real value.
__device__ __noinline__ void sparse_term(const QConv& p, const Terms& terms, i32 pixel, i32 group, i32 channel,
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

/// Pixels that share what is read of real factors.
const i32 TOGETHER = 4;

/// A*x of TOGETHER pixels for `count` real rows, at most BESIDE, by the lanes of a warp together: `out[i * stride + r]`.
__device__ __noinline__ void real_latents(const QConv& p, const float* a, i32 count, i32 first, i32 group, float* out,
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
__device__ __noinline__ float dense_term(const QConv& p, const Terms& terms, i32 pixel, i32 group, i32 channel) {
    const Patch patch = patch_of<false>(p, pixel, group);
    const float* row = at<const float>(terms.dense) + (i64)channel * p.row;
    float sum = 0.0f;
    for (i32 k = 0; k < p.row; k++) sum = __fmaf_rn(row[k], (float)(code_at(p, patch, group, k) - p.in_zero_point), sum);
    return sum;
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

/// Factors of more rows than fit beside, or real ones: a pass over the pixels for every CHANNELS ranks.
template <bool WORDS, bool UNIT, i32 SPLIT, i32 COVERED>
__device__ __forceinline__ void many_ranks(const QConv& p, const Terms& terms, const Patch* patch, i32 group,
                                           i32 first_pixel, i32 channel0, i32 left, i32 (*latents)[PIXELS][BESIDE],
                                           Extra (*extra)[CHANNELS]) {
    const i32 COUNT = warps_of(SPLIT);
    __shared__ i32 ranks[COUNT][PIXELS][CHANNELS];
    __shared__ float latent[COVERED][CHANNELS + 1];
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
            products<WORDS, UNIT, SPLIT, true, false>(p, patch, group, down, count, ranks, 0, 0, latents);
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

/// TRAIN: with a mask, a delta of every weight, and the value before scale and shift.
template <bool WORDS, bool UNIT, i32 SPLIT, bool TRAIN> __device__ __forceinline__ void qconv(const QConv& p) {
    const i32 COVERED = SPLIT == 1 ? WARPS * PIXELS : PIXELS, COUNT = warps_of(SPLIT);
    __shared__ i32 tile[COUNT][PIXELS][CHANNELS];
    __shared__ i32 latents[COUNT][PIXELS][BESIDE];
    __shared__ Extra extra[COVERED][CHANNELS];
    __shared__ i32 codes[COVERED][BESIDE];
    i32 warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, group = blockIdx.z;
    i32 first_pixel = blockIdx.x * COVERED, first_channel = blockIdx.y * CHANNELS;
    i32 own = first_pixel + (SPLIT == 1 ? warp * PIXELS : 0) + g;
    Patch patch[2] = {patch_of<UNIT>(p, own, group), patch_of<UNIT>(p, own + 8, group)};

    const Terms* terms = at<const Terms>(p.terms);
    const i8* weight = at<const i8>(p.weight);
    const i32* biases = at<const i32>(p.bias);
    u32 factors = 0, sparse = 0;
    i32 rank = 0;
    if (terms) {
        factors = terms->factors;
        sparse = terms->sparse;
        rank = terms->rank;
        if (terms->weight) {
            weight = at<const i8>(terms->weight);
            biases = at<const i32>(terms->bias);
        }
    }
    i32 left = min(p.out_group - first_channel, CHANNELS), channel0 = group * p.out_group + first_channel;
    const i8* rows = weight + (i64)channel0 * p.row;
    bool beside = factors == 2 && rank <= BESIDE;

    // A thread has one channel in every pixel of the epilogue: what belongs to it is read ahead of the products.
    i32 lane = threadIdx.x % CHANNELS, channel = channel0 + lane, bias = 0;
    float multiplier = 0.0f, scale = 1.0f, shift = 0.0f, up_scale = 0.0f;
    i32 up[BESIDE] = {};
    if (lane < left) {
        bias = __ldg(biases + channel);
        multiplier = __ldg(at<const float>(p.multiplier) + channel);
        if (terms && terms->scale) {
            scale = at<const float>(terms->scale)[channel];
            shift = at<const float>(terms->shift)[channel] * p.inv_out_scale;
        }
        if (factors == 2) up_scale = at<const float>(terms->up_scale)[channel];
        if (beside) {
#pragma unroll
            for (i32 r = 0; r < BESIDE; r++) up[r] = r < rank ? at<const i8>(terms->up)[(i64)channel * rank + r] : 0;
        }
    }
    // BESIDE divides the threads of a block: each has one rank of all its pixels.
    i32 own_rank = threadIdx.x % BESIDE;
    float down_scale = beside && own_rank < rank ? at<const float>(terms->down_scale)[group * rank + own_rank] : 0.0f;
    follow();
    if (beside) {
        const i8* down = at<const i8>(terms->down) + (i64)group * rank * p.row;
        products<WORDS, UNIT, SPLIT, false, true>(p, patch, group, rows, left, tile, down, rank, latents);
        __syncthreads();
        for (i32 index = threadIdx.x; index < COVERED * BESIDE; index += COUNT * 32) {
            i32 pixel = index / BESIDE;
            codes[pixel][own_rank] = latent_code(product<SPLIT, BESIDE>(latents, pixel, own_rank), down_scale);
        }
    } else {
        products<WORDS, UNIT, SPLIT, false, false>(p, patch, group, rows, left, tile, 0, 0, latents);
        if (factors) {
            many_ranks<WORDS, UNIT, SPLIT, COVERED>(p, *terms, patch, group, first_pixel, channel0, left, latents, extra);
        }
    }
    __syncthreads();
    if (lane >= left) return;
    bool affine = terms && terms->scale && !(TRAIN && p.raw), dense = TRAIN && terms && terms->dense;
    u32 lanes = left >= CHANNELS ? ~0u : (1u << left) - 1;
    i32 pixels = p.n * p.oh * p.ow;
#pragma unroll 4
    for (i32 local = threadIdx.x / CHANNELS; local < COVERED; local += COUNT * 32 / CHANNELS) {
        i32 pixel = first_pixel + local;
        if (pixel >= pixels) break;
        i32 acc = product<SPLIT, CHANNELS>(tile, local, lane) + bias;
        float delta = 0.0f;
        if (sparse) sparse_term(p, *terms, pixel, group, channel, acc, delta);
        float v = (float)acc * multiplier;
        if (beside) {
            i32 sum = 0;
#pragma unroll
            for (i32 r = 0; r < BESIDE; r++) sum += codes[local][r] * up[r];
            v += (float)sum * up_scale;
        } else if (factors == 2) {
            v += (float)extra[local][lane].integer * up_scale;
        } else if (factors == 1) {
            v += extra[local][lane].real * p.inv_out_scale;
        }
        if (dense) delta += dense_term(p, *terms, pixel, group, channel);
        if (sparse == 2 || dense) v += delta * p.in_scale * p.inv_out_scale;
        if (affine) v = v * scale + shift;
        i64 to = (i64)pixel * p.o + channel;
        if (p.out_kind == 0) at<i8>(p.output)[to] = to_code(v, p.lo, p.hi, p.out_zero_point);
        else if (p.out_kind == 1) at<float>(p.output)[to] = clamp(v, p.lo, p.hi);
        else at<i32>(p.output)[to] = acc;
        if (TRAIN && p.mask) put_mask(p.mask, (i32)to, p.o % 8 == 0 && p.out_group % 8 == 0, lanes, true, passes(v, p.lo, p.hi));
    }
}

#define QCONV(name, words, unit, split)                                                                      \
    extern "C" __global__ void __launch_bounds__(warps_of(split) * 32) name(const __grid_constant__ QConv p) { \
        qconv<words, unit, split, false>(p);                                                                 \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(warps_of(split) * 32) name##_train(const __grid_constant__ QConv p) { \
        qconv<words, unit, split, true>(p);                                                                  \
    }
QCONV(qconv_bytes_wide, false, false, 1)
QCONV(qconv_bytes_split, false, false, 4)
QCONV(qconv_words_wide, true, false, 1)
QCONV(qconv_words_split, true, false, 4)
QCONV(qconv_unit_wide, true, true, 1)
QCONV(qconv_unit_split, true, true, 4)
QCONV(qconv_unit_deep, true, true, 8)
