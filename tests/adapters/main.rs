//! Attach, switch, detach: what an adapter may change and what it never does.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/targets.rs"]
mod targets;

mod build;
mod encoded;
mod methods;
mod mixture;
mod norms;
mod refusal;
mod resident;
mod stacked;
mod steps;
mod switches;
mod tables;
mod term;

use ingraft::adapter::{Adapter, AdapterSet, Base, SetError};
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::Host;
use ingraft::plan::{Phase, PlanView};
use support::{AlignedBytes, Lcg, as_bytes, infer};

/// The built-in base with room for a head and a batch of `batch`.
pub(crate) fn base(batch: usize) -> AlignedBytes {
    let mut options = CompileOptions { head_classes: 8, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), batch);
    let compiled = compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles");
    AlignedBytes::copy_of(&compiled.plan)
}

/// One input per sample of the batch.
pub(crate) fn input(plan: &PlanView<'_>, seed: u64) -> Vec<f32> {
    let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("one input");
    let mut random = Lcg::new(seed);
    (0..tensor.operand.shape.elements()).map(|_| random.real() * 4.0 - 2.0).collect()
}

#[test]
fn an_empty_adapter_is_the_base() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 1);
    let wanted = infer(plan, &Host::SCALAR, &[as_bytes(&x)], &Base);
    for (name, terms) in build::zero_terms(&plan) {
        let adapter = build::adapter(&plan, &terms);
        let adapter = Adapter::attach(adapter.as_slice(), &plan).expect("it fits");
        let found = infer(plan, &Host::SCALAR, &[as_bytes(&x)], &adapter);
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn ten_thousand_switches_lead_back_to_the_base() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 2);
    let target = Host::SCALAR;
    let wanted = infer(plan, &target, &[as_bytes(&x)], &Base);
    let files: Vec<AlignedBytes> =
        (0..4).map(|seed| build::adapter(&plan, &build::random_terms(&plan, seed))).collect();
    let mut set = AdapterSet::<4>::new();
    let ids: Vec<_> = files.iter().map(|f| set.attach(f.as_slice(), &plan).expect("it fits")).collect();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
    let mut outputs: Vec<Option<Vec<u8>>> = vec![None; ids.len() + 1];
    let mut random = Lcg::new(3);
    for switch in 0..10_000 {
        let choice = random.below(ids.len() + 1);
        set.switch(ids.get(choice).copied()).expect("resident");
        // Running costs far more than switching; every switch counts, some are looked at.
        if switch % 250 == 0 {
            session.write_input(0, as_bytes(&x)).expect("fits");
            session.run(&set.active()).expect("runs");
            let found = session.output(0).expect("output").bytes().to_vec();
            let first = outputs[choice].get_or_insert_with(|| found.clone());
            assert_eq!(first, &found, "choice {choice} after {switch} switches");
        }
    }
    set.switch(None).expect("the base is always there");
    session.write_input(0, as_bytes(&x)).expect("fits");
    session.run(&set.active()).expect("runs");
    assert_eq!(session.output(0).expect("output").bytes(), wanted[0]);
    let different = outputs.iter().flatten().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(different.len(), ids.len() + 1, "adapters must differ from each other and the base");
}

#[test]
fn detached_handles_find_nothing() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let one = build::adapter(&plan, &build::random_terms(&plan, 1));
    let mut set = AdapterSet::<1>::new();
    let id = set.attach(one.as_slice(), &plan).expect("it fits");
    assert_eq!(set.attach(one.as_slice(), &plan), Err(SetError::Full));
    set.switch(Some(id)).expect("resident");
    set.detach(id).expect("resident");
    assert!(set.active().is_none());
    assert_eq!(set.switch(Some(id)), Err(SetError::Gone));
    let again = set.attach(one.as_slice(), &plan).expect("the slot is free");
    assert_ne!(again, id);
    assert!(set.find(id).is_none());
}

#[test]
fn every_sample_of_a_batch_may_have_its_own_adapter() {
    let single = base(1);
    let batched = base(3);
    let one = PlanView::new(single.as_slice()).expect("valid");
    let three = PlanView::new(batched.as_slice()).expect("valid");
    let x = input(&three, 5);
    let sample = x.len() / 3;
    let target = Host::SCALAR;
    // The batch size is part of a base's hash, so each plan has adapters of its own.
    let adapters =
        |plan: &PlanView<'_>| [7, 8].map(|seed| build::adapter(plan, &build::random_terms(plan, seed)));
    let (files_one, files_three) = (adapters(&one), adapters(&three));
    let attach = |plan: &PlanView<'_>, file: &AlignedBytes| {
        Adapter::attach(file.as_slice(), plan).map(|a| a.method().to_owned()).expect("it fits")
    };
    assert_eq!(attach(&one, &files_one[0]), attach(&three, &files_three[0]));
    let a_one = Adapter::attach(files_one[0].as_slice(), &one).expect("fits");
    let b_one = Adapter::attach(files_one[1].as_slice(), &one).expect("fits");
    let a_three = Adapter::attach(files_three[0].as_slice(), &three).expect("fits");
    let b_three = Adapter::attach(files_three[1].as_slice(), &three).expect("fits");
    let needs = MemoryNeeds::new(&three, Phase::Infer, &target).expect("runs");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(three, Phase::Infer, &target, memory.as_mut()).expect("binds");
    session.write_input(0, as_bytes(&x)).expect("fits");
    session.run_batch(&[Some(a_three), None, Some(b_three)]).expect("runs");
    let found = session.output(0).expect("output").bytes().to_vec();
    for (i, adapter) in [Some(a_one), None, Some(b_one)].iter().enumerate() {
        let row = &x[i * sample..(i + 1) * sample];
        let wanted = infer(one, &target, &[as_bytes(row)], adapter);
        let len = wanted[0].len();
        assert_eq!(found[i * len..(i + 1) * len], wanted[0], "sample {i}");
    }
}
