// Linear layers of few rows, as a classifier has and squeeze-excite: a warp takes one channel of all of them, and one rank of an
// adapter beside it. Weights in f32, and in f16 as `conv_half.cu` packs them.
#pragma once
#include "conv_half.cu"

/// Rows that are taken, warps of a block, ranks of a term.
const i32 ROWS = 4;
const i32 ROW_WARPS = 8;
const i32 MAX_TERM_RANK = 256;
/// Depth that a warp takes in one turn, and turns that it has in registers at once, the first ones ahead of the wait.
const i32 ROW_DEPTH = 4 * WARP;
const i32 ROW_TURNS = 4;

/// A channel's weights as the plan has them.
struct FloatRow {
    const float* from;
    bool words;

    __device__ __forceinline__ FloatRow(const Conv& p, i32 channel) {
        from = at<const float>(p.weight) + (i64)channel * p.row;
        words = in_fours(from, p.row);
    }
    static __device__ __forceinline__ const Conv& layer(const Conv& p) { return p; }
    __device__ __forceinline__ float4 fours(i32 row, i32 k) const { return fours_at<false>(from, row, k, words); }
    __device__ __forceinline__ float factor() const { return 1.0f; }
};

/// The same in f16, with half the bytes: what they are multiplied with comes to the sum.
struct HalfRow {
    const u16* from;
    float scale;

    __device__ __forceinline__ HalfRow(const HalfConv& p, i32 channel) {
        from = half_row(p, channel);
        scale = half_scale(p, channel);
    }
    static __device__ __forceinline__ const Conv& layer(const HalfConv& p) { return p.conv; }
    __device__ __forceinline__ float4 fours(i32 row, i32 k) const {
        if (k >= row) return zeros();
        return four_halves(__ldg(reinterpret_cast<const uint2*>(from + k)));
    }
    __device__ __forceinline__ float factor() const { return scale; }
};

/// The products of `weights` with every row of the input, in each lane.
__device__ __forceinline__ void row_products(const Conv& p, const float* weights, float* sums) {
    const float* input = at<const float>(p.input);
    i32 rows = p.n * p.oh * p.ow;
    bool words = in_fours(weights, p.row), input_words = in_fours(input, p.row);
#pragma unroll
    for (i32 i = 0; i < ROWS; i++) sums[i] = 0.0f;
#pragma unroll 1
    for (i32 k = threadIdx.x % WARP * 4; k < p.row; k += ROW_DEPTH) {
        float4 w = fours_at<false>(weights, p.row, k, words);
#pragma unroll
        for (i32 i = 0; i < ROWS; i++) {
            if (i >= rows) break;
            sums[i] = dot_fours(w, fours_at<true>(input + (i64)i * p.c, p.row, k, input_words), sums[i]);
        }
    }
#pragma unroll
    for (i32 i = 0; i < ROWS; i++) sums[i] = together<WARP>(sums[i], Plus());
}

/// What the sparse term adds to `channel`: the lane's part of every row.
__device__ __forceinline__ void add_sparse(const Conv& p, const Terms& terms, i32 channel, float* sums) {
    i32 rows = p.n * p.oh * p.ow;
    const u32* indptr = at<const u32>(terms.indptr);
    for (u32 entry = indptr[channel] + threadIdx.x % WARP; entry < indptr[channel + 1]; entry += WARP) {
        i32 k = at<const u16>(terms.indices)[entry];
        float delta = at<const float>(terms.values)[entry];
#pragma unroll
        for (i32 i = 0; i < ROWS; i++) {
            if (i < rows) sums[i] += delta * at<const float>(p.input)[(i64)i * p.c + k];
        }
    }
}

