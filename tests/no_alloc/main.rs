//! Nothing allocates after bind, and nobody writes outside the memory that was asked for.
//!
//! One test per binary: the counter is global, so tests must not run beside each other.

#[path = "../support/mod.rs"]
mod support;

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::System;

use ingraft::adapter::{Adapter, AdapterBuilder, AdapterFacts, AdapterSet, TermSpec};
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{Host, Sites};
use ingraft::plan::{Phase, PlanView};
use support::{AlignedBytes, as_bytes};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GUARD: usize = 4096;
const GUARD_BYTE: u8 = 0xa5;

#[test]
fn inference_and_switches_stay_within_their_memory() {
    let mut options = CompileOptions { head_classes: 4, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    let compiled = compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles");
    let file = AlignedBytes::copy_of(&compiled.plan);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let adapter = affine(&plan);
    let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("one input");
    let input = vec![0.25f32; tensor.operand.shape.elements()];
    for target in targets() {
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs");
        let mut storage = AlignedBytes::zeroed(needs.total() + 2 * GUARD);
        storage.as_mut().fill(GUARD_BYTE);
        let (before, rest) = storage.as_mut().split_at_mut(GUARD);
        let (memory, after) = rest.split_at_mut(needs.total());
        let start = ALLOCATIONS.load(Ordering::SeqCst);
        let mut set = AdapterSet::<2>::new();
        let id = set.attach(adapter.as_slice(), &plan).expect("it fits");
        let mut session =
            Session::bind(plan, Phase::Infer, &target, memory).expect("exactly this much suffices");
        for round in 0..6 {
            set.switch((round % 2 == 0).then_some(id)).expect("resident");
            session.write_input(0, as_bytes(&input)).expect("fits");
            session.run(&set.active()).expect("runs");
        }
        let _ = Adapter::attach(&adapter.as_slice()[..64], &plan).expect_err("cut short");
        let allocated = ALLOCATIONS.load(Ordering::SeqCst) - start;
        assert_eq!(allocated, 0, "{}", ingraft::kernel::Target::name(&target));
        assert!(before.iter().chain(after.iter()).all(|b| *b == GUARD_BYTE), "a guard band was written");
        let less = &mut vec![0u128; needs.total() / 16 - 1];
        let less = zerocopy::IntoBytes::as_mut_bytes(less.as_mut_slice());
        assert!(Session::bind(plan, Phase::Infer, &target, less).is_err(), "one unit less must not suffice");
    }
}

fn targets() -> Vec<Host> {
    let mut targets = vec![Host::SCALAR];
    #[cfg(target_arch = "x86_64")]
    targets.extend(ingraft::x86_64::available());
    targets
}

/// An adapter that scales every site a little.
fn affine(plan: &PlanView<'_>) -> AlignedBytes {
    let mut builder = AdapterBuilder::new(plan);
    for index in 0..plan.site_count() {
        let site = plan.site(index).expect("index is below the count");
        builder.term(
            index,
            &site,
            TermSpec::Affine { scale: vec![1.1; site.out], shift: vec![0.0; site.out] },
        );
    }
    AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()))
}
