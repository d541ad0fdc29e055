//! Records of what computes on reals, and of what moves elements by index: the twins of `cu/float.cuh`.

use cudarc::driver::DeviceRepr;
use ingraft_kernel::attrs;
use ingraft_kernel::window::ConvShape;

use super::{QConv, RANK, Window};

records! {
    /// f32 convolution and depthwise convolution.
    struct Conv {
        input: u64,
        weight: u64,
        bias: u64,
        output: u64,
        terms: u64,
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        oh: i32,
        ow: i32,
        o: i32,
        window: Window,
        groups: i32,
        in_group: i32,
        out_group: i32,
        row: i32,
        lo: f32,
        hi: f32,
        linear: i32,
    }
    /// int8 convolution with its input's parameters as operands.
    struct DynamicConv {
        conv: QConv,
        sums: u64,
        shift: u64,
        scale: u64,
        zero_point: u64,
    }
    /// Batched products.
    struct MatMul {
        lhs: u64,
        rhs: u64,
        output: u64,
        lhs_zero: u64,
        rhs_zero: u64,
        m: i32,
        k: i32,
        n: i32,
        batches: i32,
        rank: i32,
        extents: [i32; RANK],
        lhs_strides: [i32; RANK],
        rhs_strides: [i32; RANK],
        lhs_zeros: i32,
        rhs_zeros: i32,
        reserved: i32,
    }
    /// Two operands that broadcast to an output.
    struct Binary {
        lhs: u64,
        rhs: u64,
        output: u64,
        count: i32,
        rank: i32,
        extents: [i32; RANK],
        lhs_strides: [i32; RANK],
        rhs_strides: [i32; RANK],
        function: i32,
        lo: f32,
        hi: f32,
        reserved: i32,
    }
    /// One operand.
    struct Unary {
        input: u64,
        output: u64,
        count: i32,
        function: i32,
        alpha: f32,
        beta: f32,
    }
    /// A choice between two operands.
    struct Select {
        condition: u64,
        lhs: u64,
        rhs: u64,
        output: u64,
        count: i32,
        rank: i32,
        extents: [i32; RANK],
        condition_strides: [i32; RANK],
        lhs_strides: [i32; RANK],
        rhs_strides: [i32; RANK],
        size: i32,
        reserved: i32,
    }
    /// A change of element type.
    struct Cast {
        input: u64,
        output: u64,
        count: i32,
        from: i32,
        to: i32,
        reserved: i32,
    }
    /// Slices picked by index.
    struct Gather {
        data: u64,
        indices: u64,
        output: u64,
        terms: u64,
        status: u64,
        outer: i32,
        picks: i32,
        axis: i32,
        slice: i32,
        size: i32,
        wide: i32,
    }
    /// Elements picked by index.
    struct Elements {
        data: u64,
        indices: u64,
        output: u64,
        status: u64,
        count: i32,
        rank: i32,
        extents: [i32; RANK],
        strides: [i32; RANK],
        extent: i32,
        stride: i32,
        size: i32,
        wide: i32,
    }
    /// A reduction over axes.
    struct Reduce {
        input: u64,
        output: u64,
        results: i32,
        count: i32,
        kept_rank: i32,
        reduced_rank: i32,
        kept: [i32; RANK],
        kept_strides: [i32; RANK],
        reduced: [i32; RANK],
        reduced_strides: [i32; RANK],
        function: i32,
        in_zero_point: i32,
        out_zero_point: i32,
        factor: f32,
        lo: f32,
        hi: f32,
    }
    /// The position of an extreme element.
    struct ArgReduce {
        input: u64,
        output: u64,
        results: i32,
        extent: i32,
        inner: i32,
        smallest: i32,
        last: i32,
        reserved: i32,
    }
    /// f32 softmax over rows.
    struct Softmax {
        input: u64,
        output: u64,
        rows: i32,
        len: i32,
        log: i32,
        reserved: i32,
    }
    /// f32 normalization of rows.
    struct Norm {
        input: u64,
        scale: u64,
        shift: u64,
        output: u64,
        terms: u64,
        rows: i32,
        len: i32,
        kind: i32,
        epsilon: f32,
    }
    /// Interpolation.
    struct Resize {
        input: u64,
        output: u64,
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        oh: i32,
        ow: i32,
        mode: i32,
        rounding: i32,
        before: [f32; 2],
        numerator: [f32; 2],
        denominator: [f32; 2],
        after: [f32; 2],
    }
    /// Quantization with a range found at run time.
    struct DynamicQuantize {
        input: u64,
        output: u64,
        scale: u64,
        zero_point: u64,
        partials: u64,
        count: i32,
        parts: i32,
    }
    /// A recurrent layer.
    struct Recurrent {
        weight: u64,
        bias: u64,
        first: u64,
        first_cell: u64,
        peepholes: u64,
        y: u64,
        last: u64,
        last_cell: u64,
        gates: u64,
        inner: u64,
        directions: i32,
        time: i32,
        batch: i32,
        hidden: i32,
        reverse: i32,
        linear: i32,
    }
    /// The mask of clamped values.
    struct Mask {
        values: u64,
        mask: u64,
        count: i32,
        lo: f32,
        hi: f32,
        reserved: i32,
    }
    /// Convolution with its weights in f16.
    struct HalfConv {
        conv: Conv,
        packed: u64,
    }
    /// Packing them.
    struct HalfPack {
        weight: u64,
        packed: u64,
        rows: i32,
        row: i32,
    }
}

impl Conv {
    /// The record but for its addresses.
    pub(crate) fn new(attrs: &attrs::ConvAttrs, shape: &ConvShape) -> Self {
        let ([n, h, w, c], [_, oh, ow, o]) = (shape.input, shape.output);
        let [n, h, w, c, oh, ow, o] = [n, h, w, c, oh, ow, o].map(|v| v as i32);
        Self {
            n,
            h,
            w,
            c,
            oh,
            ow,
            o,
            window: Window::from(&attrs.window),
            groups: shape.groups as i32,
            in_group: shape.in_group as i32,
            out_group: shape.out_group as i32,
            row: shape.row() as i32,
            lo: attrs.lo,
            hi: attrs.hi,
            linear: i32::from(super::is_linear(shape)),
            ..Self::default()
        }
    }

    /// A linear layer of `rows` rows without bias or clamp.
    pub(crate) fn linear(rows: i32, inputs: i32, outputs: i32) -> Self {
        let one = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 2] };
        Self {
            n: rows,
            h: 1,
            w: 1,
            c: inputs,
            oh: 1,
            ow: 1,
            o: outputs,
            window: one,
            groups: 1,
            in_group: inputs,
            out_group: outputs,
            row: inputs,
            lo: f32::NEG_INFINITY,
            hi: f32::INFINITY,
            linear: 1,
            ..Self::default()
        }
    }
}
