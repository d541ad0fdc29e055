// Parameter records of what computes on reals, and of what moves elements by index: the twins of
// `src/params/float.rs`.
#pragma once
#include "types.cuh"

#define INFINITE __int_as_float(0x7f800000)

/// f32 convolution and depthwise convolution.
struct Conv {
    u64 input, weight, bias, output, terms;  // a bias of 0 is none
    i32 n, h, w, c, oh, ow, o;
    Window window;
    i32 groups, in_group, out_group, row;
    float lo, hi;
    i32 linear;                              // 1 where output pixels are the input's
};

/// int8 convolution whose input scale and zero point are operands; `conv` lacks them and has no bias.
struct DynamicConv {
    QConv conv;
    u64 sums, shift, scale, zero_point;
};

/// Batched products; `zero_points` only for integers, one for all or one a row (column).
struct MatMul {
    u64 lhs, rhs, output, lhs_zero, rhs_zero;
    i32 m, k, n, batches, rank;
    i32 extents[MAX_RANK], lhs_strides[MAX_RANK], rhs_strides[MAX_RANK];  // of the batches, in matrices
    i32 lhs_zeros, rhs_zeros, reserved;
};

/// Two operands that broadcast to an output.
struct Binary {
    u64 lhs, rhs, output;
    i32 count, rank;
    i32 extents[MAX_RANK], lhs_strides[MAX_RANK], rhs_strides[MAX_RANK];
    i32 function;
    float lo, hi;
    i32 reserved;
};

struct Unary {
    u64 input, output;
    i32 count, function;
    float alpha, beta;
};

struct Select {
    u64 condition, lhs, rhs, output;
    i32 count, rank;
    i32 extents[MAX_RANK], condition_strides[MAX_RANK], lhs_strides[MAX_RANK], rhs_strides[MAX_RANK];
    i32 size, reserved;
};

/// Element types by `Scalar`.
struct Cast {
    u64 input, output;
    i32 count, from, to, reserved;
};

/// Slices of `slice` elements picked out of `axis`, for `outer` blocks; `status` becomes 1 for an index outside.
struct Gather {
    u64 data, indices, output, terms, status;
    i32 outer, picks, axis, slice, size, wide;
};

/// One element an index, `stride` apart in the data from where `strides` lead.
struct Elements {
    u64 data, indices, output, status;
    i32 count, rank;
    i32 extents[MAX_RANK], strides[MAX_RANK];
    i32 extent, stride, size, wide;
};

struct Reduce {
    u64 input, output;
    i32 results, count, kept_rank, reduced_rank;
    i32 kept[MAX_RANK], kept_strides[MAX_RANK], reduced[MAX_RANK], reduced_strides[MAX_RANK];
    i32 function, in_zero_point, out_zero_point;
    float factor, lo, hi;                    // int8
};

struct ArgReduce {
    u64 input, output;
    i32 results, extent, inner, smallest, last, reserved;
};

struct Softmax {
    u64 input, output;
    i32 rows, len, log, reserved;
};

/// A scale or shift of 0 is none.
struct Norm {
    u64 input, scale, shift, output, terms;
    i32 rows, len, kind;
    float epsilon;
};

struct Resize {
    u64 input, output;
    i32 n, h, w, c, oh, ow, mode, rounding;
    float before[2], numerator[2], denominator[2], after[2];
};

/// `parts` pairs of minimum and maximum stand in `partials` between two launches.
struct DynamicQuantize {
    u64 input, output, scale, zero_point, partials;
    i32 count, parts;
};

/// Recurrent layers; `gates` `[T, B, D, g*H]` holds the products with the input, and GRU's is followed by room for
/// `[D, B, H]`.
struct Recurrent {
    u64 weight, bias, first, first_cell, peepholes, y, last, last_cell, gates, inner;
    i32 directions, time, batch, hidden, reverse, linear;
};

/// A straight-through mask of clamped f32 values: 1 strictly inside.
struct Mask {
    u64 values, mask;
    i32 count;
    float lo, hi;
    i32 reserved;
};

/// f32 convolution with its weights in f16, `[o, row]` rows padded to whole turns of a warp, and a factor a channel behind.
struct HalfConv {
    Conv conv;
    u64 packed;
};

/// Packs them.
struct HalfPack {
    u64 weight, packed;
    i32 rows, row;
};

/// Scale and shift of a channel of the site, where it has any.
struct Affine {
    bool present;
    float scale, shift;
};

__device__ __forceinline__ Affine affine_of(const Terms& terms, i32 channel, bool mine) {
    Affine affine = {terms.scale != 0, 1.0f, 0.0f};
    if (affine.present && mine) {
        affine.scale = __ldg(at<const float>(terms.scale) + channel);
        affine.shift = __ldg(at<const float>(terms.shift) + channel);
    }
    return affine;
}
