//! Records of gradients of what computes on reals: the twins of `cu/gradient.cuh`.

use cudarc::driver::DeviceRepr;

use super::RANK;

records! {
    /// Of a function of one operand.
    struct UnaryBack {
        dy: u64,
        input: u64,
        dx: u64,
        count: i32,
        function: i32,
        alpha: f32,
        beta: f32,
        accumulate: i32,
        reserved: i32,
    }
    /// Gathered from all outputs that an element had a part in.
    struct Gathered {
        dy: u64,
        mask: u64,
        lhs: u64,
        rhs: u64,
        dx: u64,
        count: i32,
        repeats: i32,
        rank: i32,
        summed_rank: i32,
        extents: [i32; RANK],
        strides: [[i32; RANK]; 3],
        summed: [i32; RANK],
        summed_strides: [[i32; RANK]; 3],
        function: i32,
        right: i32,
        accumulate: i32,
        codes: [i32; 2],
        zero_points: [i32; 2],
        scales: [f32; 2],
        lo: f32,
        hi: f32,
    }
    /// Of a reduction over axes.
    struct ReduceBack {
        dy: u64,
        mask: u64,
        input: u64,
        dx: u64,
        results: i32,
        count: i32,
        kept_rank: i32,
        reduced_rank: i32,
        kept: [i32; RANK],
        kept_strides: [i32; RANK],
        reduced: [i32; RANK],
        reduced_strides: [i32; RANK],
        function: i32,
        codes: i32,
        accumulate: i32,
        side: i32,
    }
    /// Of a softmax over rows.
    struct SoftmaxBack {
        dy: u64,
        y: u64,
        table: u64,
        dx: u64,
        rows: i32,
        len: i32,
        log: i32,
        accumulate: i32,
        out_zero_point: i32,
        inv_scale: f32,
    }
    /// Of a normalization of rows.
    struct NormBack {
        dy: u64,
        input: u64,
        scale: u64,
        dx: u64,
        terms: u64,
        moments: u64,
        dscale: u64,
        dshift: u64,
        rows: i32,
        len: i32,
        kind: i32,
        accumulate: i32,
        epsilon: f32,
        reserved: i32,
    }
    /// Of an operand of batched products.
    struct MatMulBack {
        dy: u64,
        other: u64,
        dx: u64,
        rows: i32,
        columns: i32,
        depth: i32,
        left: i32,
        repeats: i32,
        rank: i32,
        summed_rank: i32,
        accumulate: i32,
        extents: [i32; RANK],
        strides: [[i32; RANK]; 3],
        summed: [i32; RANK],
        summed_strides: [[i32; RANK]; 3],
    }
    /// Of slices picked by index.
    struct PickBack {
        dy: u64,
        indices: u64,
        dx: u64,
        outer: i32,
        picks: i32,
        axis: i32,
        slice: i32,
        wide: i32,
        reserved: i32,
    }
}
