//! What goes wrong on a device, in its target and memory: the documented error, and the base runs on as if nothing had
//! been. Power cuts are in `runtime/store/tests/flash`; these, a cut and late samples on an emulated core in
//! `targets/cortex-m/firmware`.

use ingraft::adapter::{Adapter, AdapterError, AdapterSet, SetError};
use ingraft::exec::{ExecError, MemoryNeeds, Session};
use ingraft::kernel::{Host, NO_SITE, Sites};
use ingraft::method::Head;
use ingraft::plan::{Limits, Phase, PlanError, PlanView, Resource};
use ingraft::tensor::bytes;
use ingraft::train::{AdamW, LearningRate, Readout, Setup, TrainError, Trainer};

use crate::support::{AlignedBytes, Lcg};
use crate::{adapter, plan_file};

const TARGET: Host = ingraft_cortex_m::dsp();

/// A device that runs the base: its output for one input.
struct Device {
    file: AlignedBytes,
    input: Vec<f32>,
}

impl Device {
    fn new() -> Self {
        let file = AlignedBytes::copy_of(&plan_file());
        let plan = PlanView::new(file.as_slice()).expect("valid");
        let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("an input");
        let mut random = Lcg::new(4);
        let input = (0..tensor.operand.shape.elements()).map(|_| random.real() * 4.0 - 2.0).collect();
        Self { file, input }
    }

    fn plan(&self) -> PlanView<'_> {
        PlanView::new(self.file.as_slice()).expect("valid")
    }

    /// What `set` makes of the input in `memory`.
    fn run(&self, set: &AdapterSet<'_, 2>, memory: &mut [u8]) -> Vec<u8> {
        let mut session = Session::bind(self.plan(), Phase::Infer, &TARGET, memory).expect("it binds");
        session.write_input(0, bytes::of(&self.input)).expect("it fits");
        session.run(&set.active()).expect("it runs");
        session.output(0).expect("an output").bytes().to_vec()
    }

    fn needed(&self) -> usize {
        MemoryNeeds::new(&self.plan(), Phase::Infer, &TARGET).expect("it runs").total()
    }
}

#[test]
fn one_flipped_bit_of_a_plan_is_told() {
    let device = Device::new();
    let whole = device.file.as_slice();
    let mut random = Lcg::new(5);
    let places = (0..48).chain((0..200).map(|_| random.below(whole.len()))).collect::<Vec<_>>();
    for at in places {
        let mut damaged = AlignedBytes::copy_of(whole);
        damaged.as_mut()[at] ^= 1 << (at % 8);
        let error = PlanView::new(damaged.as_slice()).expect_err("damaged");
        let told = match at {
            0..8 => error == PlanError::NotAPlan,
            8..12 => matches!(error, PlanError::Version(_)),
            12..16 => error == PlanError::Length,
            _ => error == PlanError::Hash,
        };
        assert!(told, "byte {at}: {error}");
    }
}

#[test]
fn what_a_plan_declares_beyond_the_limits_is_refused_by_its_header() {
    let device = Device::new();
    let (plan, none) = (device.plan(), Limits::NONE);
    let [infer, train] = [Phase::Infer, Phase::Train];
    let larger = if plan.arena_bytes(infer) > plan.arena_bytes(train) { infer } else { train };
    // A damaged hash: whatever is said of limits was said before it was read.
    let mut damaged = AlignedBytes::copy_of(plan.bytes());
    damaged.as_mut()[20] ^= 1;
    for (wanted, declared, limits) in [
        (
            Resource::FileBytes,
            plan.bytes().len(),
            (|limit| Limits { file_bytes: limit, ..Limits::NONE }) as fn(u32) -> _,
        ),
        (Resource::ArenaBytes(larger), plan.arena_bytes(larger), |limit| Limits {
            arena_bytes: limit,
            ..Limits::NONE
        }),
        (Resource::Steps(train), plan.step_count(train), |limit| Limits { steps: limit, ..Limits::NONE }),
        (Resource::Tensors, plan.tensor_count(), |limit| Limits { tensors: limit, ..Limits::NONE }),
        (Resource::Sites, plan.site_count(), |limit| Limits { sites: limit, ..Limits::NONE }),
    ] {
        let declared = declared as u32;
        let refused =
            PlanView::within(damaged.as_slice(), &limits(declared - 1)).expect_err("beyond the limit");
        assert_eq!(refused, PlanError::Limit { resource: wanted, declared, limit: declared - 1 });
        assert!(PlanView::within(plan.bytes(), &limits(declared)).is_ok(), "{wanted:?} at the limit");
        assert_eq!(
            PlanView::within(damaged.as_slice(), &limits(declared)).expect_err("damaged"),
            PlanError::Hash
        );
    }
    assert!(PlanView::within(plan.bytes(), &none).is_ok());
}

