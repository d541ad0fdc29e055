// Gradients of layers and of the terms at their sites, dense and depthwise, over int8 and f32 weights.
//
// With dv = dy where the mask is open and dz = dv * scale: dx = W'dz + down'(up'dz) + delta'dz; down, up: (up'dz)x',
// dz(down*x)'; sparse and dense deltas: dz*x; shift: dv; scale: dv*z. Sums are f32 in an order that depends on extents
// alone: the same step gives the same bytes. A sum over many pixels is cut into parts, added up by `sum_parts`.
#pragma once
#include "types.cuh"

/// Rank rows, or weight rows, of a thread.
const i32 RANKS = 8;
/// Warps of a block that share pixels out, and those that share a patch.
const i32 SLICES = 8, SHARERS = 4;

/// The input pixel of the first tap of an output pixel.
struct Corner {
    i32 image, y, x;
};

__device__ __forceinline__ Corner corner_of(const LayerBackward& p, i32 pixel) {
    i32 x = pixel % p.ow, rest = pixel / p.ow;
    return {rest / p.oh, rest % p.oh * p.window.stride[0] - p.window.pad[0], x * p.window.stride[1] - p.window.pad[1]};
}

/// The input pixel under a tap; -1 in the padding.
__device__ __forceinline__ i32 tap_of(const LayerBackward& p, const Corner& corner, i32 ky, i32 kx) {
    i32 y = corner.y + ky * p.window.dilation[0], x = corner.x + kx * p.window.dilation[1];
    return (u32)y < (u32)p.h && (u32)x < (u32)p.w ? (corner.image * p.h + y) * p.w + x : -1;
}

/// The output pixel that reads an input pixel under a tap; -1 where none does. Without a branch, so that what is loaded
/// for one tap need not wait for another's.
template <bool STRIDED>
__device__ __forceinline__ i32 reader_of(const LayerBackward& p, i32 image, i32 y, i32 x, i32 ky, i32 kx) {
    y += p.window.pad[0] - ky * p.window.dilation[0];
    x += p.window.pad[1] - kx * p.window.dilation[1];
    bool read = y >= 0 & x >= 0;
    if (STRIDED) {
        i32 oy = y / p.window.stride[0], ox = x / p.window.stride[1];
        read &= oy * p.window.stride[0] == y & ox * p.window.stride[1] == x;
        y = oy;
        x = ox;
    }
    read &= y < p.oh & x < p.ow;
    return read ? (image * p.oh + y) * p.ow + x : -1;
}

__device__ __forceinline__ bool is_strided(const LayerBackward& p) {
    return p.window.stride[0] != 1 || p.window.stride[1] != 1;
}

/// What stands for real zero in int8 input, and what a step of it is worth: known when compiled, or found at run time.
__device__ __forceinline__ i32 zero_of(const LayerBackward& p) {
    return p.run_zero ? *at<const i8>(p.run_zero) : p.zero_point;
}
__device__ __forceinline__ float in_scale_of(const LayerBackward& p) {
    return p.run_scale ? fresh(at<const float>(p.run_scale)) : p.in_scale;
}

/// A stored input element as it was, and as a real.
__device__ __forceinline__ float real_at(const LayerBackward& p, i64 index) {
    if (!p.codes) return at<const float>(p.input)[index];
    return (float)(at<const i8>(p.input)[index] - zero_of(p)) * in_scale_of(p);
}

/// The incoming gradient where the mask is open. Neither load waits for the other.
__device__ __forceinline__ float open_at(const LayerBackward& p, i64 index) {
    float dy = fresh(at<const float>(p.dy) + index);
    u32 bits = p.mask ? fresh(at<const u8>(p.mask) + (index >> 3)) : 0xff;
    return bits >> (index & 7) & 1 ? dy : 0.0f;
}

/// What the gradient of the affine value is multiplied with.
__device__ __forceinline__ float scale_of(const LayerBackward& p, i32 channel) {
    const Terms* terms = at<const Terms>(p.terms);
    return terms && terms->scale && !p.staged ? at<const float>(terms->scale)[channel] : 1.0f;
}

/// The real value of a weight step.
__device__ __forceinline__ float step_of(const LayerBackward& p, i32 channel) {
    if (!p.codes) return 1.0f;
    float multiplier = at<const float>(p.multiplier)[channel];
    return p.run_scale ? multiplier : __fdiv_rn(multiplier * p.out_scale, p.in_scale);
}

