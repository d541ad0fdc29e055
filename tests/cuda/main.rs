//! The CUDA target against the scalar reference: every row over generated shapes, whole models, quantized ones to
//! the bit, adapters in every form, recordings replayed and switched.
//!
//! Runs where there is a GPU; elsewhere it says so. `INGRAFT_CUDA=required` makes absence a failure: a suite that was
//! sent to a GPU must not pass without one.
#![forbid(unsafe_code)]

#[path = "../adapters/build.rs"]
#[allow(dead_code, reason = "this suite uses a part")]
mod build;
#[path = "../support/cases.rs"]
#[allow(dead_code, unused_imports, reason = "this suite uses a part")]
mod cases;
mod float;
mod half;
mod models;
mod overlay;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod training;

use std::collections::BTreeSet;

use ingraft::kernel::{KernelError, OpCode, REFERENCE};
use ingraft_jetson_cuda::{Cuda, CudaError};

use cases::{Case, Outcome, Tolerance};

/// The GPU, or `None` with a note where there is none.
pub(crate) fn gpu() -> Option<Cuda> {
    present(Cuda::open(0))
}

fn present(opened: Result<Cuda, CudaError>) -> Option<Cuda> {
    match opened {
        Ok(cuda) => Some(cuda),
        Err(error @ (CudaError::NoDriver | CudaError::NoDevice(_))) => {
            assert!(std::env::var_os("INGRAFT_CUDA").is_none_or(|value| value != "required"), "{error}");
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn reference(case: &Case) -> Option<Outcome> {
    let row = REFERENCE.iter().find(|row| case.suits(row))?;
    Some(case.run(row).unwrap_or_else(|error| panic!("{}: {}: {error}", case.name, row.name)))
}

#[test]
fn every_row_agrees_with_the_reference() {
    every_row_agrees(gpu());
}

/// As on a GPU that no image was built for.
#[test]
fn every_row_compiled_by_the_driver_agrees_with_the_reference() {
    every_row_agrees(present(Cuda::open_portable(0)));
}

fn every_row_agrees(cuda: Option<Cuda>) {
    let Some(cuda) = cuda else { return };
    println!("{:?}", cuda.info().expect("the driver answers"));
    let taken = compare(&cuda, OpCode::ALL, |_, tolerance| tolerance);
    let idle: Vec<&str> = Cuda::rows().map(|(_, name)| name).filter(|name| !taken.contains(name)).collect();
    assert!(idle.is_empty(), "these take no case: {idle:?}");
}

/// Runs the cases of `ops` that `cuda` takes, each compared within what `tolerance` makes of its row and its own; the rows that
/// ran.
pub(crate) fn compare(
    cuda: &Cuda,
    ops: &[OpCode],
    tolerance: impl Fn(&str, Tolerance) -> Tolerance,
) -> BTreeSet<&'static str> {
    let (mut failures, mut taken, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for op in ops {
        for case in cases::of(*op).unwrap_or_default() {
            let (Ok(name), Some(want)) = (case.chosen_by(cuda), reference(&case)) else { continue };
            taken.insert(name);
            count += 1;
            let have = case.run_on_device(cuda, |bytes| cuda.allocate(bytes).expect("the GPU has room"));
            // Beside layers of reals, only the host's trainer holds whole deltas.
            let refuses = case.terms.dense.is_some()
                && matches!(op, OpCode::Conv | OpCode::Depthwise | OpCode::DynamicConv);
            let difference = match have {
                Err(KernelError::Terms(_)) if refuses => None,
                Ok(_) if refuses => Some("a delta was left out".to_owned()),
                Ok(have) => have.difference(&want, tolerance(name, case.tolerance)),
                Err(error) => Some(error.to_string()),
            };
            failures.extend(difference.map(|difference| format!("{name}: {}: {difference}", case.name)));
        }
    }
    println!("{count} cases of {} rows", taken.len());
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    taken
}

/// What the GPU has no row for, and masks that a row does not write, are refused when a session is bound.
#[test]
fn missing_rows_are_refused() {
    let Some(cuda) = gpu() else { return };
    for op in [OpCode::LstmBackward, OpCode::GruBackward] {
        for case in cases::of(op).unwrap_or_default() {
            assert_eq!(case.chosen_by(&cuda), Err(KernelError::Unsupported(op)), "{}", case.name);
        }
    }
}

/// What has no room is refused by its size; after that the GPU and the processor still agree.
#[test]
fn more_memory_than_there_is_is_refused() {
    let Some(cuda) = gpu() else { return };
    let bytes = 4 * cuda.info().expect("the driver answers").memory;
    assert_eq!(cuda.allocate(bytes).err(), Some(CudaError::OutOfMemory { bytes }));
    compare(&cuda, &[OpCode::QPool], |_, tolerance| tolerance);
}

/// As on a GPU before 8.0.
#[test]
fn kernels_without_tensor_cores_have_no_halves() {
    let Some(cuda) = present(Cuda::open_portable(0)) else { return };
    assert_eq!(cuda.with_halves().err(), Some(CudaError::NoHalves { capability: (7, 2) }));
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    if let Err(error) = Cuda::open(0) {
        let text = error.to_string();
        assert!(text.contains("--target native") || text.contains("no CUDA device"), "{text}");
    } else {
        assert!(matches!(Cuda::open(4711), Err(CudaError::NoDevice(4711))));
    }
}
