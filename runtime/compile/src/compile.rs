//! The whole way from ONNX bytes to plan bytes.

use ingraft_plan::ClipRule;

use crate::calibrate::{CalibrateError, CalibrateOptions, Calibrated, FloatReasons, calibrate};
use crate::graph::Diagonals;
use crate::graph::layout::channels_last;
use crate::graph::simplify::simplify;
use crate::lower::emit::{EmitOptions, emit};
use crate::lower::train::{self, TrainFrom};
use crate::lower::{LowerError, Program, select};
use crate::quantize::settle;
use crate::{ImportError, ImportOptions, import};

/// What to compile, and how.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Dimensions and shapes the file leaves open.
    pub import: ImportOptions,
    /// How to quantize a float model; `None` leaves it as the file has it.
    pub calibrate: Option<CalibrateOptions>,
    /// From where on the plan shall be trainable.
    pub train_from: Option<TrainFrom>,
    /// Most bytes of activations and gradients in training; later sites alone are trained where more were needed.
    pub train_memory: Option<usize>,
    /// Name recorded in the plan.
    pub model_name: String,
    /// Words of the front-end recipe of the first input.
    pub recipe: Vec<u32>,
    /// Class names of the first output.
    pub labels: Vec<String>,
    /// How the outputs of a clip's patches are joined.
    pub clip: Option<ClipRule>,
    /// Samples between patches; 0 for the recipe's own.
    pub hop: u32,
    /// Room for the classes of a head.
    pub head_classes: u32,
}

/// A plan and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The plan file.
    pub plan: Vec<u8>,
    /// The program it was written from.
    pub program: Program,
}

/// Why a model was not compiled.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CompileError {
    /// The file is not a model we can read.
    Import(ImportError),
    /// The model cannot be quantized.
    Calibrate(CalibrateError),
    /// The model cannot be lowered to a plan.
    Lower(LowerError),
}

impl core::fmt::Display for CompileError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Import(error) => error.fmt(f),
            Self::Calibrate(error) => error.fmt(f),
            Self::Lower(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CompileError {}

impl From<ImportError> for CompileError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl From<CalibrateError> for CompileError {
    fn from(error: CalibrateError) -> Self {
        Self::Calibrate(error)
    }
}

impl From<LowerError> for CompileError {
    fn from(error: LowerError) -> Self {
        Self::Lower(error)
    }
}

/// Compiles an ONNX model to a plan.
///
/// # Errors
/// [`CompileError`] naming the node at fault.
pub fn compile(onnx: &[u8], options: &CompileOptions) -> Result<Compiled, CompileError> {
    let simplified = simplify(import(onnx, &options.import)?);
    let graph = channels_last(simplified.graph).into_graph();
    let diagonals = Diagonals::of_outputs(simplified.output_factors);
    let Calibrated { mut graph, diagonals, float_reasons } = match &options.calibrate {
        Some(calibration) => calibrate(graph, diagonals, calibration)?,
        None => Calibrated { graph, diagonals, float_reasons: FloatReasons::new() },
    };
    settle(&mut graph);
    let program = select(&graph)?.annotated(diagonals, &float_reasons);
    let schedule = match (&options.train_from, options.train_memory) {
        (Some(from), Some(budget)) => Some(train::fit(&program, from, budget)?),
        (Some(from), None) => Some(train::derive(&program, from)?),
        (None, _) => None,
    };
    let emit_options = EmitOptions {
        model_name: options.model_name.clone(),
        recipe: options.recipe.clone(),
        labels: options.labels.clone(),
        clip: options.clip,
        hop: options.hop,
        head_classes: options.head_classes,
    };
    let plan = emit(&program, schedule.as_ref(), &emit_options)?;
    Ok(Compiled { plan, program })
}
