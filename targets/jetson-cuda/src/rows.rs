//! The table of kernels: each operator and pair of types stands in it once.

mod conv;
mod elementwise;
mod head;
mod movement;
mod pool;

use ingraft_kernel::{KernelError, OpCode, REFERENCE, Step, find};
use ingraft_tensor::DType;

use crate::launch::Launch;

/// One operator on the GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// `family_types__cuda`.
    pub(crate) name: &'static str,
    pub(crate) op: OpCode,
    input: Option<DType>,
    output: Option<DType>,
    pub(crate) launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
}

const I8: Option<DType> = Some(DType::I8);
const I32: Option<DType> = Some(DType::I32);
const F32: Option<DType> = Some(DType::F32);

/// Every row.
pub(crate) static ROWS: &[Row] = &[
    row("qconv_qs8_qc8w_qs8__cuda", OpCode::QConv, I8, I8, conv::qconv),
    row("qconv_qs8_qc8w_f32__cuda", OpCode::QConv, I8, F32, conv::qconv),
    row("qconv_qs8_qc8w_s32__cuda", OpCode::QConv, I8, I32, conv::qconv),
    row("qdepthwise_qs8_qc8w_qs8__cuda", OpCode::QDepthwise, I8, I8, conv::qdepthwise),
    row("pool_qs8_qs8__cuda", OpCode::QPool, I8, I8, pool::qpool),
    row("add_qs8_qs8_qs8__cuda", OpCode::QAdd, I8, I8, elementwise::add),
    row("mul_qs8_qs8_qs8__cuda", OpCode::QMul, I8, I8, elementwise::multiply),
    row("lookup_qs8_qs8__cuda", OpCode::Lookup, I8, I8, elementwise::lookup),
    row("softmax_qs8_qs8__cuda", OpCode::QSoftmax, I8, I8, elementwise::softmax),
    row("quantize_f32_qs8__cuda", OpCode::Quantize, F32, I8, elementwise::quantize),
    row("requantize_qs8_qs8__cuda", OpCode::Requantize, I8, I8, elementwise::requantize),
    row("dequantize_qs8_f32__cuda", OpCode::Dequantize, I8, F32, elementwise::dequantize),
    row("dequantize_s32_f32__cuda", OpCode::Dequantize, I32, F32, elementwise::dequantize),
    row("copy_x_x__cuda", OpCode::Copy, None, None, movement::copy),
    row("fill_x__cuda", OpCode::Fill, None, None, movement::fill),
    row("head_x_f32__cuda", OpCode::Head, None, F32, head::head),
];

/// The kernels that rows launch.
pub(crate) const KERNELS: &[&str] = &[
    "qconv_bytes_wide",
    "qconv_bytes_split",
    "qconv_words_wide",
    "qconv_words_split",
    "qconv_unit_wide",
    "qconv_unit_split",
    "qdepthwise_qs8_three",
    "qdepthwise_qs8_five",
    "qdepthwise_qs8_words",
    "qdepthwise_qs8_bytes",
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
    "record_sizes",
];

const fn row(
    name: &'static str,
    op: OpCode,
    input: Option<DType>,
    output: Option<DType>,
    launch: fn(&mut Launch<'_, '_>) -> Result<(), KernelError>,
) -> Row {
    Row { name, op, input, output, launch }
}

/// The row that computes `step`: one that has its operator and types, where the scalar reference accepts its operands.
///
/// # Errors
/// [`KernelError::Unsupported`]; also for a step that is to write a straight-through mask. What the reference refuses.
pub(crate) fn of(step: &Step<'_>) -> Result<(u16, &'static Row), KernelError> {
    let suits = |row: &Row| {
        row.op == step.op
            && (row.input.is_none() || row.input == step.input_dtype(0))
            && (row.output.is_none() || row.output == step.output_dtype(0))
    };
    let index = ROWS.iter().position(suits).filter(|_| step.outputs().len() == 1);
    let index = index.ok_or(KernelError::Unsupported(step.op))?;
    find(&[REFERENCE], step)?;
    Ok((index as u16, &ROWS[index]))
}
