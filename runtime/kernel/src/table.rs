//! The table of kernels: each implementation stands in it once.
//!
//! Name grammar: `family_input_weight_output__isa`, with the field's type codes
//! (`qs8` int8 activation, `qc8w` per-channel int8 weight, `f32`, `s32`). Tests
//! and benches iterate the tables, so a new row is tested by being listed.

use ingraft_tensor::DType;

use crate::in_place::InPlace;
use crate::patch::Patcher;
use crate::{Call, KernelError, OpCode, Step, TwoFactor};

/// One implementation of one operator.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Name by the grammar above.
    pub name: &'static str,
    /// The operator it computes.
    pub op: OpCode,
    /// Element type of the first input; `None` for any.
    pub input: Option<DType>,
    /// Element type of the first output; `None` for any.
    pub output: Option<DType>,
    /// Whether operands and attributes are ones this row computes. Called once
    /// per step at bind; `run` may then rely on it only for speed, not for safety.
    pub check: fn(&Step<'_>) -> Result<(), KernelError>,
    /// Scratch bytes for a step.
    pub workspace: fn(&Step<'_>) -> usize,
    /// Bytes of the packed weights; 0 when they are used in place.
    pub packed: fn(&Step<'_>) -> usize,
    /// Packs the weights into `packed(step)` bytes.
    pub pack: fn(&Step<'_>, &mut [u8]) -> Result<(), KernelError>,
    /// Writes overlays into packed weights; `None` where they are used in place or must be packed anew.
    pub patcher: Option<Patcher>,
    /// Bytes of packed factors; 0 when they are used as they are.
    pub factor_bytes: fn(&Step<'_>, &TwoFactor<'_>) -> usize,
    /// Packs factors into `factor_bytes` bytes.
    pub pack_factors: fn(&Step<'_>, &TwoFactor<'_>, &mut [u8]) -> Result<(), KernelError>,
    /// Computes the step.
    pub run: fn(&mut Call<'_, '_>) -> Result<(), KernelError>,
    /// How steps are run that write a gradient over the one they read; of the operator, not of the row.
    pub in_place: Option<InPlace>,
}

impl Kernel {
    /// A row that needs no memory of its own and accepts what its types say.
    pub const fn new(
        name: &'static str,
        op: OpCode,
        input: Option<DType>,
        output: Option<DType>,
        run: fn(&mut Call<'_, '_>) -> Result<(), KernelError>,
    ) -> Self {
        Self {
            name,
            op,
            input,
            output,
            check: accept,
            workspace: none,
            packed: none,
            pack: pack_nothing,
            patcher: None,
            factor_bytes: |_, _| 0,
            pack_factors: |_, _, _| Ok(()),
            run,
            in_place: InPlace::of(op),
        }
    }

    /// The same row with a check of operands at bind.
    pub const fn checked(mut self, check: fn(&Step<'_>) -> Result<(), KernelError>) -> Self {
        self.check = check;
        self
    }

    /// The same row with scratch memory.
    pub const fn with_workspace(mut self, workspace: fn(&Step<'_>) -> usize) -> Self {
        self.workspace = workspace;
        self
    }

    /// The same row with weights packed at bind.
    pub const fn with_packed(
        mut self,
        packed: fn(&Step<'_>) -> usize,
        pack: fn(&Step<'_>, &mut [u8]) -> Result<(), KernelError>,
    ) -> Self {
        self.packed = packed;
        self.pack = pack;
        self
    }

    /// The same row with a way to write overlays into its packed weights.
    pub const fn with_patcher(mut self, patcher: Patcher) -> Self {
        self.patcher = Some(patcher);
        self
    }

    /// The same row with factors that are packed when an adapter is.
    pub const fn with_factors(
        mut self,
        factor_bytes: fn(&Step<'_>, &TwoFactor<'_>) -> usize,
        pack_factors: fn(&Step<'_>, &TwoFactor<'_>, &mut [u8]) -> Result<(), KernelError>,
    ) -> Self {
        self.factor_bytes = factor_bytes;
        self.pack_factors = pack_factors;
        self
    }

    /// Whether operator and element types are this row's.
    pub fn matches(&self, step: &Step<'_>) -> bool {
        self.op == step.op
            && (self.input.is_none() || self.input == step.input_dtype(0))
            && (self.output.is_none() || self.output == step.output_dtype(0))
    }
}

/// The first row of `tables`, in order, that computes `step`.
///
/// # Errors
/// [`KernelError::Unsupported`] when no row has the operator and types, or the
/// last refusal of a row that has.
pub fn find<'t>(tables: &[&'t [Kernel]], step: &Step<'_>) -> Result<&'t Kernel, KernelError> {
    let mut refusal = KernelError::Unsupported(step.op);
    for row in tables.iter().flat_map(|table| table.iter()).filter(|row| row.matches(step)) {
        match (row.check)(step) {
            Ok(()) => return Ok(row),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// The scalar reference of every operator.
pub const REFERENCE: &[Kernel] = &[
    crate::conv::KERNEL,
    crate::depthwise::KERNEL,
    crate::qconv::KERNEL,
    crate::qconv::KERNEL_F32,
    crate::qconv::KERNEL_I32,
    crate::qconv::KERNEL_DYNAMIC,
    crate::qdepthwise::KERNEL,
    crate::head::KERNEL,
    crate::pool::KERNEL,
    crate::pool::KERNEL_Q,
    crate::elementwise::KERNEL_ADD_Q,
    crate::elementwise::KERNEL_MUL_Q,
    crate::lookup::KERNEL,
    crate::softmax::KERNEL_Q,
    crate::quantize::KERNEL,
    crate::quantize::KERNEL_DEQUANTIZE,
    crate::quantize::KERNEL_DEQUANTIZE_I32,
    crate::quantize::KERNEL_REQUANTIZE,
    crate::copy::KERNEL,
    crate::copy::KERNEL_FILL,
    crate::matmul::KERNEL,
    crate::matmul::KERNEL_INTEGER,
    crate::reduce::KERNEL_F32,
    crate::reduce::KERNEL_I32,
    crate::reduce::KERNEL_I64,
    crate::reduce::KERNEL_Q,
    crate::elementwise::KERNEL_F32,
    crate::elementwise::KERNEL_I32,
    crate::elementwise::KERNEL_I64,
    crate::elementwise::KERNEL_COMPARE_F32,
    crate::elementwise::KERNEL_COMPARE_I32,
    crate::elementwise::KERNEL_COMPARE_I64,
    crate::elementwise::KERNEL_BOOL,
    crate::elementwise::KERNEL_COMPARE_BOOL,
    crate::elementwise::KERNEL_UNARY,
    crate::elementwise::KERNEL_NOT,
    crate::elementwise::KERNEL_WHERE,
    crate::softmax::KERNEL,
    crate::norm::KERNEL,
    crate::quantize::KERNEL_DYNAMIC,
    crate::cast::KERNEL,
    crate::cast::KERNEL_RECODE,
    crate::gather::KERNEL,
    crate::gather::KERNEL_ELEMENTS,
    crate::arg_reduce::KERNEL_F32,
    crate::arg_reduce::KERNEL_Q,
    crate::arg_reduce::KERNEL_I32,
    crate::arg_reduce::KERNEL_I64,
    crate::resize::KERNEL,
    crate::resize::KERNEL_Q,
    crate::recurrent::KERNEL_LSTM,
    crate::recurrent::KERNEL_GRU,
    crate::backward::conv::KERNEL,
    crate::backward::conv::KERNEL_Q,
    crate::backward::conv::KERNEL_DYNAMIC,
    crate::backward::depthwise::KERNEL,
    crate::backward::depthwise::KERNEL_Q,
    crate::backward::pool::KERNEL,
    crate::backward::add::KERNEL,
    crate::backward::lookup::KERNEL,
    crate::backward::copy::KERNEL,
    crate::backward::unary::KERNEL,
    crate::backward::binary::KERNEL,
    crate::backward::reduce::KERNEL,
    crate::backward::matmul::KERNEL,
    crate::backward::softmax::KERNEL,
    crate::backward::softmax::KERNEL_Q,
    crate::backward::norm::KERNEL,
    crate::backward::select::KERNEL,
    crate::backward::gather::KERNEL,
    crate::backward::gather::KERNEL_ELEMENTS,
    crate::backward::resize::KERNEL,
    crate::backward::recurrent::KERNEL_LSTM,
    crate::backward::recurrent::KERNEL_GRU,
];

fn accept(_: &Step<'_>) -> Result<(), KernelError> {
    Ok(())
}

fn none(_: &Step<'_>) -> usize {
    0
}

fn pack_nothing(_: &Step<'_>, _: &mut [u8]) -> Result<(), KernelError> {
    Ok(())
}
