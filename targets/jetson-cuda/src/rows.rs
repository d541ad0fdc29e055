//! The table of kernels: each operator and pair of types stands in it once.

mod arithmetic;
mod backward;
mod conv;
mod convert;
mod elementwise;
mod half;
mod head;
mod index;
mod layer_backward;
mod movement;
mod pool;
mod product;
mod real;
mod real_backward;
mod recurrent;
mod reduction;
mod row_backward;
mod spatial;
mod walk;

use ingraft_kernel::{KernelError, OpCode, REFERENCE, Step, find};
use ingraft_tensor::DType;

use crate::launch::Launch;

/// The name of a row of the reference, and what else is asked of a step that it takes.
type Twin = (&'static str, fn(&Step<'_>) -> bool);

/// One operator on the GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// `family_types__cuda`.
    pub(crate) name: &'static str,
    pub(crate) op: OpCode,
    input: Option<DType>,
    output: Option<DType>,
    /// Outputs beside a mask.
    outputs: usize,
    /// Whether it writes a straight-through mask where the step has one.
    masked: bool,
    /// Scratch bytes for a step.
    pub(crate) workspace: fn(&Step<'_>) -> usize,
    /// Bytes that it packs weights into at bind, and how.
    pub(crate) packed: fn(&Step<'_>) -> usize,
    pub(crate) pack: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
    pub(crate) launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
    /// The row of the reference that computes the same, where types do not tell.
    twin: Option<Twin>,
}

const I8: Option<DType> = Some(DType::I8);
const I32: Option<DType> = Some(DType::I32);
const I64: Option<DType> = Some(DType::I64);
const F32: Option<DType> = Some(DType::F32);
const BOOL: Option<DType> = Some(DType::Bool);

/// Every row.
pub(crate) static ROWS: &[Row] = &[
    row("qconv_qs8_qc8w_qs8__cuda", OpCode::QConv, I8, I8, conv::qconv).masked(),
    row("qconv_qs8_qc8w_f32__cuda", OpCode::QConv, I8, F32, conv::qconv).masked(),
    row("qconv_qs8_qc8w_s32__cuda", OpCode::QConv, I8, I32, conv::qconv),
    row("qdepthwise_qs8_qc8w_qs8__cuda", OpCode::QDepthwise, I8, I8, conv::qdepthwise).masked(),
    row("pool_qs8_qs8__cuda", OpCode::QPool, I8, I8, pool::qpool).masked(),
    row("add_qs8_qs8_qs8__cuda", OpCode::QAdd, I8, I8, elementwise::add).masked(),
    row("mul_qs8_qs8_qs8__cuda", OpCode::QMul, I8, I8, elementwise::multiply).masked(),
    row("lookup_qs8_qs8__cuda", OpCode::Lookup, I8, I8, elementwise::lookup),
    row("softmax_qs8_qs8__cuda", OpCode::QSoftmax, I8, I8, elementwise::softmax),
    row("quantize_f32_qs8__cuda", OpCode::Quantize, F32, I8, elementwise::quantize).masked(),
    row("requantize_qs8_qs8__cuda", OpCode::Requantize, I8, I8, elementwise::requantize).masked(),
    row("dequantize_qs8_f32__cuda", OpCode::Dequantize, I8, F32, elementwise::dequantize),
    row("dequantize_s32_f32__cuda", OpCode::Dequantize, I32, F32, elementwise::dequantize),
    row("copy_x_x__cuda", OpCode::Copy, None, None, movement::copy),
    row("fill_x__cuda", OpCode::Fill, None, None, movement::fill),
    row("head_x_f32__cuda", OpCode::Head, None, F32, head::head),
    row("conv_f32_f32_f32__cuda", OpCode::Conv, F32, F32, real::convolve).masked(),
    row("depthwise_f32_f32_f32__cuda", OpCode::Depthwise, F32, F32, real::depthwise).masked(),
    row("dynamic_conv_qd8_qc8w_f32__cuda", OpCode::DynamicConv, I8, F32, real::dynamic_conv).masked(),
    row("matmul_f32_f32_f32__cuda", OpCode::MatMul, F32, F32, product::matmul),
    row("matmul_qs8_qs8_s32__cuda", OpCode::MatMulInteger, I8, I32, product::matmul_integer),
    row("pool_f32_f32__cuda", OpCode::Pool, F32, F32, spatial::pool),
    row("resize_f32_f32__cuda", OpCode::Resize, F32, F32, spatial::resize),
    row("resize_qs8_qs8__cuda", OpCode::Resize, I8, I8, spatial::resize),
    row("reduce_f32_f32__cuda", OpCode::Reduce, F32, F32, reduction::reduce),
    row("reduce_qs8_qs8__cuda", OpCode::Reduce, I8, I8, reduction::reduce),
    row("reduce_s32_s32__cuda", OpCode::Reduce, I32, I32, reduction::reduce),
    row("reduce_s64_s64__cuda", OpCode::Reduce, I64, I64, reduction::reduce),
    row("arg_f32_s64__cuda", OpCode::ArgReduce, F32, I64, reduction::arg_reduce),
    row("arg_qs8_s64__cuda", OpCode::ArgReduce, I8, I64, reduction::arg_reduce),
    row("arg_s32_s64__cuda", OpCode::ArgReduce, I32, I64, reduction::arg_reduce),
    row("arg_s64_s64__cuda", OpCode::ArgReduce, I64, I64, reduction::arg_reduce),
    row("softmax_f32_f32__cuda", OpCode::Softmax, F32, F32, reduction::softmax),
    row("norm_f32_f32__cuda", OpCode::Norm, F32, F32, reduction::norm),
    row("binary_f32_f32_f32__cuda", OpCode::Binary, F32, F32, arithmetic::binary),
    row("binary_s32_s32_s32__cuda", OpCode::Binary, I32, I32, arithmetic::binary),
    row("binary_s64_s64_s64__cuda", OpCode::Binary, I64, I64, arithmetic::binary),
    row("binary_f32_f32_bool__cuda", OpCode::Binary, F32, BOOL, arithmetic::binary),
    row("binary_s32_s32_bool__cuda", OpCode::Binary, I32, BOOL, arithmetic::binary),
    row("binary_s64_s64_bool__cuda", OpCode::Binary, I64, BOOL, arithmetic::binary),
    row("binary_bool_bool_bool__cuda", OpCode::Binary, BOOL, BOOL, arithmetic::binary),
    row("unary_f32_f32__cuda", OpCode::Unary, F32, F32, arithmetic::unary),
    row("not_bool_bool__cuda", OpCode::Unary, BOOL, BOOL, arithmetic::unary),
    row("where_bool_x_x__cuda", OpCode::Where, BOOL, None, arithmetic::choose),
    row("quantize_f32_qd8__cuda", OpCode::DynamicQuantize, F32, I8, convert::dynamic_quantize)
        .of_outputs(3)
        .scratch(convert::ranges),
    row("cast_x_x__cuda", OpCode::Cast, None, None, convert::cast),
    row("recode_x8_x8__cuda", OpCode::Recode, None, None, convert::recode),
    row("gather_x_x__cuda", OpCode::Gather, None, None, index::gather),
    row("gather_elements_x_x__cuda", OpCode::GatherElements, None, None, index::elements),
    row("lstm_f32_f32_f32__cuda", OpCode::Lstm, F32, F32, recurrent::lstm)
        .of_outputs(3)
        .scratch(recurrent::gates),
    row("gru_f32_f32_f32__cuda", OpCode::Gru, F32, F32, recurrent::gru)
        .of_outputs(2)
        .scratch(recurrent::gates),
    gradient(
        "conv_backward_f32_qc8w_f32__cuda",
        OpCode::ConvBackward,
        "conv_backward_f32_qc8w_f32__scalar",
        layer_backward::conv_quantized,
        |_| true,
    ),
    gradient(
        "conv_backward_f32_f32_f32__cuda",
        OpCode::ConvBackward,
        "conv_backward_f32_f32_f32__scalar",
        layer_backward::conv_real,
        |_| true,
    ),
    gradient(
        "conv_backward_f32_qd8_qc8w_f32__cuda",
        OpCode::ConvBackward,
        "conv_backward_f32_qd8_qc8w_f32__scalar",
        layer_backward::conv_dynamic,
        |_| true,
    ),
    gradient(
        "depthwise_backward_f32_qc8w_f32__cuda",
        OpCode::DepthwiseBackward,
        "depthwise_backward_f32_qc8w_f32__scalar",
        layer_backward::depthwise_quantized,
        |_| true,
    ),
    gradient(
        "depthwise_backward_f32_f32_f32__cuda",
        OpCode::DepthwiseBackward,
        "depthwise_backward_f32_f32_f32__scalar",
        layer_backward::depthwise_real,
        |_| true,
    ),
    gradient(
        "pool_backward_f32_f32__cuda",
        OpCode::PoolBackward,
        "pool_backward_f32_f32__scalar",
        backward::pool,
        |_| true,
    ),
    gradient(
        "add_backward_f32_f32__cuda",
        OpCode::AddBackward,
        "add_backward_f32_f32__scalar",
        backward::add,
        |_| true,
    ),
    gradient(
        "lookup_backward_f32_f32__cuda",
        OpCode::LookupBackward,
        "lookup_backward_f32_f32__scalar",
        backward::lookup,
        |_| true,
    ),
    gradient(
        "copy_backward_f32_f32__cuda",
        OpCode::CopyBackward,
        "copy_backward_f32_f32__scalar",
        backward::copy,
        backward::copies_once,
    ),
    gradient(
        "unary_backward_f32_f32__cuda",
        OpCode::UnaryBackward,
        "unary_backward_f32_f32__scalar",
        real_backward::unary,
        |_| true,
    ),
    gradient(
        "binary_backward_f32_f32__cuda",
        OpCode::BinaryBackward,
        "binary_backward_f32_f32__scalar",
        real_backward::binary,
        |_| true,
    ),
    gradient(
        "where_backward_f32_f32__cuda",
        OpCode::WhereBackward,
        "where_backward_f32_f32__scalar",
        real_backward::choose,
        |_| true,
    ),
    gradient(
        "gather_backward_f32_f32__cuda",
        OpCode::GatherBackward,
        "gather_backward_f32_f32__scalar",
        real_backward::pick,
        |_| true,
    ),
    gradient(
        "matmul_backward_f32_f32__cuda",
        OpCode::MatMulBackward,
        "matmul_backward_f32_f32__scalar",
        real_backward::matmul,
        |_| true,
    ),
    gradient(
        "softmax_backward_f32_f32__cuda",
        OpCode::SoftmaxBackward,
        "softmax_backward_f32_f32__scalar",
        row_backward::softmax,
        |_| true,
    ),
    gradient(
        "softmax_backward_f32_qs8_f32__cuda",
        OpCode::SoftmaxBackward,
        "softmax_backward_f32_qs8_f32__scalar",
        row_backward::softmax_quantized,
        |_| true,
    ),
    gradient(
        "norm_backward_f32_f32__cuda",
        OpCode::NormBackward,
        "norm_backward_f32_f32__scalar",
        row_backward::norm,
        |_| true,
    ),
    gradient(
        "reduce_backward_f32_f32__cuda",
        OpCode::ReduceBackward,
        "reduce_backward_f32_f32__scalar",
        row_backward::reduce,
        |_| true,
    ),
];

/// Rows that multiply in f16, for who asks for them: before those above.
pub(crate) static HALVES: &[Row] = &[
    Row {
        twin: Some(("conv_f32_f32_f32__scalar", half::takes)),
        packed: half::packed,
        pack: half::pack,
        ..row("conv_f32_f32_f32__cuda_fp16", OpCode::Conv, F32, F32, half::convolve)
    },
    Row {
        twin: Some(("depthwise_f32_f32_f32__scalar", half::takes_depthwise)),
        packed: half::packed_taps,
        pack: half::pack_taps,
        ..row("depthwise_f32_f32_f32__cuda_fp16", OpCode::Depthwise, F32, F32, half::depthwise)
    },
    Row {
        twin: Some(("matmul_f32_f32_f32__scalar", product::has_use_for_halves)),
        ..row("matmul_f32_f32_f32__cuda_fp16", OpCode::MatMul, F32, F32, product::matmul_in_halves)
    },
];

/// The kernels that rows launch.
pub(crate) const KERNELS: &[&str] = &[
    "qconv_bytes_wide",
    "qconv_bytes_split",
    "qconv_words_wide",
    "qconv_words_split",
    "qconv_window_wide",
    "qconv_window_split",
    "qconv_eights_wide",
    "qconv_eights_split",
    "qconv_unit_wide",
    "qconv_unit_split",
    "qconv_unit_deep",
    "qconv_bytes_wide_train",
    "qconv_bytes_split_train",
    "qconv_words_wide_train",
    "qconv_words_split_train",
    "qconv_eights_wide_train",
    "qconv_eights_split_train",
    "qconv_unit_wide_train",
    "qconv_unit_slim_train",
    "qdepthwise_qs8_three",
    "qdepthwise_qs8_three_train",
    "qdepthwise_qs8_five",
    "qdepthwise_qs8_five_train",
    "qdepthwise_qs8_words",
    "qdepthwise_qs8_words_train",
    "qdepthwise_qs8_bytes",
    "qdepthwise_qs8_bytes_train",
    "pool_qs8_qs8",
    "pool_qs8_split",
    "add_qs8_qs8_qs8",
    "add_qs8_fours",
    "mul_qs8_qs8_qs8",
    "lookup_qs8_qs8",
    "softmax_qs8_qs8",
    "quantize_f32_qs8",
    "quantize_f32_fours",
    "requantize_qs8_qs8",
    "dequantize_qs8_f32",
    "dequantize_s32_f32",
    "copy_x_x",
    "fill_x",
    "head_x_f32",
    "conv_f32_single_wide",
    "conv_f32_single_split",
    "conv_f32_fours_large",
    "conv_f32_fours_wide",
    "conv_f32_fours_split",
    "conv_f32_fours_small",
    "conv_f32_unit_large",
    "conv_f32_unit_wide",
    "conv_f32_unit_split",
    "conv_f32_unit_small",
    "conv_f32_rows",
    "conv_f16_single_wide",
    "conv_f16_single_split",
    "conv_f16_fours_large",
    "conv_f16_fours_wide",
    "conv_f16_fours_split",
    "conv_f16_unit_large",
    "conv_f16_unit_wide",
    "conv_f16_unit_split",
    "conv_f16_rows",
    "pack_f16",
    "pack_f16_taps",
    "mask_f32",
    "depthwise_f32_three",
    "depthwise_f32_five",
    "depthwise_f32_fours",
    "depthwise_f32_single",
    "depthwise_f16_three",
    "depthwise_f16_five",
    "dynamic_conv_bytes_split",
    "dynamic_conv_words_split",
    "dynamic_conv_unit_wide",
    "dynamic_conv_unit_split",
    "quantize_f32_qd8_one",
    "quantize_f32_qd8_range",
    "quantize_f32_qd8_codes",
    "matmul_f32_single_wide",
    "matmul_f32_single_small",
    "matmul_f32_fours_wide",
    "matmul_f32_fours_small",
    "matmul_f16_fours_wide",
    "matmul_f16_fours_split",
    "matmul_f16_left_wide",
    "matmul_f16_left_split",
    "matmul_f16_right_wide",
    "matmul_f16_right_split",
    "matmul_f16_single_wide",
    "matmul_f16_single_split",
    "matmul_qs8_qs8_s32",
    "pool_f32",
    "pool_f32_split",
    "resize_f32",
    "resize_qs8",
    "reduce_f32_side",
    "reduce_f32_rows",
    "reduce_f32_one",
    "reduce_f32_deep",
    "reduce_qs8_side",
    "reduce_qs8_rows",
    "reduce_qs8_one",
    "reduce_qs8_deep",
    "reduce_s32_side",
    "reduce_s32_rows",
    "reduce_s32_one",
    "reduce_s32_deep",
    "reduce_s64_side",
    "reduce_s64_rows",
    "reduce_s64_one",
    "reduce_s64_deep",
    "arg_f32",
    "arg_qs8",
    "arg_s32",
    "arg_s64",
    "softmax_f32_warp",
    "softmax_f32_block",
    "norm_f32_warp",
    "norm_f32_block",
    "binary_f32",
    "binary_s32",
    "binary_s64",
    "compare_f32",
    "compare_s32",
    "compare_s64",
    "binary_bool",
    "unary_f32",
    "not_bool",
    "where_x",
    "cast_x_x",
    "recode_x8_x8",
    "gather_x_x",
    "gather_elements_x_x",
    "lstm_f32",
    "gru_f32",
    "layer_backward_stage",
    "conv_backward_latents",
    "conv_backward_factors",
    "conv_backward_dense",
    "depthwise_backward_dense",
    "layer_backward_affine",
    "sum_parts",
    "gradient_squares",
    "descend",
    "add_lanes",
    "layer_backward_sparse",
    "conv_backward_weights",
    "layer_backward_values",
    "conv_backward_input_qc8w",
    "conv_backward_input_f32",
    "depthwise_backward_input_three",
    "depthwise_backward_input_five",
    "depthwise_backward_input",
    "gather_backward_each",
    "gather_backward_many",
    "lookup_backward_f32_f32",
    "pool_backward_f32_f32",
    "unary_backward_f32",
    "binary_backward_each",
    "binary_backward_many",
    "where_backward_each",
    "where_backward_many",
    "pick_backward_f32",
    "matmul_backward_f32",
    "softmax_backward_f32_warp",
    "softmax_backward_f32_block",
    "softmax_backward_qs8",
    "norm_backward_f32_warp",
    "norm_backward_f32_block",
    "norm_backward_terms",
    "reduce_backward_spread",
    "reduce_backward_block",
    "record_sizes",
];

const fn row(
    name: &'static str,
    op: OpCode,
    input: Option<DType>,
    output: Option<DType>,
    launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
) -> Row {
    Row {
        name,
        op,
        input,
        output,
        outputs: 1,
        masked: false,
        twin: None,
        workspace: |_| 0,
        packed: |_| 0,
        pack: |_| Ok(()),
        launch,
    }
}

/// A gradient: the twin of the reference's row `reference`, for steps that `takes` does.
const fn gradient(
    name: &'static str,
    op: OpCode,
    reference: &'static str,
    launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
    takes: fn(&Step<'_>) -> bool,
) -> Row {
    Row { twin: Some((reference, takes)), ..row(name, op, F32, None, launch) }
}

impl Row {
    /// The same row, which writes a mask beside its output where the step has one.
    const fn masked(mut self) -> Self {
        self.masked = true;
        self
    }

    /// The same row with this many outputs.
    const fn of_outputs(mut self, outputs: usize) -> Self {
        self.outputs = outputs;
        self
    }

    /// The same row with scratch memory.
    const fn scratch(mut self, workspace: fn(&Step<'_>) -> usize) -> Self {
        self.workspace = workspace;
        self
    }

    /// Whether it computes `step`, which the reference does by its row `reference`.
    fn suits(&self, step: &Step<'_>, reference: &str) -> bool {
        self.op == step.op
            && (self.input.is_none() || self.input == step.input_dtype(0))
            && (self.output.is_none() || self.output == step.output_dtype(0))
            && match self.twin {
                Some((name, takes)) => name == reference && takes(step),
                None => {
                    let beside = step.outputs().len().checked_sub(self.outputs);
                    beside.is_some_and(|beside| beside <= usize::from(self.masked))
                }
            }
    }
}

/// The row that computes `step`, by products in f16 where there is such a one and `halves` says so: one that has its operator and
/// types, where the scalar reference accepts its operands.
///
/// # Errors
/// [`KernelError::Unsupported`]; also for a mask that the row does not write. What the reference refuses.
pub(crate) fn of(step: &Step<'_>, halves: bool) -> Result<(u16, &'static Row), KernelError> {
    let reference = find(&[REFERENCE], step)?;
    let rows = ROWS.iter().chain(if halves { HALVES } else { &[] }).enumerate();
    // Those of f16 stand last, so that the others keep their numbers, and go first.
    let suiting = rows.filter(|(_, row)| row.suits(step, reference.name));
    let found = suiting.max_by_key(|(index, _)| (*index >= ROWS.len(), core::cmp::Reverse(*index)));
    found.map(|(index, row)| (index as u16, row)).ok_or(KernelError::Unsupported(step.op))
}
