// Parameter records of gradients of what computes on reals: the twins of `src/params/gradient.rs`.
#pragma once
#include "float.cuh"

struct UnaryBack {
    u64 dy, input, dx;
    i32 count, function;
    float alpha, beta;
    i32 accumulate, reserved;
};

/// A gradient gathered from all outputs that its element had a part in: extents and strides of what is kept, and of what is
/// summed over; of `dy`, `lhs` and `rhs`.
struct Gathered {
    u64 dy, mask, lhs, rhs, dx;
    i32 count, repeats, rank, summed_rank;
    i32 extents[MAX_RANK], strides[3][MAX_RANK], summed[MAX_RANK], summed_strides[3][MAX_RANK];
    i32 function, right, accumulate;        // `right`: the gradient is that of `rhs`
    i32 codes[2], zero_points[2];           // operands of int8
    float scales[2], lo, hi;
};

struct ReduceBack {
    u64 dy, mask, input, dx;
    i32 results, count, kept_rank, reduced_rank;
    i32 kept[MAX_RANK], kept_strides[MAX_RANK], reduced[MAX_RANK], reduced_strides[MAX_RANK];
    i32 function, codes, accumulate, side;  // `side`: neighboring results lie side by side
};

struct SoftmaxBack {
    u64 dy, y, table, dx;                   // with a table `y` holds the input's codes
    i32 rows, len, log, accumulate, out_zero_point;
    float inv_scale;
};

struct NormBack {
    u64 dy, input, scale, dx, terms, moments, dscale, dshift;
    i32 rows, len, kind, accumulate;
    float epsilon;
    i32 reserved;
};

/// Sum over `repeats` products of matrices; strides, in matrices, of `dy`, the other operand and `dx`.
struct MatMulBack {
    u64 dy, other, dx;
    i32 rows, columns, depth, left;         // `left`: dy times the transposed other, else the transposed other times dy
    i32 repeats, rank, summed_rank, accumulate;
    i32 extents[MAX_RANK], strides[3][MAX_RANK], summed[MAX_RANK], summed_strides[3][MAX_RANK];
};

struct PickBack {
    u64 dy, indices, dx;
    i32 outer, picks, axis, slice, wide, reserved;
};