__device__ __forceinline__ const void* weight_of(const LayerBackward& p) {
    const Terms* terms = at<const Terms>(p.terms);
    return at<const void>(terms && terms->weight ? terms->weight : p.weight);
}

__device__ __forceinline__ float weight_at(const LayerBackward& p, const void* weight, i64 index) {
    return p.codes ? (float)((const i8*)weight)[index] : ((const float*)weight)[index];
}

/// The pixels of part `split`.
__device__ __forceinline__ void part_of(const LayerBackward& p, i32 split, i32& begin, i32& end) {
    i32 pixels = p.n * p.oh * p.ow, per = (pixels + p.splits - 1) / p.splits;
    begin = split * per;
    end = min(pixels, begin + per);
}

/// Adds a sum to gradient `index`, or keeps it as a part of `count` of them from `first` on.
__device__ __forceinline__ void give(const LayerBackward& p, u64 sums, i64 first, i64 count, i32 split, i64 index, float sum) {
    if (p.splits == 1) at<float>(sums)[index] += sum;
    else at<float>(p.parts)[first + split * count + index] = sum;
}

/// dz, where it may not be read as the input's gradient is written.
extern "C" __global__ void layer_backward_stage(const __grid_constant__ LayerBackward p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < p.n * p.oh * p.ow * p.o) at<float>(p.stage)[index] = open_at(p, index) * scale_of(p, index % p.o);
}

/// down*x and up'dz: a block a pixel, a few rank rows, and either of the two.
extern "C" __global__ void __launch_bounds__(SHARERS * 32) conv_backward_latents(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ float parts[SHARERS][RANKS];
    const Terms& terms = *at<const Terms>(p.terms);
    i32 chunks = (p.rank + RANKS - 1) / RANKS, group = blockIdx.y / chunks, r0 = blockIdx.y % chunks * RANKS;
    i32 count = min(p.rank - r0, RANKS), pixel = blockIdx.x, warp = threadIdx.x >> 5;
    if (!blockIdx.z && !p.latents) return;
    float sums[RANKS] = {};
    if (blockIdx.z) {
        const float* up = at<const float>(terms.up) + (i64)group * p.out_group * p.rank + r0;
#pragma unroll 4
        for (i32 o = threadIdx.x; o < p.out_group; o += SHARERS * 32) {
            i32 channel = group * p.out_group + o;
            float dz = open_at(p, (i64)pixel * p.o + channel) * scale_of(p, channel);
#pragma unroll
            for (i32 r = 0; r < RANKS; r++) sums[r] = __fmaf_rn(__ldg(up + (i64)o * p.rank + min(r, count - 1)), dz, sums[r]);
        }
    } else {
        const float* down = at<const float>(terms.down) + ((i64)group * p.rank + r0) * p.row;
        Corner corner = corner_of(p, pixel);
#pragma unroll 4
        for (i32 k = threadIdx.x; k < p.row; k += SHARERS * 32) {
            i32 tap = k / p.in_group, ky = tap / p.window.kernel[1];
            i32 from = p.linear ? pixel : tap_of(p, corner, ky, tap - ky * p.window.kernel[1]);
            float x = real_at(p, (i64)max(from, 0) * p.c + group * p.in_group + k - tap * p.in_group);
            x = from < 0 ? 0.0f : x;
#pragma unroll
            for (i32 r = 0; r < RANKS; r++) sums[r] = __fmaf_rn(__ldg(down + (i64)min(r, count - 1) * p.row + k), x, sums[r]);
        }
    }
#pragma unroll
    for (i32 r = 0; r < RANKS; r++) {
        for (i32 half = 16; half; half /= 2) sums[r] += __shfl_xor_sync(~0u, sums[r], half);
        if ((threadIdx.x & 31) == 0) parts[warp][r] = sums[r];
    }
    __syncthreads();
    if (threadIdx.x >= count) return;
    float sum = 0.0f;
    for (i32 other = 0; other < SHARERS; other++) sum += parts[other][threadIdx.x];
    u64 to = blockIdx.z ? p.dlatents : p.latents;
    at<float>(to)[((i64)pixel * p.groups + group) * p.rank + r0 + threadIdx.x] = sum;
}

/// What an outer product over pixels is of.
enum Outer { DOWN, UP, DENSE };

