// Recurrent layers: a block a sample and direction, one launch for all time steps. The products with the input are
// there already (`conv`, as a linear layer over all time steps). Eight threads share a row of the recurrent weight.
#pragma once
#include "arithmetic.cu"
#include "float.cuh"
#include "group.cuh"

const i32 RECURRENT_THREADS = 1024;
const i32 ROW_THREADS = 8;
/// Units whose state stands in shared memory.
const i32 NEAR = 1024;

/// One sample of one direction.
struct Sample {
    const float* weight;   // [g*H, H]
    const float* bias;     // [2*g*H]
    float* hidden;
    i32 rows, direction, state;
};

template <i32 GATES> __device__ __forceinline__ Sample sample_of(const Recurrent& p, float* near) {
    Sample s;
    s.rows = GATES * p.hidden;
    s.direction = blockIdx.y;
    s.state = (s.direction * p.batch + blockIdx.x) * p.hidden;
    s.weight = at<const float>(p.weight) + (i64)s.direction * s.rows * p.hidden;
    s.bias = at<const float>(p.bias) + (i64)s.direction * 2 * s.rows;
    s.hidden = p.hidden <= NEAR ? near : at<float>(p.last) + s.state;
    for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) s.hidden[k] = at<const float>(p.first)[s.state + k];
    __syncthreads();
    return s;
}

/// Where in the sequence the sample is after `i` steps.
__device__ __forceinline__ i32 time_of(const Recurrent& p, const Sample& s, i32 i) {
    return p.reverse || s.direction == 1 ? p.time - 1 - i : i;
}

/// Rows that eight threads multiply at a time, and the fours of each that a thread has under way.
const i32 ROWS_AT_ONCE = 2;
const i32 FOURS_AT_ONCE = 4;

