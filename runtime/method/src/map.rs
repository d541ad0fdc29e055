//! MAP: weight and delta as two vectors with a length each (Si et al., 2025).

use alloc::boxed::Box;

use ingraft_kernel::SiteKind;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::list::METHODS;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed};

/// Trains the lengths of the weight and of any delta, seen as vectors: `W' = a·W/‖W‖ + b·Δ/(‖Δ‖ + 10⁻⁶)`.
///
/// Δ is a product B·A of rank r for `delta=lora`, else the delta of that method, with its defaults, and what it trains. A delta of zero has no direction, so what that
/// method starts as zero is drawn here as Kaiming has it; a starts as ‖W‖, b as zero: the adapter starts as the base.
/// That start is our reading. Tensors: those of the method, `map_a` and `map_b`. Parameters: those of the method, and 2.
#[derive(Debug)]
pub(crate) struct Map {
    name: &'static str,
    rank: u32,
    delta: Box<dyn Expression>,
}

/// `B·A`, without a scale: its length does not count.
#[derive(Clone, Copy, Debug)]
struct Product {
    rank: u32,
}

impl Expression for Product {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        Ok(Form::two_factor(tape.parameter("lora_B", out, rank, Start::ZERO), a))
    }
}

impl Map {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let rank = settings.rank()?;
        let wrapped = |name: &str| {
            if name == "lora" {
                let product: Box<dyn Expression> = Box::new(Product { rank });
                return Some(("lora", product));
            }
            let row = METHODS.iter().find(|row| row.name == name && row.name != ROW.name)?;
            let make = row.make.expression()?;
            Some((row.name, make(&Settings { row, given: &[], saliency: None }).ok()?))
        };
        let name = settings.value("delta", |name| wrapped(name).map(|(name, _)| name))?;
        let (name, delta) = wrapped(name).ok_or_else(|| MethodError::Unknown(name.into()))?;
        Ok(Self { name, rank, delta })
    }
}

/// The length of a matrix as a vector.
fn length(x: Node<'_>) -> Node<'_> {
    x.reshape(1, x.rows() * x.columns()).row_norms()
}

impl Expression for Map {
    fn name(&self) -> &'static str {
        "map"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("delta", Setting::Name(self.name));
        visit("rank", Setting::Count(self.rank));
    }

    fn adapts(&self, kind: SiteKind) -> bool {
        self.delta.adapts(kind)
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        tape.draw_zeros(true);
        let form = self.delta.express(tape);
        tape.draw_zeros(false);
        let [delta, shift] = form?.parts();
        let delta = delta.ok_or(Unfit::Expression { out: w.rows(), row: w.columns() })?;
        let size = length(w);
        let a = tape.steady_parameter("map_a", 1, 1, Start::Value(size));
        let b = tape.parameter("map_b", 1, 1, Start::ZERO);
        let least = tape.fixed(1, 1, |value, _| value.fill(1e-6));
        let direction = delta.times((length(delta) + least).reciprocal());
        let moved = w.times((a - size).times(size.reciprocal())) + direction.times(b);
        let form = Form::delta(moved);
        Ok(shift.map_or(form, |shift| form.shifted(shift)))
    }
}

/// `map` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "map",
    family: Family::Reparameterized,
    settings: &[
        SettingRow {
            name: "delta",
            default: "lora",
            expected: "lora, or another method that trains a delta (hira, kradapter, loha, …)",
        },
        RANK,
    ],
    deploy: FUSED,
    source: "MAP: Revisiting Weight Decomposition for Low-Rank Adaptation (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Map::new(s))),
};
