//! Which weights a method trains, if not factors of them.

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::{DType, Rng};
use ingraft_train::{FrozenSite, SiteValues, TermLayout, Unfit};

/// How the trained weights of a site are chosen. The choice is seeded and its
/// positions are stored in the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Any weights, each as likely as any other.
    Random,
    /// The weights of largest magnitude in real units; the first of equals.
    Magnitude,
    /// Whole output rows, each as likely as any other.
    Row,
}

impl Mask {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Magnitude => "magnitude",
            Self::Row => "row",
        }
    }

    /// Number of weights that `density` of `site` is, at least one.
    ///
    /// # Errors
    /// [`Unfit::RowTooLong`] when a position in a row exceeds 16 bits.
    pub(crate) fn count(self, site: &SiteDesc<'_>, density: f64) -> Result<u32, Unfit> {
        let (out, row) = (site.out, site.row());
        if row > ROW_LIMIT {
            return Err(Unfit::RowTooLong { row, limit: ROW_LIMIT });
        }
        let share = |n: usize| (libm::round(density * n as f64) as usize).clamp(1, n.max(1));
        Ok(match self {
            Self::Row => share(out).saturating_mul(row),
            Self::Random | Self::Magnitude => share(out.saturating_mul(row)),
        } as u32)
    }

    /// Chooses the positions of a sparse term.
    pub(crate) fn choose(self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        let (out, row) = (site.desc.out, site.desc.row());
        match self {
            Self::Random => {
                let mut draw = Draw { wanted: terms.indices.len(), left: out.saturating_mul(row) };
                fill(site, terms, |_, _| draw.take(rng));
            }
            Self::Row => {
                let mut draw = Draw { wanted: terms.indices.len().checked_div(row).unwrap_or(0), left: out };
                let mut taken = false;
                fill(site, terms, |_, position| {
                    if position == 0 {
                        taken = draw.take(rng);
                    }
                    taken
                });
            }
            Self::Magnitude => {
                let (threshold, mut ties) = threshold(site, terms.indices.len());
                fill(site, terms, |channel, position| {
                    let bits = magnitude(site, channel, position);
                    let tie = bits == threshold && ties > 0;
                    ties = ties.saturating_sub(usize::from(tie));
                    tie || bits > threshold
                });
            }
        }
    }
}

/// The layout that trains every weight.
///
/// # Errors
/// [`Unfit::RowTooLong`] at an f32 site when a position in a row exceeds 16 bits: its adapter is written as a sparse term.
pub(crate) fn dense(site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
    let row = site.row();
    if site.dtype == DType::F32 && row > ROW_LIMIT {
        return Err(Unfit::RowTooLong { row, limit: ROW_LIMIT });
    }
    Ok(TermLayout { dense: true, ..TermLayout::NONE })
}

/// Writes as many different numbers below `total` as `places` has room for, ascending, each
/// set as likely as any other.
#[cfg(feature = "alloc")]
pub(crate) fn draw(total: usize, rng: &mut Rng, places: &mut [f64]) {
    let mut draw = Draw { wanted: places.len(), left: total };
    let chosen = (0..total).filter(|_| draw.take(rng));
    places.iter_mut().zip(chosen).for_each(|(to, place)| *to = place as f64);
}

/// Draws `wanted` of `left` items in one pass over them (Knuth, volume 2,
/// algorithm S): no memory, and the positions come sorted.
struct Draw {
    wanted: usize,
    left: usize,
}

impl Draw {
    fn take(&mut self, rng: &mut Rng) -> bool {
        let taken = rng.below(self.left) < self.wanted;
        self.left = self.left.saturating_sub(1);
        self.wanted = self.wanted.saturating_sub(usize::from(taken));
        taken
    }
}

/// Writes the positions for which `keep(channel, position)` holds, asked in order.
pub(crate) fn fill(
    site: &FrozenSite<'_>,
    terms: &mut SiteValues<'_>,
    mut keep: impl FnMut(usize, usize) -> bool,
) {
    let mut count = 0u32;
    let mut indices = terms.indices.iter_mut();
    let mut ends = terms.indptr.iter_mut();
    if let Some(first) = ends.next() {
        *first = 0;
    }
    for (channel, end) in (0..site.desc.out).zip(ends) {
        for position in 0..site.desc.row() {
            if let Some(index) = keep(channel, position).then(|| indices.next()).flatten() {
                *index = position as u16;
                count = count.wrapping_add(1);
            }
        }
        *end = count;
    }
}

/// Keeps deltas of an int8 site within what int8 weights on the base's scale can hold:
/// the sum of weight and delta stays in ±127 steps. A weight of −128 keeps that
/// as its lower limit, so that a delta of zero is always possible.
///
/// # Numerics
/// A value that is no number becomes the least.
pub(crate) fn keep_representable(site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
    let Some(scales) = site.scales() else { return };
    let keep = |scale: f32, code: i8, value: &mut f32| {
        let code = f32::from(code);
        let (low, high) = (least(0.0, -127.0 - code) * scale, (127.0 - code) * scale);
        *value = least(high, if *value > low { *value } else { low });
    };
    // Channels are innermost at depthwise sites, outermost at others: in the first case, runs of one element.
    let depthwise = site.desc.kind == SiteKind::Depthwise;
    let run = if depthwise { 1 } else { site.desc.row().max(1) };
    let runs = terms.dense.chunks_mut(run).zip(site.codes().unwrap_or(&[]).chunks(run));
    for ((values, codes), channel) in runs.zip((0..site.desc.out).cycle()) {
        let scale = scales.weight(channel);
        values.iter_mut().zip(codes).for_each(|(value, code)| keep(scale, *code, value));
    }
    let ends = terms.indptr.iter().zip(terms.indptr.iter().skip(1));
    for (channel, (start, end)) in ends.enumerate() {
        let range = *start as usize..*end as usize;
        let indices = terms.indices.get(range.clone()).unwrap_or(&[]);
        let values = terms.sparse.get_mut(range).unwrap_or_default();
        for (value, position) in values.iter_mut().zip(indices) {
            keep(scales.weight(channel), site.code(channel, *position as usize).unwrap_or(0), value);
        }
    }
}

/// The lesser, `limit` where `value` is no number: `f32::min` has no such order, and takes four instructions for this one.
fn least(limit: f32, value: f32) -> f32 {
    if value < limit { value } else { limit }
}

/// Every weight of a site: output channel and position in its row.
fn positions(site: &FrozenSite<'_>) -> impl Iterator<Item = (usize, usize)> {
    let row = site.desc.row();
    (0..site.desc.out).flat_map(move |channel| (0..row).map(move |position| (channel, position)))
}

/// The magnitude of the `count`-th largest weight, as bits, and how many of the
/// weights equal to it belong to the largest `count`.
///
/// The bits of non-negative floats are ordered as the floats are, so the value
/// is found bit by bit in 31 passes, without sorting and without memory.
fn threshold(site: &FrozenSite<'_>, count: usize) -> (u32, usize) {
    let at_least = |bits: u32| positions(site).filter(|(c, p)| magnitude(site, *c, *p) >= bits).count();
    let mut found = 0u32;
    for bit in (0..31).rev() {
        let candidate = found | 1 << bit;
        if at_least(candidate) >= count {
            found = candidate;
        }
    }
    (found, count.saturating_sub(at_least(found.saturating_add(1))))
}

fn magnitude(site: &FrozenSite<'_>, channel: usize, position: usize) -> u32 {
    site.weight(channel, position).abs().to_bits()
}

/// Positions in a row are stored in 16 bits.
pub(crate) const ROW_LIMIT: usize = 1 << 16;