#[test]
fn a_damaged_adapter_leaves_the_one_in_use() {
    let device = Device::new();
    let plan = device.plan();
    let file = AlignedBytes::copy_of(&adapter(&plan));
    let mut memory = AlignedBytes::zeroed(device.needed());
    let mut set = AdapterSet::<2>::new();
    let base = device.run(&set, memory.as_mut());
    let id = set.attach(file.as_slice(), &plan).expect("it fits");
    set.switch(Some(id)).expect("it is there");
    let adapted = device.run(&set, memory.as_mut());
    assert_ne!(base, adapted);
    let mut random = Lcg::new(6);
    let places = (0..48).chain((0..200).map(|_| random.below(file.as_slice().len())));
    let mut damaged = places
        .map(|at| {
            let mut damaged = AlignedBytes::copy_of(file.as_slice());
            damaged.as_mut()[at] ^= 1 << (at % 8);
            (at, damaged)
        })
        .collect::<Vec<_>>();
    damaged.push((0, AlignedBytes::zeroed(64)));
    for (at, damaged) in &damaged {
        let Err(SetError::Adapter(error)) = set.attach(damaged.as_slice(), &plan) else {
            panic!("byte {at}: attached")
        };
        let told = match at {
            0..8 => error == AdapterError::NotAnAdapter,
            8..12 => matches!(error, AdapterError::Version(_)),
            12..16 => error == AdapterError::Length,
            _ => error == AdapterError::Hash,
        };
        assert!(told, "byte {at}: {error}");
    }
    assert_eq!(device.run(&set, memory.as_mut()), adapted);
    set.switch(None).expect("the base is always there");
    assert_eq!(device.run(&set, memory.as_mut()), base);
    assert!(Adapter::attach(file.as_slice(), &plan).is_ok());
}

#[test]
fn one_byte_too_few_is_told_with_the_number() {
    let device = Device::new();
    let (plan, needed) = (device.plan(), device.needed());
    let mut memory = AlignedBytes::zeroed(needed + 16);
    let memory = memory.as_mut();
    let set = AdapterSet::<2>::new();
    let base = device.run(&set, &mut memory[..needed]);
    let short = Session::bind(plan, Phase::Infer, &TARGET, &mut memory[..needed - 1]);
    assert_eq!(short.err(), Some(ExecError::MemoryTooSmall { needed, supplied: needed - 1 }));
    let crooked = Session::bind(plan, Phase::Infer, &TARGET, &mut memory[1..needed + 1]);
    assert_eq!(crooked.err(), Some(ExecError::MemoryTooSmall { needed, supplied: 0 }));
    let setup = head();
    let needed = Trainer::memory(&plan, &TARGET, &setup).expect("a head trains").total();
    let mut room = AlignedBytes::zeroed(needed);
    let short = Trainer::bind(plan, &TARGET, setup, &mut room.as_mut()[..needed - 1]);
    assert_eq!(short.err(), Some(TrainError::MemoryTooSmall { needed, supplied: needed - 1 }));
    assert!(Trainer::bind(plan, &TARGET, setup, room.as_mut()).is_ok());
    let needed = device.needed();
    assert_eq!(device.run(&set, &mut memory[..needed]), base);
}

/// A head alone, as firmware trains it.
fn head() -> Setup<'static> {
    let rate = LearningRate { rate: 1e-2, weight_decay: 0.0 };
    Setup {
        seed: 1,
        ..Setup::new(&Head, &[], Readout::Head { site: NO_SITE, pool: 0, classes: 4 }, &AdamW::DEFAULT, rate)
    }
}
