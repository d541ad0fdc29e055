//! Weights that differ from the packed ones while a term is active.

use core::ops::Range;

use ingraft_kernel::SiteTerms;
use ingraft_kernel::patch::Patchable;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Sparse, SparseValues};
use ingraft_tensor::bytes;

use crate::columns::{Chunk, Layout, Places, is_split};
use crate::gemm::Weights;
use crate::simd::fetch;

/// The weights of a layer with active terms.
pub(super) enum Effective<'a> {
    /// As packed at bind.
    Base,
    /// With an integer overlay: `(w + Δ)·x`, as long as sums stay within int8.
    Overlay {
        /// The overlay, its values as integers.
        sparse: Sparse<'a>,
        values: &'a [i16],
        zero_point: i32,
        out_group: usize,
        /// The base's weights, where those that are packed are of no use.
        base: Option<&'a [i8]>,
    },
    /// A patched copy in the plan's layout.
    Patched { weight: &'a [i8], out_group: usize },
}

impl<'a> Effective<'a> {
    /// The weights of `conv` under its terms, of which a sparse delta of real values is added to products instead; `None`
    /// for other terms whose weights are real. `packed` are the base's.
    pub(super) fn new(conv: &QConv<'a>, packed: &[u8]) -> Option<Self> {
        let (terms, out_group) = (conv.terms, conv.shape.out_group);
        if terms.dense.is_some() {
            return None;
        }
        if terms.overlay_is_packed() && terms.patched.is_none() {
            return Some(Self::Base);
        }
        let overlay = terms.sparse.and_then(|sparse| match sparse.values {
            SparseValues::I16(values) => Some((sparse, values)),
            SparseValues::F32(_) => None,
        });
        match (overlay, terms.patched) {
            (None, None) => Some(Self::Base),
            (None, Some(patched)) => Some(Self::Patched { weight: patched.weight, out_group }),
            (Some((sparse, values)), None) => {
                let (zero_point, base) = (conv.attrs.in_zero_point, is_split(packed).then_some(conv.weight));
                Some(Self::Overlay { sparse, values, zero_point, out_group, base })
            }
            (Some(_), Some(_)) => None,
        }
    }

    /// Whether a chunk's weights are made anew, so that few passes over them are best.
    pub(super) fn is_made(&self) -> bool {
        !matches!(self, Self::Base)
    }
}

impl Weights for Effective<'_> {
    fn chunk<'p>(
        &mut self,
        layout: &Layout,
        (group, chunk): (usize, Chunk),
        packed: &'p [u8],
        strip: &'p mut [u8],
        sums: &mut [i32],
    ) -> Option<&'p [u8]> {
        match self {
            Self::Base => Some(packed),
            Self::Overlay { sparse, values, zero_point, out_group, base } => {
                let strip = strip.get_mut(..packed.len())?;
                match base {
                    Some(weight) => {
                        pack_plan(layout, (group, chunk), *out_group, weight, strip)?;
                        correct(layout, (group, chunk), *out_group, weight, sums);
                    }
                    None => strip.copy_from_slice(packed),
                }
                let places = layout.places(chunk);
                let first = group * *out_group + chunk.first;
                for (local, sum) in sums.iter_mut().enumerate().take(chunk.count) {
                    let span = sparse.span(first + local)?;
                    let mut total = 0i32;
                    for (index, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
                        let index = usize::from(*index);
                        // Past the row the reference reads nothing.
                        if index >= layout.segments.row() {
                            continue;
                        }
                        let code = strip.get_mut(places.of(local, index))?;
                        *code = i8::try_from(i16::from(*code as i8).checked_add(*value)?).ok()? as u8;
                        total = total.wrapping_add(i32::from(*value));
                    }
                    // Codes are moved by 128, and the overlay's zero point is no part of the bias.
                    *sum = sum.wrapping_sub(total.wrapping_mul(zero_point.wrapping_add(128)));
                }
                Some(strip)
            }
            Self::Patched { weight, out_group } => {
                let strip = strip.get_mut(..packed.len())?;
                pack_plan(layout, (group, chunk), *out_group, weight, strip)?;
                correct(layout, (group, chunk), *out_group, weight, sums);
                Some(strip)
            }
        }
    }
}

