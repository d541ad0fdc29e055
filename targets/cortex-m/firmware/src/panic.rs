//! What a panic would do.
#![allow(unsafe_code)]

use core::panic::PanicInfo;

#[cfg(not(feature = "defmt"))]
unsafe extern "C" {
    fn ingraft_a_panic_is_reachable() -> !;
}

#[cfg(not(feature = "defmt"))]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: the symbol is defined nowhere, so a program that contains this call does not link and the call never runs.
    unsafe { ingraft_a_panic_is_reachable() }
}

/// The logger itself panics where it is taken twice at a time, so with it there is no proof that nothing does.
#[cfg(feature = "defmt")]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    crate::board::finish(false)
}
