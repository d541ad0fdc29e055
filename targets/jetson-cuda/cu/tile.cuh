// Tiles of an f32 product: 32 rows by 32 columns, four by four in each of 64 threads.
//
// A block has SLICES such groups of threads. They share out the depth of the product, each with its own part
// of shared memory, and their sums are added at the end: where tiles are few and deep, a block still has
// enough loads under way. Next to a tile a group can take the products with eight more columns,
// the rows of an adapter's first factor.
#pragma once
#include "types.cuh"

const i32 TILE = 32;
const i32 TILE_DEPTH = 16;
const i32 TILE_THREADS = 64;
/// Columns beside a tile.
const i32 LOW = 8;

/// What a group multiplies next: a step of the depth, padded against bank conflicts.
struct __align__(16) Stage {
    float left[TILE_DEPTH][TILE + 4];
    float right[TILE_DEPTH][TILE + 4];
    float low[TILE_DEPTH][LOW];
};

/// What a group found.
struct __align__(16) Found {
    float tile[TILE][TILE + 1];
    float low[TILE][LOW];
};

template <i32 SLICES> union Shared {
    Stage stages[SLICES];
    Found found[SLICES];
};

/// Sums of one thread: rows 4*(thread / 8).., columns 4*(thread % 8)..; beside, one column.
struct Sums {
    float tile[4][4], low[4];
};

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
    if (WORDS) return __ldg(reinterpret_cast<const float4*>(from));
    float4 out = zeros();
    out.x = __ldg(from);
    if (k + 1 < row) out.y = __ldg(from + 1);
    if (k + 2 < row) out.z = __ldg(from + 2);
    if (k + 3 < row) out.w = __ldg(from + 3);
    return out;
}

/// Adds to `sums` the products of the tile, and with BESIDE those of the columns beside it; without MAIN only these.
///
/// `left(k, out)` gives values `k..k + 4` of rows `thread / 4` and 16 further. `right(k, out)` gives the same of columns with ALONG; without,
/// columns `4*(thread % 8)..` at depths `k + thread / 8` and 8 further. `low(r, k)` is one value of column `r` beside.
template <i32 SLICES, bool MAIN, bool BESIDES, bool ALONG, class L, class R, class B>
__device__ __forceinline__ void tile_products(i32 depth, L left, R right, B low, Stage* stages, Sums& sums) {
    i32 thread = threadIdx.x % TILE_THREADS, slice = threadIdx.x / TILE_THREADS;
    i32 quad = thread % 4 * 4, line = thread / 4, ty = thread / 8, tx = thread % 8;
    Stage& stage = stages[slice];
    float4 a[2], b[2];
    float d[2];
    const i32 STEP = SLICES * TILE_DEPTH;
    i32 own = slice * TILE_DEPTH;
    left(own + quad, a);
    if (MAIN) right(ALONG ? own + quad : own, b);
    if (BESIDES) {
        d[0] = low(ty, own + tx);
        d[1] = low(ty, own + tx + 8);
    }
#pragma unroll 1
    for (i32 done = 0; done < depth; done += STEP) {
        group_barrier(slice);
#pragma unroll
        for (i32 half = 0; half < 2; half++) {
            i32 at_line = line + 16 * half;
            stage.left[quad][at_line] = a[half].x;
            stage.left[quad + 1][at_line] = a[half].y;
            stage.left[quad + 2][at_line] = a[half].z;
            stage.left[quad + 3][at_line] = a[half].w;
            if (MAIN && ALONG) {
                stage.right[quad][at_line] = b[half].x;
                stage.right[quad + 1][at_line] = b[half].y;
                stage.right[quad + 2][at_line] = b[half].z;
                stage.right[quad + 3][at_line] = b[half].w;
            } else if (MAIN) {
                *reinterpret_cast<float4*>(&stage.right[ty + 8 * half][4 * tx]) = b[half];
            }
            if (BESIDES) stage.low[tx + 8 * half][ty] = d[half];
        }
        group_barrier(slice);
        i32 next = done + STEP + own;
        if (done + STEP < depth) {
            left(next + quad, a);
            if (MAIN) right(ALONG ? next + quad : next, b);
            if (BESIDES) {
                d[0] = low(ty, next + tx);
                d[1] = low(ty, next + tx + 8);
            }
        }
#pragma unroll
        for (i32 k = 0; k < TILE_DEPTH; k++) {
            float4 x = *reinterpret_cast<const float4*>(&stage.left[k][4 * ty]);
            const float rows[4] = {x.x, x.y, x.z, x.w};
            if (MAIN) {
                float4 w = *reinterpret_cast<const float4*>(&stage.right[k][4 * tx]);
                const float columns[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
                for (i32 i = 0; i < 4; i++) {
#pragma unroll
                    for (i32 j = 0; j < 4; j++) sums.tile[i][j] = __fmaf_rn(rows[i], columns[j], sums.tile[i][j]);
                }
            }
            if (BESIDES) {
                float w = stage.low[k][tx];
#pragma unroll
                for (i32 i = 0; i < 4; i++) sums.low[i] = __fmaf_rn(rows[i], w, sums.low[i]);
            }
        }
    }
}

/// Puts the sums of all groups where every thread of the block finds them.
template <i32 SLICES, bool MAIN, bool BESIDES>
__device__ __forceinline__ void share(const Sums& sums, Shared<SLICES>& shared) {
    i32 thread = threadIdx.x % TILE_THREADS, ty = thread / 8, tx = thread % 8;
    __syncthreads();
    Found& found = shared.found[threadIdx.x / TILE_THREADS];
#pragma unroll
    for (i32 i = 0; i < 4; i++) {
        if (MAIN) {
#pragma unroll
            for (i32 j = 0; j < 4; j++) found.tile[4 * ty + i][4 * tx + j] = sums.tile[i][j];
        }
        if (BESIDES) found.low[4 * ty + i][tx] = sums.low[i];
    }
    __syncthreads();
}

/// The sum over the groups of an element of the tile.
template <i32 SLICES> __device__ __forceinline__ float tile_sum(const Shared<SLICES>& shared, i32 row, i32 column) {
    float sum = shared.found[0].tile[row][column];
#pragma unroll
    for (i32 slice = 1; slice < SLICES; slice++) sum += shared.found[slice].tile[row][column];
    return sum;
}

/// The same of a column beside it.
template <i32 SLICES> __device__ __forceinline__ float low_sum(const Shared<SLICES>& shared, i32 row, i32 column) {
    float sum = shared.found[0].low[row][column];
#pragma unroll
    for (i32 slice = 1; slice < SLICES; slice++) sum += shared.found[slice].low[row][column];
    return sum;
}
