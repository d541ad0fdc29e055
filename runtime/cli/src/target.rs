//! The targets compiled into this command: each stands here once.

use ingraft_kernel::Host;

use crate::CliError;

/// One target.
pub(crate) struct TargetRow {
    /// Its name, as in `--target NAME`.
    pub(crate) name: &'static str,
    /// The target, where this machine can run it.
    detect: fn() -> Option<Host>,
}

/// Every target, fastest first; what computes within another bound than the rest comes after what any machine has.
pub(crate) const TARGETS: &[TargetRow] = &[
    #[cfg(target_arch = "aarch64")]
    TargetRow { name: "arm-i8mm", detect: || ingraft_arm_neon::I8mm::detect().map(ingraft_arm_neon::i8mm) },
    #[cfg(target_arch = "aarch64")]
    TargetRow {
        name: "arm-dotprod",
        detect: || ingraft_arm_neon::DotProd::detect().map(ingraft_arm_neon::dotprod),
    },
    #[cfg(target_arch = "aarch64")]
    TargetRow { name: "arm-neon", detect: || ingraft_arm_neon::Neon::detect().map(ingraft_arm_neon::neon) },
    #[cfg(target_arch = "aarch64")]
    TargetRow { name: "arm-fp16", detect: arm_fp16 },
    #[cfg(target_arch = "x86_64")]
    TargetRow {
        name: "x86-64-avx512",
        detect: || ingraft_x86_64::Avx512::detect().map(ingraft_x86_64::target_avx512),
    },
    #[cfg(target_arch = "x86_64")]
    TargetRow {
        name: "x86-64-avxvnni",
        detect: || ingraft_x86_64::AvxVnni::detect().map(ingraft_x86_64::target_avx_vnni),
    },
    #[cfg(target_arch = "x86_64")]
    TargetRow { name: "x86-64", detect: || ingraft_x86_64::Avx2::detect().map(ingraft_x86_64::target) },
    TargetRow { name: "scalar", detect: || Some(Host::SCALAR) },
];

/// Products of f16 over the fastest of the rest.
#[cfg(target_arch = "aarch64")]
fn arm_fp16() -> Option<Host> {
    let proof = ingraft_arm_neon::Fp16::detect()?;
    Some(ingraft_arm_neon::fp16(proof, find(NATIVE).ok()?))
}

/// The name of the fastest target this machine can run.
pub(crate) const NATIVE: &str = "native";

/// The names `--target` takes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    core::iter::once(NATIVE).chain(TARGETS.iter().map(|row| row.name))
}

/// The target called `name`.
///
/// # Errors
/// [`CliError::Target`] when this machine cannot run it.
pub(crate) fn find(name: &str) -> Result<Host, CliError> {
    let mut rows = TARGETS.iter().filter(|row| name == NATIVE || row.name == name);
    rows.find_map(|row| (row.detect)()).ok_or_else(|| CliError::Target(name.to_owned()))
}

/// The GPU, and the GPU with products of floats in f16.
#[cfg(feature = "cuda")]
pub(crate) const CUDA: [&str; 2] = ["cuda", "cuda-fp16"];

/// The names `--target` takes where targets with memory of their own are welcome.
pub(crate) fn runner_names() -> impl Iterator<Item = &'static str> {
    #[cfg(feature = "cuda")]
    return names().chain(CUDA);
    #[cfg(not(feature = "cuda"))]
    return names();
}

/// The GPU that `name` means; `None` for another target.
///
/// # Errors
/// [`CliError::Cuda`] says why there is none.
#[cfg(feature = "cuda")]
pub(crate) fn gpu(name: &str) -> Result<Option<ingraft_jetson_cuda::Cuda>, CliError> {
    if !CUDA.contains(&name) {
        return Ok(None);
    }
    let gpu = ingraft_jetson_cuda::Cuda::open(0)?;
    Ok(Some(if name == CUDA[1] { gpu.with_halves()? } else { gpu }))
}

/// The same, for one thread.
///
/// # Errors
/// As [`gpu`]; [`CliError::Setting`] for more threads, which it has no use for.
#[cfg(feature = "cuda")]
pub(crate) fn gpu_for(
    name: &str,
    threads: crate::threads::ThreadsArg,
) -> Result<Option<ingraft_jetson_cuda::Cuda>, CliError> {
    if CUDA.contains(&name) && threads.threads > 1 {
        let expected = "one thread serves --target cuda; leave --threads out".to_owned();
        return Err(CliError::Setting { option: "--threads", value: threads.threads.to_string(), expected });
    }
    gpu(name)
}

/// Calls a function, generic over its backend, with the target that is asked for.
///
/// `run_on!(name, threads => function(arguments, ...))` calls `function(&target, arguments, ...)`.
macro_rules! run_on {
    ($name:expr, $threads:expr => $function:ident($($argument:expr),* $(,)?)) => {{
        #[cfg(feature = "cuda")]
        if let Some(gpu) = $crate::target::gpu_for($name, $threads)? {
            return $function(&gpu, $($argument),*);
        }
        let threads = $crate::threads::Threads::new($threads)?;
        $function(&threads.share($crate::target::find($name)?), $($argument),*)
    }};
}
pub(crate) use run_on;

/// Calls a function, generic over its backend, with the target that is asked for and one of the processor beside it, the same where
/// it is that.
///
/// `run_beside!(name => function(arguments, ...))` calls `function(&target, &host, arguments, ...)`.
macro_rules! run_beside {
    ($name:expr => $function:ident($($argument:expr),* $(,)?)) => {{
        #[cfg(feature = "cuda")]
        if let Some(gpu) = $crate::target::gpu($name)? {
            return $function(&gpu, &$crate::target::find($crate::target::NATIVE)?, $($argument),*);
        }
        let host = $crate::target::find($name)?;
        $function(&host, &host, $($argument),*)
    }};
}
pub(crate) use run_beside;

/// The targets this machine can run.
pub(crate) fn available() -> impl Iterator<Item = Host> {
    TARGETS.iter().filter_map(|row| (row.detect)())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_targets_of_that_name() {
        assert_eq!(find("scalar").unwrap().tables().len(), 4);
        assert!(find(NATIVE).is_ok());
        assert!(matches!(find("abacus"), Err(CliError::Target(name)) if name == "abacus"));
        assert_eq!(names().collect::<std::collections::BTreeSet<_>>().len(), TARGETS.len() + 1);
    }
}
