//! The longest piece of a training step that nothing interrupts: what a watchdog must allow.
//!
//! QEMU with `-icount shift=0` lets a nanosecond pass with every instruction, so the system timer counts them, some dozens
//! at a time. How many, a loop of known length says: `pieces TARGET`.
#![no_std]
#![no_main]

use core::cmp::max;
use core::panic::PanicInfo;

use cortex_m::asm::delay;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use ingraft_bare_metal::command::{command_line, target};
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::flash::{Aligned, COUNT_BYTES, COUNT_CLASSES, COUNT_INPUT, COUNT_PLAN};
use ingraft_bare_metal::learn;
use ingraft_kernel::{Host, Target};
use ingraft_plan::PlanView;
use ingraft_train::{Clip, Trainer, Truth};

/// Instructions of the loop of known length.
const KNOWN: u32 = 400_000;
/// The timer counts down from here.
const RELOAD: u32 = 0x00ff_ffff;

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; COUNT_BYTES]> = Aligned([0; COUNT_BYTES]);
    let mut buffer = [0; 128];
    let asked = command_line(&mut buffer).and_then(|line| target(line.split_ascii_whitespace().nth(1)?));
    let plan = PlanView::new(&COUNT_PLAN.0).ok();
    let done = asked.zip(plan).and_then(|(target, plan)| longest(plan, &target, &mut MEMORY.0));
    finish(done.is_some())
}

/// A clip from its samples and a step of a head, one piece after the other.
fn longest(plan: PlanView<'_>, target: &Host, memory: &mut [u8]) -> Option<()> {
    let mut timer = cortex_m::Peripherals::take()?.SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(RELOAD);
    timer.clear_current();
    timer.enable_counter();
    let known = ticks(|| delay(KNOWN));
    let mut trainer = Trainer::bind(plan, target, learn::setup(COUNT_CLASSES), memory).ok()?;
    let (mut pieces, mut most) = (0u32, 0);
    let mut took = |ticks| {
        pieces += 1;
        most = max(most, ticks);
    };
    let mut done = None;
    while done.is_none() {
        took(ticks(|| done = trainer.advance(Clip::Inputs(&COUNT_INPUT.0), Truth::Class(0), 1).transpose()));
    }
    done?.ok()?;
    let mut done = None;
    while done.is_none() {
        took(ticks(|| done = trainer.advance_step(1).transpose()));
    }
    done?.ok()?;
    let instructions = u64::from(most) * u64::from(KNOWN) / u64::from(max(known, 1));
    hprintln!("target={} pieces={} longest={}", target.name(), pieces, instructions as u32);
    Some(())
}

/// Ticks of the system timer while `work` is done.
fn ticks(work: impl FnOnce()) -> u32 {
    let before = SYST::get_current();
    work();
    before.wrapping_sub(SYST::get_current()) & RELOAD
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
