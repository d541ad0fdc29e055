//! DiaBlo: diagonal blocks are sufficient for fine-tuning (Gurses et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, Settings, boxed, count};

/// Trains the diagonal blocks of the delta: `W' = W + blockdiag(D₁…D_N)ᵀ`, cut to the weight.
///
/// Blocks are `⌈row/N⌉` by `⌈out/N⌉`; there are as many as cover both sides, so that both are padded where N does not
/// divide them. Tensor `diablo_D`: blocks one below the other, `[N'·⌈row/N⌉, ⌈out/N⌉]`. Starts as
/// the base. Parameters: `N'·⌈row/N⌉·⌈out/N⌉`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiaBlo {
    blocks: u32,
}

impl DiaBlo {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { blocks: settings.count("blocks")? })
    }
}

impl Expression for DiaBlo {
    fn name(&self) -> &'static str {
        "diablo"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("blocks", Setting::Count(self.blocks));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, blocks) = (tape.site().out, tape.site().row(), self.blocks as usize);
        let (high, wide) = (out.div_ceil(blocks), row.div_ceil(blocks));
        let blocks = out.div_ceil(high).max(row.div_ceil(wide));
        let d = tape.parameter("diablo_D", blocks * wide, high, Start::ZERO);
        let places = tape.fixed(blocks * wide, high, |places, _| {
            for (i, place) in places.iter_mut().enumerate() {
                let (input, output) = (i / high, i / high / wide * high + i % high);
                *place = (output * blocks * wide + input) as f64;
            }
        });
        Ok(Form::delta(d.scatter(places, blocks * high, blocks * wide).crop(out, row)))
    }
}

/// `diablo` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "diablo",
    family: Family::Reparameterized,
    settings: &[count("blocks", "64")],
    deploy: FUSED,
    source: "DiaBlo: Diagonal Blocks Are Sufficient For Finetuning (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(DiaBlo::new(s))),
};
