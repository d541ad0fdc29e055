// Gradients of functions of one and two operands, of choices and picks: each element gathers what reaches it.
#pragma once
#include "arithmetic.cu"
#include "backward.cu"
#include "gradient.cuh"

__device__ __forceinline__ float unit(bool condition) { return condition ? 1.0f : 0.0f; }
__device__ __forceinline__ float square(float x) { return x * x; }

/// The derivative of function `function` of `unary`: 0 at the bound of a clip, and of steps.
__device__ __forceinline__ float slope(i32 function, float alpha, float beta, float x) {
    float s = sigmoid(x), t;
    switch (function) {
        case 0: return unit(passes(x, alpha, beta));
        case 1: return s * (1.0f - s);
        case 2: return 1.0f - square(tanhf(x));
        case 3: return expf(x);
        case 4: return __fdiv_rn(1.0f, x);
        case 5: return __fdiv_rn(0.5f, __fsqrt_rn(x));
        case 6: return 1.1283792f * expf(-x * x);
        case 7: return unit(x > 0.0f) - unit(x < 0.0f);
        case 8: return -1.0f;
        case 9: return __fdiv_rn(-1.0f, square(x));
        case 10: case 11: case 12: case 13: return 0.0f;
        case 14: return cosf(x);
        case 15: return -sinf(x);
        case 16: return alpha * unit(passes(alpha * x + beta, 0.0f, 1.0f));
        case 17: return x <= -3.0f ? 0.0f : x < 3.0f ? __fdiv_rn(x, 3.0f) + 0.5f : 1.0f;
        case 18: return x < 0.0f ? alpha : 1.0f;
        case 19: return x < 0.0f ? alpha * expf(x) : 1.0f;
        case 20: return x > 0.0f ? beta : beta * alpha * expf(x);
        case 21: return 0.5f * (1.0f + erff(x * 0.70710678118654752f)) + x * 0.3989423f * expf(-0.5f * x * x);
        case 22:
            t = tanhf(0.7978846f * (x + 0.044715f * x * x * x));
            return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - square(t)) * (0.7978846f * (1.0f + 3.0f * 0.044715f * x * x));
        case 23:
            t = tanhf(softplus(x));
            return t + x * (1.0f - square(t)) * s;
        case 24: return s;
        case 25: return __fdiv_rn(1.0f, square(1.0f + fabsf(x)));
        case 26: return x <= 0.0f ? expf(__fdiv_rn(x, alpha)) : 1.0f;
        case 27: return unit(x > alpha);
        default:
            s = sigmoid(alpha * x);
            return s + alpha * x * s * (1.0f - s);
    }
}

/// Where nothing comes in nothing goes on, even where the derivative is infinite.
extern "C" __global__ void unary_backward_f32(const __grid_constant__ UnaryBack p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    float dy = at<const float>(p.dy)[index];
    put_gradient(p.dx, index, p.accumulate, dy == 0.0f ? 0.0f : dy * slope(p.function, p.alpha, p.beta, at<const float>(p.input)[index]));
}

/// The derivative of function `function` of `binary` with respect to its left or right operand.
__device__ __forceinline__ float partial(i32 function, bool right, float a, float b) {
    switch (function) {
        case ADD: return 1.0f;
        case SUB: return right ? -1.0f : 1.0f;
        case MUL: return right ? a : b;
        case DIV: return right ? __fdiv_rn(-a, b * b) : __fdiv_rn(1.0f, b);
        case MAX: return unit((a >= b) != right);
        case MIN: return unit((a <= b) != right);
        case POW:
            if (right) return a == 0.0f ? 0.0f : powf(a, b) * logf(a);
            return b == 0.0f ? 0.0f : b * powf(a, b - 1.0f);
        case MOD:
        case FMOD: return unit(!right);
        default:
            if (right) return a < 0.0f ? a : 0.0f;
            return a < 0.0f ? b : 1.0f;
    }
}

__device__ __forceinline__ float operand(const Gathered& p, i32 which, u64 values, i64 index) {
    if (!p.codes[which]) return at<const float>(values)[index];
    return (float)(at<const i8>(values)[index] - p.zero_points[which]) * p.scales[which];
}

