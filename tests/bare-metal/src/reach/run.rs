//! Binding and running a schedule.

use ingraft_adapter::{Adapter, AdapterSet, Base, HeadView, PatchedSite, TermSource};
use ingraft_exec::{ExecError, Session, StepEvent, Trace};
use ingraft_kernel::{SiteGrads, SiteTerms, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;

use super::{TARGET, Untrusted, keep};

/// Every call of a session, with adapters of a set.
pub(super) fn session(
    untrusted: &Untrusted<'_>,
    plan: PlanView<'_>,
    phase: Phase,
    set: &AdapterSet<'_, 2>,
    memory: &mut [u8],
) -> Result<(), ExecError> {
    let (number, target) = (untrusted.number, TARGET);
    let (scratch, arena) = memory.split_at_mut_checked(number).unwrap_or_default();
    let mut session = Session::bind(plan, phase, &target, arena)?;
    keep((session.needs().total(), session.plan().hash(), session.batch()));
    session.write_input(number, untrusted.bytes)?;
    session.run(&set.active())?;
    session.run_traced(&[set.active(), None], &mut Watch)?;
    let resident: [&dyn TermSource; 2] = [&set.active(), &Base];
    session.run_batch(&resident)?;
    session.read_output(number, scratch)?;
    keep(session.read_tensor(number as u32, scratch));
    keep(session.write_tensor(number as u32, untrusted.bytes));
    if let Some(values) = bytes::cast_mut(scratch) {
        keep(session.read_logits(number, values));
        keep(session.read_features(number as u32, number as u32, number, values));
        session.run_backward(number, &set.active(), grads(values, number), number as u32)?;
    }
    keep(session.tensor(number as u32));
    keep(session.tensor_mut(number as u32));
    keep(session.input_mut(number));
    keep(session.output(number));
    Ok(())
}

/// A sparse term written into a resident copy of a site, and out again.
pub(super) fn patched(
    untrusted: &Untrusted<'_>,
    plan: PlanView<'_>,
    phase: Phase,
    adapter: &Adapter<'_>,
    memory: &mut [u8],
) -> Option<()> {
    let (number, target) = (untrusted.number, TARGET);
    let (weight, rest) = memory.split_at_mut_checked(number)?;
    let (bias, arena) = rest.split_at_mut_checked(number)?;
    let mut log = [0; 16];
    let desc = plan.site(number)?;
    let (weight, bias) = (bytes::cast_mut(weight)?, bytes::cast_mut(bias)?);
    let mut site = PatchedSite::new(&desc, number as i32, weight, bias, log.get_mut(..number)?).ok()?;
    site.apply(&adapter.terms(number).sparse?).ok()?;
    let mut session = Session::bind(plan, phase, &target, arena).ok()?;
    keep(session.run(&Resident { site: &site, index: number, head: adapter.head() }));
    site.revert();
    keep(site.patched());
    Some(())
}

struct Resident<'r> {
    site: &'r PatchedSite<'r>,
    index: usize,
    head: Option<HeadView<'r>>,
}

impl TermSource for Resident<'_> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let patched = (index == self.index).then(|| self.site.patched());
        SiteTerms { patched, ..SiteTerms::NONE }
    }

    fn head(&self) -> Option<HeadView<'_>> {
        self.head
    }
}

struct Watch;

impl Trace<[u8]> for Watch {
    fn before(&mut self, event: StepEvent<'_, '_>) {
        keep((event.index, event.view.name, event.step.op));
    }

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) {
        keep((event.index, memory));
    }
}

/// `values` cut into gradients of every part.
fn grads(values: &mut [f32], len: usize) -> SiteGrads<'_> {
    let mut parts = values.chunks_mut(len.max(1));
    SiteGrads {
        down: parts.next(),
        up: parts.next(),
        sparse: parts.next(),
        scale: parts.next(),
        shift: parts.next(),
        dense: parts.next(),
    }
}
