// int8 convolution and linear layers as an implicit product, with every adapter term in the epilogue.
//
// A warp computes 16 pixels by 8 * TILES channels. A block of four warps covers 64 pixels (SPLIT 1) or, where the reduction is long
// and pixels are few, one set of 16 with the reduction shared out among SPLIT warps: integer sums come out the same in any order.
// Pixels are read in place; nothing is gathered first. A two-factor term takes its products A*x from the same pixels: up to eight rank
// rows stand beside the weight rows as one more tile of the product, more take a second pass. An idle site costs the read of its
// table entry.
//
// What takes the time of a small layer is one load that waits for another. So all that no kernel of a recording writes is read ahead
// of the wait and at once, the base's weights without looking whether an adapter has others, and the codes of TURNS turns
// behind the wait at once.
#pragma once
#include "run.cuh"

/// TRAIN: with a mask, a delta of every weight, and the value before scale and shift.
template <i32 VEC, bool UNIT, i32 SPLIT, i32 COLUMN_TILES, i32 TURNS, bool TRAIN> __device__ __forceinline__ void qconv(const QConv& p) {
    // Windows of several taps are found out for long: the next kernel would wait beside the blocks that do.
    if (!TRAIN && UNIT) lead();
    const i32 COVERED = SPLIT == 1 ? WARPS * PIXELS : PIXELS, COUNT = warps_of(SPLIT), WORDS = words_of_turn<VEC>();
    const i32 WIDE = 8 * COLUMN_TILES, RUNS = WIDE / RUN, STRIDE = WIDE + 8, CODES = BESIDE / RUNS;
    __shared__ __align__(16) i32 tile[COUNT][PIXELS][STRIDE];
    __shared__ i32 latents[COUNT][PIXELS][BESIDE];
    __shared__ Extra extra[COVERED][CHANNELS];
    __shared__ __align__(16) i16 codes[COVERED][BESIDE];
    i32 warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, group = blockIdx.z;
    i32 first_pixel = blockIdx.x * COVERED, first_channel = blockIdx.y * WIDE;
    const Terms* terms = at<const Terms>(p.terms);
    i32 pixels = p.n * p.oh * p.ow;
    if (p.samples > 1) {
        // Samples have blocks of their own: what the last one of a sample reads of the next is written by that one's.
        i32 sample = group / p.groups, each = pixels / p.samples;
        group -= sample * p.groups;
        first_pixel += sample * each;
        pixels = (sample + 1) * each;
        terms += sample;
    }
    i32 left = min(p.out_group - first_channel, WIDE), channel0 = group * p.out_group + first_channel;

    const i8* rows = at<const i8>(p.weight) + (i64)channel0 * p.row;
    const i32* biases = at<const i32>(p.bias);
    u32 weights[TURNS][COLUMN_TILES][WORDS], down_rows[TURNS][WORDS] = {};
    i32 turns = (p.row + depth_of_turn<VEC>() - 1) / depth_of_turn<VEC>(), first_turn = SPLIT == 1 ? 0 : warp;
    auto hold = [&](i32 from) {
#pragma unroll
        for (i32 i = 0; i < TURNS; i++) {
#pragma unroll
            for (i32 n = 0; n < COLUMN_TILES; n++) read_weights<VEC>(rows, left, n * 8 + g, p.row, from + i * SPLIT, weights[i][n]);
        }
    };
    hold(first_turn);
    // A thread has one run of channels in every pixel of the epilogue.
    i32 epilogue = SPLIT == 1 ? lane : threadIdx.x, run = epilogue % RUNS * RUN, mine = min(left - run, RUN);
    Run own;
#pragma unroll
    for (i32 i = 0; i < RUN; i++) {
        i32 channel = channel0 + min(run + i, left - 1);
        own.bias[i] = __ldg(biases + channel);
        own.multiplier[i] = __ldg(at<const float>(p.multiplier) + channel);
    }
    u32 factors = 0, sparse = 0;
    i32 rank = 0;
    bool affine = false, dense = false;
    const i8* down = 0;
    Terms entry = {};
    if (terms) {
        entry = *terms;
        factors = entry.factors;
        sparse = entry.sparse;
        rank = entry.rank;
        affine = entry.scale && !(TRAIN && p.raw);
        dense = TRAIN && entry.dense;
        down = at<const i8>(entry.down) + (i64)group * rank * p.row;
        if (entry.weight) {
            rows = at<const i8>(entry.weight) + (i64)channel0 * p.row;
            biases = at<const i32>(entry.bias);
            hold(first_turn);
#pragma unroll
            for (i32 i = 0; i < RUN; i++) own.bias[i] = __ldg(biases + channel0 + min(run + i, left - 1));
        }
    }
    bool beside = factors == 2 && rank <= BESIDE && (VEC < 4 || (reinterpret_cast<u64>(down) & (VEC - 1)) == 0);
    auto hold_down = [&](i32 from) {
#pragma unroll
        for (i32 i = 0; i < TURNS; i++) read_weights<VEC>(down, rank, g, p.row, from + i * SPLIT, down_rows[i]);
    };
    float down_scale[CODES] = {};
    if (affine) {
#pragma unroll
        for (i32 i = 0; i < RUN; i++) {
            i32 channel = channel0 + min(run + i, left - 1);
            own.scale[i] = __ldg(at<const float>(entry.scale) + channel);
            own.shift[i] = __ldg(at<const float>(entry.shift) + channel);
        }
    }
    if (factors == 2) {
#pragma unroll
        for (i32 i = 0; i < RUN; i++) {
            own.up_scale[i] = __ldg(at<const float>(entry.up_scale) + channel0 + min(run + i, left - 1));
        }
    }
    if (beside) {
        hold_down(first_turn);
#pragma unroll
        for (i32 i = 0; i < CODES; i++) {
            i32 r = run / RUN + i * RUNS;
            if (r < rank) down_scale[i] = __ldg(at<const float>(entry.down_scale) + group * rank + r);
        }
        read_up(at<const i8>(entry.up), rank, channel0, run, left, own.up);
    }
    i32 nearest = first_pixel + (SPLIT == 1 ? warp * PIXELS : 0) + g;
    Sources<VEC> sources = sources_of<VEC, UNIT>(p, nearest, group, first_turn);
    if (!TRAIN && !UNIT) lead();
    follow();
    {
        i32 sums[COLUMN_TILES][4] = {}, low[4] = {}, low_weights[4] = {};
#pragma unroll 1
        for (i32 turn = first_turn; turn < turns;) {
            u32 x[TURNS][2][WORDS];
#pragma unroll
            for (i32 i = 0; i < TURNS; i++) read_codes<VEC, UNIT>(p, sources, group, turn + i * SPLIT, x[i]);
#pragma unroll
            for (i32 i = 0; i < TURNS; i++) {
                if (i > 0 && turn + i * SPLIT >= turns) break;
#pragma unroll
                for (i32 n = 0; n < COLUMN_TILES; n++) multiply_turn<WORDS>(sums[n], x[i], weights[i][n]);
            }
            if (beside) {
#pragma unroll
                for (i32 i = 0; i < TURNS; i++) {
                    multiply_turn<WORDS>(low, x[i], down_rows[i]);
                    add_weights<WORDS>(low_weights, down_rows[i]);
                }
            }
            turn += TURNS * SPLIT;
            if (turn >= turns) break;
            if (VEC == 1) find_bytes(p, group, turn, sources);
            hold(turn);
            if (beside) hold_down(turn);
        }
#pragma unroll
        for (i32 n = 0; n < COLUMN_TILES; n++) put<STRIDE>(tile[warp], n, sums[n]);
        if (beside) {
#pragma unroll
            for (i32 i = 0; i < 4; i++) low[i] -= p.in_zero_point * low_weights[i];
            put<BESIDE>(latents[warp], 0, low);
        }
    }
    bool more = factors && !beside;
    if (more) many_ranks<(VEC >= 4), UNIT, SPLIT, COVERED>(p, *terms, nearest, group, first_pixel, channel0, left, extra);
    if (SPLIT == 1 && !more) __syncwarp();
    else __syncthreads();

    const i32 PASS = (SPLIT == 1 ? 32 : COUNT * 32) / RUNS, LAST = SPLIT == 1 ? PIXELS : COVERED;
    bool whole = p.o % RUN == 0 && p.out_group % RUN == 0;
#pragma unroll (SPLIT == 1 ? 2 : 1)
    for (i32 step = epilogue / RUNS; step < LAST; step += PASS) {
        i32 local = (SPLIT == 1 ? warp * PIXELS : 0) + step, pixel = first_pixel + local, acc[RUN];
        i32 count = pixel < pixels ? mine : 0;
        float v[RUN];
        run_sums<SPLIT, STRIDE>(tile, local, run, acc);
#pragma unroll
        for (i32 i = 0; i < RUN; i++) acc[i] += own.bias[i];
        Deltas deltas = {};
        if (sparse && count > 0) {
            deltas = sparse_run(p, *terms, pixel, group, channel0 + run, count);
#pragma unroll
            for (i32 i = 0; i < RUN; i++) acc[i] += deltas.integer[i];
        }
#pragma unroll
        for (i32 i = 0; i < RUN; i++) v[i] = (float)acc[i] * own.multiplier[i];
        if (beside) {
            // The threads of a pixel, which are of one warp, find its latents together.
#pragma unroll
            for (i32 i = 0; i < CODES; i++) {
                i32 r = run / RUN + i * RUNS;
                codes[local][r] = (i16)latent_code(product<SPLIT, BESIDE>(latents, local, r), down_scale[i]);
            }
            __syncwarp();
            const uint4 all = *reinterpret_cast<const uint4*>(codes[local]);
#pragma unroll
            for (i32 i = 0; i < RUN; i++) {
                i32 sum = dot2<true>(all.y, own.up[i][0], dot2<false>(all.x, own.up[i][0], 0));
                sum = dot2<true>(all.w, own.up[i][1], dot2<false>(all.z, own.up[i][1], sum));
                v[i] += (float)sum * own.up_scale[i];
            }
        } else if (factors == 2) {
#pragma unroll
            for (i32 i = 0; i < RUN; i++) v[i] += (float)extra[local][run + i].integer * own.up_scale[i];
        } else if (factors == 1) {
#pragma unroll
            for (i32 i = 0; i < RUN; i++) v[i] += extra[local][run + i].real * p.inv_out_scale;
        }
        if (dense && count > 0) {
            const Deltas all = dense_run(p, *terms, pixel, group, channel0 + run, count);
#pragma unroll
            for (i32 i = 0; i < RUN; i++) deltas.real[i] += all.real[i];
        }
        if (sparse == 2 || dense) {
#pragma unroll
            for (i32 i = 0; i < RUN; i++) v[i] += deltas.real[i] * p.in_scale * p.inv_out_scale;
        }
        if (affine) {
#pragma unroll
            for (i32 i = 0; i < RUN; i++) v[i] = v[i] * own.scale[i] + own.shift[i] * p.inv_out_scale;
        }
        i64 to = (i64)pixel * p.o + channel0 + run;
        if (count > 0) put_run(p, to, whole, count, v, acc);
        if (TRAIN && p.mask) {
            u32 open = 0;
#pragma unroll
            for (i32 i = 0; i < RUN; i++) open |= (u32)passes(v[i], p.lo, p.hi) << i;
            put_run_mask(p, to, count, open);
        }
    }
}

