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
    down: Vec<f32>,
    peaks: Vec<f32>,
}

impl Ranges {
    /// Nothing measured yet, for the present parameters of `trainer`.
    pub fn new<T: Target>(trainer: &mut Trainer<'_, '_, T>) -> Self {
        let plan = *trainer.plan();
        let parameters = trainer.parameters();
        let sites = parameters.sites().filter_map(|site| {
            let term = parameters.terms(site as usize).two_factor?;
            let Factors::F32 { down, .. } = term.factors else { return None };
            let desc = plan.site(site as usize)?;
            let peaks = vec![0.0; desc.groups * term.rank];
            (desc.dtype == DType::I8).then(|| SiteRange { site, rank: term.rank, down: down.to_vec(), peaks })
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
                    range.raise(group, patch, attrs);
                }
                Ok::<(), ()>(())
            })
            .ok()
    }
}

impl SiteRange {
    /// Raises the peaks of `group` to what `patch` gives.
    fn raise(&mut self, group: usize, patch: &[i8], attrs: &QConvAttrs) {
        let first = group * self.rank;
        let rows = self.down.chunks_exact(patch.len().max(1)).zip(&mut self.peaks);
        for (row, peak) in rows.skip(first).take(self.rank) {
            let codes = patch.iter().map(|x| (i32::from(*x) - attrs.in_zero_point) as f32);
            let value = row.iter().zip(codes).map(|(a, x)| a * x).sum::<f32>() * attrs.in_scale;
            *peak = peak.max(value.abs());
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
