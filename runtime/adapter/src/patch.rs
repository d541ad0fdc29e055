//! Sparse terms written into a resident copy of a site's weight, with the way back.

use ingraft_kernel::{Patched, SiteDesc, SiteKind, Sparse, SparseValues};

use crate::{AdapterError, SiteName};

/// One overwritten weight: its position and what stood there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndoEntry {
    /// Output channel.
    pub channel: u32,
    /// Index into the weight.
    pub position: u32,
    /// The base's code.
    pub original: i8,
}

/// A resident copy of one site's int8 weight and folded bias that a sparse term
/// can be written into and taken out of, to the bit.
///
/// Patching folds the delta into the weight and `−zx·Δ` into the bias, so the
/// site then runs at the base's speed. The log holds the original bytes; an
/// unfinished patch is undone before an error is returned.
#[derive(Debug)]
pub struct PatchedSite<'m> {
    weight: &'m mut [i8],
    bias: &'m mut [i32],
    log: &'m mut [UndoEntry],
    used: usize,
    layout: Layout,
    in_zero_point: i32,
    name: SiteName,
}

/// Where element `k` of row `o` stands in the weight.
#[derive(Clone, Copy, Debug)]
struct Layout {
    row_stride: usize,
    element_stride: usize,
    out: usize,
    row: usize,
}

impl<'m> PatchedSite<'m> {
    /// A resident copy in the caller's memory, which must already hold the
    /// base's weight and bias; `log` bounds the deltas a patch may have.
    ///
    /// # Errors
    /// [`AdapterError::Shape`] when the sizes are not the site's,
    /// [`AdapterError::Kind`] for a base that is not int8.
    pub fn new(
        site: &SiteDesc<'_>,
        in_zero_point: i32,
        weight: &'m mut [i8],
        bias: &'m mut [i32],
        log: &'m mut [UndoEntry],
    ) -> Result<Self, AdapterError> {
        let name = SiteName::new(site.name);
        if site.dtype != ingraft_tensor::DType::I8 {
            return Err(AdapterError::Kind(name));
        }
        let (row, out) = (site.row(), site.out);
        if weight.len() != row.saturating_mul(out) || bias.len() != out {
            return Err(AdapterError::Shape(name));
        }
        let layout = match site.kind {
            SiteKind::Depthwise => Layout { row_stride: 1, element_stride: out, out, row },
            _ => Layout { row_stride: row, element_stride: 1, out, row },
        };
        Ok(Self { weight, bias, log, used: 0, layout, in_zero_point, name })
    }

    /// Writes an integer sparse term into the copy, after undoing the present one.
    ///
    /// # Errors
    /// [`AdapterError::Kind`] for real-valued deltas, [`AdapterError::Shape`] when
    /// the log is too short or the term is not the site's. The copy is then the base's.
    pub fn apply(&mut self, sparse: &Sparse<'_>) -> Result<(), AdapterError> {
        self.revert();
        let SparseValues::I16(values) = sparse.values else { return Err(AdapterError::Kind(self.name)) };
        let done = self.write(sparse, values);
        if done.is_none() {
            self.revert();
        }
        done.ok_or(AdapterError::Shape(self.name))
    }

    /// Restores the base's bytes.
    pub fn revert(&mut self) {
        let entries = self.log.get(..self.used).unwrap_or(&[]);
        for entry in entries.iter().rev() {
            let weight = self.weight.get_mut(entry.position as usize);
            let bias = self.bias.get_mut(entry.channel as usize);
            if let (Some(weight), Some(bias)) = (weight, bias) {
                let delta = i32::from(*weight).wrapping_sub(i32::from(entry.original));
                *bias = bias.wrapping_add(delta.wrapping_mul(self.in_zero_point));
                *weight = entry.original;
            }
        }
        self.used = 0;
    }

    /// The copy as a term for the kernel.
    pub fn patched(&self) -> Patched<'_> {
        Patched { weight: self.weight, bias: self.bias }
    }

    fn write(&mut self, sparse: &Sparse<'_>, values: &[i16]) -> Option<()> {
        let layout = self.layout;
        for channel in 0..layout.out {
            let start = *sparse.indptr.get(channel)? as usize;
            let end = *sparse.indptr.get(channel.wrapping_add(1))? as usize;
            for (index, delta) in sparse.indices.get(start..end)?.iter().zip(values.get(start..end)?) {
                let element = *index as usize;
                (element < layout.row).then_some(())?;
                let position = channel
                    .wrapping_mul(layout.row_stride)
                    .wrapping_add(element.wrapping_mul(layout.element_stride));
                let weight = self.weight.get_mut(position)?;
                let patched = i32::from(*weight).wrapping_add(i32::from(*delta));
                let entry =
                    UndoEntry { channel: channel as u32, position: position as u32, original: *weight };
                *self.log.get_mut(self.used)? = entry;
                self.used = self.used.wrapping_add(1);
                *weight = i8::try_from(patched).ok()?;
                let bias = self.bias.get_mut(channel)?;
                *bias = bias.wrapping_sub(i32::from(*delta).wrapping_mul(self.in_zero_point));
            }
        }
        Some(())
    }
}