template <class W, class P> __device__ __forceinline__ void conv_rows(const P& whole) {
    __shared__ float latents[ROWS][MAX_TERM_RANK];
    const Conv& p = W::layer(whole);
    i32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, channel = blockIdx.x * ROW_WARPS + warp, rows = p.n * p.oh * p.ow;
    bool mine = channel < p.o;
    const W weights(whole, min(channel, p.o - 1));
    Terms entry = {};
    if (p.terms) entry = *at<const Terms>(p.terms);
    i32 rank = entry.factors ? entry.rank : 0;
    bool beside = warp < rank;
    const float* down = at<const float>(entry.down) + (beside ? (i64)warp * p.row : 0);
    bool down_words = in_fours(down, p.row);
    float4 w[ROW_TURNS], d[ROW_TURNS];
    auto hold = [&](i32 first) {
#pragma unroll
        for (i32 i = 0; i < ROW_TURNS; i++) w[i] = weights.fours(p.row, first + i * ROW_DEPTH);
#pragma unroll
        for (i32 i = 0; i < ROW_TURNS; i++) {
            d[i] = beside ? fours_at<false>(down, p.row, first + i * ROW_DEPTH, down_words) : zeros();
        }
    };
    hold(4 * lane);
    float up = mine && lane < rank ? __ldg(at<const float>(entry.up) + (i64)channel * rank + lane) : 0.0f;
    float bias = mine && p.bias ? __ldg(at<const float>(p.bias) + channel) : 0.0f;
    const Affine affine = affine_of(entry, channel, mine);
    follow();
    const float* input = at<const float>(p.input);
    bool words = in_fours(input, p.row);
    float y[ROWS] = {}, low[ROWS] = {};
#pragma unroll 1
    for (i32 first = 4 * lane; first - 4 * lane < p.row; first += ROW_TURNS * ROW_DEPTH) {
        if (first >= ROW_TURNS * ROW_DEPTH) hold(first);
#pragma unroll
        for (i32 r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            float4 x[ROW_TURNS];
#pragma unroll
            for (i32 i = 0; i < ROW_TURNS; i++) x[i] = fours_at<true>(input + (i64)r * p.c, p.row, first + i * ROW_DEPTH, words);
#pragma unroll
            for (i32 i = 0; i < ROW_TURNS; i++) {
                y[r] = dot_fours(w[i], x[i], y[r]);
                low[r] = dot_fours(d[i], x[i], low[r]);
            }
        }
    }
    if (rank) {
#pragma unroll
        for (i32 r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            float sum = together<WARP>(low[r], Plus());
            if (lane == 0 && beside) latents[r][warp] = sum;
        }
        // Ranks that no warp had beside its channel.
        for (i32 more = warp + ROW_WARPS; more < rank; more += ROW_WARPS) {
            float sums[ROWS];
            row_products(p, at<const float>(entry.down) + (i64)more * p.row, sums);
#pragma unroll
            for (i32 r = 0; r < ROWS; r++) {
                if (lane == 0) latents[r][more] = sums[r];
            }
        }
        __syncthreads();
    }
    if (!mine) return;
#pragma unroll
    for (i32 r = 0; r < ROWS; r++) y[r] *= weights.factor();
    for (i32 each = lane; each < rank; each += WARP) {
        if (each >= WARP) up = __ldg(at<const float>(entry.up) + (i64)channel * rank + each);
#pragma unroll
        for (i32 r = 0; r < ROWS; r++) y[r] += up * (r < rows ? latents[r][each] : 0.0f);
    }
    if (entry.sparse) add_sparse(p, entry, channel, y);
#pragma unroll
    for (i32 r = 0; r < ROWS; r++) {
        if (r >= rows) break;
        float sum = together<WARP>(y[r], Plus());
        if (lane == 0) at<float>(p.output)[(i64)r * p.o + channel] = finished(p, affine, sum + bias);
    }
}

extern "C" __global__ void __launch_bounds__(ROW_WARPS* WARP) conv_f32_rows(const __grid_constant__ Conv p) {
    conv_rows<FloatRow>(p);
}

extern "C" __global__ void __launch_bounds__(ROW_WARPS* WARP) conv_f16_rows(const __grid_constant__ HalfConv p) {
    conv_rows<HalfRow>(p);
}