/// Sum over pixels of a few rows times a column a lane: gradients of factors and of the weight.
template <Outer KIND, bool LINEAR>
__device__ __forceinline__ void outer(const LayerBackward& p, i32 group, i32 r0, i32 rows, i32 split,
                                      float (*parts)[RANKS][32]) {
    i32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, column = blockIdx.x * 32 + lane;
    i32 columns = KIND == UP ? p.out_group : p.row, count = min(rows - r0, RANKS);
    bool known = column < columns;
    i32 tap = 0, ky = 0, kx = 0, channel = group * p.out_group + column, begin, end;
    // A column or row that is not there is the last that is: no load waits for another, and nobody reads the sum.
    i32 inside = min(column, columns - 1), own = group * p.out_group + inside;
    if (KIND != UP) {
        tap = inside / p.in_group;
        ky = tap / p.window.kernel[1];
        kx = tap - ky * p.window.kernel[1];
    }
    float scale = KIND == UP ? scale_of(p, own) : 1.0f, sums[RANKS] = {}, scales[RANKS];
    const float* firsts[RANKS];
#pragma unroll
    for (i32 r = 0; r < RANKS; r++) {
        i32 row = r0 + min(r, count - 1);
        scales[r] = KIND == DENSE ? scale_of(p, group * p.out_group + row) : 1.0f;
        firsts[r] = at<const float>(KIND == UP ? p.latents : p.dlatents) + group * p.rank + row;
    }
    part_of(p, split, begin, end);
#pragma unroll 4
    for (i32 pixel = begin + warp; pixel < end; pixel += SLICES) {
        float a[RANKS], b;
        if (KIND == UP) {
            b = open_at(p, (i64)pixel * p.o + own) * scale;
        } else {
            i32 from = LINEAR ? pixel : tap_of(p, corner_of(p, pixel), ky, kx);
            b = real_at(p, (i64)max(from, 0) * p.c + group * p.in_group + inside - tap * p.in_group);
            b = from < 0 ? 0.0f : b;
        }
#pragma unroll
        for (i32 r = 0; r < RANKS; r++) {
            if (KIND == DENSE) a[r] = open_at(p, (i64)pixel * p.o + group * p.out_group + r0 + min(r, count - 1)) * scales[r];
            else a[r] = fresh(firsts[r] + (i64)pixel * p.groups * p.rank);
        }
#pragma unroll
        for (i32 r = 0; r < RANKS; r++) sums[r] = __fmaf_rn(a[r], b, sums[r]);
    }
#pragma unroll
    for (i32 r = 0; r < RANKS; r++) parts[warp][r][lane] = sums[r];
    __syncthreads();
    if (warp >= count || !known) return;
    float sum = 0.0f;
    for (i32 slice = 0; slice < SLICES; slice++) sum += parts[slice][warp][lane];
    i64 downs = (i64)p.groups * p.rank * p.row, ups = (i64)p.o * p.rank;
    if (KIND == UP) give(p, p.up, p.splits * downs, ups, split, (i64)channel * p.rank + r0 + warp, sum);
    if (KIND == DOWN) give(p, p.down, 0, downs, split, ((i64)group * p.rank + r0 + warp) * p.row + column, sum);
    if (KIND == DENSE) {
        i64 row = group * p.out_group + r0 + warp;
        give(p, p.dense, 0, (i64)p.o * p.row, split, row * p.row + column, sum);
    }
}

extern "C" __global__ void __launch_bounds__(SLICES * 32) conv_backward_factors(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ float parts[SLICES][RANKS][32];
    i32 chunks = (p.rank + RANKS - 1) / RANKS, group = blockIdx.y / chunks, r0 = blockIdx.y % chunks * RANKS;
    bool up = blockIdx.z & 1;
    if (blockIdx.x * 32 >= (up ? p.out_group : p.row) || !(up ? p.up : p.down)) return;
    if (up) outer<UP, true>(p, group, r0, p.rank, blockIdx.z >> 1, parts);
    else if (p.linear) outer<DOWN, true>(p, group, r0, p.rank, blockIdx.z >> 1, parts);
    else outer<DOWN, false>(p, group, r0, p.rank, blockIdx.z >> 1, parts);
}

extern "C" __global__ void __launch_bounds__(SLICES * 32) conv_backward_dense(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ float parts[SLICES][RANKS][32];
    i32 chunks = (p.out_group + RANKS - 1) / RANKS;
    outer<DENSE, false>(p, blockIdx.y / chunks, blockIdx.y % chunks * RANKS, p.out_group, blockIdx.z, parts);
}

