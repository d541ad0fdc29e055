//! The kernels of the Cortex-M targets on the host's conformance cases, with the instructions of the core: every output
//! must equal the host's reference to the bit.
#![no_std]
#![no_main]

mod case;
mod file;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::flash::Aligned;
use ingraft_cortex_m::{dsp, helium, native, portable};
use ingraft_kernel::Target;

use case::Case;
use file::File;

/// The largest record that the build script writes.
const RECORD_BYTES: usize = 192 * 1024;
/// Outputs and workspace of a case.
const MEMORY_BYTES: usize = 64 * 1024;

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut RECORD: Aligned<[u8; RECORD_BYTES]> = Aligned([0; RECORD_BYTES]);
    static mut MEMORY: Aligned<[u8; MEMORY_BYTES]> = Aligned([0; MEMORY_BYTES]);
    let passed = run(&mut RECORD.0, &mut MEMORY.0) == Some(true);
    finish(passed)
}

/// Whether all cases pass; `None` for a file that is not what the build script writes.
fn run(record: &mut [u8], memory: &mut [u8]) -> Option<bool> {
    let mut file = File::open(concat!(env!("OUT_DIR"), "/conformance.cases\0"))?;
    let targets = [portable(), dsp(), helium()];
    let (mut cases, mut failures) = (0, 0);
    while let Some(record) = file.record(record) {
        let case = Case::read(record)?;
        cases += 1;
        for target in &targets {
            if let Some(failure) = case.failure(target, memory) {
                failures += 1;
                hprintln!("{}: {}: {}", target.name(), case.name, failure);
            }
        }
    }
    hprintln!("{} cases, {} failures; this core's target is {}", cases, failures, native().name());
    Some(cases > 1000 && failures == 0)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
