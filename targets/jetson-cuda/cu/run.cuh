// Runs: neighbors of a pixel's channels, which one thread finishes.
#pragma once
#include "qterms.cuh"
#include "reads.cuh"

/// What belongs to a run of channels.
struct Run {
    i32 bias[RUN];
    float multiplier[RUN], scale[RUN], shift[RUN], up_scale[RUN];
    u32 up[RUN][BESIDE / 4];
};

/// Rows of `rank` codes, at most BESIDE, with zeros behind: that of channel `channel0 + i`, or of the last of `count` channels.
__device__ __forceinline__ void read_up(const i8* rows, i32 rank, i32 channel0, i32 first, i32 count, u32 (*out)[BESIDE / 4]) {
    if (rank == BESIDE && (reinterpret_cast<u64>(rows) & 7) == 0) {
#pragma unroll
        for (i32 i = 0; i < RUN; i++) {
            i64 channel = channel0 + min(first + i, count - 1);
            uint2 v = __ldg(reinterpret_cast<const uint2*>(rows + channel * BESIDE));
            out[i][0] = v.x;
            out[i][1] = v.y;
        }
        return;
    }
#pragma unroll
    for (i32 i = 0; i < RUN; i++) {
        const i8* row = rows + (i64)(channel0 + min(first + i, count - 1)) * rank;
        out[i][0] = out[i][1] = 0;
#pragma unroll
        for (i32 r = 0; r < BESIDE; r++) {
            if (r < rank) out[i][r / 4] |= (u32)(u8)__ldg(row + r) << (r % 4 * 8);
        }
    }
}

/// The sums of a run over the parts of a product.
template <i32 SPLIT, i32 STRIDE>
__device__ __forceinline__ void run_sums(const i32 (*tile)[PIXELS][STRIDE], i32 local, i32 column, i32* sums) {
#pragma unroll
    for (i32 i = 0; i < RUN; i++) sums[i] = 0;
#pragma unroll
    for (i32 part = 0; part < SPLIT; part++) {
        const i32* from = SPLIT == 1 ? &tile[local / PIXELS][local % PIXELS][column] : &tile[part][local][column];
        int4 v = *reinterpret_cast<const int4*>(from);
        sums[0] += v.x;
        sums[1] += v.y;
        sums[2] += v.z;
        sums[3] += v.w;
    }
}

/// Writes `count` neighbors from element `to` on; `whole` where all runs of the layer are whole.
__device__ __forceinline__ void put_run(const QConv& p, i64 to, bool whole, i32 count, const float* v, const i32* acc) {
    if (p.out_kind == 0) {
        u32 word = 0;
#pragma unroll
        for (i32 i = 0; i < RUN; i++) word |= (u32)(u8)to_code(v[i], p.lo, p.hi, p.out_zero_point) << (8 * i);
        if (whole) {
            *reinterpret_cast<u32*>(at<i8>(p.output) + to) = word;
        } else {
#pragma unroll
            for (i32 i = 0; i < RUN; i++) if (i < count) at<i8>(p.output)[to + i] = (i8)(word >> (8 * i));
        }
        return;
    }
#pragma unroll
    for (i32 i = 0; i < RUN; i++) {
        if (i >= count) break;
        if (p.out_kind == 1) at<float>(p.output)[to + i] = clamp(v[i], p.lo, p.hi);
        else at<i32>(p.output)[to + i] = acc[i];
    }
}

/// Writes the bits of a run, of which `open` has one a channel. All lanes come here; runs of a pixel are neighbors.
__device__ __forceinline__ void put_run_mask(const QConv& p, i64 to, i32 count, u32 open) {
    if (p.o % 8 == 0 && p.out_group % 8 == 0) {
        u32 other = __shfl_down_sync(~0u, open, 1);
        if (count > 0 && !(threadIdx.x & 1)) at<u8>(p.mask)[to >> 3] = (u8)(open | other << RUN);
        return;
    }
#pragma unroll
    for (i32 i = 0; i < RUN; i++) put_mask(p.mask, (i32)to + i, false, ~0u, i < count, open >> i & 1);
}
