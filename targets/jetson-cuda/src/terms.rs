//! The terms of a site as kernels look them up: device addresses in a table.

use ingraft_kernel::{Factors, SiteTerms, SparseValues, overlaid};
use zerocopy::{Immutable, IntoBytes};

use crate::CudaError;

/// One entry of the table, the twin of `Terms` in `cu/types.cuh`. All zeros is the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Terms {
    weight: u64,
    bias: u64,
    down: u64,
    up: u64,
    down_scale: u64,
    up_scale: u64,
    indptr: u64,
    indices: u64,
    values: u64,
    scale: u64,
    shift: u64,
    dense: u64,
    rank: u32,
    factors: u32,
    sparse: u32,
    reserved: u32,
}

/// Bytes of an entry.
pub(crate) const ENTRY: usize = size_of::<Terms>();

impl Terms {
    /// The entry of `terms`, whose parts `place` finds or brings to the device.
    ///
    /// # Errors
    /// What `place` refuses.
    pub(crate) fn new(
        terms: SiteTerms<'_>,
        place: &mut impl FnMut(&[u8]) -> Result<u64, CudaError>,
    ) -> Result<Self, CudaError> {
        let mut entry = Self::default();
        if let Some(patched) = terms.patched {
            entry.weight = place(bytes(patched.weight))?;
            entry.bias = place(bytes(patched.bias))?;
        }
        if let Some(term) = terms.two_factor {
            entry.rank = term.rank as u32;
            match term.factors {
                Factors::F32 { down, up } => {
                    entry.factors = 1;
                    entry.down = place(bytes(down))?;
                    entry.up = place(bytes(up))?;
                }
                Factors::I8 { down, up, down_scale, up_scale } => {
                    entry.factors = 2;
                    entry.down = place(bytes(down))?;
                    entry.up = place(bytes(up))?;
                    entry.down_scale = place(bytes(down_scale))?;
                    entry.up_scale = place(bytes(up_scale))?;
                }
            }
        }
        if let Some((weight, bias)) = overlaid(&terms) {
            entry.weight = place(weight)?;
            entry.bias = place(bias)?;
        } else if let Some(sparse) = terms.sparse {
            entry.indptr = place(bytes(sparse.indptr))?;
            entry.indices = place(bytes(sparse.indices))?;
            (entry.sparse, entry.values) = match sparse.values {
                SparseValues::I16(values) => (1, place(bytes(values))?),
                SparseValues::F32(values) => (2, place(bytes(values))?),
            };
        }
        if let Some(dense) = terms.dense {
            entry.dense = place(bytes(dense))?;
        }
        if let Some(affine) = terms.affine {
            entry.scale = place(bytes(affine.scale))?;
            entry.shift = place(bytes(affine.shift))?;
        }
        Ok(entry)
    }

    /// The entry's bytes, as the device reads them.
    pub(crate) fn to_bytes(self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        let addresses = [
            self.weight,
            self.bias,
            self.down,
            self.up,
            self.down_scale,
            self.up_scale,
            self.indptr,
            self.indices,
            self.values,
            self.scale,
            self.shift,
            self.dense,
        ];
        let words = [self.rank, self.factors, self.sparse, self.reserved];
        let (wide, narrow) = out.split_at_mut(size_of_val(&addresses));
        wide.as_chunks_mut().0.iter_mut().zip(addresses).for_each(|(b, v)| *b = v.to_le_bytes());
        narrow.as_chunks_mut().0.iter_mut().zip(words).for_each(|(b, v)| *b = v.to_le_bytes());
        out
    }
}

fn bytes<T: IntoBytes + Immutable>(values: &[T]) -> &[u8] {
    values.as_bytes()
}
