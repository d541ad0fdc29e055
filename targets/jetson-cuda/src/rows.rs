//! The table of kernels: each operator and pair of types stands in it once.

mod backward;
mod conv;
mod elementwise;
mod head;
mod layer_backward;
mod movement;
mod pool;

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
    pub(crate) launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
    /// Whether it writes a straight-through mask where one is wanted.
    masks: bool,
    /// The row of the reference that computes the same, where types do not tell.
    twin: Option<Twin>,
}

const I8: Option<DType> = Some(DType::I8);
const I32: Option<DType> = Some(DType::I32);
const F32: Option<DType> = Some(DType::F32);

/// Every row.
pub(crate) static ROWS: &[Row] = &[
    row("qconv_qs8_qc8w_qs8__cuda", OpCode::QConv, I8, I8, conv::qconv).masking(),
    row("qconv_qs8_qc8w_f32__cuda", OpCode::QConv, I8, F32, conv::qconv).masking(),
    row("qconv_qs8_qc8w_s32__cuda", OpCode::QConv, I8, I32, conv::qconv),
    row("qdepthwise_qs8_qc8w_qs8__cuda", OpCode::QDepthwise, I8, I8, conv::qdepthwise).masking(),
    row("pool_qs8_qs8__cuda", OpCode::QPool, I8, I8, pool::qpool).masking(),
    row("add_qs8_qs8_qs8__cuda", OpCode::QAdd, I8, I8, elementwise::add).masking(),
    row("mul_qs8_qs8_qs8__cuda", OpCode::QMul, I8, I8, elementwise::multiply).masking(),
    row("lookup_qs8_qs8__cuda", OpCode::Lookup, I8, I8, elementwise::lookup),
    row("softmax_qs8_qs8__cuda", OpCode::QSoftmax, I8, I8, elementwise::softmax),
    row("quantize_f32_qs8__cuda", OpCode::Quantize, F32, I8, elementwise::quantize).masking(),
    row("requantize_qs8_qs8__cuda", OpCode::Requantize, I8, I8, elementwise::requantize).masking(),
    row("dequantize_qs8_f32__cuda", OpCode::Dequantize, I8, F32, elementwise::dequantize),
    row("dequantize_s32_f32__cuda", OpCode::Dequantize, I32, F32, elementwise::dequantize),
    row("copy_x_x__cuda", OpCode::Copy, None, None, movement::copy),
    row("fill_x__cuda", OpCode::Fill, None, None, movement::fill),
    row("head_x_f32__cuda", OpCode::Head, None, F32, head::head),
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
];

/// The kernels that rows launch.
pub(crate) const KERNELS: &[&str] = &[
    "qconv_bytes_wide",
    "qconv_bytes_wide_train",
    "qconv_bytes_split",
    "qconv_bytes_split_train",
    "qconv_words_wide",
    "qconv_words_wide_train",
    "qconv_words_split",
    "qconv_words_split_train",
    "qconv_unit_wide",
    "qconv_unit_wide_train",
    "qconv_unit_split",
    "qconv_unit_split_train",
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
    "mul_qs8_qs8_qs8",
    "lookup_qs8_qs8",
    "softmax_qs8_qs8",
    "quantize_f32_qs8",
    "requantize_qs8_qs8",
    "dequantize_qs8_f32",
    "dequantize_s32_f32",
    "copy_x_x",
    "fill_x",
    "head_x_f32",
    "layer_backward_stage",
    "conv_backward_latents",
    "conv_backward_factors",
    "conv_backward_dense",
    "depthwise_backward_dense",
    "layer_backward_affine",
    "sum_parts",
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
    "record_sizes",
];

const fn row(
    name: &'static str,
    op: OpCode,
    input: Option<DType>,
    output: Option<DType>,
    launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
) -> Row {
    Row { name, op, input, output, launch, masks: false, twin: None }
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
    const fn masking(self) -> Self {
        Self { masks: true, ..self }
    }
}

/// The row that computes `step`: one that has its operator and types, where the scalar reference accepts its operands.
///
/// # Errors
/// [`KernelError::Unsupported`]; also for a mask that the row does not write. What the reference refuses.
pub(crate) fn of(step: &Step<'_>) -> Result<(u16, &'static Row), KernelError> {
    let reference = find(&[REFERENCE], step)?;
    let suits = |row: &Row| {
        row.op == step.op
            && (row.input.is_none() || row.input == step.input_dtype(0))
            && (row.output.is_none() || row.output == step.output_dtype(0))
            && match row.twin {
                Some((name, takes)) => name == reference.name && takes(step),
                None => step.outputs().len() == 1 || row.masks && step.outputs().len() == 2,
            }
    };
    let index = ROWS.iter().position(suits).ok_or(KernelError::Unsupported(step.op))?;
    Ok((index as u16, &ROWS[index]))
}
