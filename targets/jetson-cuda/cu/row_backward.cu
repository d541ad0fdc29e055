// Gradients of what looks along axes: softmax and normalization, a warp a row or a block where rows are long; reductions.
#pragma once
#include "gradient.cuh"
#include "real_backward.cu"
#include "reduce.cu"
#include "rows.cu"

/// The gradient of a softmax of reals, or of its logarithm.
template <i32 SIZE> __device__ __forceinline__ void softmax_backward(const SoftmaxBack& p) {
    i32 row = own_row<SIZE>(), own = threadIdx.x % SIZE;
    if (row >= p.rows) return;
    const float* dy = at<const float>(p.dy) + (i64)row * p.len;
    const float* y = at<const float>(p.y) + (i64)row * p.len;
    float sum = 0.0f;
#pragma unroll 4
    for (i32 i = own; i < p.len; i += SIZE) sum += p.log ? dy[i] : dy[i] * y[i];
    sum = together<SIZE>(sum, Plus());
    for (i32 i = own; i < p.len; i += SIZE) {
        put_gradient(p.dx, (i64)row * p.len + i, p.accumulate, p.log ? dy[i] - expf(y[i]) * sum : y[i] * (dy[i] - sum));
    }
}

extern "C" __global__ void softmax_backward_f32_warp(const __grid_constant__ SoftmaxBack p) { follow(); softmax_backward<WARP>(p); }
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) softmax_backward_f32_block(const __grid_constant__ SoftmaxBack p) {
    follow();
    softmax_backward<GROUP_THREADS>(p);
}

/// The gradient of an int8 softmax, which is computed again: a warp a row.
extern "C" __global__ void softmax_backward_qs8(const __grid_constant__ SoftmaxBack p) {
    follow();
    i32 row = own_row<WARP>(), own = threadIdx.x % WARP;
    if (row >= p.rows) return;
    const float* dy = at<const float>(p.dy) + (i64)row * p.len;
    const i8* x = at<const i8>(p.y) + (i64)row * p.len;
    const i32* table = at<const i32>(p.table);
    float most = -128.0f;
    for (i32 i = own; i < p.len; i += WARP) most = Larger()(most, (float)x[i]);
    most = together<WARP>(most, Larger());
    i64 exact = 0;
    for (i32 i = own; i < p.len; i += WARP) exact += table[(i32)most - x[i]];
    for (i32 half = WARP / 2; half; half /= 2) exact += __shfl_xor_sync(~0u, exact, half);
    float total = __ll2float_rn(exact), lo = (float)(-128 - p.out_zero_point), hi = (float)(127 - p.out_zero_point), sum = 0.0f;
    auto part = [&](i32 i) { return __fdiv_rn((float)table[(i32)most - x[i]], total); };
    auto open = [&](i32 i, float part) { return passes(part * p.inv_scale, lo, hi) ? dy[i] : 0.0f; };
    for (i32 i = own; i < p.len; i += WARP) sum += open(i, part(i)) * part(i);
    sum = together<WARP>(sum, Plus());
    for (i32 i = own; i < p.len; i += WARP) {
        put_gradient(p.dx, (i64)row * p.len + i, p.accumulate, part(i) * (open(i, part(i)) - sum));
    }
}

