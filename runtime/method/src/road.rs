//! RoAd: two-dimensional rotary adaptation (Liao & Monz, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Turns and scales pairs of outputs: `y = α·cos θ ⊙ z + α·sin θ ⊙ rot(z)`, `z = Wx + b`.
///
/// In every group of g outputs the k-th is paired with the (k + g/2)-th; `rot` swaps the halves, with a
/// minus on the first. Variant 1 has one θ and α for a pair, 2 one for an output, 4 two for an output: the
/// first for the cosine, the second for the sine. The bias turns along. g is the largest even
/// divisor of out that is not above `group`. Tensors as in HF PEFT: `road_theta` and
/// `road_alpha`, `[out/2]`, `[out]` or `[2·out]` each. Starts as the base.
/// Parameters: `out`, `2·out` or `4·out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Road {
    variant: u32,
    group: u32,
}

impl Road {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            variant: settings.number("variant", |v| matches!(v, 1 | 2 | 4))?,
            group: settings.number("group", |g| (2..=4096).contains(g))?,
        })
    }

    /// The values for the cosine (`second` false) or the sine of every output, a column.
    fn column<'t>(&self, values: Node<'t>, out: usize, group: usize, second: bool) -> Node<'t> {
        let variant = self.variant;
        let places = values.tape().fixed(out, 1, |places, _| {
            for (i, place) in places.iter_mut().enumerate() {
                let (of, k) = (i / group, i % group);
                *place = match variant {
                    1 => of * (group / 2) + k % (group / 2),
                    2 => i,
                    _ => of * 2 * group + usize::from(second) * group + k,
                } as f64;
            }
        });
        values.gather(places)
    }
}

/// `rot(z)` for the rows z: halves of every group swapped, the first negated.
fn rotated<'t>(z: Node<'t>, group: usize) -> Node<'t> {
    let (tape, half) = (z.tape(), group / 2);
    let first = move |i: usize| i % group < half;
    let partner = tape.fixed(z.rows(), 1, |rows, _| {
        rows.iter_mut()
            .enumerate()
            .for_each(|(i, row)| *row = if first(i) { i + half } else { i - half } as f64);
    });
    let signs = tape.fixed(z.rows(), 1, |signs, _| {
        signs.iter_mut().enumerate().for_each(|(i, sign)| *sign = if first(i) { -1.0 } else { 1.0 });
    });
    z.rows_at(partner).times(signs)
}

impl Expression for Road {
    fn name(&self) -> &'static str {
        "road"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("variant", Setting::Count(self.variant));
        visit("group", Setting::Count(self.group));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let (out, limit) = (w.rows(), (self.group as usize).min(w.rows()));
        let group = (2..=limit).rev().find(|g| g.is_multiple_of(2) && out.is_multiple_of(*g));
        let group = group.ok_or(Unfit::Divisor { setting: "group", value: limit, dimension: out })?;
        let count = out * self.variant as usize / 2;
        let theta = tape.parameter("road_theta", 1, count, Start::ZERO);
        let alpha = tape.steady_parameter("road_alpha", 1, count, Start::Constant(1.0));
        let part = |values, second| self.column(values, out, group, second);
        let (cosine, sine) = match self.variant {
            4 => (part(theta, false).cosine(), part(theta, true).sine()),
            _ => {
                let theta = part(theta, false);
                (theta.cosine(), theta.sine())
            }
        };
        let first = cosine.times(part(alpha, false));
        let second = sine.times(if self.variant == 4 { part(alpha, true) } else { part(alpha, false) });
        let turned = |z: Node<'t>| z.times(first) + rotated(z, group).times(second);
        let bias = tape.bias();
        Ok(Form::weight(turned(w)).shifted(turned(bias) - bias))
    }
}

/// `road` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "road",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "variant", default: "1", expected: "1, 2 or 4" },
        SettingRow { name: "group", default: "64", expected: "a whole number in 2..=4096" },
    ],
    deploy: FUSED,
    source: "3-in-1: 2D Rotary Adaptation for Efficient Finetuning, Efficient Batching and Composability (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Road::new(s))),
};
