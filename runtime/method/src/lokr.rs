//! LoKr: low-rank Kronecker product (LyCORIS: Yeh et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed};

/// Trains a Kronecker product: `W' = W + s·w₁ ⊗ w₂`, s = α/r.
///
/// Output channels and input channels are each split into the two factors that are closest to each
/// other, the smaller to w₁; a convolution's window belongs to w₂. w₂ is a product of two matrices
/// of rank r where r is below half its larger side, w₁ too with `decompose_both`. w₁ (or
/// its first matrix) starts as zero: the adapter starts as the base.
/// Parameters: with out = o₁·o₂ and in = i₁·i₂, `o₁·i₁ + o₂·i₂·k²` or what the matrices of rank r have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lokr {
    rank: u32,
    alpha: f64,
    decompose_both: bool,
}

impl Lokr {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            decompose_both: settings.number("decompose_both", |_| true)?,
        })
    }
}

impl Expression for Lokr {
    fn name(&self) -> &'static str {
        "lokr"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("decompose_both", Setting::Flag(self.decompose_both));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (site, rank) = (tape.site(), self.rank as usize);
        let window = site.kernel.iter().product::<usize>();
        let ([o1, o2], [i1, i2]) = (factors(site.out), factors(site.inputs));
        let w1 = if self.decompose_both && rank < o1.max(i1).div_ceil(2) {
            let a = tape.parameter("lokr_w1_a", o1, rank, Start::ZERO);
            a.matmul(tape.parameter("lokr_w1_b", rank, i1, Start::kaiming(i1)))
        } else {
            tape.parameter("lokr_w1", o1, i1, Start::ZERO)
        };
        let columns = i2 * window;
        let w2 = if rank < o2.max(i2).div_ceil(2) {
            let a = tape.parameter("lokr_w2_a", o2, rank, Start::kaiming(rank));
            a.matmul(tape.parameter("lokr_w2_b", rank, columns, Start::kaiming(columns)))
        } else {
            tape.parameter("lokr_w2", o2, columns, Start::kaiming(columns))
        };
        Ok(Form::delta(w1.kronecker(w2) * (self.alpha / f64::from(self.rank))))
    }
}

/// The two factors of `n` with the least sum, the smaller first.
pub(crate) fn factors(n: usize) -> [usize; 2] {
    let smaller = divisors(n).last().unwrap_or(1);
    [smaller, n / smaller]
}

/// The divisors of `n` up to its root, ascending.
pub(crate) fn divisors(n: usize) -> impl Iterator<Item = usize> {
    (1..).take_while(move |m| m * m <= n).filter(move |m| n.is_multiple_of(*m))
}

/// `lokr` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "lokr",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        ALPHA,
        SettingRow { name: "decompose_both", default: "false", expected: "true or false" },
    ],
    deploy: FUSED,
    source: "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Lokr::new(s))),
};

#[cfg(test)]
mod tests {
    use super::factors;

    #[test]
    fn factors_are_the_nearest_pair() {
        assert_eq!(
            [256, 128, 127, 1, 12, 36].map(factors),
            [[16, 16], [8, 16], [1, 127], [1, 1], [3, 4], [6, 6]]
        );
    }
}
