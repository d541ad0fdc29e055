// Tiles of an f32 product: 8*SIDE rows by as many columns, SIDE by SIDE in each of 64 threads.
//
// A block has SLICES such groups of threads. They share out the depth of the product, each with its own part
// of shared memory, and their sums are added at the end: where tiles are few and deep, a block still has
// enough loads under way. Next to a tile a group can take the products with eight more columns,
// the rows of an adapter's first factor.
#pragma once
#include "types.cuh"

const i32 TILE_DEPTH = 16;
const i32 TILE_THREADS = 64;
/// Columns beside a tile.
const i32 LOW = 8;

/// What a group multiplies next: a step of the depth, padded against bank conflicts.
template <i32 SIDE> struct __align__(16) Stage {
    float left[TILE_DEPTH][8 * SIDE + 4];
    float right[TILE_DEPTH][8 * SIDE + 4];
    float low[TILE_DEPTH][LOW];
};

/// What a group found.
template <i32 SIDE> struct __align__(16) Found {
    float tile[8 * SIDE][8 * SIDE + 1];
    float low[8 * SIDE][LOW];
};

template <i32 SIDE, i32 SLICES> union Shared {
    Stage<SIDE> stages[SLICES];
    Found<SIDE> found[SLICES];
};

/// Sums of one thread: lines `line_of(thread / 8, i)`, columns `line_of(thread % 8, j)`; beside, one column.
template <i32 SIDE> struct Sums {
    float tile[SIDE][SIDE], low[SIDE];
};

/// Values of SIDE / 2 lines, 16 apart.
template <i32 SIDE> struct Fours {
    float4 at[SIDE / 2];
};

/// Line `i` of the eighth `part` of a tile: neighbors in fours, eights in two fours half a tile apart.
template <i32 SIDE> __device__ __forceinline__ i32 line_of(i32 part, i32 i) {
    return SIDE == 8 ? 4 * part + (i & 3) + 32 * (i >> 2) : SIDE * part + i;
}

/// The SIDE values of eighth `part` of a line of a stage.
template <i32 SIDE> __device__ __forceinline__ void part_of(const float* line, i32 part, float* out) {
    if (SIDE == 2) {
        float2 v = *reinterpret_cast<const float2*>(line + 2 * part);
        out[0] = v.x;
        out[1] = v.y;
        return;
    }
#pragma unroll
    for (i32 half = 0; half < SIDE / 4; half++) {
        float4 v = *reinterpret_cast<const float4*>(line + 4 * part + 32 * half);
        out[4 * half] = v.x;
        out[4 * half + 1] = v.y;
        out[4 * half + 2] = v.z;
        out[4 * half + 3] = v.w;
    }
}

/// Waits for the threads of a group.
__device__ __forceinline__ void group_barrier(i32 group) {
    asm volatile("bar.sync %0, 64;" ::"r"(group + 1) : "memory");
}

__device__ __forceinline__ float4 zeros() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }

/// Four values from position `k` of row `line` of `lines` rows, zero past the end.
template <bool WORDS>
__device__ __forceinline__ float4 row_at(const float* rows, i32 lines, i32 line, i32 row, i32 k) {
    if (line >= lines || k >= row) return zeros();
    const float* from = rows + (i64)line * row + k;
    if (WORDS) return fresh(reinterpret_cast<const float4*>(from));
    float4 out = zeros();
    out.x = fresh(from);
    if (k + 1 < row) out.y = fresh(from + 1);
    if (k + 2 < row) out.z = fresh(from + 2);
    if (k + 3 < row) out.w = fresh(from + 3);
    return out;
}

/// Four values from position `k` of a row, zero past its end. WRITTEN: by a kernel of the same recording.
template <bool WRITTEN> __device__ __forceinline__ float4 fours_at(const float* from, i32 row, i32 k, bool words) {
    if (k >= row) return zeros();
    if (words && WRITTEN) return fresh(reinterpret_cast<const float4*>(from + k));
    if (words) return __ldg(reinterpret_cast<const float4*>(from + k));
    return row_at<false>(from, 1, 0, row, k);
}

__device__ __forceinline__ bool in_fours(const float* from, i32 row) {
    return (reinterpret_cast<u64>(from) & 15) == 0 && row % 4 == 0;
}

__device__ __forceinline__ float dot_fours(float4 w, float4 x, float sum) {
    return __fmaf_rn(w.x, x.x, __fmaf_rn(w.y, x.y, __fmaf_rn(w.z, x.z, __fmaf_rn(w.w, x.w, sum))));
}

/// Where a group's thread reads of a right operand that is no rows of weights: depth and column of its first four values,
/// and the distance in depth to the next.
template <i32 SIDE> __device__ __forceinline__ i32 depth_of(i32 thread) { return thread / (2 * SIDE); }
template <i32 SIDE> __device__ __forceinline__ i32 column_of(i32 thread) { return thread % (2 * SIDE) * 4; }
template <i32 SIDE> __device__ __forceinline__ i32 depth_step() { return TILE_THREADS / (2 * SIDE); }

__device__ __forceinline__ void store_along(float* to, i32 stride, float4 v) {
    to[0] = v.x;
    to[stride] = v.y;
    to[2 * stride] = v.z;
    to[3 * stride] = v.w;
}

/// What a thread has in hand of the right operand and of the columns beside, of one step of its group.
template <i32 SIDE> struct Held {
    Fours<SIDE> right;
    float low[2];
};

