// Gradients of several clips added up, and the optimizer's step: squares of gradients, and moves by elementwise rules, to the bits of the host's (`kernel::descent`).
#pragma once
#include "types.cuh"

/// Interleaved sums of squares.
const i32 SUMS = 8;
/// Parameters of a block, and its threads.
const i32 PIECE = 1024, MOVERS = 128;

/// Sum of squares of a piece of a group's gradients: a block a piece. Eight threads add in the order of the host's sums.
extern "C" __global__ void __launch_bounds__(MOVERS) gradient_squares(const __grid_constant__ Descent p) {
    follow();
    __shared__ float squares[PIECE], sums[SUMS];
    const u32* piece = at<const u32>(p.pieces) + 2 * blockIdx.x;
    const Moved& group = at<const Moved>(p.groups)[piece[0]];
    const float* gradients = at<const float>(group.gradients) + piece[1];
    i32 len = min(group.len - (i32)piece[1], PIECE), runs = len / SUMS * SUMS;
    for (i32 k = threadIdx.x; k < len; k += MOVERS) {
        float scaled = gradients[k] * group.scale;
        squares[k] = scaled * scaled;
    }
    __syncthreads();
    float sum = 0.0f;
    if (threadIdx.x < SUMS) {
#pragma unroll 8
        for (i32 k = threadIdx.x; k < runs; k += SUMS) sum += squares[k];
    }
    if (threadIdx.x < SUMS) sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    float total = 0.0f;
    for (i32 k = 0; k < SUMS; k++) total += sums[k];
    for (i32 k = runs; k < len; k++) total += squares[k];
    at<float>(p.totals)[blockIdx.x] = total;
}

/// Moves a piece of a group and forgets its gradients.
extern "C" __global__ void __launch_bounds__(MOVERS) descend(const __grid_constant__ Descent p) {
    follow();
    const u32* piece = at<const u32>(p.pieces) + 2 * blockIdx.x;
    const Moved group = at<const Moved>(p.groups)[piece[0]];
    float* parameters = at<float>(group.parameters);
    float* gradients = at<float>(group.gradients);
    float* first = at<float>(group.first);
    float* second = at<float>(group.second);
    i32 end = min(group.len, (i32)piece[1] + PIECE);
    for (i32 i = piece[1] + threadIdx.x; i < end; i += MOVERS) {
        float value = parameters[i], g = gradients[i] * group.gradient * group.scale;
        if (group.penalized) g = g + group.penalty * __fdiv_rn(value, group.scale);
        if (group.rule == 2) {
            float m = first[i], v = second[i];
            m = m + group.new_first * (g - m);
            v = group.second_beta * v + group.new_second * (g * g);
            first[i] = m;
            second[i] = v;
            float root = __fdiv_rn(__fsqrt_rn(v), group.root_bias);
            value = value * group.keep - group.reach * __fdiv_rn(m, root + group.epsilon);
        } else {
            if (group.rule == 1) {
                g = group.momentum * first[i] + g;
                first[i] = g;
            }
            value = value - group.reach * g;
        }
        if (group.shrinks) value = fabsf(value) <= group.threshold ? 0.0f : value - copysignf(group.threshold, value);
        parameters[i] = value;
        gradients[i] = 0.0f;
    }
}

/// Adds gradients of lanes to the sums, one lane after the other: what one lane alone would have added up.
extern "C" __global__ void add_lanes(const __grid_constant__ Lanes p) {
    follow();
    i32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.count) return;
    float sum = at<float>(p.sums)[index];
    for (i32 lane = 0; lane < p.lanes; lane++) {
        float* part = at<float>(p.parts[lane]) + index;
        sum += *part;
        *part = 0.0f;
    }
    at<float>(p.sums)[index] = sum;
}
