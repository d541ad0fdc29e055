//! What the host asks for.
#![allow(unsafe_code)]

use cortex_m_semihosting::nr::GET_CMDLINE;
use cortex_m_semihosting::syscall1;
use ingraft_cortex_m::{dsp, helium, native, portable};
use ingraft_kernel::Host;

/// The target of this name.
pub fn target(name: &str) -> Option<Host> {
    Some(match name {
        "scalar" => Host::SCALAR,
        "portable" => portable(),
        "dsp" => dsp(),
        "helium" => helium(),
        "native" => native(),
        _ => return None,
    })
}

/// What the host says behind `-semihosting-config`.
pub fn command_line(buffer: &mut [u8; 128]) -> Option<&str> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: the call writes a string into the buffer that the first word points to, at most as
    // long as the second says, and its length into the second.
    let failed = unsafe { syscall1(GET_CMDLINE, block.as_mut_ptr() as usize) };
    let [_, len] = block;
    let line = core::str::from_utf8(buffer.get(..len)?).ok()?;
    (failed == 0).then_some(line.trim_end_matches('\0'))
}
