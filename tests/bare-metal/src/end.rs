//! How a program ends: the emulator is told, and a core without one waits.

use core::panic::PanicInfo;

use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
use cortex_m_semihosting::hprintln;

/// Tells the emulator whether the program passed.
pub fn finish(passed: bool) -> ! {
    exit(if passed { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

/// Says what went wrong, and ends.
pub fn fail(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    finish(false)
}
