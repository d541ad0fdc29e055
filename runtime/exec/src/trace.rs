//! Watching a run from outside.

use ingraft_kernel::Step;
use ingraft_plan::StepView;

/// A step that is about to run, or has run.
#[derive(Clone, Copy, Debug)]
pub struct StepEvent<'e, 'a> {
    /// Index in the schedule.
    pub index: usize,
    /// The plan's record.
    pub view: &'e StepView<'a>,
    /// The step with operands.
    pub step: &'e Step<'a>,
}

/// Called around every step; for profiles and dumps of intermediate tensors.
pub trait Trace<M: ?Sized> {
    /// Whether it looks at single steps, so that none may be run as part of a whole.
    fn watches(&self) -> bool {
        true
    }
    /// Before the step.
    fn before(&mut self, event: StepEvent<'_, '_>);
    /// After the step, with the memory it wrote to.
    fn after(&mut self, event: StepEvent<'_, '_>, memory: &M);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl<M: ?Sized> Trace<M> for Silent {
    fn watches(&self) -> bool {
        false
    }

    fn before(&mut self, _: StepEvent<'_, '_>) {}
    fn after(&mut self, _: StepEvent<'_, '_>, _: &M) {}
}
