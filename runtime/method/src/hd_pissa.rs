//! HD-PiSSA: high-rank updates from slices of singular vectors (Wang et al., 2025).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed, count};

/// Moves the weight along K slices of r singular vectors, fixed: with `A = √σ·Vᵀ` and `B = U·√σ` of K·r triplets, a step
/// that would move them by δA, δB moves W by `B·δA + δB·A + δB·δA`, slice by slice.
///
/// A and B stay as they are, so the sums of all δA and δB are the trained tensors and give the first two terms exactly;
/// the third is summed apart, after every step. On one device all slices see the same clips. Deployed as a whole
/// delta. Tensors: `hdpissa_A` `[K·r, row]`, `hdpissa_B` `[out, K·r]`; constants `U`, `S`, `Vh` and `second_order`. Starts as the base.
/// Parameters: `K·r·(out + row)`, K·r at most the smaller side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HdPissa {
    slices: u32,
    rank: u32,
}

impl HdPissa {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { slices: settings.count("slices")?, rank: settings.rank()? })
    }
}

impl Expression for HdPissa {
    fn name(&self) -> &'static str {
        "hd-pissa"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("slices", Setting::Count(self.slices));
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let [u, values, vt] = tape.svd(w, (self.slices as usize).saturating_mul(self.rank as usize));
        let roots = values.square_root();
        let a = tape.parameter("hdpissa_A", vt.rows(), w.columns(), Start::ZERO);
        let b = tape.parameter("hdpissa_B", w.rows(), vt.rows(), Start::ZERO);
        let second = tape.constant("second_order", w.rows(), w.columns(), |_, _| ());
        tape.state("~moved_A", vt.rows(), w.columns());
        tape.state("~moved_B", w.rows(), vt.rows());
        let first = b.matmul(vt.times(roots.transpose())) + u.times(roots).matmul(a);
        Ok(Form::delta(first + second))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, _: &Revision) {
        sites.each(&mut |site| {
            for (name, moved) in [("hdpissa_A", "~moved_A"), ("hdpissa_B", "~moved_B")] {
                let (values, _, moved) = site.beside(name, moved);
                moved.iter_mut().zip(values).for_each(|(moved, value)| *moved = f64::from(*value) - *moved);
            }
            let [a, b, second] = site.kept(["~moved_A", "~moved_B", "second_order"]);
            let rank = libm::sqrt((a.len() * b.len()) as f64 / second.len().max(1) as f64) as usize;
            let row = a.len() / rank.max(1);
            for (b, to) in b.chunks_exact(rank.max(1)).zip(second.chunks_exact_mut(row.max(1))) {
                for (b, a) in b.iter().zip(a.chunks_exact(row.max(1))) {
                    to.iter_mut().zip(a).for_each(|(to, a)| *to += b * a);
                }
            }
            for (name, moved) in [("hdpissa_A", "~moved_A"), ("hdpissa_B", "~moved_B")] {
                let (values, _, moved) = site.beside(name, moved);
                moved.iter_mut().zip(values).for_each(|(moved, value)| *moved = f64::from(*value));
            }
        });
    }
}

/// `hd-pissa` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "hd-pissa",
    family: Family::Reparameterized,
    settings: &[count("slices", "4"), SettingRow { default: "4", ..RANK }],
    deploy: FUSED,
    source: "HD-PiSSA: High-Rank Distributed Orthogonal Adaptation (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(HdPissa::new(s))),
};
