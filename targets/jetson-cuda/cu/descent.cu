// Gradients of several clips added up, and the optimizer's step: squares of gradients, and moves by elementwise rules, to the bits of the host's (`kernel::descent`).
#pragma once
#include "types.cuh"

/// Interleaved sums of a group's squares, threads that load them, and squares that are loaded at once.
const i32 SUMS = 8, SQUARERS = 128, SQUARES = 1024;
/// Parameters of a block.
const i32 PIECE = 1024, MOVERS = 128;

__device__ __forceinline__ double square_of(const Moved& group, i32 index) {
    double scaled = (double)(at<const float>(group.gradients)[index] * group.scale);
    return scaled * scaled;
}

/// Sum of squares of a group's gradients: a block a group. Eight threads add in the order of the host's sums, all others
/// load ahead of them.
extern "C" __global__ void __launch_bounds__(SQUARERS) gradient_squares(const __grid_constant__ Descent p) {
    __shared__ double tiles[2][SQUARES];
    const Moved& group = at<const Moved>(p.groups)[blockIdx.x];
    i32 runs = group.len / SUMS * SUMS;
    double sum = 0.0, next[SQUARES / SQUARERS];
    for (i32 k = threadIdx.x; k < min(SQUARES, runs); k += SQUARERS) tiles[0][k] = square_of(group, k);
    __syncthreads();
    for (i32 from = 0, turn = 0; from < runs; from += SQUARES, turn ^= 1) {
        i32 behind = from + SQUARES;
#pragma unroll
        for (i32 k = 0; k < SQUARES / SQUARERS; k++) {
            i32 index = behind + k * SQUARERS + threadIdx.x;
            next[k] = index < runs ? square_of(group, index) : 0.0;
        }
        if (threadIdx.x < SUMS) {
            i32 count = min(SQUARES, runs - from);
#pragma unroll 8
            for (i32 k = threadIdx.x; k < count; k += SUMS) sum += tiles[turn][k];
        }
#pragma unroll
        for (i32 k = 0; k < SQUARES / SQUARERS; k++) tiles[turn ^ 1][k * SQUARERS + threadIdx.x] = next[k];
        __syncthreads();
    }
    if (threadIdx.x < SUMS) tiles[0][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    double total = 0.0;
    for (i32 k = 0; k < SUMS; k++) total += tiles[0][k];
    for (i32 k = runs; k < group.len; k++) total += square_of(group, k);
    at<double>(p.totals)[blockIdx.x] = total;
}

/// Moves a piece of a group and forgets its gradients.
extern "C" __global__ void __launch_bounds__(MOVERS) descend(const __grid_constant__ Descent p) {
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
