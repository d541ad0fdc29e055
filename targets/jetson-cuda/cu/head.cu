// Classifier heads: a block a sample and class; features are pooled as they are read.
#pragma once
#include "types.cuh"

const i32 HEAD_THREADS = 128;

extern "C" __global__ void __launch_bounds__(HEAD_THREADS) head_x_f32(const __grid_constant__ Head p) {
    follow();
    __shared__ float partial[HEAD_THREADS];
    i32 sample = blockIdx.x, class_ = blockIdx.y;
    i32 rows = p.pool_h ? p.h : 1, columns = p.pool_w ? p.w : 1, keep_w = p.pool_w ? 1 : p.w;
    const float* weight = at<const float>(p.weight) + (i64)class_ * p.features;
    float sum = 0.0f, count = (float)(rows * columns);
    for (i32 feature = threadIdx.x; feature < p.features; feature += HEAD_THREADS) {
        i32 channel = feature % p.c, rest = feature / p.c, x0 = rest % keep_w, y0 = rest / keep_w;
        i32 codes = 0;
        float reals = 0.0f;
        for (i32 y = 0; y < rows; y++) {
            for (i32 x = 0; x < columns; x++) {
                i64 index = ((i64)(sample * p.h + y0 + y) * p.w + x0 + x) * p.c + channel;
                if (p.is_code) codes += at<const i8>(p.input)[index] - p.zero_point;
                else reals += at<const float>(p.input)[index];
            }
        }
        float pooled = __fdiv_rn(p.is_code ? (float)codes * p.scale : reals, count);
        sum += weight[feature] * pooled;
    }
    partial[threadIdx.x] = sum;
    for (i32 half = HEAD_THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    if (threadIdx.x == 0) at<float>(p.output)[sample * p.classes + class_] = at<const float>(p.bias)[class_] + partial[0];
}