/// Gradient of a dense delta of depthwise weights: a block a tap and 32 channels.
extern "C" __global__ void __launch_bounds__(SLICES * 32) depthwise_backward_dense(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ float parts[SLICES][32];
    i32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, channel = blockIdx.x * 32 + lane;
    i32 tap = blockIdx.y, ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1], begin, end;
    bool known = channel < p.c;
    float sum = 0.0f, scale = known ? scale_of(p, channel) : 0.0f;
    part_of(p, blockIdx.z, begin, end);
    for (i32 pixel = begin + warp; known && pixel < end; pixel += SLICES) {
        i32 from = tap_of(p, corner_of(p, pixel), ky, kx);
        if (from < 0) continue;
        sum = __fmaf_rn(open_at(p, (i64)pixel * p.o + channel) * scale, real_at(p, (i64)from * p.c + channel), sum);
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp || !known) return;
    for (i32 slice = 1; slice < SLICES; slice++) sum += parts[slice][lane];
    give(p, p.dense, 0, (i64)p.row * p.c, blockIdx.z, (i64)tap * p.c + channel, sum);
}

/// Gradients of scale and shift: a block 32 channels.
extern "C" __global__ void __launch_bounds__(SLICES * 32) layer_backward_affine(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ float parts[SLICES][2][32];
    i32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, channel = blockIdx.x * 32 + lane, begin, end;
    bool known = channel < p.o;
    float shift = 0.0f, scale = 0.0f;
    part_of(p, blockIdx.y, begin, end);
#pragma unroll 4
    for (i32 pixel = begin + warp; pixel < end; pixel += SLICES) {
        i64 index = (i64)pixel * p.o + channel;
        float dv = known ? open_at(p, index) : 0.0f;
        shift += dv;
        if (p.scale && known) scale = __fmaf_rn(dv, at<const float>(p.values)[index] * p.value_scale, scale);
    }
    parts[warp][0][lane] = shift;
    parts[warp][1][lane] = scale;
    __syncthreads();
    if (warp >= 2 || !known || !(warp ? p.scale : p.shift)) return;
    float sum = 0.0f;
    for (i32 slice = 0; slice < SLICES; slice++) sum += parts[slice][warp][lane];
    give(p, warp ? p.scale : p.shift, warp ? (i64)p.splits * p.o : 0, p.o, blockIdx.y, channel, sum);
}

/// Adds the parts of gradients up.
extern "C" __global__ void sum_parts(const __grid_constant__ SumParts p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    float sum = 0.0f;
#pragma unroll 4
    for (i32 split = 0; split < p.splits; split++) sum += at<const float>(p.parts)[(i64)split * p.count + index];
    at<float>(p.sums)[index] += sum;
}

/// The row of a compressed matrix that entry `entry` stands in.
__device__ __forceinline__ i32 row_of(const u32* indptr, i32 rows, u32 entry) {
    i32 low = 0, high = rows;
    while (high - low > 1) {
        i32 middle = (low + high) / 2;
        if (indptr[middle] <= entry) low = middle;
        else high = middle;
    }
    return low;
}

/// Gradient of a sparse delta: a warp an entry.
extern "C" __global__ void layer_backward_sparse(const __grid_constant__ LayerBackward p) {
    follow();
    const Terms& terms = *at<const Terms>(p.terms);
    i32 entry = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (entry >= p.entries) return;
    i32 channel = row_of(at<const u32>(terms.indptr), p.o, entry), index = at<const u16>(terms.indices)[entry];
    i32 tap = p.depthwise ? index : index / p.in_group, from_channel = channel;
    if (!p.depthwise) from_channel = channel / p.out_group * p.in_group + index - tap * p.in_group;
    i32 ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1], pixels = p.n * p.oh * p.ow;
    float sum = 0.0f, scale = scale_of(p, channel);
#pragma unroll 2
    for (i32 pixel = threadIdx.x & 31; pixel < pixels; pixel += 32) {
        i32 from = p.linear ? pixel : tap_of(p, corner_of(p, pixel), ky, kx);
        if (from < 0) continue;
        sum = __fmaf_rn(open_at(p, (i64)pixel * p.o + channel) * scale, real_at(p, (i64)from * p.c + from_channel), sum);
    }
    for (i32 half = 16; half; half /= 2) sum += __shfl_xor_sync(~0u, sum, half);
    if ((threadIdx.x & 31) == 0) at<float>(p.sparse)[entry] += sum;
}