/// The gradient of what is normalized, and the moments of every row where those of scale and shift are wanted.
template <i32 SIZE> __device__ __forceinline__ void norm_backward(const NormBack& p) {
    i32 row = own_row<SIZE>(), own = threadIdx.x % SIZE;
    if (row >= p.rows) return;
    const float* dy = at<const float>(p.dy) + (i64)row * p.len;
    const float* x = at<const float>(p.input) + (i64)row * p.len;
    const Terms* terms = at<const Terms>(p.terms);
    const float* scale = at<const float>(terms && terms->scale ? terms->scale : p.scale);
    float mean = 0.0f, deviation = 1.0f, sum = 0.0f, along = 0.0f, count = (float)p.len;
    if (p.kind == LAYER) {
#pragma unroll 4
        for (i32 i = own; i < p.len; i += SIZE) sum += x[i];
        mean = __fdiv_rn(together<SIZE>(sum, Plus()), count);
        sum = 0.0f;
    }
    if (p.kind != AFFINE) {
#pragma unroll 4
        for (i32 i = own; i < p.len; i += SIZE) sum += (x[i] - mean) * (x[i] - mean);
        deviation = __fsqrt_rn(__fdiv_rn(together<SIZE>(sum, Plus()), count) + p.epsilon);
        sum = 0.0f;
    }
    if (p.moments && own == 0) {
        at<float>(p.moments)[2 * row] = mean;
        at<float>(p.moments)[2 * row + 1] = deviation;
    }
    if (!p.dx) return;
    auto slope = [&](i32 i) { return scale ? dy[i] * scale[i] : dy[i]; };
    auto hat = [&](i32 i) { return __fdiv_rn(x[i] - mean, deviation); };
    if (p.kind != AFFINE) {
        for (i32 i = own; i < p.len; i += SIZE) {
            sum += slope(i);
            along += slope(i) * hat(i);
        }
        sum = p.kind == RMS ? 0.0f : __fdiv_rn(together<SIZE>(sum, Plus()), count);
        along = __fdiv_rn(together<SIZE>(along, Plus()), count);
    }
    for (i32 i = own; i < p.len; i += SIZE) {
        float value = p.kind == AFFINE ? slope(i) : __fdiv_rn(slope(i) - sum - hat(i) * along, deviation);
        put_gradient(p.dx, (i64)row * p.len + i, p.accumulate, value);
    }
}

extern "C" __global__ void norm_backward_f32_warp(const __grid_constant__ NormBack p) { follow(); norm_backward<WARP>(p); }
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) norm_backward_f32_block(const __grid_constant__ NormBack p) {
    follow();
    norm_backward<GROUP_THREADS>(p);
}

/// Gradients of scale and shift: a block 32 columns, its warps sharing out the rows.
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) norm_backward_terms(const __grid_constant__ NormBack p) {
    follow();
    const i32 SHARES = GROUP_THREADS / WARP;
    __shared__ float parts[SHARES][2][WARP];
    i32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
    const float* moments = at<const float>(p.moments);
    float scale = 0.0f, shift = 0.0f;
    for (i32 row = warp; column < p.len && row < p.rows; row += SHARES) {
        float dy = at<const float>(p.dy)[(i64)row * p.len + column], x = at<const float>(p.input)[(i64)row * p.len + column];
        shift += dy;
        scale += dy * __fdiv_rn(x - moments[2 * row], moments[2 * row + 1]);
    }
    parts[warp][0][lane] = shift;
    parts[warp][1][lane] = scale;
    __syncthreads();
    u64 to = warp == 0 ? p.dshift : p.dscale;
    if (warp >= 2 || column >= p.len || !to) return;
    float sum = 0.0f;
    for (i32 share = 0; share < SHARES; share++) sum += parts[share][warp][lane];
    at<float>(to)[column] += sum;
}

/// Sums and means: one thread an element.
extern "C" __global__ void reduce_backward_spread(const __grid_constant__ ReduceBack p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.results * p.count) return;
    i32 result = p.side ? index % p.results : index / p.count, own = p.side ? index / p.results : index % p.count;
    float dy = incoming(p.dy, p.mask, result);
    if (p.function == R_MEAN) dy = __fdiv_rn(dy, (float)p.count);
    i64 to = place_of(result, p.kept_rank, p.kept, p.kept_strides) + place_of(own, p.reduced_rank, p.reduced, p.reduced_strides);
    put_gradient(p.dx, to, p.accumulate, dy);
}

