//! The terms of an adapter on the pre-activation values of a block, in f32.

use ingraft_kernel::conv::Conv;
use ingraft_kernel::terms::{Factors, SparseValues, TwoFactor};
use ingraft_kernel::window::row;

use crate::fma::ROW_ALIGN;
use crate::lanes::block;
use crate::panel::{Panel, WIDTH};
use crate::rank::{apply_reals, dot, transpose};
use crate::tile::{Block, Rows};

/// `A·x` of every pixel for the two-factor term.
#[target_feature(enable = "neon")]
pub(super) fn project(
    conv: &Conv<'_>,
    block: Block,
    rows: &Rows<'_, f32, ROW_ALIGN>,
    latent: &mut [f32],
) -> Option<()> {
    let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(()) };
    let Factors::F32 { down, .. } = factors else { return None };
    for (pixel, latent) in latent.chunks_exact_mut(rank.max(1)).take(block.pixels).enumerate() {
        let patch = rows.row(pixel)?.get(..rows.len)?;
        for (k, t) in latent.iter_mut().enumerate() {
            *t = dot(row(down, block.group * rank + k, rows.len)?, patch);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_low_rank(
    conv: &Conv<'_>,
    first: usize,
    panel: Panel,
    latent: &[f32],
    transposed: &mut [[f32; WIDTH]],
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(()) };
    let Factors::F32 { up, .. } = factors else { return None };
    let transposed = transposed.get_mut(..rank)?;
    transpose(up, rank, first..first + panel.count, transposed, |b| b)?;
    for (values, latent) in values.iter_mut().zip(latent.chunks_exact(rank.max(1))) {
        values.iter_mut().zip(apply_reals(latent, transposed)).for_each(|(v, s)| *v += s);
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_sparse(
    conv: &Conv<'_>,
    first: usize,
    panel: Panel,
    rows: &Rows<'_, f32, ROW_ALIGN>,
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(deltas) = sparse.values else { return None };
    for lane in 0..panel.count {
        let at = first + lane;
        let span = sparse.span(at)?;
        let (indices, deltas) = (sparse.indices.get(span.clone())?, deltas.get(span)?);
        for (pixel, values) in values.iter_mut().enumerate() {
            let x = |index: &u16| rows.at(pixel, (*index).into()).unwrap_or(0.0);
            *values.get_mut(lane)? += indices.iter().zip(deltas).fold(0.0f32, |s, (i, d)| s + x(i) * d);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_dense(
    conv: &Conv<'_>,
    first: usize,
    panel: Panel,
    rows: &Rows<'_, f32, ROW_ALIGN>,
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(delta) = conv.terms.dense else { return Some(()) };
    let delta = delta.get(first * rows.len..)?.get(..panel.count * rows.len)?;
    for (pixel, values) in values.iter_mut().enumerate() {
        let patch = rows.row(pixel)?.get(..rows.len)?;
        let rows = delta.chunks_exact(rows.len.max(1));
        values.iter_mut().zip(rows).for_each(|(v, row)| *v += dot(row, patch));
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_affine(conv: &Conv<'_>, first: usize, values: &mut [[f32; WIDTH]]) {
    let Some(affine) = conv.terms.affine else { return };
    let (scale, shift): ([f32; WIDTH], [f32; WIDTH]) =
        (block(affine.scale, first), block(affine.shift, first));
    for values in values {
        let pairs = scale.iter().zip(&shift);
        values.iter_mut().zip(pairs).for_each(|(v, (scale, shift))| *v = *v * scale + shift);
    }
}
