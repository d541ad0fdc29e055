//! How often the outputs of adapted sites reach the ends of their range.

use alloc::vec::Vec;

use ingraft_exec::{StepEvent, Trace};
use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::{Place, Target};
use ingraft_tensor::{DType, bytes};
use ingraft_train::Trainer;

/// The share of output codes at an end of int8, at every trained int8 site.
///
/// Output ranges were calibrated without an adapter, so one that enlarges
/// activations is clipped. A trace: hand it to [`Trainer::forward`] for some
/// clips. What a rectifier cuts off at real zero is not counted; a clipped
/// activation such as Relu6 is, so compare with the rates before training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saturation {
    sites: Vec<Count>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Count {
    site: u32,
    reached: u64,
    total: u64,
}

impl Saturation {
    /// Nothing counted yet, at the sites that `trainer` trains.
    pub fn new<T: Target>(trainer: &Trainer<'_, '_, T>) -> Self {
        let sites = trainer.sites();
        Self { sites: sites.map(|site| Count { site, reached: 0, total: 0 }).collect() }
    }

    /// The share at each site where anything was counted, in order of the site.
    pub fn rates(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let counted = self.sites.iter().filter(|count| count.total != 0);
        counted.map(|count| (count.site, count.reached as f64 / count.total as f64))
    }

    fn count(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) -> Option<()> {
        let site = event.view.site?;
        let count = self.sites.iter_mut().find(|count| count.site == site)?;
        let attrs: &QConvAttrs = event.step.attrs().ok()?;
        let output = event.step.output(0).ok().filter(|output| output.dtype == DType::I8)?;
        let Place::Memory(span) = output.place else { return None };
        let codes: &[i8] = bytes::cast(memory.get(span.offset..span.end())?)?;
        let lowest = attrs.out_zero_point > i32::from(i8::MIN);
        let ends = codes.iter().filter(|code| **code == i8::MAX || lowest && **code == i8::MIN);
        count.reached += ends.count() as u64;
        count.total += codes.len() as u64;
        Some(())
    }
}

impl Trace<[u8]> for Saturation {
    fn before(&mut self, _: StepEvent<'_, '_>) {}

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) {
        // Steps without a trained site are of no interest.
        let _ = self.count(event, memory);
    }
}
