//! The terms of an adapter that acted beside what was trained, as they are.

use alloc::vec::Vec;

use ingraft_adapter::TermSpec;
use ingraft_kernel::{Factors, SiteTerms, SparseValues};

use super::Deployed;

impl Deployed {
    /// Adds the terms of `frozen`, which fit what is there. Scale and shift act behind a scale that a fused weight gives back.
    pub(super) fn stack(&mut self, frozen: &SiteTerms<'_>) {
        if let Some(term) = frozen.two_factor {
            self.terms.push(match term.factors {
                Factors::F32 { down, up } => {
                    TermSpec::TwoFactorF32 { rank: term.rank, down: down.to_vec(), up: up.to_vec() }
                }
                Factors::I8 { down, up, down_scale, up_scale } => TermSpec::TwoFactorI8 {
                    rank: term.rank,
                    down: down.to_vec(),
                    up: up.to_vec(),
                    down_scale: down_scale.to_vec(),
                    up_scale: up_scale.to_vec(),
                },
            });
        }
        if let Some(sparse) = frozen.sparse {
            let (indptr, indices): (Vec<u32>, Vec<u16>) = (sparse.indptr.to_vec(), sparse.indices.to_vec());
            self.terms.push(match sparse.values {
                SparseValues::F32(values) => TermSpec::SparseF32 { indptr, indices, values: values.to_vec() },
                SparseValues::I16(values) => TermSpec::SparseI16 { indptr, indices, values: values.to_vec() },
            });
        }
        if let Some(fused) = frozen.patched {
            self.terms.push(TermSpec::FusedI8 { weight: fused.weight.to_vec(), bias: fused.bias.to_vec() });
        }
        if let Some(affine) = frozen.affine {
            self.take_affine(affine.scale.to_vec(), affine.shift.to_vec());
        }
    }
}
