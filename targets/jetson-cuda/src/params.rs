//! Parameter records as the kernels take them: the twins of `cu/types.cuh`.

use cudarc::driver::DeviceRepr;
use ingraft_kernel::attrs;
use ingraft_kernel::window::ConvShape;

/// Most lanes of a session.
pub(crate) const MAX_LANES: usize = 16;

macro_rules! records {
    ($($(#[$doc:meta])* struct $name:ident { $($field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq)]
            #[repr(C)]
            pub(crate) struct $name { $(pub(crate) $field: $ty,)* }
            // SAFETY: a `repr(C)` row of integers and floats, which the kernel's parameter is too.
            unsafe impl DeviceRepr for $name {}
        )*
        /// Bytes of every record behind [`Terms`](crate::terms::Terms), as the kernel `record_sizes` lists them.
        pub(crate) const SIZES: &[usize] = &[$(size_of::<$name>(),)*];
    };
}

records! {
    /// int8 convolution and depthwise convolution.
    struct QConv {
        input: u64,
        weight: u64,
        bias: u64,
        multiplier: u64,
        output: u64,
        terms: u64,
        mask: u64,
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
        in_zero_point: i32,
        out_zero_point: i32,
        lo: f32,
        hi: f32,
        in_scale: f32,
        inv_out_scale: f32,
        out_kind: i32,
        linear: i32,
        raw: i32,
        samples: i32,
        reserved: i32,
    }
    /// int8 pooling.
    struct Pool {
        input: u64,
        output: u64,
        mask: u64,
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        oh: i32,
        ow: i32,
        window: Window,
        pad_end: [i32; 2],
        kind: i32,
        in_zero_point: i32,
        out_zero_point: i32,
        ratio: f32,
        lo: f32,
        hi: f32,
    }
    /// Two int8 operands that broadcast to an output.
    struct Pair {
        lhs: u64,
        rhs: u64,
        output: u64,
        mask: u64,
        count: i32,
        rank: i32,
        extents: [i32; RANK],
        lhs_strides: [i32; RANK],
        rhs_strides: [i32; RANK],
        zero_points: [i32; 2],
        out_zero_point: i32,
        factors: [f32; 2],
        lo: f32,
        hi: f32,
    }
    /// Quantize, dequantize and requantize.
    struct Rescale {
        input: u64,
        output: u64,
        mask: u64,
        count: i32,
        in_zero_point: i32,
        out_zero_point: i32,
        in_scale: f32,
        out_scale: f32,
        lo: f32,
        hi: f32,
    }
    /// A table of 256 codes.
    struct Lookup {
        input: u64,
        table: u64,
        output: u64,
        count: i32,
        reserved: i32,
    }
    /// int8 softmax over rows.
    struct QSoftmax {
        input: u64,
        table: u64,
        output: u64,
        rows: i32,
        len: i32,
        out_zero_point: i32,
        inv_scale: f32,
    }
    /// A strided copy.
    struct Copy {
        input: u64,
        output: u64,
        count: i32,
        rank: i32,
        size: i32,
        reserved: i32,
        extents: [i32; RANK],
        in_strides: [i32; RANK],
        out_strides: [i32; RANK],
    }
    /// One value everywhere.
    struct Fill {
        output: u64,
        value: u64,
        count: i32,
        size: i32,
    }
    /// A classifier head.
    struct Head {
        input: u64,
        weight: u64,
        bias: u64,
        output: u64,
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        classes: i32,
        features: i32,
        pool_h: i32,
        pool_w: i32,
        is_code: i32,
        zero_point: i32,
        scale: f32,
        reserved: f32,
    }
    /// The gradient of a layer and of the terms at its site.
    struct LayerBackward {
        dy: u64,
        mask: u64,
        input: u64,
        weight: u64,
        bias: u64,
        multiplier: u64,
        dx: u64,
        terms: u64,
        run_scale: u64,
        run_zero: u64,
        row_sums: u64,
        down: u64,
        up: u64,
        sparse: u64,
        scale: u64,
        shift: u64,
        dense: u64,
        latents: u64,
        dlatents: u64,
        weights: u64,
        values: u64,
        parts: u64,
        stage: u64,
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
        zero_point: i32,
        in_scale: f32,
        out_scale: f32,
        value_scale: f32,
        codes: i32,
        linear: i32,
        depthwise: i32,
        accumulate: i32,
        staged: i32,
        rank: i32,
        entries: i32,
        splits: i32,
    }
    /// Groups, their pieces, and a sum of squares a piece.
    struct Descent {
        groups: u64,
        pieces: u64,
        totals: u64,
    }
    /// Gradients of lanes that are added to the sums.
    struct Lanes {
        sums: u64,
        parts: [u64; MAX_LANES],
        count: i32,
        lanes: i32,
    }
    /// Parts of a sum.
    struct SumParts {
        parts: u64,
        sums: u64,
        count: i32,
        splits: i32,
    }
    /// The gradient of what a step copied or broadcast.
    struct GatherBack {
        dy: u64,
        mask: u64,
        dx: u64,
        count: i32,
        repeats: i32,
        rank: i32,
        accumulate: i32,
        dy_first: i32,
        dx_first: i32,
        extents: [i32; RANK],
        dy_strides: [i32; RANK],
        dx_strides: [i32; RANK],
        repeat_extents: [i32; RANK],
        repeat_strides: [i32; RANK],
    }
    /// The gradient of a table.
    struct LookupBack {
        dy: u64,
        input: u64,
        table: u64,
        dx: u64,
        count: i32,
        accumulate: i32,
    }
    /// The gradient of pooling.
    struct PoolBack {
        dy: u64,
        mask: u64,
        input: u64,
        dx: u64,
        n: i32,
        h: i32,
        w: i32,
        c: i32,
        oh: i32,
        ow: i32,
        window: Window,
        pad_end: [i32; 2],
        kind: i32,
        codes: i32,
        accumulate: i32,
        reserved: i32,
    }
}

pub(crate) mod float;
pub(crate) mod gradient;

const RANK: usize = ingraft_tensor::MAX_RANK;

/// Sliding-window geometry: height, width.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Window {
    pub(crate) kernel: [i32; 2],
    stride: [i32; 2],
    dilation: [i32; 2],
    pad: [i32; 2],
}

impl From<&attrs::Window> for Window {
    fn from(window: &attrs::Window) -> Self {
        let words = |pair: [u32; 2]| pair.map(|v| v as i32);
        let [top, left, ..] = window.pad;
        Self {
            kernel: words(window.kernel),
            stride: words(window.stride),
            dilation: words(window.dilation),
            pad: words([top, left]),
        }
    }
}

impl QConv {
    /// The record but for its addresses.
    pub(crate) fn new(attrs: &attrs::QConvAttrs, shape: &ConvShape) -> Self {
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
            in_zero_point: attrs.in_zero_point,
            out_zero_point: attrs.out_zero_point,
            lo: attrs.lo,
            hi: attrs.hi,
            in_scale: attrs.in_scale,
            inv_out_scale: 1.0 / attrs.out_scale,
            linear: i32::from(is_linear(shape)),
            samples: 1,
            ..Self::default()
        }
    }
}

/// Whether output pixels are the input's.
pub(crate) fn is_linear(shape: &ConvShape) -> bool {
    shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.input[..3] == shape.output[..3]
}