/// What entries of row `row` add at position `index` of it.
__device__ __forceinline__ float entry_at(const Terms& terms, i32 row, i32 index) {
    const u32* indptr = at<const u32>(terms.indptr);
    const u16* indices = at<const u16>(terms.indices);
    u32 low = indptr[row], end = indptr[row + 1], high = end;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (indices[middle] < index) low = middle + 1;
        else high = middle;
    }
    float sum = 0.0f;
    for (; low < end && indices[low] == index; low++) sum += at<const float>(terms.values)[low];
    return sum;
}

/// The weight with its deltas, in reals.
extern "C" __global__ void conv_backward_weights(const __grid_constant__ LayerBackward p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.o * p.row) return;
    const Terms& terms = *at<const Terms>(p.terms);
    i32 channel = index / p.row;
    float weight = weight_at(p, weight_of(p), index) * step_of(p, channel);
    if (terms.dense) weight += at<const float>(terms.dense)[index];
    if (terms.sparse) weight += entry_at(terms, channel, index - channel * p.row);
    at<float>(p.weights)[index] = weight;
}

/// The value that scale and shift are applied to, in reals: one thread an element.
extern "C" __global__ void layer_backward_values(const __grid_constant__ LayerBackward p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.o) return;
    const Terms* terms = at<const Terms>(p.terms);
    const void* weight = weight_of(p);
    i32 pixel = index / p.o, channel = index - pixel * p.o, group = channel / p.out_group;
    i32 taps = p.window.kernel[0] * p.window.kernel[1], inputs = p.depthwise ? 1 : p.in_group;
    Corner corner = corner_of(p, pixel);
    float stored = 0.0f, deltas = 0.0f;
    for (i32 tap = 0; tap < taps; tap++) {
        i32 ky = tap / p.window.kernel[1], from = tap_of(p, corner, ky, tap - ky * p.window.kernel[1]);
        for (i32 i = 0; i < inputs; i++) {
            i64 to = p.depthwise ? (i64)tap * p.c + channel : (i64)channel * p.row + tap * p.in_group + i;
            i64 place = (i64)from * p.c + (p.depthwise ? channel : group * p.in_group + i);
            // The bias holds the zero point's part, so that codes count as they are stored.
            float x = from < 0 ? (float)(p.codes ? zero_of(p) : 0)
                               : p.codes ? (float)at<const i8>(p.input)[place] : at<const float>(p.input)[place];
            stored = __fmaf_rn(weight_at(p, weight, to), x, stored);
            if (!terms || from < 0) continue;
            if (terms->dense) deltas = __fmaf_rn(at<const float>(terms->dense)[to], real_at(p, place), deltas);
            if (terms->sparse) {
                deltas = __fmaf_rn(entry_at(*terms, channel, tap * inputs + i), real_at(p, place), deltas);
            }
        }
    }
    const void* bias = at<const void>(terms && terms->bias ? terms->bias : p.bias);
    float value = p.run_scale ? (stored - (float)zero_of(p) * (float)at<const i32>(p.row_sums)[channel]) *
                                        (in_scale_of(p) * at<const float>(p.multiplier)[channel]) + ((const float*)bias)[channel]
                  : p.codes ? ((float)((const i32*)bias)[channel] + stored) * at<const float>(p.multiplier)[channel] * p.out_scale
                            : ((const float*)bias)[channel] + stored;
    for (i32 r = 0; r < p.rank; r++) {
        float latent = at<const float>(p.latents)[((i64)pixel * p.groups + group) * p.rank + r];
        deltas = __fmaf_rn(at<const float>(terms->up)[(i64)channel * p.rank + r], latent, deltas);
    }
    at<float>(p.values)[index] = value + deltas;
}

/// Input pixels of a block, and elements of the sum that a warp takes at once.
const i32 COVER = 16, CHUNK = 32;

