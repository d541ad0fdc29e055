//! Links only if nothing reachable from the runtime's interfaces can panic: the
//! panic handler calls a function that does not exist.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use ingraft_bare_metal::flash::{ADAPTER, Aligned, INPUT, TRAIN_BYTES, TRAIN_PLAN};
use ingraft_bare_metal::reach::{Untrusted, everything};

#[entry]
fn main() -> ! {
    static mut MEMORY: Aligned<[u8; TRAIN_BYTES]> = Aligned([0; TRAIN_BYTES]);
    // Through `black_box` the compiler knows neither contents nor lengths, so it
    // can leave no check out for the reason that these files would pass it.
    let untrusted =
        black_box(Untrusted { plan: &TRAIN_PLAN.0, adapter: &ADAPTER.0, bytes: &INPUT.0, number: 0 });
    loop {
        everything(black_box(&untrusted), black_box(&mut MEMORY.0));
        #[cfg(feature = "deliberate-panic")]
        black_box(untrusted.bytes[untrusted.number]);
    }
}

unsafe extern "C" {
    fn ingraft_a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: the symbol is defined nowhere, so a binary that contains this call
    // does not link and the call never runs.
    unsafe { ingraft_a_panic_is_reachable() }
}