/// Packs a chunk of a weight in the plan's layout.
fn pack_plan(
    layout: &Layout,
    (group, chunk): (usize, Chunk),
    out_group: usize,
    weight: &[i8],
    strip: &mut [u8],
) -> Option<()> {
    let bytes = out_group * layout.segments.row();
    layout.pack_chunk(bytes::of(weight).get(group * bytes..)?.get(..bytes)?, chunk, strip)
}

/// What packing keeps of the rows of a chunk of a weight in the plan's layout.
fn correct(
    layout: &Layout,
    (group, chunk): (usize, Chunk),
    out_group: usize,
    weight: &[i8],
    sums: &mut [i32],
) {
    let rows = weight.chunks_exact(layout.segments.row().max(1));
    let rows = rows.skip(group * out_group + chunk.first).take(chunk.count);
    sums.iter_mut().zip(rows).for_each(|(sum, row)| *sum = super::correction(bytes::of(row)));
}

/// Whether terms act by weights that are made from the base's in every run.
pub(super) fn makes_weights(terms: &SiteTerms<'_>) -> bool {
    let overlay = terms.sparse.is_some_and(|sparse| matches!(sparse.values, SparseValues::I16(_)));
    terms.patched.is_some() || overlay && !terms.overlay_is_packed()
}

/// Packed weights that overlays are written into.
pub(crate) struct Writable<'w> {
    layout: Layout,
    weights: &'w mut [i8],
    sums: &'w mut [i32],
    /// Lanes behind the channels of a group, where others follow.
    unused_lanes: usize,
    /// What codes are moved by, and the zero point.
    moved: i32,
}

/// A chunk of a group: where its codes begin and how they follow, and its first channel among all.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    at: usize,
    first: usize,
    places: Places,
}

impl<'w> Writable<'w> {
    pub(crate) fn new(layout: Layout, packed: &'w mut [u8], zero_point: i32) -> Option<Self> {
        let (weights, sums) = layout.parts_mut(packed)?;
        let columns = layout.columns;
        let unused_lanes =
            if layout.groups == 1 { 0 } else { columns.vectors() * columns.lanes - columns.count };
        let moved = zero_point.wrapping_add(128);
        Some(Self { layout, weights: bytes::cast_mut(weights)?, sums, unused_lanes, moved })
    }
}

impl<'w> Patchable for Writable<'w> {
    type Run = Run;

    fn runs(&self) -> impl Iterator<Item = (Range<usize>, Run)> + use<'w> {
        let layout = self.layout;
        (0..layout.groups).flat_map(move |group| {
            layout.columns.chunks().map(move |chunk| {
                let first = group * layout.columns.count + chunk.first;
                let run = Run { at: layout.start_of(group, chunk), first, places: layout.places(chunk) };
                (first..first + chunk.count, run)
            })
        })
    }

    #[inline(always)]
    fn channels(&self) -> usize {
        self.layout.groups * self.layout.columns.count
    }

    #[inline(always)]
    fn row_len(&self) -> usize {
        self.layout.segments.row()
    }

    #[inline(always)]
    fn codes(&mut self) -> &mut [i8] {
        self.weights
    }

    #[inline(always)]
    fn place(&self, run: Run, channel: usize, index: usize) -> usize {
        run.at + run.places.of(channel.wrapping_sub(run.first), index)
    }

    #[inline(always)]
    fn fetch(&self, place: usize) {
        fetch(self.weights, place);
    }

    #[inline(always)]
    fn kept(&mut self, channel: usize) -> Option<&mut i32> {
        let lane = match self.unused_lanes {
            0 => channel,
            unused => channel + channel / self.layout.columns.count.max(1) * unused,
        };
        self.sums.get_mut(lane)
    }

    /// Codes are moved by 128, and the overlay's zero point is no part of the bias.
    #[inline(always)]
    fn slope(&self, _: u8) -> i32 {
        self.moved
    }
}