/// Blocks that a multiprocessor is to have room for: of those that share nothing out there are many.
constexpr i32 together_of(i32 split) { return split == 1 ? 3 : 1; }

#define QCONV(name, vec, unit, split, tiles, turns)                                                          \
    extern "C" __global__ void __launch_bounds__(warps_of(split) * 32, together_of(split)) name(             \
        const __grid_constant__ QConv p) {                                                                   \
        qconv<vec, unit, split, tiles, turns, false>(p);                                                     \
    }
#define QCONV_TRAIN(name, vec, unit, split, tiles, turns)                                                    \
    extern "C" __global__ void __launch_bounds__(warps_of(split) * 32) name(const __grid_constant__ QConv p) { \
        qconv<vec, unit, split, tiles, turns, true>(p);                                                      \
    }
QCONV(qconv_bytes_wide, 1, false, 1, 4, 1)
QCONV(qconv_bytes_split, 1, false, 4, 4, 1)
QCONV(qconv_words_wide, 4, false, 1, 4, 2)
QCONV(qconv_words_split, 4, false, 4, 4, 4)
QCONV(qconv_window_wide, 16, false, 1, 4, 1)
QCONV(qconv_window_split, 16, false, 4, 4, 3)
QCONV(qconv_eights_wide, 8, true, 1, 4, 1)
QCONV(qconv_eights_split, 8, true, 4, 4, 2)
QCONV(qconv_unit_wide, 16, true, 1, 4, 1)
QCONV(qconv_unit_split, 16, true, 4, 4, 2)
QCONV(qconv_unit_deep, 16, true, 8, 4, 3)
QCONV_TRAIN(qconv_bytes_wide_train, 1, false, 1, 4, 1)
QCONV_TRAIN(qconv_bytes_split_train, 1, false, 4, 4, 1)
QCONV_TRAIN(qconv_words_wide_train, 4, false, 1, 4, 2)
QCONV_TRAIN(qconv_words_split_train, 4, false, 4, 4, 4)
QCONV_TRAIN(qconv_eights_wide_train, 8, true, 1, 4, 1)
QCONV_TRAIN(qconv_eights_split_train, 8, true, 4, 4, 2)
QCONV_TRAIN(qconv_unit_wide_train, 16, true, 1, 4, 1)
QCONV_TRAIN(qconv_unit_slim_train, 16, true, 4, 2, 2)
