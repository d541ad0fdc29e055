//! Adapter terms that own their parameters.

use ingraft::kernel::{Affine, Factors, PackedTerms, Patched, SiteTerms, Sparse, SparseValues, TwoFactor};

use super::Random;

/// The terms of a site.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) two_factor: Option<LowRank>,
    pub(crate) sparse: Option<Delta>,
    /// In the layout of the weight.
    pub(crate) dense: Option<Vec<f32>>,
    /// Scale and shift.
    pub(crate) affine: Option<[Vec<f32>; 2]>,
    /// Weight and folded bias.
    pub(crate) patched: Option<(Vec<i8>, Vec<i32>)>,
}

/// The factors of a two-factor term.
#[derive(Clone, Debug)]
pub(crate) enum LowRank {
    Real { rank: usize, down: Vec<f32>, up: Vec<f32> },
    Integer { rank: usize, down: Vec<i8>, up: Vec<i8>, down_scale: Vec<f32>, up_scale: Vec<f32> },
}

/// A sparse delta in compressed rows.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    pub(crate) indptr: Vec<u32>,
    pub(crate) indices: Vec<u16>,
    pub(crate) values: Values,
}

/// Values of a sparse delta.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Real(Vec<f32>),
    Integer(Vec<i16>),
}

/// The extents a term depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    pub(crate) out: usize,
    pub(crate) groups: usize,
    /// Elements of a weight row.
    pub(crate) row: usize,
}

impl Terms {
    pub(crate) fn site(&self) -> SiteTerms<'_> {
        SiteTerms {
            two_factor: self.two_factor.as_ref().map(LowRank::term),
            sparse: self.sparse.as_ref().map(Delta::term),
            dense: self.dense.as_deref(),
            affine: self.affine.as_ref().map(|[scale, shift]| Affine { scale, shift }),
            patched: self.patched.as_ref().map(|(weight, bias)| Patched { weight, bias }),
            packed: PackedTerms::NONE,
        }
    }

    /// Whether a term holds real numbers that enter a sum of products.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self.two_factor, Some(LowRank::Real { .. }))
            || matches!(self.sparse, Some(Delta { values: Values::Real(_), .. }))
            || self.dense.is_some()
    }
}

impl LowRank {
    pub(crate) fn real(extents: Extents, rank: usize, size: f32, random: &mut Random) -> Self {
        let Extents { out, groups, row } = extents;
        let width = size / (row as f32).sqrt();
        Self::Real {
            rank,
            down: random.floats(groups * rank * row, -width, width),
            up: random.floats(out * rank, -1.0, 1.0),
        }
    }

    /// Factors over the whole range; some latents saturate when their `size` is 1.
    pub(crate) fn integer(extents: Extents, rank: usize, size: f32, random: &mut Random) -> Self {
        let Extents { out, groups, row } = extents;
        let typical = (row as f32).sqrt() * 74.0 * 100.0;
        let latent = size * 30_000.0 / typical;
        let effect = 40.0 / (15_000.0 * 74.0 * (rank as f32).sqrt());
        Self::Integer {
            rank,
            down: random.codes(groups * rank * row),
            up: random.codes(out * rank),
            down_scale: random.floats(groups * rank, 0.2 * latent, latent),
            up_scale: random.floats(out, 0.2 * effect, effect),
        }
    }

    fn term(&self) -> TwoFactor<'_> {
        match self {
            Self::Real { rank, down, up } => TwoFactor { rank: *rank, factors: Factors::F32 { down, up } },
            Self::Integer { rank, down, up, down_scale, up_scale } => {
                TwoFactor { rank: *rank, factors: Factors::I8 { down, up, down_scale, up_scale } }
            }
        }
    }
}

impl Delta {
    /// About a quarter of each row, some rows empty; `value` makes the values.
    fn rows(extents: Extents, random: &mut Random) -> (Vec<u32>, Vec<u16>) {
        let (mut indptr, mut indices) = (vec![0u32], Vec::new());
        for _ in 0..extents.out {
            let skip = random.int(0, 4) == 0;
            indices.extend((0..extents.row as u16).filter(|_| !skip && random.int(0, 3) == 0));
            indptr.push(indices.len() as u32);
        }
        (indptr, indices)
    }

    pub(crate) fn real(extents: Extents, size: f32, random: &mut Random) -> Self {
        let (indptr, indices) = Self::rows(extents, random);
        let values = Values::Real(random.floats(indices.len(), -size, size));
        Self { indptr, indices, values }
    }

    pub(crate) fn integer(extents: Extents, random: &mut Random) -> Self {
        let (indptr, indices) = Self::rows(extents, random);
        let values = Values::Integer((0..indices.len()).map(|_| random.int(-255, 255) as i16).collect());
        Self { indptr, indices, values }
    }

    /// The same positions with values that keep `weight` within int8, as overlays of real adapters
    /// do; `None` for real values. Rows are along the first axis, or for `depthwise` the last.
    pub(crate) fn fitted(&self, weight: &[i8], depthwise: bool) -> Option<Self> {
        let Values::Integer(values) = &self.values else { return None };
        let out = self.indptr.len() - 1;
        let row = weight.len() / out.max(1);
        let mut fitted = self.clone();
        let mut clipped = values.clone();
        for channel in 0..out {
            for entry in self.indptr[channel] as usize..self.indptr[channel + 1] as usize {
                let index = usize::from(self.indices[entry]);
                let at = if depthwise { index * out + channel } else { channel * row + index };
                let code = i16::from(weight[at]);
                clipped[entry] = (code + values[entry]).clamp(-127, 127) - code;
            }
        }
        fitted.values = Values::Integer(clipped);
        Some(fitted)
    }

    fn term(&self) -> Sparse<'_> {
        let values = match &self.values {
            Values::Real(values) => SparseValues::F32(values),
            Values::Integer(values) => SparseValues::I16(values),
        };
        Sparse { indptr: &self.indptr, indices: &self.indices, values }
    }
}
