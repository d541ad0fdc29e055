//! What is built for: the core, as its name in the flags says, and what follows from it.

use ingraft_kernel::Host;

/// Whether the core that is built for is this one of Armv8-M.
fn core_is(name: &str) -> bool {
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    flags.split_once("target-cpu=").is_some_and(|(_, cpu)| cpu.starts_with(name))
}

/// The QEMU machine with the core that is built for.
pub(crate) fn machine() -> &'static str {
    match () {
        () if core_is("cortex-m55") => "mps3-an547",
        () if core_is("cortex-m33") => "mps2-an505",
        () => "mps2-an386",
    }
}

/// The target of the core that is built for, which on the host computes the same in the same memory.
pub(crate) fn device() -> Host {
    if core_is("cortex-m55") { ingraft_cortex_m::helium() } else { ingraft_cortex_m::dsp() }
}
