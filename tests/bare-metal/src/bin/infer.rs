//! Runs the built-in model from flash and reports over semihosting.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::flash::{Aligned, INFER_BYTES, PLAN};
use ingraft_bare_metal::inference::check;

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; INFER_BYTES]> = Aligned([0; INFER_BYTES]);
    match check(&mut MEMORY.0) {
        Ok(()) => {
            hprintln!("plan {} bytes in flash, {} bytes of RAM", PLAN.0.len(), INFER_BYTES);
            hprintln!("base, adapter, base: equal to the host to the bit");
            finish(true)
        }
        Err(failure) => {
            hprintln!("failed: {:?}", failure);
            finish(false)
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
