//! What the terms of a site do, as numbers.

use ingraft_kernel::{Factors, SiteDesc, SiteKind, SiteTerms, SparseValues, terms::MAX_TERM_RANK};
use ingraft_method::{OwnedTerms, TermFormat};
use ingraft_train::FrozenSite;

use crate::ImportError;
use crate::base::Place;
use crate::change::{Placed, norm, write};
use crate::matrix::Matrix;

/// `y' = (W + ΔW)·x + b + Δb`, on the weight of the plan and in the order of its kernel. ΔW is the sum of the parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Effect {
    /// `[out, r]` and `[r, row]`.
    pub(super) factors: Option<(Matrix, Matrix)>,
    /// `[out, row]`.
    pub(super) dense: Option<Matrix>,
    /// Δb.
    pub(super) shift: Option<Vec<f64>>,
}

impl Effect {
    /// What `terms` do at `site`.
    pub(super) fn read(site: &FrozenSite<'_>, terms: &SiteTerms<'_>) -> Self {
        let (out, row) = (site.desc.out, site.desc.row());
        let factors = pair(site, terms);
        let alone = terms.sparse.is_none() && terms.affine.is_none() && terms.patched.is_none();
        if alone {
            // A grouped convolution's rows read different factors: only its delta is one matrix.
            return match factors {
                Some((up, down)) if site.desc.groups == 1 => {
                    Self { factors: Some((up, down)), ..Self::default() }
                }
                Some(pair) => Self { dense: Some(product(&site.desc, &pair)), ..Self::default() },
                None => Self::default(),
            };
        }
        let weight = Matrix::from_fn(out, row, |o, j| f64::from(site.weight(o, j)));
        let mut moved = weight.clone();
        let bias: Vec<f64> = (0..out).map(|o| f64::from(site.real_bias(o))).collect();
        let mut new_bias = bias.clone();
        if let (Some(fused), Some(scales)) = (terms.patched, site.scales()) {
            let code = |o: usize, j: usize| fused.weight.get(site.offset(o, j)).copied().unwrap_or(0);
            moved = Matrix::from_fn(out, row, |o, j| f64::from(code(o, j)) * f64::from(scales.weight(o)));
            for (o, to) in new_bias.iter_mut().enumerate() {
                let sum: i64 = (0..row).map(|j| i64::from(code(o, j))).sum();
                let steps = i64::from(fused.bias.get(o).copied().unwrap_or(0))
                    + i64::from(scales.input_zero_point) * sum;
                *to = steps as f64 * f64::from(scales.input) * f64::from(scales.weight(o));
            }
        }
        if let Some(pair) = &factors {
            moved = moved.plus(&product(&site.desc, pair));
        }
        if let Some(sparse) = terms.sparse {
            for (o, ends) in sparse.indptr.windows(2).enumerate() {
                for at in ends[0] as usize..ends[1] as usize {
                    let value = match sparse.values {
                        SparseValues::F32(values) => f64::from(values[at]),
                        SparseValues::I16(values) => {
                            f64::from(values[at])
                                * site.scales().map_or(0.0, |scales| f64::from(scales.weight(o)))
                        }
                    };
                    moved.data[o * row + usize::from(sparse.indices[at])] += value;
                }
            }
        }
        let mut shift = None;
        if let Some(affine) = terms.affine.filter(|_| site.desc.kind.is_norm()) {
            // In place of the base's own.
            moved = Matrix::from_fn(out, row, |o, _| f64::from(affine.scale[o]));
            new_bias = affine.shift.iter().map(|v| f64::from(*v)).collect();
        } else if let Some(affine) = terms.affine {
            let scale: Vec<f64> = affine.scale.iter().map(|v| f64::from(*v)).collect();
            moved = moved.rows_times(&scale);
            new_bias
                .iter_mut()
                .zip(&scale)
                .zip(affine.shift)
                .for_each(|((b, s), t)| *b = *b * s + f64::from(*t));
        }
        if new_bias != bias {
            shift = Some(new_bias.iter().zip(&bias).map(|(new, old)| new - old).collect());
        }
        Self { factors: None, dense: Some(moved.minus(&weight)), shift }
    }

    /// Whether it changes nothing.
    pub(super) fn is_nothing(&self) -> bool {
        self.factors.is_none() && self.dense.is_none() && self.shift.is_none()
    }

