//! f32 weights that differ from the packed ones while a term is active.

use ingraft_kernel::conv::Conv;
use ingraft_kernel::terms::{Sparse, SparseValues};
use ingraft_tensor::bytes;

use crate::columns::{Chunk, Layout};
use crate::gemm::Weights;

/// The weights of a layer with active terms: `W + Δ`, made chunk by chunk.
pub(super) struct Effective<'a> {
    /// A delta in compressed rows, and its values.
    sparse: Option<(Sparse<'a>, &'a [f32])>,
    /// A delta of every weight.
    dense: Option<&'a [f32]>,
    out_group: usize,
}

impl<'a> Effective<'a> {
    /// `None` for integer values.
    pub(super) fn new(conv: &Conv<'a>) -> Option<Self> {
        let sparse = match conv.terms.sparse {
            None => None,
            Some(sparse) => match sparse.values {
                SparseValues::F32(values) => Some((sparse, values)),
                SparseValues::I16(_) => return None,
            },
        };
        Some(Self { sparse, dense: conv.terms.dense, out_group: conv.shape.out_group })
    }

    /// Whether a chunk's weights are made anew, so that few passes over them are best.
    pub(super) fn is_made(&self) -> bool {
        self.sparse.is_some() || self.dense.is_some()
    }
}

impl Weights for Effective<'_> {
    fn chunk<'p>(
        &mut self,
        layout: &Layout,
        (group, chunk): (usize, Chunk),
        packed: &'p [u8],
        strip: &'p mut [u8],
        _: &mut [i32],
    ) -> Option<&'p [u8]> {
        if !self.is_made() {
            return Some(packed);
        }
        let strip = strip.get_mut(..packed.len())?;
        let (row, size) = (layout.segments.row(), size_of::<f32>());
        match self.dense {
            Some(delta) => {
                let delta = bytes::of(delta).get(group * self.out_group * row..)?;
                layout.pack_chunk(delta.get(..self.out_group * row)?, chunk, strip)?;
                let sums: (&mut [f32], &[f32]) = (bytes::cast_mut(strip)?, bytes::cast(packed)?);
                sums.0.iter_mut().zip(sums.1).for_each(|(delta, weight)| *delta += weight);
            }
            None => strip.copy_from_slice(packed),
        }
        let Some((sparse, values)) = self.sparse else { return Some(strip) };
        let (places, first) = (layout.places(chunk), group * self.out_group + chunk.first);
        for local in 0..chunk.count {
            let span = sparse.span(first + local)?;
            for (index, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
                let index = usize::from(*index) * size;
                // Past the row the reference reads nothing.
                if index < row {
                    let weight = strip.get_mut(places.of(local, index)..)?.first_chunk_mut()?;
                    *weight = (f32::from_le_bytes(*weight) + value).to_le_bytes();
                }
            }
        }
        Some(strip)
    }
}
