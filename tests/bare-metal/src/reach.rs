//! Calls everything that firmware can call, on input the compiler knows nothing
//! about. It is linked to see what can panic, never run: results are kept, not used.

mod learn;
mod listen;
mod run;
mod store;

use core::hint::black_box;

use ingraft_adapter::{Adapter, AdapterSet, Encoder, FileFacts};
use ingraft_exec::MemoryNeeds;
use ingraft_kernel::{Host, Sites, Target};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::hash::blake3;

/// What comes from outside: files, samples, labels, indices.
#[derive(Clone, Copy, Debug)]
pub struct Untrusted<'a> {
    /// A plan, perhaps.
    pub plan: &'a [u8],
    /// An adapter, perhaps.
    pub adapter: &'a [u8],
    /// Input of any kind.
    pub bytes: &'a [u8],
    /// An index, a length, a choice.
    pub number: usize,
}

/// The kernels that firmware of this core has, and those of the reference for all else.
const TARGET: Host = ingraft_cortex_m::native();
/// Both schedules of a plan.
const PHASES: [Phase; 2] = [Phase::Infer, Phase::Train];

/// Every interface of the device crates.
pub fn everything(untrusted: &Untrusted<'_>, memory: &mut [u8]) {
    keep(blake3(untrusted.bytes));
    listen::patches(untrusted, memory);
    listen::stream(untrusted, memory);
    keep(store::store(untrusted, memory));
    let Ok(plan) = PlanView::new(untrusted.plan) else { return };
    questions(untrusted, &plan);
    let Ok(adapter) = Adapter::attach(untrusted.adapter, &plan) else { return };
    answers(&adapter);
    keep(Encoder::new(&plan, &adapter, FileFacts::default()).write(memory).is_ok());
    let set = switches(untrusted, &plan);
    for phase in PHASES {
        keep(run::session(untrusted, plan, phase, &set, memory));
        keep(run::patched(untrusted, plan, phase, &adapter, memory));
    }
    keep(learn::trainer(untrusted, plan, memory));
}

/// Makes the optimizer believe that `value` is needed.
fn keep<T>(value: T) {
    black_box(value);
}

/// Everything a plan answers.
fn questions(untrusted: &Untrusted<'_>, plan: &PlanView<'_>) {
    let number = untrusted.number;
    keep((plan.bytes(), plan.hash(), plan.model_name(), plan.float_nodes()));
    keep((plan.can_train(), plan.train_cut(), plan.train_backward()));
    for phase in PHASES {
        keep((plan.arena_bytes(phase), plan.lower_bound_bytes(phase), plan.step_count(phase)));
        keep((plan.features(phase), plan.logits(phase), plan.head_source(phase, number as u32)));
        keep((plan.step(phase, number), plan.site_tensors(phase, number)));
        let step = plan.resolve(phase, number).and_then(|step| step.sample(number, number));
        keep(step.and_then(|step| TARGET.kernel_name(&step)));
        keep(MemoryNeeds::new(plan, phase, &TARGET));
    }
    keep((plan.tensor_count(), plan.tensor(number as u32), plan.site_count(), plan.site(number)));
    keep((plan.site_is_late(number), plan.site_diagonals(number)));
    keep((plan.head_classes(), plan.head_features(number as u32, number as u32)));
    plan.io().for_each(keep);
}

/// Everything an adapter answers.
fn answers(adapter: &Adapter<'_>) {
    keep((adapter.hash(), adapter.base_hash(), adapter.method(), adapter.hyper()));
    keep((adapter.provenance(), adapter.file_bytes()));
    adapter.sites().for_each(keep);
}

/// A set through its whole life, with one adapter left in it.
fn switches<'a>(untrusted: &Untrusted<'a>, plan: &PlanView<'_>) -> AdapterSet<'a, 2> {
    let mut set = AdapterSet::new();
    let first = set.attach(untrusted.adapter, plan);
    let second = set.attach(untrusted.adapter, plan);
    for id in [first, second].into_iter().flatten() {
        keep((set.switch(Some(id)), set.find(id).is_some(), set.active().is_some()));
    }
    keep(first.and_then(|id| set.detach(id)));
    keep(set.iter().count());
    keep(set.switch(None));
    keep(second.and_then(|id| set.switch(Some(id))));
    set
}
