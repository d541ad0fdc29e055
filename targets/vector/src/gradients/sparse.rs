//! Gradients of a sparse delta, over columns: what the pixels of a block have of one element of their patches stands side
//! by side, so that an entry costs vector operations over pixels.
//!
//! # Limit
//! `P` pixels, rows of `K`, `N` channels, `E` entries: `P·E` multiply-adds each for the values and for the gradient of the
//! input, beside `P·(K + N)` moves.

use ingraft_kernel::backward::trained::SparseRows;

use super::conv::MOST;
use crate::{Task, Vector};

/// Channels whose gradients are turned at a time.
const STRIP: usize = 16;

/// Gradients of some channels, turned: `[channel][pixel]`.
type Turned = [[f32; MOST]; STRIP];

/// A delta at some channels, and their incoming gradients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries<'a> {
    pub(super) sparse: SparseRows<'a>,
    /// `[pixels, channels]`.
    pub(super) dz: &'a [f32],
    /// From pixel to pixel.
    pub(super) pitch: usize,
    /// At most [`MOST`].
    pub(super) pixels: usize,
    /// The first channel in the layer, and channels.
    pub(super) first: usize,
    pub(super) channels: usize,
}

impl Entries<'_> {
    /// Turns the gradients of `count` channels from `strip` on.
    #[inline(always)]
    fn turn(&self, strip: usize, count: usize, turned: &mut Turned) -> Option<()> {
        for (pixel, dz) in self.dz.chunks(self.pitch).take(self.pixels).enumerate() {
            for (row, dz) in turned.iter_mut().zip(dz.get(strip..)?).take(count) {
                *row.get_mut(pixel)? = *dz;
            }
        }
        Some(())
    }
}

/// Adds `Σ dz·x` over pixels to the gradient of every entry.
#[derive(Debug)]
pub(super) struct OfValues<'a, 'g> {
    pub(super) entries: Entries<'a>,
    /// Columns of patches, `pixels` from one to the next.
    pub(super) columns: &'a [f32],
    /// One for each entry of the layer.
    pub(super) values: &'g mut [f32],
}

impl<V: Vector> Task<V> for OfValues<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let Self { entries, columns, values } = self;
        let mut turned = [[0.0; MOST]; STRIP];
        for strip in (0..entries.channels).step_by(STRIP) {
            let count = STRIP.min(entries.channels - strip);
            entries.turn(strip, count, &mut turned)?;
            for (local, dz) in turned.iter().enumerate().take(count) {
                let dz = dz.get(..entries.pixels)?;
                for delta in entries.sparse.deltas(entries.first + strip + local)? {
                    let x = columns.get(delta.index * entries.pixels..)?.get(..entries.pixels)?;
                    *values.get_mut(delta.at)? += dot(v, dz, x);
                }
            }
        }
        Some(())
    }
}

/// Adds `dz·Δ` to columns of the gradient of patches, `pixels` from one to the next.
#[derive(Debug)]
pub(super) struct OfInput<'a, 'g> {
    pub(super) entries: Entries<'a>,
    pub(super) columns: &'g mut [f32],
}

impl<V: Vector> Task<V> for OfInput<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let Self { entries, columns } = self;
        let mut turned = [[0.0; MOST]; STRIP];
        for strip in (0..entries.channels).step_by(STRIP) {
            let count = STRIP.min(entries.channels - strip);
            entries.turn(strip, count, &mut turned)?;
            for (local, dz) in turned.iter().enumerate().take(count) {
                let dz = dz.get(..entries.pixels)?;
                for delta in entries.sparse.deltas(entries.first + strip + local)? {
                    let dx = columns.get_mut(delta.index * entries.pixels..)?.get_mut(..entries.pixels)?;
                    add_multiple(v, delta.value, dz, dx);
                }
            }
        }
        Some(())
    }
}

/// `Σ a·b` over the length that both have.
#[inline(always)]
fn dot<V: Vector>(v: V, a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (mut sum, rest) = (v.splat(0.0), len % V::LANES);
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: a vector lies at every place before the rest, and the rest behind them.
    unsafe {
        for at in (0..len - rest).step_by(V::LANES) {
            sum = v.mul_add(v.load(a.add(at)), v.load(b.add(at)), sum);
        }
        if rest != 0 {
            let at = len - rest;
            sum = v.mul_add(v.load_some(a.add(at), rest), v.load_some(b.add(at), rest), sum);
        }
    }
    v.sum(sum)
}

/// `to += value·x` over the length that both have.
#[inline(always)]
fn add_multiple<V: Vector>(v: V, value: f32, x: &[f32], to: &mut [f32]) {
    let len = x.len().min(to.len());
    let (value, rest) = (v.splat(value), len % V::LANES);
    let (x, to) = (x.as_ptr(), to.as_mut_ptr());
    // SAFETY: as in `dot`.
    unsafe {
        for at in (0..len - rest).step_by(V::LANES) {
            v.store(to.add(at), v.mul_add(v.load(x.add(at)), value, v.load(to.add(at))));
        }
        if rest != 0 {
            let (x, to) = (x.add(len - rest), to.add(len - rest));
            v.store_some(to, v.mul_add(v.load_some(x, rest), value, v.load_some(to, rest)), rest);
        }
    }
}
