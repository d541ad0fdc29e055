//! Inferences of the counted model, or training steps of a head on it, as the command line says:
//! `count TARGET SOURCE RUNS`.
//!
//! Two runs that differ in one word differ in the instructions of what that word adds; see `benches/instructions/mcu`.
#![no_std]
#![no_main]

mod stack;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use ingraft_adapter::AdapterSet;
use ingraft_bare_metal::command::{command_line, target};
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::flash::{
    Aligned, COUNT_BYTES, COUNT_CLASSES, COUNT_FEATURES, COUNT_INPUT, COUNT_LOW_RANK, COUNT_MACS,
    COUNT_OUTPUT, COUNT_PLAN, COUNT_RANK_2, COUNT_SPARSE,
};
use ingraft_bare_metal::learn;
use ingraft_exec::Session;
use ingraft_kernel::{Host, Target};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::hash::blake3;
use ingraft_train::{Clip, Trainer, Truth};

use stack::Painted;

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; COUNT_BYTES]> = Aligned([0; COUNT_BYTES]);
    let mut buffer = [0; 128];
    let done = command_line(&mut buffer).and_then(|line| run(line, &mut MEMORY.0));
    finish(done.is_some())
}

fn run(line: &str, memory: &mut [u8]) -> Option<()> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (target, source, runs) = (target(words.next()?)?, words.next()?, words.next()?.parse().ok()?);
    let plan = PlanView::new(&COUNT_PLAN.0).ok()?;
    if source == "train" {
        train(plan, &target, runs, memory)
    } else {
        infer(plan, &target, (source, runs), memory)
    }
}

fn infer(plan: PlanView<'_>, target: &Host, (source, runs): (&str, u32), memory: &mut [u8]) -> Option<()> {
    let painted = Painted::new();
    let mut adapters = AdapterSet::<3>::new();
    let rank_2 = adapters.attach(&COUNT_RANK_2.0, &plan).ok()?;
    let low_rank = adapters.attach(&COUNT_LOW_RANK.0, &plan).ok()?;
    let sparse = adapters.attach(&COUNT_SPARSE.0, &plan).ok()?;
    let mut session = Session::bind(plan, Phase::Infer, target, memory).ok()?;
    let adapter = match source {
        "rank-2" => Some(rank_2),
        "rank-4" | "switch" => Some(low_rank),
        "sparse" => Some(sparse),
        _ => None,
    };
    adapters.switch(adapter).ok()?;
    for _ in 0..runs {
        if source == "switch" {
            adapters.switch(None).ok()?;
            adapters.switch(adapter).ok()?;
            continue;
        }
        session.write_input(0, &COUNT_INPUT.0).ok()?;
        session.run(&adapters.active()).ok()?;
    }
    let depth = painted.depth();
    let [a, b, c, d, ..] = blake3(session.output(0)?.bytes());
    let output = u32::from_be_bytes([a, b, c, d]);
    if matches!(source, "base") && output != COUNT_OUTPUT {
        hprintln!("the host's reference computes {:08x}", COUNT_OUTPUT);
        return None;
    }
    let (needed, least) = (session.needs().total(), plan.lower_bound_bytes(Phase::Infer));
    hprintln!("target={} plan={} ram={} least={}", target.name(), COUNT_PLAN.0.len(), needed, least);
    hprintln!("macs={} stack={} output={:08x}", COUNT_MACS, depth, output);
    Some(())
}

/// Steps of a head, each on the features of one clip.
fn train(plan: PlanView<'_>, target: &Host, runs: u32, memory: &mut [u8]) -> Option<()> {
    let painted = Painted::new();
    let setup = learn::setup(COUNT_CLASSES);
    let needed = Trainer::memory(&plan, target, &setup).ok()?.total();
    let mut trainer = Trainer::bind(plan, target, setup, memory).ok()?;
    let mut features = [0.0; COUNT_FEATURES];
    trainer.features(Clip::Inputs(&COUNT_INPUT.0), &mut features).ok()?;
    trainer.observe(Clip::Features(&features)).ok()?;
    trainer.standardize();
    for _ in 0..runs {
        trainer.accumulate(Clip::Features(&features), Truth::Class(0)).ok()?;
        trainer.step().ok()?;
    }
    hprintln!("target={} ram={} stack={}", target.name(), needed, painted.depth());
    Some(())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