/// What one output gives to the gradient of an operand of a function.
struct OfFunction {
    static __device__ __forceinline__ float given(const Gathered& p, const i64* from) {
        float dy = incoming(p.dy, p.mask, from[0]);
        if (dy == 0.0f) return 0.0f;
        float a = operand(p, 0, p.lhs, from[1]), b = operand(p, 1, p.rhs, from[2]);
        bool clamped = !p.mask && (p.lo > -INFINITE || p.hi < INFINITE);
        if (clamped && !passes(binary(p.function, a, b), p.lo, p.hi)) return 0.0f;
        return dy * partial(p.function, p.right, a, b);
    }
};

/// What one output gives to what was chosen there: `lhs` is the condition, `function` whether it is to be false.
struct OfChoice {
    static __device__ __forceinline__ float given(const Gathered& p, const i64* from) {
        return (at<const u8>(p.lhs)[from[1]] == 0) == (p.function != 0) ? at<const float>(p.dy)[from[0]] : 0.0f;
    }
};

/// Where element `index` of what is kept stands in `dy` and both operands.
__device__ __forceinline__ void kept_at(const Gathered& p, i32 index, i64* from) {
    const i32* const strides[3] = {p.strides[0], p.strides[1], p.strides[2]};
    walk<3>(index, p.rank, p.extents, strides, from);
}

template <class F> __device__ __forceinline__ float given(const Gathered& p, const i64* from, i32 repeat) {
    const i32* const strides[3] = {p.summed_strides[0], p.summed_strides[1], p.summed_strides[2]};
    i64 place[3];
    walk<3>(repeat, p.summed_rank, p.summed, strides, place);
    for (i32 n = 0; n < 3; n++) place[n] += from[n];
    return F::given(p, place);
}

/// Elements that are each read once or a few times: one thread an element.
template <class F> __device__ __forceinline__ void gather_each(const Gathered& p) {
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    i64 from[3];
    kept_at(p, index, from);
    float sum = 0.0f;
    for (i32 i = 0; i < p.repeats; i++) sum += given<F>(p, from, i);
    put_gradient(p.dx, from[p.right ? 2 : 1], p.accumulate, sum);
}

/// Elements that are each read often: a block an element.
template <class F> __device__ __forceinline__ void gather_many(const Gathered& p, float* parts) {
    i64 from[3];
    kept_at(p, blockIdx.x, from);
    float sum = 0.0f;
    for (i32 i = threadIdx.x; i < p.repeats; i += REPEATERS) sum += given<F>(p, from, i);
    parts[threadIdx.x] = sum;
    for (i32 half = REPEATERS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    if (threadIdx.x == 0) put_gradient(p.dx, from[p.right ? 2 : 1], p.accumulate, parts[0]);
}

extern "C" __global__ void binary_backward_each(const __grid_constant__ Gathered p) { follow(); gather_each<OfFunction>(p); }
extern "C" __global__ void where_backward_each(const __grid_constant__ Gathered p) { follow(); gather_each<OfChoice>(p); }
extern "C" __global__ void __launch_bounds__(REPEATERS) binary_backward_many(const __grid_constant__ Gathered p) {
    follow();
    __shared__ float parts[REPEATERS];
    gather_many<OfFunction>(p, parts);
}
extern "C" __global__ void __launch_bounds__(REPEATERS) where_backward_many(const __grid_constant__ Gathered p) {
    follow();
    __shared__ float parts[REPEATERS];
    gather_many<OfChoice>(p, parts);
}

/// Gradient of what was picked by index, into zeros or what it is added to: a thread an element of a slice goes through all
/// picks, so that those of one place are added in order.
extern "C" __global__ void pick_backward_f32(const __grid_constant__ PickBack p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.outer * p.slice) return;
    i32 outer = index / p.slice, place = index - outer * p.slice;
    const float* dy = at<const float>(p.dy) + (i64)outer * p.picks * p.slice + place;
    float* dx = at<float>(p.dx) + (i64)outer * p.axis * p.slice + place;
    for (i32 pick = 0; pick < p.picks; pick++) {
        i64 to = p.wide ? at<const i64>(p.indices)[pick] : at<const i32>(p.indices)[pick];
        if (to < 0) to += p.axis;
        // The forward step told of what lies outside.
        if (to >= 0 && to < p.axis) dx[to * p.slice] += dy[(i64)pick * p.slice];
    }
}
