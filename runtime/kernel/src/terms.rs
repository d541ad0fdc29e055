//! What an adapter adds to one site, as a kernel sees it.
//!
//! Every term acts on the dequantized pre-activation value (accumulator plus
//! bias), before the fused clip and requantization. Padding is real zero.

use core::ops::Range;

use crate::{KernelError, OpCode};

/// The active terms of one site for one sample. `Default` is the untouched base.
#[derive(Clone, Copy, Debug, Default)]
pub struct SiteTerms<'a> {
    /// `y += B·(A·x)`.
    pub two_factor: Option<TwoFactor<'a>>,
    /// `y += Δ·x` for a sparse Δ.
    pub sparse: Option<Sparse<'a>>,
    /// `y += Δ·x` for a Δ of every weight, in real units and the layout of the base's weight. Only
    /// trainers have it: a file holds the fused weight instead.
    pub dense: Option<&'a [f32]>,
    /// `y = scale ⊙ y + shift`, after the other terms. At a normalization, in place of the base's own pair.
    pub affine: Option<Affine<'a>>,
    /// Another weight and folded bias, used instead of the base's: a resident patched copy, or a fused adapter's own.
    pub patched: Option<Patched<'a>>,
    /// What the target packed of these terms beforehand; empty where it did not. It says nothing that the other fields
    /// do not: a kernel that ignores it computes the same.
    pub packed: PackedTerms<'a>,
}

impl SiteTerms<'_> {
    /// No term: the base itself.
    pub const NONE: Self = SiteTerms {
        two_factor: None,
        sparse: None,
        dense: None,
        affine: None,
        patched: None,
        packed: PackedTerms::NONE,
    };

    /// Whether the site runs as the untouched base.
    pub fn is_none(&self) -> bool {
        let whole = self.dense.is_none() && self.patched.is_none();
        whole && self.two_factor.is_none() && self.sparse.is_none() && self.affine.is_none()
    }

    /// Whether a delta is added beside the weight.
    pub fn has_delta(&self) -> bool {
        self.sparse.is_some() || self.dense.is_some()
    }

    /// Whether a delta of the weight is in real units.
    pub fn has_real_delta(&self) -> bool {
        let sparse = matches!(self.sparse.map(|sparse| sparse.values), Some(SparseValues::F32(_)));
        sparse || self.dense.is_some()
    }

    /// Whether the integer overlay stands in the packed weights already. Only for rows with a
    /// [`Patcher`](crate::patch::Patcher): for others the weights themselves are exchanged before they are called.
    pub fn overlay_is_packed(&self) -> bool {
        let integer = self.sparse.is_some_and(|sparse| matches!(sparse.values, SparseValues::I16(_)));
        integer && !self.packed.weights.is_empty()
    }

    /// Whether the packed weights of the call are all there is to compute with: those of the base, or with an overlay.
    pub fn acts_as_base(&self) -> bool {
        let whole = self.dense.is_none() && self.patched.is_none();
        whole
            && self.two_factor.is_none()
            && self.affine.is_none()
            && (self.sparse.is_none() || self.overlay_is_packed())
    }
}

impl<'a> SiteTerms<'a> {
    /// The scale and shift at a normalization, which takes no other term.
    ///
    /// # Errors
    /// [`KernelError::Terms`] for another term, or a pair that is not as long as what is normalized.
    pub fn of_norm(&self, op: OpCode, len: usize) -> Result<Option<Affine<'a>>, KernelError> {
        let others = SiteTerms { affine: None, ..*self };
        let fits = self.affine.is_none_or(|a| a.scale.len() == len && a.shift.len() == len);
        if others.is_none() && fits { Ok(self.affine) } else { Err(KernelError::Terms(op)) }
    }
}

/// Terms as a target packed them ([`Target::pack_terms`](crate::Target::pack_terms)). Only that target can read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackedTerms<'a> {
    /// The step's weights with a fused weight or an integer overlay in them.
    pub weights: &'a [u8],
    /// Integer factors.
    pub factors: &'a [u8],
}

impl PackedTerms<'_> {
    /// Nothing.
    pub const NONE: Self = PackedTerms { weights: &[], factors: &[] };
}