/// Calls `row(r, product)` with the products of rows `from..to` and `state`; every row in one thread.
template <class F>
__device__ __forceinline__ void each_product(const Recurrent& p, const Sample& s, i32 from, i32 to, const float* state, F row) {
    const i32 APART = RECURRENT_THREADS / ROW_THREADS;
    i32 lane = threadIdx.x % ROW_THREADS;
    bool fours = p.hidden % 4 == 0 && (reinterpret_cast<u64>(state) & 15) == 0;
#pragma unroll 1
    for (i32 first = from + threadIdx.x / ROW_THREADS; first - (i32)(threadIdx.x / ROW_THREADS) < to; first += ROWS_AT_ONCE * APART) {
        float sums[ROWS_AT_ONCE] = {};
#pragma unroll 1
        for (i32 begin = lane * 4; fours && begin < p.hidden; begin += ROW_THREADS * 4 * FOURS_AT_ONCE) {
            float4 w[ROWS_AT_ONCE][FOURS_AT_ONCE];
#pragma unroll
            for (i32 n = 0; n < ROWS_AT_ONCE; n++) {
#pragma unroll
                for (i32 i = 0; i < FOURS_AT_ONCE; i++) {
                    i32 k = begin + i * ROW_THREADS * 4, r = first + n * APART;
                    bool inside = k < p.hidden && r < to;
                    const float* weight = s.weight + (inside ? (i64)r * p.hidden + k : 0);
                    w[n][i] = inside ? __ldg(reinterpret_cast<const float4*>(weight)) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                }
            }
#pragma unroll
            for (i32 i = 0; i < FOURS_AT_ONCE; i++) {
                i32 k = begin + i * ROW_THREADS * 4;
                if (k >= p.hidden) break;
                float4 h = *reinterpret_cast<const float4*>(state + k);
#pragma unroll
                for (i32 n = 0; n < ROWS_AT_ONCE; n++) {
                    float4 v = w[n][i];
                    sums[n] = __fmaf_rn(v.x, h.x, __fmaf_rn(v.y, h.y, __fmaf_rn(v.z, h.z, __fmaf_rn(v.w, h.w, sums[n]))));
                }
            }
        }
#pragma unroll
        for (i32 n = 0; n < ROWS_AT_ONCE; n++) {
            i32 r = first + n * APART;
            for (i32 k = lane; !fours && r < to && k < p.hidden; k += ROW_THREADS) {
                sums[n] = __fmaf_rn(s.weight[(i64)r * p.hidden + k], state[k], sums[n]);
            }
#pragma unroll
            for (i32 half = ROW_THREADS / 2; half; half /= 2) sums[n] += __shfl_xor_sync(~0u, sums[n], half);
            if (lane == 0 && r < to) row(r, sums[n]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(RECURRENT_THREADS) lstm_f32(const __grid_constant__ Recurrent p) {
    follow();
    __shared__ __align__(16) float near[NEAR];
    Sample s = sample_of<4>(p, near);
    float* cell = at<float>(p.last_cell) + s.state;
    const float* peep = p.peepholes ? at<const float>(p.peepholes) + s.direction * 3 * p.hidden : 0;
    for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) cell[k] = at<const float>(p.first_cell)[s.state + k];
    for (i32 i = 0; i < p.time; i++) {
        i64 t = time_of(p, s, i), at_step = (t * p.batch + blockIdx.x) * p.directions + s.direction;
        float* gates = at<float>(p.gates) + at_step * s.rows;
        each_product(p, s, 0, s.rows, s.hidden, [&](i32 r, float product) {
            gates[r] = gates[r] + product + (s.bias[r] + s.bias[s.rows + r]);
        });
        __syncthreads();
        float* y = at<float>(p.y) + (t * p.directions * p.batch * p.hidden + s.state);
        for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) {
            float c = cell[k];
            auto gate = [&](i32 g) { return gates[g * p.hidden + k]; };
            auto seen = [&](i32 g, float value) { return peep ? peep[g * p.hidden + k] * value : 0.0f; };
            float in = sigmoid(gate(0) + seen(0, c)), forget = sigmoid(gate(2) + seen(2, c));
            c = forget * c + in * tanhf(gate(3));
            float h = sigmoid(gate(1) + seen(1, c)) * tanhf(c);
            cell[k] = c;
            s.hidden[k] = h;
            y[k] = h;
        }
        __syncthreads();
    }
    for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) at<float>(p.last)[s.state + k] = s.hidden[k];
}

extern "C" __global__ void __launch_bounds__(RECURRENT_THREADS) gru_f32(const __grid_constant__ Recurrent p) {
    follow();
    __shared__ __align__(16) float near[NEAR];
    Sample s = sample_of<3>(p, near);
    float* inner = at<float>(p.inner) + s.state;
    i32 candidates = 2 * p.hidden;
    for (i32 i = 0; i < p.time; i++) {
        i64 t = time_of(p, s, i), at_step = (t * p.batch + blockIdx.x) * p.directions + s.direction;
        float* gates = at<float>(p.gates) + at_step * s.rows;
        each_product(p, s, 0, p.linear ? s.rows : candidates, s.hidden, [&](i32 r, float product) {
            if (r < candidates) gates[r] = sigmoid(gates[r] + product + (s.bias[r] + s.bias[s.rows + r]));
            else inner[r - candidates] = product + s.bias[s.rows + r];
        });
        __syncthreads();
        if (!p.linear) {
            for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) inner[k] = gates[p.hidden + k] * s.hidden[k];
            __syncthreads();
            each_product(p, s, candidates, s.rows, inner, [&](i32 r, float product) {
                gates[r] = gates[r] + product + (s.bias[r] + s.bias[s.rows + r]);
            });
            __syncthreads();
        }
        float* y = at<float>(p.y) + (t * p.directions * p.batch * p.hidden + s.state);
        for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) {
            float z = gates[k], n = gates[candidates + k];
            if (p.linear) n = n + s.bias[candidates + k] + gates[p.hidden + k] * inner[k];
            float h = (1.0f - z) * tanhf(n) + z * s.hidden[k];
            s.hidden[k] = h;
            y[k] = h;
        }
        __syncthreads();
    }
    for (i32 k = threadIdx.x; k < p.hidden; k += blockDim.x) at<float>(p.last)[s.state + k] = s.hidden[k];
}
