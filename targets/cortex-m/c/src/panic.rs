//! What a panic would do, were one reachable.

unsafe extern "C" {
    fn ingraft_a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the symbol is defined nowhere, so a program that contains this call does not link and the call never runs.
    unsafe { ingraft_a_panic_is_reachable() }
}
