//! Trains the built-in model on the device and reports over semihosting.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::flash::{Aligned, LEARNED, TRAIN_BYTES, TRAIN_PLAN};
use ingraft_bare_metal::training::{Failure, Learned, train};
use ingraft_plan::PlanView;

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; TRAIN_BYTES]> = Aligned([0; TRAIN_BYTES]);
    let passed = match PlanView::new(&TRAIN_PLAN.0) {
        Ok(plan) => report(train(plan, &ingraft_cortex_m::native(), &mut MEMORY.0)),
        Err(error) => {
            hprintln!("failed: {}", error);
            false
        }
    };
    finish(passed)
}

fn report(result: Result<Learned, Failure>) -> bool {
    match result {
        Ok(LEARNED) => {
            hprintln!("plan {} bytes in flash, {} bytes of RAM", TRAIN_PLAN.0.len(), TRAIN_BYTES);
            hprintln!("front end and trained parameters: equal to the host to the bit");
            return true;
        }
        Ok(learned) if learned.patches != LEARNED.patches => {
            hprintln!("the front end differs from the host's")
        }
        Ok(_) => hprintln!("the trained parameters differ from the host's"),
        Err(failure) => hprintln!("failed: {}", failure),
    }
    false
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
