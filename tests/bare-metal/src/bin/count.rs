//! Inferences of the counted model, as the command line says: `count TARGET SOURCE RUNS`.
//!
//! Two runs that differ in one word differ in the instructions of what that word adds; see `benches/instructions/mcu`.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::nr::GET_CMDLINE;
use cortex_m_semihosting::{hprintln, syscall1};
use ingraft_adapter::AdapterSet;
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::flash::{
    Aligned, COUNT_BYTES, COUNT_INPUT, COUNT_LOW_RANK, COUNT_MACS, COUNT_PLAN, COUNT_SPARSE,
};
use ingraft_cortex_m::{dsp, helium, native, portable};
use ingraft_exec::Session;
use ingraft_kernel::{Host, Target};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::hash::blake3;

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
    let mut adapters = AdapterSet::<2>::new();
    let low_rank = adapters.attach(&COUNT_LOW_RANK.0, &plan).ok()?;
    let sparse = adapters.attach(&COUNT_SPARSE.0, &plan).ok()?;
    let mut session = Session::bind(plan, Phase::Infer, &target, memory).ok()?;
    let adapter = match source {
        "low-rank" | "switch" => Some(low_rank),
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
    let [a, b, c, d, ..] = blake3(session.output(0)?.bytes());
    let (needed, least) = (session.needs().total(), plan.lower_bound_bytes(Phase::Infer));
    hprintln!("target={} plan={} ram={} least={}", target.name(), COUNT_PLAN.0.len(), needed, least);
    hprintln!("macs={} output={:08x}", COUNT_MACS, u32::from_be_bytes([a, b, c, d]));
    Some(())
}

fn target(name: &str) -> Option<Host> {
    Some(match name {
        "scalar" => Host::SCALAR,
        "portable" => portable(),
        "dsp" => dsp(),
        "helium" => helium(),
        "native" => native(),
        _ => return None,
    })
}

/// What the host says behind `-semihosting-config`.
fn command_line(buffer: &mut [u8; 128]) -> Option<&str> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: the call writes a string into the buffer that the first word points to, at most as
    // long as the second says, and its length into the second.
    let failed = unsafe { syscall1(GET_CMDLINE, block.as_mut_ptr() as usize) };
    let [_, len] = block;
    let line = core::str::from_utf8(buffer.get(..len)?).ok()?;
    (failed == 0).then_some(line.trim_end_matches('\0'))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
