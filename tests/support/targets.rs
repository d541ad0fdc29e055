//! The targets of this machine.

use std::io::Write;

use ingraft::kernel::{Host, Target};

/// Every target this processor can run, the fastest last. Says which it cannot.
pub(crate) fn targets() -> Vec<Host> {
    let found: Vec<Host> = [Some(Host::SCALAR)].into_iter().chain(native()).flatten().collect();
    report(&found);
    found
}

#[cfg(target_arch = "x86_64")]
fn native() -> [Option<Host>; 1] {
    use ingraft::x86_64::{Avx2, target};
    [Avx2::detect().map(target)]
}

#[cfg(target_arch = "aarch64")]
fn native() -> [Option<Host>; 3] {
    use ingraft::arm_neon::{DotProd, I8mm, Neon, dotprod, i8mm, neon};
    [Neon::detect().map(neon), DotProd::detect().map(dotprod), I8mm::detect().map(i8mm)]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn native() -> [Option<Host>; 0] {
    []
}

/// Names the targets once per process: which ran is part of a suite's result.
fn report(found: &[Host]) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let names: Vec<&str> = found.iter().map(Target::name).collect();
        // Written past the capture of test output.
        let _ = writeln!(std::io::stderr(), "targets of this machine: {}", names.join(", "));
    });
}
