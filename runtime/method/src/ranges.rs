//! Measuring the rank-space values that integer factors have to hold.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_adapter::TermSource;
use ingraft_exec::{StepEvent, Trace};
use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Factors, Place, Sites, Span, Target};
use ingraft_tensor::{DType, bytes};
use ingraft_train::Trainer;

/// The largest `|A·x|` of each rank row, at every int8 site with a two-factor term.
///
/// A trace: hand it to [`Trainer::forward`] for each training clip, then to
/// [`crate::export`]; on a target with memory of its own, [`Ranges::on`] it. It keeps a copy of the factors A as they were when it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges {
    sites: Vec<SiteRange>,
    patch: Vec<i8>,
}

#[derive(Clone, Debug, PartialEq)]
struct SiteRange {
    site: u32,
    rank: usize,
    /// A by group, then by rows in sets of [`LANES`], with zeros behind the last, then by column.
    down: Vec<[f32; LANES]>,
    peaks: Vec<f32>,
}

/// Rows of A that are summed side by side, each in the order of its columns.
const LANES: usize = 8;

impl Ranges {
    /// Nothing measured yet, for the present parameters of `trainer`.
    pub fn new<T: Target>(trainer: &mut Trainer<'_, '_, T>) -> Self {
        let plan = *trainer.plan();
        let parameters = trainer.parameters();
        let sites = parameters.sites().filter_map(|site| {
            let term = parameters.terms(site as usize).two_factor?;
            let Factors::F32 { down, .. } = term.factors else { return None };
            let desc = plan.site(site as usize)?;
            (desc.dtype == DType::I8).then(|| SiteRange::new(site, (desc.groups, term.rank), down))
        });
        Self { sites: sites.collect(), patch: Vec::new() }
    }

    /// The peaks of site `site`, `[groups · rank]`, in real units; `None` where nothing was to be measured.
    pub fn peaks(&self, site: u32) -> Option<&[f32]> {
        self.sites.iter().find(|range| range.site == site).map(|range| &*range.peaks)
    }

    /// The same as a trace on `target`, whose memory the host need not address.
    pub fn on<'r, T: Target>(&'r mut self, target: &'r T) -> RangesOn<'r, T> {
        RangesOn { ranges: self, target, codes: Vec::new() }
    }

    fn measures(&self, event: StepEvent<'_, '_>) -> bool {
        event.view.site.is_some_and(|site| self.sites.iter().any(|range| range.site == site))
    }

    fn measure<'c>(
        &mut self,
        event: StepEvent<'_, '_>,
        read: impl FnOnce(Span) -> Option<&'c [u8]>,
    ) -> Option<()> {
        let site = event.view.site?;
        let range = self.sites.iter_mut().find(|range| range.site == site)?;
        let attrs: &QConvAttrs = event.step.attrs().ok()?;
        let (input, output) = (event.step.input(0).ok()?, event.step.output(0).ok()?);
        let codes: &[i8] = match input.place {
            Place::Memory(span) => bytes::cast(read(span)?)?,
            Place::Plan(bytes) => bytes::cast(bytes)?,
        };
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input.shape, output.shape)?;
        self.patch.resize(shape.row(), 0);
        let zero = attrs.in_zero_point;
        shape
            .for_each_pixel(|_, pixel| {
                for group in 0..shape.groups {
                    let patch = shape.patch(codes, zero as i8, pixel, group, &mut self.patch).ok_or(())?;
                    range.raise(group, patch, (zero, attrs.in_scale));
                }
                Ok::<(), ()>(())
            })
            .ok()
    }
}

impl SiteRange {
    /// Nothing measured yet of factors `down`, `[groups, rank, row]`.
    fn new(site: u32, (groups, rank): (usize, usize), down: &[f32]) -> Self {
        let peaks = vec![0.0; groups * rank];
        let row = down.len() / peaks.len().max(1);
        let sets = down.chunks((rank * row).max(1)).flat_map(|group| group.chunks((LANES * row).max(1)));
        let column = |set: &[f32], column| {
            let lane = |lane: usize| set.get(lane * row + column).copied().unwrap_or(0.0);
            core::array::from_fn(lane)
        };
        let down = sets.flat_map(|set| (0..row).map(move |at| column(set, at))).collect();
        Self { site, rank, down, peaks }
    }

    /// Raises the peaks of `group` to what `patch` gives, of codes with this zero point and step.
    fn raise(&mut self, group: usize, patch: &[i8], (zero, step): (i32, f32)) {
        let sets = self.rank.div_ceil(LANES);
        let own = self.down.chunks_exact(patch.len().max(1)).skip(group * sets);
        let peaks = self.peaks.chunks_mut(self.rank.max(1)).nth(group).unwrap_or_default();
        for (set, peaks) in own.zip(peaks.chunks_mut(LANES)) {
            let mut sums = [0.0; LANES];
            for (code, column) in patch.iter().zip(set) {
                let x = (i32::from(*code) - zero) as f32;
                sums.iter_mut().zip(column).for_each(|(sum, a)| *sum += a * x);
            }
            for (peak, sum) in peaks.iter_mut().zip(sums) {
                *peak = peak.max((sum * step).abs());
            }
        }
    }
}

impl Trace<[u8]> for Ranges {
    fn before(&mut self, _: StepEvent<'_, '_>) {}

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) {
        // Steps without a measured site are of no interest.
        let _ = self.measure(event, |span| memory.get(span.offset..span.end()));
    }
}

/// [`Ranges`] on a target ([`Ranges::on`]).
#[derive(Debug)]
pub struct RangesOn<'r, T> {
    ranges: &'r mut Ranges,
    target: &'r T,
    codes: Vec<u8>,
}

impl<T: Target> Trace<T::Memory> for RangesOn<'_, T> {
    fn before(&mut self, _: StepEvent<'_, '_>) {}

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &T::Memory) {
        if !self.ranges.measures(event) {
            return;
        }
        let Self { ranges, target, codes } = self;
        // What cannot be read now fails in the next run.
        let _ = ranges.measure(event, |span| {
            codes.resize(span.len, 0);
            target.read(memory, span.offset, codes)?;
            Some(codes)
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ingraft_tensor::Rng;

    use super::SiteRange;

    /// Ranks that fill a set and that do not, in two groups: as row by row in plain loops, to the bit.
    #[test]
    fn peaks_are_those_of_every_row_by_itself() {
        let mut rng = Rng::new(5);
        for (rank, row) in [(1, 1), (3, 7), (8, 16), (11, 5)] {
            let groups = 2;
            let down: Vec<f32> = (0..groups * rank * row).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
            let mut range = SiteRange::new(0, (groups, rank), &down);
            let mut wanted = alloc::vec![0.0f32; groups * rank];
            for _ in 0..4 {
                for group in 0..groups {
                    let patch: Vec<i8> = (0..row).map(|_| rng.next_u64() as i8).collect();
                    range.raise(group, &patch, (-3, 0.25));
                    for (at, peak) in wanted.iter_mut().enumerate().skip(group * rank).take(rank) {
                        let products = down[at * row..][..row].iter().zip(&patch);
                        let sum = products.fold(0.0, |sum, (a, x)| sum + a * (i32::from(*x) + 3) as f32);
                        *peak = peak.max((sum * 0.25).abs());
                    }
                }
            }
            assert_eq!(range.peaks, wanted, "rank {rank}, row {row}");
            assert!(wanted.iter().all(|peak| *peak > 0.0));
        }
    }
}
