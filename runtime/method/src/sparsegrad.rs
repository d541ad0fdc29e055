//! SparseGrad: a sparse delta in a basis where gradients are sparse (Chekalina et al., 2024).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use ingraft_train::{Method, Setting, Unfit};

use crate::expression::{Expressed, Expression, Form, Start, Tape, eigenvectors};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings};
use crate::saliency::Seen;
use crate::select::best;
use crate::{MethodError, Score};

/// `W' = W + Q_o·S·Q_iᵀ`: trains k entries of S, in the bases in which the gradients of a measuring pass are most compact.
///
/// Q_o and Q_i are the singular vectors of the stack of gradients, unfolded by outputs and by inputs (HOSVD), here of each matrix by
/// itself; the published bases are shared by all layers of a kind. The entries are those where the summed gradient is
/// largest in these bases; the published method chooses them anew in every step. Starts as the base. Tensor:
/// `sparsegrad_S` `[1, k]`; constants `Q_o` `[out, out]`, `Q_i` `[row, row]` and `indices`. Parameters: k, at most `out·row`.
#[derive(Debug)]
pub(crate) struct SparseGrad {
    k: u32,
    /// None before gradients were measured.
    sites: Option<Vec<Bases>>,
}

/// What was found at one site.
#[derive(Debug)]
struct Bases {
    site: String,
    outputs: Vec<f64>,
    inputs: Vec<f64>,
    places: Vec<usize>,
}

impl Bases {
    fn new(seen: &Seen, k: usize) -> Self {
        let (out, row) = (seen.out, seen.row.max(1));
        let (mut by_output, mut by_input) = (vec![0.0; out * out], vec![0.0; row * row]);
        let mut sum = vec![0.0; out * row];
        for gradient in seen.stack().chunks_exact((out * row).max(1)) {
            let g = |o: usize, i: usize| gradient[o * row + i];
            for (at, to) in by_output.iter_mut().enumerate() {
                *to += (0..row).map(|i| g(at / out, i) * g(at % out, i)).sum::<f64>();
            }
            for (at, to) in by_input.iter_mut().enumerate() {
                *to += (0..out).map(|o| g(o, at / row) * g(o, at % row)).sum::<f64>();
            }
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
        let (outputs, inputs) = (eigenvectors(&by_output, out), eigenvectors(&by_input, row));
        let places = best(&rotated(&sum, &outputs, &inputs, out, row), k);
        Self { site: seen.name.clone(), outputs, inputs, places }
    }
}

/// Sizes of the elements of `Q_oᵀ·G·Q_i`.
fn rotated(g: &[f64], outputs: &[f64], inputs: &[f64], out: usize, row: usize) -> Vec<f64> {
    let half: Vec<f64> = (0..out * row)
        .map(|at| (0..row).map(|j| g[at / row * row + j] * inputs[j * row + at % row]).sum())
        .collect();
    let whole = (0..out * row).map(|at| {
        (0..out).map(|o| outputs[o * out + at / row] * half[o * row + at % row]).sum::<f64>().abs()
    });
    whole.collect()
}

impl Expression for SparseGrad {
    fn name(&self) -> &'static str {
        "sparsegrad"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("k", Setting::Count(self.k));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let sites = self.sites.as_ref().ok_or(Unfit::Unmeasured)?;
        let own = sites.iter().find(|own| own.site == tape.site().name).ok_or(Unfit::Unmeasured)?;
        let outputs = tape.constant("Q_o", out, out, |to, _| copy(to, own.outputs.iter().copied()));
        let inputs = tape.constant("Q_i", row, row, |to, _| copy(to, own.inputs.iter().copied()));
        let count = own.places.len();
        let places =
            tape.constant("indices", 1, count, |to, _| copy(to, own.places.iter().map(|p| *p as f64)));
        let values = tape.parameter("sparsegrad_S", 1, count, Start::ZERO);
        let core = values.scatter(places, out, row);
        Ok(Form::delta(outputs.matmul(core).matmul(inputs.transpose())))
    }
}

fn copy(to: &mut [f64], from: impl Iterator<Item = f64>) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from);
}

/// `sparsegrad` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "sparsegrad",
    family: Family::Selective,
    settings: &[SettingRow { name: "k", default: "64", expected: "a positive whole number" }],
    deploy: FUSED,
    source: "SparseGrad: A Selective Method for Efficient Fine-tuning of MLP Layers (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score: |_| Ok(Score::Stack), make },
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let k: u32 = settings.number("k", |k| *k > 0)?;
    let seen = |saliency: &crate::Saliency| {
        saliency.sites().iter().map(|site| Bases::new(site, k as usize)).collect()
    };
    Ok(Box::new(Expressed(Box::new(SparseGrad { k, sites: settings.saliency.map(seen) }))))
}