/// Gradient of a layer's input: a block COVER pixels and 32 channels, its warps sharing out taps, channels and ranks.
template <typename W, bool STRIDED>
__device__ __forceinline__ void input_gradient(const LayerBackward& p, const W* weight, float (*tiles)[CHUNK * (COVER + 4)]) {
    i32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    i32 group = blockIdx.z, channel = blockIdx.y * 32 + lane, first = blockIdx.x * COVER, pixels = p.n * p.h * p.w;
    i32 taps = p.window.kernel[0] * p.window.kernel[1], whole = (p.out_group + CHUNK - 1) / CHUNK;
    i32 per_tap = whole + (p.rank + CHUNK - 1) / CHUNK;
    const Terms* terms = at<const Terms>(p.terms);
    const float* down = p.rank ? at<const float>(terms->down) + (i64)group * p.rank * p.row : nullptr;
    // Of lanes beyond COVER nobody asks.
    i32 own = first + lane, x = own % p.w, rest = own / p.w, y = rest % p.h, image = rest / p.h;
    bool there = lane < COVER && own < pixels;
    float* tile = tiles[warp];
    float sums[COVER] = {};
    for (i32 chunk = warp; chunk < taps * per_tap; chunk += warps) {
        i32 tap = chunk / per_tap, piece = chunk - tap * per_tap, ky = tap / p.window.kernel[1], kx = tap - ky * p.window.kernel[1];
        bool low = piece >= whole;
        i32 o0 = (low ? piece - whole : piece) * CHUNK, width = low ? p.rank : p.out_group, o = o0 + lane;
        i32 reader = there ? reader_of<STRIDED>(p, image, y, x, ky, kx) : -1, inside = min(o, width - 1);
        float factor = 0.0f;
        if (o < width) factor = low ? 1.0f : scale_of(p, group * p.out_group + o) * (sizeof(W) == 1 ? step_of(p, group * p.out_group + o) : 1.0f);
        // What is not there is loaded from where something is, and left out behind it: no load waits for another.
        float values[COVER];
        i32 from[COVER];
#pragma unroll
        for (i32 i = 0; i < COVER; i++) from[i] = __shfl_sync(~0u, reader, i);
        if (low) {
            const float* latents = at<const float>(p.dlatents) + group * p.rank + inside;
#pragma unroll
            for (i32 i = 0; i < COVER; i++) values[i] = fresh(latents + (i64)max(from[i], 0) * p.groups * p.rank);
        } else if (p.mask) {
#pragma unroll
            for (i32 i = 0; i < COVER; i++) values[i] = open_at(p, (i64)max(from[i], 0) * p.o + group * p.out_group + inside);
        } else {
            const float* dy = at<const float>(p.dy) + group * p.out_group + inside;
#pragma unroll
            for (i32 i = 0; i < COVER; i++) values[i] = fresh(dy + (i64)max(from[i], 0) * p.o);
        }
#pragma unroll
        for (i32 i = 0; i < COVER; i++) {
            tile[lane * (COVER + 4) + i] = from[i] >= 0 && o < width ? values[i] * factor : 0.0f;
        }
        __syncwarp();
        i32 last = min(CHUNK, width - o0) - 1;
        i64 to = (low ? (i64)o0 * p.row : (i64)(group * p.out_group + o0) * p.row) + tap * p.in_group + min(channel, p.in_group - 1);
        float held[CHUNK];
        // Rows behind the last meet values of zero.
        if (low) {
#pragma unroll
            for (i32 k = 0; k < CHUNK; k++) held[k] = __ldg(down + to + (i64)min(k, last) * p.row);
        } else {
#pragma unroll
            for (i32 k = 0; k < CHUNK; k++) held[k] = (float)__ldg(weight + to + (i64)min(k, last) * p.row);
        }
#pragma unroll
        for (i32 k = 0; k < CHUNK; k++) {
            const float4* part = reinterpret_cast<const float4*>(tile + k * (COVER + 4));
#pragma unroll
            for (i32 i = 0; i < COVER / 4; i++) {
                float4 four = part[i];
                sums[4 * i] = __fmaf_rn(four.x, held[k], sums[4 * i]);
                sums[4 * i + 1] = __fmaf_rn(four.y, held[k], sums[4 * i + 1]);
                sums[4 * i + 2] = __fmaf_rn(four.z, held[k], sums[4 * i + 2]);
                sums[4 * i + 3] = __fmaf_rn(four.w, held[k], sums[4 * i + 3]);
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (i32 i = 0; i < COVER; i++) tile[i * 32 + lane] = sums[i];
    __syncthreads();
    for (i32 index = threadIdx.x; index < COVER * 32; index += blockDim.x) {
        i32 pixel = first + index / 32, to = blockIdx.y * 32 + index % 32;
        if (pixel >= pixels || to >= p.in_group) continue;
        float sum = 0.0f;
        for (i32 other = 0; other < warps; other++) sum += tiles[other][index];
        float* dx = at<float>(p.dx) + (i64)pixel * p.c + group * p.in_group + to;
        *dx = p.accumulate ? *dx + sum : sum;
    }
}

extern "C" __global__ void __launch_bounds__(SLICES * 32) conv_backward_input_qc8w(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ __align__(16) float tiles[SLICES][CHUNK * (COVER + 4)];
    if (is_strided(p)) input_gradient<i8, true>(p, (const i8*)weight_of(p), tiles);
    else input_gradient<i8, false>(p, (const i8*)weight_of(p), tiles);
}

extern "C" __global__ void __launch_bounds__(SLICES * 32) conv_backward_input_f32(const __grid_constant__ LayerBackward p) {
    follow();
    __shared__ __align__(16) float tiles[SLICES][CHUNK * (COVER + 4)];
    const float* weight = p.weights ? at<const float>(p.weights) : (const float*)weight_of(p);
    if (is_strided(p)) input_gradient<float, true>(p, weight, tiles);
    else input_gradient<float, false>(p, weight, tiles);
}

/// What deltas add to the gradient of an element of a depthwise layer's input.
template <bool STRIDED>
__device__ __noinline__ float depthwise_deltas(const LayerBackward p, const Terms& terms, i32 image, i32 y, i32 x, i32 channel) {
    float sum = 0.0f;
    for (i32 tap = 0; tap < p.window.kernel[0] * p.window.kernel[1]; tap++) {
        i32 ky = tap / p.window.kernel[1], reader = reader_of<STRIDED>(p, image, y, x, ky, tap - ky * p.window.kernel[1]);
        if (reader < 0) continue;
        float delta = terms.dense ? at<const float>(terms.dense)[(i64)tap * p.c + channel] : 0.0f;
        if (terms.sparse) delta += entry_at(terms, channel, tap);
        sum = __fmaf_rn(open_at(p, (i64)reader * p.o + channel), delta, sum);
    }
    return sum;
}

/// Gradient of a depthwise layer's input: one thread an element. The usual windows are known when compiled.
template <i32 SIZE, bool STRIDED> __device__ __forceinline__ void depthwise_input(const LayerBackward& p) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.n * p.h * p.w * p.c) return;
    i32 pixel = index / p.c, channel = index - pixel * p.c, x = pixel % p.w, rest = pixel / p.w, y = rest % p.h, image = rest / p.h;
    const Terms* terms = at<const Terms>(p.terms);
    const void* weight = weight_of(p);
    i32 kernel_h = SIZE ? SIZE : p.window.kernel[0], kernel_w = SIZE ? SIZE : p.window.kernel[1];
    float scale = scale_of(p, channel), step = step_of(p, channel), sum = 0.0f;
#pragma unroll (SIZE ? SIZE : 1)
    for (i32 ky = 0; ky < kernel_h; ky++) {
#pragma unroll (SIZE ? SIZE : 1)
        for (i32 kx = 0; kx < kernel_w; kx++) {
            i32 reader = reader_of<STRIDED>(p, image, y, x, ky, kx);
            float dv = open_at(p, (i64)max(reader, 0) * p.o + channel);
            float w = weight_at(p, weight, (i64)(ky * kernel_w + kx) * p.c + channel);
            sum = __fmaf_rn(reader < 0 ? 0.0f : dv * scale, w * step, sum);
        }
    }
    if (terms && (terms->dense || terms->sparse)) sum += depthwise_deltas<STRIDED>(p, *terms, image, y, x, channel) * scale;
    float* dx = at<float>(p.dx) + index;
    *dx = p.accumulate ? *dx + sum : sum;
}

extern "C" __global__ void depthwise_backward_input_three(const __grid_constant__ LayerBackward p) {
    follow();
    is_strided(p) ? depthwise_input<3, true>(p) : depthwise_input<3, false>(p);
}
extern "C" __global__ void depthwise_backward_input_five(const __grid_constant__ LayerBackward p) {
    follow();
    is_strided(p) ? depthwise_input<5, true>(p) : depthwise_input<5, false>(p);
}
extern "C" __global__ void depthwise_backward_input(const __grid_constant__ LayerBackward p) {
    follow();
    is_strided(p) ? depthwise_input<0, true>(p) : depthwise_input<0, false>(p);
}
