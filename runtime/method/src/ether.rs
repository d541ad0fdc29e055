//! ETHER and ETHER+: hyperplane reflections (Bini et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains one hyperplane per block of the input: `W' = W·diag(H₁…H_n)`, `H = I − 2·û·ûᵀ`; or of the output, `diag(H)·W`.
///
/// A reflection is never the identity, so the adapter does not start as the base; its distance from it
/// is always the same. There are as many equal blocks of two or more as the row has, up to `blocks`;
/// blocks are true blocks of input columns, where the authors' code
/// mixes them with output rows. Parameters: `row`, or `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ether {
    blocks: u32,
    outputs: bool,
}

/// The relaxed form on either side or both: `W' = diag(H⁺)·W·diag(H⁺)`, `H⁺ = I − û·ûᵀ + v̂·v̂ᵀ`.
///
/// v starts as −u: the adapter starts as the base. Parameters: `2·out` and `2·row` of the sides it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EtherPlus {
    blocks: u32,
    side: Side,
}

/// Which sides ETHER+ reflects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    In,
    Out,
    Both,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }
}

impl Ether {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            blocks: settings.number("blocks", |blocks| *blocks > 0)?,
            outputs: settings.one_of("side", &[("in", false), ("out", true)])?,
        })
    }
}

impl EtherPlus {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let sides = [Side::In, Side::Out, Side::Both].map(|side| (side.name(), side));
        Ok(Self {
            blocks: settings.number("blocks", |blocks| *blocks > 0)?,
            side: settings.one_of("side", &sides)?,
        })
    }
}

impl Expression for Ether {
    fn name(&self) -> &'static str {
        "ether"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("blocks", Setting::Count(self.blocks));
        visit("side", Setting::Name(if self.outputs { "out" } else { "in" }));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = if self.outputs { tape.weight().transpose() } else { tape.weight() };
        let blocks = divisor(w.columns(), self.blocks);
        let u = tape.steady_parameter("ether_u", w.columns(), 1, Start::kaiming(w.columns() / blocks));
        let turned = w.reflect(blocks, u);
        Ok(Form::weight(if self.outputs { turned.transpose() } else { turned }))
    }
}

impl Expression for EtherPlus {
    fn name(&self) -> &'static str {
        "ether+"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("blocks", Setting::Count(self.blocks));
        visit("side", Setting::Name(self.side.name()));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let mut turned = tape.weight();
        if self.side != Side::Out {
            turned = self.side(tape, turned, ["ether_u_in", "ether_v_in"]);
        }
        if self.side != Side::In {
            turned = self.side(tape, turned.transpose(), ["ether_u_out", "ether_v_out"]).transpose();
        }
        Ok(Form::weight(turned))
    }
}

impl EtherPlus {
    /// `X·diag(H⁺)`.
    fn side<'t>(&self, tape: &'t Tape<'t>, x: Node<'t>, [u, v]: [&'static str; 2]) -> Node<'t> {
        let blocks = divisor(x.columns(), self.blocks);
        let u = tape.steady_parameter(u, x.columns(), 1, Start::kaiming(x.columns() / blocks));
        let v = tape.steady_parameter(v, x.columns(), 1, Start::Value(u * -1.0));
        x.deflect(blocks, 1.0, u) + x.deflect(blocks, -1.0, v) - x
    }
}

/// The largest number of equal blocks of `dimension` that is not above `limit` and leaves blocks of two or more:
/// on a line a reflection has nothing to choose.
fn divisor(dimension: usize, limit: u32) -> usize {
    (1..=(dimension / 2).min(limit as usize)).rev().find(|n| dimension.is_multiple_of(*n)).unwrap_or(1)
}

/// `ether` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "ether",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "blocks", default: "4", expected: "a positive whole number" },
        SettingRow { name: "side", default: "in", expected: "in or out" },
    ],
    deploy: FUSED,
    source: "ETHER: Efficient Finetuning of Large-Scale Models with Hyperplane Reflections (2024)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(Ether::new(s))),
};

/// `ether+` as the list has it.
pub(crate) const PLUS: MethodRow = MethodRow {
    name: "ether+",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "blocks", default: "4", expected: "a positive whole number" },
        SettingRow { name: "side", default: "both", expected: "in, out or both" },
    ],
    deploy: FUSED,
    source: "ETHER: Efficient Finetuning of Large-Scale Models with Hyperplane Reflections (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(EtherPlus::new(s))),
};