__device__ __forceinline__ float smooth_slope(i32 function, float x, float total, float most, float zeros) {
    switch (function) {
        case R_L1: return x == 0.0f ? 0.0f : copysignf(1.0f, x);
        case R_L2: return total == 0.0f ? 0.0f : __fdiv_rn(x, total);
        case R_SUM_SQUARE: return 2.0f * x;
        case R_LOG_SUM: return __fdiv_rn(1.0f, total);
        case R_LOG_SUM_EXP: return __fdiv_rn(expf(x - most), total);
        default: return zeros == 0.0f ? __fdiv_rn(total, x) : zeros == 1.0f && x == 0.0f ? total : 0.0f;
    }
}

struct Times {
    __device__ __forceinline__ float operator()(float a, float b) const { return a * b; }
};

/// All other reductions: a block a result.
extern "C" __global__ void __launch_bounds__(GROUP_THREADS) reduce_backward_block(const __grid_constant__ ReduceBack p) {
    follow();
    __shared__ float values[GROUP_THREADS];
    __shared__ i32 places[GROUP_THREADS];
    i64 first = place_of(blockIdx.x, p.kept_rank, p.kept, p.kept_strides);
    auto at_ = [&](i32 i) { return first + place_of(i, p.reduced_rank, p.reduced, p.reduced_strides); };
    auto value = [&](i32 i) { return p.codes ? (float)at<const i8>(p.input)[at_(i)] : at<const float>(p.input)[at_(i)]; };
    float dy = incoming(p.dy, p.mask, blockIdx.x);
    if (p.function == R_MAX || p.function == R_MIN) {
        float best = 0.0f, sign = p.function == R_MAX ? 1.0f : -1.0f;
        i32 place = -1;
        for (i32 i = threadIdx.x; i < p.count; i += GROUP_THREADS) {
            float x = sign * value(i);
            if (place < 0 || x > best) {
                best = x;
                place = i;
            }
        }
        values[threadIdx.x] = best;
        places[threadIdx.x] = place;
        for (i32 half = GROUP_THREADS / 2; half; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half && places[threadIdx.x + half] >= 0) {
                float mine = values[threadIdx.x], other = values[threadIdx.x + half];
                i32 there = places[threadIdx.x + half];
                // The first of equals.
                if (places[threadIdx.x] < 0 || other > mine || (other == mine && there < places[threadIdx.x])) {
                    values[threadIdx.x] = other;
                    places[threadIdx.x] = there;
                }
            }
        }
        __syncthreads();
        for (i32 i = threadIdx.x; i < p.count; i += GROUP_THREADS) put_gradient(p.dx, at_(i), p.accumulate, i == places[0] ? dy : 0.0f);
        return;
    }
    float most = -INFINITE, total = p.function == R_PROD ? 1.0f : 0.0f, zeros = 0.0f;
    if (p.function == R_LOG_SUM_EXP) {
        for (i32 i = threadIdx.x; i < p.count; i += GROUP_THREADS) most = Larger()(most, value(i));
        most = together<GROUP_THREADS>(most, Larger());
    }
    for (i32 i = threadIdx.x; i < p.count; i += GROUP_THREADS) {
        float x = value(i);
        if (p.function == R_PROD) {
            if (x == 0.0f) zeros += 1.0f;
            else total *= x;
        } else {
            total += element(p.function, x, most);
        }
    }
    if (p.function == R_PROD) {
        total = together<GROUP_THREADS>(total, Times());
        zeros = together<GROUP_THREADS>(zeros, Plus());
    } else {
        total = together<GROUP_THREADS>(total, Plus());
        if (p.function == R_L2) total = __fsqrt_rn(total);
    }
    for (i32 i = threadIdx.x; i < p.count; i += GROUP_THREADS) {
        float given = dy == 0.0f ? 0.0f : dy * smooth_slope(p.function, value(i), total, most, zeros);
        put_gradient(p.dx, at_(i), p.accumulate, given);
    }
}
