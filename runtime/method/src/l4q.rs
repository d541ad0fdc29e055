//! L4Q: quantization-aware training of a merged low-rank delta (Jeon et al., 2024).

use alloc::string::String;
use alloc::vec::Vec;

use ingraft_tensor::DType;
use ingraft_train::{Setting, Unfit};

use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::melora::divides;
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed};
use crate::{MethodError, Score};

/// Trains LoRA factors and the quantizer behind them: `W' = q·round(clamp((V − β)/q)) + β`, `V = W + s·B·A`.
///
/// q and β stand for `group` elements of a row each, 0 for whole rows; codes are `bits` wide. The rounding passes gradients
/// through, the clamp where it does not act; those of q and β count 1/√(group·Q) times (LSQ: Esser et al., 2020). q and β start
/// with the least and the largest weight of a group at the ends, so that nothing is clipped; the start is the base rounded so, not the base.
///
/// W are real weights. With `weights=float` they are those before the base was rounded, which a plan does not keep, so that
/// [`crate::build_on`] is given them; a site of codes whose weights are missing is refused. With `weights=plan` they are what the codes
/// stand for, rounded twice. Tensors: `lora_A` `[r, row]`, `lora_B` `[out, r]`, `l4q_q`, `l4q_beta` `[out·row/group]`. Parameters:
/// `r·(out + row) + 2·out·row/group`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct L4q {
    rank: u32,
    alpha: f64,
    bits: u32,
    group: u32,
    /// Whether W is as it was before rounding.
    real: bool,
    /// What rounding took from the weights of sites, by name.
    errors: Vec<(String, Vec<f64>)>,
}

impl L4q {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let real = real(settings)?;
        let rounded = settings.saliency.filter(|_| real).map_or(&[][..], |saliency| &saliency.rounded);
        Ok(Self {
            real,
            errors: rounded.iter().map(|site| (site.name.clone(), site.error.clone())).collect(),
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            bits: settings.number("bits", |bits| (2..=8).contains(bits))?,
            group: settings.number("group", |_| true)?,
        })
    }

    /// The least and the largest code.
    fn codes(&self) -> [f64; 2] {
        let half = f64::from(1u32 << (self.bits - 1));
        [-half, half - 1.0]
    }
}

fn real(settings: &Settings<'_>) -> Result<bool, MethodError> {
    settings.one_of("weights", &[("plan", false), ("float", true)])
}

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    Ok(if real(settings)? { Score::Unrounded } else { Score::Random })
}

/// The least and the largest of every row, as `first` or `second` wants them.
fn extremes<'t>(x: Node<'t>, of: impl Fn(f64, f64) -> f64) -> Node<'t> {
    x.tape().derived("", x, x.rows(), 1, |x, values| {
        for (row, value) in x.rows().zip(values) {
            let least = row.iter().fold(f64::INFINITY, |least, v| least.min(*v));
            *value = of(least, row.iter().fold(f64::NEG_INFINITY, |most, v| most.max(*v)));
        }
    })
}

impl Expression for L4q {
    fn name(&self) -> &'static str {
        "l4q"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("bits", Setting::Count(self.bits));
        visit("group", Setting::Count(self.group));
        visit("weights", Setting::Name(if self.real { "float" } else { "plan" }));
    }

    fn detached(&self) -> &'static [&'static str] {
        &["rounding (straight through)", "the share that gradients of steps and offsets do not take"]
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (held, rank) = (tape.weight(), self.rank as usize);
        let (out, row) = (held.rows(), held.columns());
        let error = self.errors.iter().find(|(name, _)| name == tape.site().name);
        let w = match error {
            Some((_, error)) => held + tape.fixed(out, row, |values, _| values.copy_from_slice(error)),
            None if self.real && tape.site().dtype == DType::I8 => return Err(Unfit::Rounded),
            None => held,
        };
        let size = if self.group == 0 { row } else { self.group as usize };
        let groups = out * divides("group", size, row)?;
        let [low, high] = self.codes();
        let parts = w.reshape(groups, size);
        let step = move |least: f64, most: f64| (most - least) / (high - low);
        let step0 = extremes(parts, step);
        let offset0 = extremes(parts, move |least, most| least - low * step(least, most));
        let a = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        let b = tape.parameter("lora_B", out, rank, Start::ZERO);
        let q = tape.steady_parameter("l4q_q", groups, 1, Start::Value(step0));
        let beta = tape.steady_parameter("l4q_beta", groups, 1, Start::Value(offset0));
        let factor = 1.0 / libm::sqrt(size as f64 * high);
        let (q, beta) = (q.scale_gradient(factor), beta.scale_gradient(factor));
        let v = (w + b.matmul(a) * (self.alpha / f64::from(self.rank))).reshape(groups, size);
        let codes = (v - beta).times(q.reciprocal()).clamp(low, high).straight_through_round();
        Ok(Form::weight((codes.times(q) + beta).reshape(out, row)))
    }
}

/// `l4q` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "l4q",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        ALPHA,
        SettingRow { name: "bits", default: "4", expected: "a whole number in 2..=8" },
        SettingRow { name: "group", default: "0", expected: "0 for whole rows, or a divisor of the row" },
        SettingRow { name: "weights", default: "plan", expected: "plan or float" },
    ],
    deploy: FUSED,
    source: "L4Q: Parameter Efficient Quantization-Aware Training on Large Language Models via LoRA-wise LSQ (2024)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::MeasuredExpression { score, make: |s| boxed(L4q::new(s)) },
};