/// Where a group begins.
__device__ __forceinline__ i32 own_depth() { return threadIdx.x / TILE_THREADS * TILE_DEPTH; }

/// What stands at depth `k`, as `tile_products` takes it.
template <i32 SIDE, bool MAIN, bool BESIDES, bool ALONG, class R, class B>
__device__ __forceinline__ Held<SIDE> hold(i32 k, R right, B low) {
    i32 thread = threadIdx.x % TILE_THREADS;
    Held<SIDE> held = {};
    if (MAIN) held.right = right(ALONG ? k + thread % 4 * 4 : k);
    if (BESIDES) {
        held.low[0] = low(thread / 8, k + thread % 8);
        held.low[1] = low(thread / 8, k + thread % 8 + 8);
    }
    return held;
}

/// Adds to `sums` the products of the tile, and with BESIDES those of the columns beside it; without MAIN only these.
///
/// `left(k)` gives values `k..k + 4` of lines `thread / 4`, 16 apart; `right(k)` the same of columns with ALONG, else fours
/// of columns at depths from `k + depth_of` on. `low(r, k)` is one value of column `r` beside. `held` is what `hold` found of both
/// at `own_depth()`, perhaps before the left operand was written.
template <i32 SIDE, i32 SLICES, bool MAIN, bool BESIDES, bool ALONG, class L, class R, class B>
__device__ __forceinline__ void tile_products(i32 depth, Held<SIDE> held, L left, R right, B low, Stage<SIDE>* stages,
                                              Sums<SIDE>& sums) {
    const i32 STEP = SLICES * TILE_DEPTH, STRIDE = 8 * SIDE + 4;
    i32 thread = threadIdx.x % TILE_THREADS, slice = threadIdx.x / TILE_THREADS;
    i32 quad = thread % 4 * 4, line = thread / 4, ty = thread / 8, tx = thread % 8;
    Stage<SIDE>& stage = stages[slice];
    i32 own = own_depth();
    Fours<SIDE> a = left(own + quad);
#pragma unroll 1
    for (i32 done = 0; done < depth; done += STEP) {
        group_barrier(slice);
#pragma unroll
        for (i32 i = 0; i < SIDE / 2; i++) {
            store_along(&stage.left[quad][line + 16 * i], STRIDE, a.at[i]);
            if (MAIN && ALONG) {
                store_along(&stage.right[quad][line + 16 * i], STRIDE, held.right.at[i]);
            } else if (MAIN) {
                i32 at_depth = depth_of<SIDE>(thread) + depth_step<SIDE>() * i;
                *reinterpret_cast<float4*>(&stage.right[at_depth][column_of<SIDE>(thread)]) = held.right.at[i];
            }
        }
        if (BESIDES) {
            stage.low[tx][ty] = held.low[0];
            stage.low[tx + 8][ty] = held.low[1];
        }
        group_barrier(slice);
        if (done + STEP < depth) {
            a = left(done + STEP + own + quad);
            held = hold<SIDE, MAIN, BESIDES, ALONG>(done + STEP + own, right, low);
        }
#pragma unroll
        for (i32 k = 0; k < TILE_DEPTH; k++) {
            float rows[SIDE], columns[SIDE];
            part_of<SIDE>(stage.left[k], ty, rows);
            if (MAIN) {
                part_of<SIDE>(stage.right[k], tx, columns);
#pragma unroll
                for (i32 i = 0; i < SIDE; i++) {
#pragma unroll
                    for (i32 j = 0; j < SIDE; j++) sums.tile[i][j] = __fmaf_rn(rows[i], columns[j], sums.tile[i][j]);
                }
            }
            if (BESIDES) {
                float w = stage.low[k][tx];
#pragma unroll
                for (i32 i = 0; i < SIDE; i++) sums.low[i] = __fmaf_rn(rows[i], w, sums.low[i]);
            }
        }
    }
}

/// Puts the sums of all groups where every thread of the block finds them.
template <i32 SIDE, i32 SLICES, bool MAIN, bool BESIDES>
__device__ __forceinline__ void share(const Sums<SIDE>& sums, Shared<SIDE, SLICES>& shared) {
    i32 thread = threadIdx.x % TILE_THREADS, ty = thread / 8, tx = thread % 8;
    __syncthreads();
    Found<SIDE>& found = shared.found[threadIdx.x / TILE_THREADS];
#pragma unroll
    for (i32 i = 0; i < SIDE; i++) {
        i32 line = line_of<SIDE>(ty, i);
        if (MAIN) {
#pragma unroll
            for (i32 j = 0; j < SIDE; j++) found.tile[line][line_of<SIDE>(tx, j)] = sums.tile[i][j];
        }
        if (BESIDES) found.low[line][tx] = sums.low[i];
    }
    __syncthreads();
}

/// The sum over the groups of an element of the tile.
template <i32 SIDE, i32 SLICES>
__device__ __forceinline__ float tile_sum(const Shared<SIDE, SLICES>& shared, i32 row, i32 column) {
    float sum = shared.found[0].tile[row][column];
#pragma unroll
    for (i32 slice = 1; slice < SLICES; slice++) sum += shared.found[slice].tile[row][column];
    return sum;
}

/// The same of a column beside it.
template <i32 SIDE, i32 SLICES>
__device__ __forceinline__ float low_sum(const Shared<SIDE, SLICES>& shared, i32 row, i32 column) {
    float sum = shared.found[0].low[row][column];
#pragma unroll
    for (i32 slice = 1; slice < SLICES; slice++) sum += shared.found[slice].low[row][column];
    return sum;
}