    /// Whether it is two factors and nothing else.
    pub(super) fn is_pair(&self) -> bool {
        self.factors.is_some() && self.dense.is_none() && self.shift.is_none()
    }

    /// ΔW.
    pub(super) fn whole(&self, out: usize, row: usize) -> Matrix {
        let mut delta = self.dense.clone().unwrap_or_else(|| Matrix::zeros(out, row));
        if let Some((up, down)) = &self.factors {
            delta = delta.plus(&up.matmul(down));
        }
        delta
    }

    /// The terms that do this at `place`.
    pub(super) fn place(&self, place: &Place<'_>, format: TermFormat<'_>) -> Result<Placed, ImportError> {
        let (out, row) = place.shape();
        if place.desc().kind.is_norm() {
            return norm(place, &self.whole(out, row), self.shift.as_deref());
        }
        let narrow = |matrix: &Matrix| matrix.data.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let mut owned = OwnedTerms::default();
        match &self.factors {
            Some((up, down)) if self.dense.is_none() && fits(place.desc(), down.rows) => {
                (owned.rank, owned.up, owned.down) = (down.rows, narrow(up), narrow(down));
            }
            _ if self.factors.is_none() && self.dense.is_none() => {}
            _ => delta_terms(place, &self.whole(out, row), &mut owned),
        }
        let shift = self.shift.as_ref().filter(|shift| shift.iter().any(|v| *v != 0.0));
        let affine = shift.map(|shift| (vec![1.0; out], shift.iter().map(|v| *v as f32).collect()));
        write(place, owned, affine, format)
    }
}

fn fits(site: &SiteDesc<'_>, rank: usize) -> bool {
    site.groups == 1 && site.kind != SiteKind::Depthwise && (1..=MAX_TERM_RANK).contains(&rank)
}

/// A delta as a sparse term where most of it is zero, else whole.
fn delta_terms(place: &Place<'_>, delta: &Matrix, owned: &mut OwnedTerms) {
    let (out, row) = (delta.rows, delta.columns);
    let nonzero = delta.data.iter().filter(|v| **v != 0.0).count();
    if nonzero * SPARSE > out * row {
        owned.dense = vec![0.0; out * row];
        for (at, value) in delta.data.iter().enumerate() {
            owned.dense[place.frozen.offset(at / row, at % row)] = *value as f32;
        }
    } else if nonzero > 0 {
        owned.indptr.push(0);
        for o in 0..out {
            for (j, value) in delta.row(o).iter().enumerate().filter(|(_, value)| **value != 0.0) {
                owned.indices.push(j as u16);
                owned.sparse.push(*value as f32);
            }
            owned.indptr.push(owned.indices.len() as u32);
        }
    }
}

/// The real factors of a pair, groups of rows one below the other.
fn pair(site: &FrozenSite<'_>, terms: &SiteTerms<'_>) -> Option<(Matrix, Matrix)> {
    let term = terms.two_factor?;
    let (out, row, rank) = (site.desc.out, site.desc.row(), term.rank);
    let rows = site.desc.groups * rank;
    Some(match term.factors {
        Factors::F32 { down, up } => (
            Matrix::from_fn(out, rank, |o, k| f64::from(up[o * rank + k])),
            Matrix::from_fn(rows, row, |k, j| f64::from(down[k * row + j])),
        ),
        Factors::I8 { down, up, down_scale, up_scale } => {
            let scales = site.scales()?;
            // One step of u is worth 1/down_scale input steps of the row, and up_scale output steps behind the factor.
            let output = |o: usize| f64::from(scales.output) * f64::from(up_scale[o]);
            let input = |k: usize| f64::from(down_scale[k]) / f64::from(scales.input);
            (
                Matrix::from_fn(out, rank, |o, k| f64::from(up[o * rank + k]) * output(o)),
                Matrix::from_fn(rows, row, |k, j| f64::from(down[k * row + j]) * input(k)),
            )
        }
    })
}

/// The delta of a pair, group by group.
fn product(site: &SiteDesc<'_>, (up, down): &(Matrix, Matrix)) -> Matrix {
    let per_group = (site.out / site.groups.max(1)).max(1);
    Matrix::from_fn(up.rows, down.columns, |o, j| {
        let first = o / per_group * up.columns;
        (0..up.columns).map(|k| up.at(o, k) * down.at(first + k, j)).sum()
    })
}

/// A delta with at most one nonzero in this many entries is written entry by entry.
const SPARSE: usize = 4;
