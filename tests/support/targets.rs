//! The targets of this machine.

use std::io::Write;

use ingraft::kernel::{Host, Target};

/// Every target this processor can run, the fastest last. Says which it cannot.
pub(crate) fn targets() -> Vec<Host> {
    let mut found = vec![Host::SCALAR];
    found.extend(native());
    report(&found);
    found
}

/// As [`targets`], and those for microcontrollers: without their instructions, the same loops in plain Rust.
#[allow(dead_code, reason = "suites about kernels use it")]
pub(crate) fn with_microcontrollers() -> Vec<Host> {
    use ingraft_cortex_m::{dsp, helium, portable};
    targets().into_iter().chain([portable(), dsp(), helium()]).collect()
}

/// The targets of this processor whose products are of f16, which only who asks for them gets.
#[allow(dead_code, reason = "suites about kernels use it")]
pub(crate) fn halves() -> Vec<Host> {
    #[cfg(target_arch = "aarch64")]
    return {
        use ingraft::arm_neon::{Fp16, fp16};
        native().last().and_then(|over| Some(fp16(Fp16::detect()?, over))).into_iter().collect()
    };
    #[cfg(not(target_arch = "aarch64"))]
    return Vec::new();
}

#[cfg(target_arch = "x86_64")]
fn native() -> impl Iterator<Item = Host> {
    ingraft::x86_64::available().collect::<Vec<_>>().into_iter().rev()
}

#[cfg(target_arch = "aarch64")]
fn native() -> impl Iterator<Item = Host> {
    use ingraft::arm_neon::{DotProd, I8mm, Neon, dotprod, i8mm, neon};
    [Neon::detect().map(neon), DotProd::detect().map(dotprod), I8mm::detect().map(i8mm)].into_iter().flatten()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn native() -> impl Iterator<Item = Host> {
    core::iter::empty()
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