/// Low-rank factors of a weight delta.
///
/// # Shapes
/// `down` is `[groups · rank, kh · kw · in/groups]` (lora_A elsewhere), `up` is
/// `[out, rank]` (lora_B elsewhere). Output channel `o` of group `g` reads rank
/// rows `g·rank..(g+1)·rank`.
#[derive(Clone, Copy, Debug)]
pub struct TwoFactor<'a> {
    /// Rank per group.
    pub rank: usize,
    /// The factors.
    pub factors: Factors<'a>,
}

/// Storage of the factors.
#[derive(Clone, Copy, Debug)]
pub enum Factors<'a> {
    /// Real-valued: `y_real += up·(down·x_real)`; agrees between targets within a stated bound.
    F32 {
        /// `[groups · rank, row]`.
        down: &'a [f32],
        /// `[out, rank]`, the adapter's scale folded in.
        up: &'a [f32],
    },
    /// Integer: exact in any order on every target.
    ///
    /// `u = sat16(round(f32(down·(x−zx)) · down_scale))`, then
    /// `v += f32(up·u) · up_scale`, with v in output steps.
    I8 {
        /// `[groups · rank, row]`.
        down: &'a [i8],
        /// `[out, rank]`.
        up: &'a [i8],
        /// `[groups · rank]`.
        down_scale: &'a [f32],
        /// `[out]`.
        up_scale: &'a [f32],
    },
}

/// A sparse weight delta in compressed rows.
///
/// # Shapes
/// `indptr` is `[out + 1]`; `indices` and `values` are `[nnz]`. An index counts
/// along a weight row in kernel order (kh, kw, in); for depthwise sites along kh, kw.
#[derive(Clone, Copy, Debug)]
pub struct Sparse<'a> {
    /// Row starts, non-decreasing, from 0 to nnz.
    pub indptr: &'a [u32],
    /// Position in the row, ascending within it.
    pub indices: &'a [u16],
    /// The deltas.
    pub values: SparseValues<'a>,
}

impl Sparse<'_> {
    /// Where the entries of `channel` stand; `None` past the last row.
    #[inline(always)]
    pub fn span(&self, channel: usize) -> Option<Range<usize>> {
        span(self.indptr, channel)
    }
}

/// Where the entries of row `row` of a compressed matrix stand.
#[inline(always)]
pub(crate) fn span(indptr: &[u32], row: usize) -> Option<Range<usize>> {
    Some(*indptr.get(row)? as usize..*indptr.get(row.wrapping_add(1))? as usize)
}

/// Storage of sparse deltas.
#[derive(Clone, Copy, Debug)]
pub enum SparseValues<'a> {
    /// Integer codes on the base weight's scale: `acc += Δ·(x−zx)`, equal to patching the weight.
    I16(&'a [i16]),
    /// Real values: `y_real += Δ·x_real`.
    F32(&'a [f32]),
}

/// Per-channel scale and shift of the pre-activation value, in real units; at a normalization, of the normalized value.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[out]`.
    pub scale: &'a [f32],
    /// `[out]`.
    pub shift: &'a [f32],
}

/// A weight in the base's place: same layout as the base's constants, on the base's scales.
#[derive(Clone, Copy, Debug)]
pub struct Patched<'a> {
    /// Weight bytes.
    pub weight: &'a [i8],
    /// Folded bias.
    pub bias: &'a [i32],
}

/// Where a backward step accumulates the gradients of a site's terms.
///
/// Each slice has the length of the f32 parameter it belongs to; absent slices
/// are not trained.
#[derive(Debug, Default)]
pub struct SiteGrads<'a> {
    /// Gradient of `Factors::F32::down`.
    pub down: Option<&'a mut [f32]>,
    /// Gradient of `Factors::F32::up`.
    pub up: Option<&'a mut [f32]>,
    /// Gradient of `SparseValues::F32`.
    pub sparse: Option<&'a mut [f32]>,
    /// Gradient of `Affine::scale`.
    pub scale: Option<&'a mut [f32]>,
    /// Gradient of `Affine::shift`.
    pub shift: Option<&'a mut [f32]>,
    /// Gradient of the weight, which is that of [`SiteTerms::dense`] too, in the layout of the base's weight.
    pub dense: Option<&'a mut [f32]>,
}

/// The largest rank per group of a two-factor term. Kernels keep the rank-space
/// vector on the stack, so that no memory depends on which adapter is active.
pub const MAX_TERM_RANK: usize = 256;
