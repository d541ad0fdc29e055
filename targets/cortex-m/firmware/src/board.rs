//! What boards differ in: here, machines of QEMU. The only file that touches registers.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
#[cfg(not(feature = "defmt"))]
use cortex_m_semihosting::hio;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{ErrorType, OutputPin};

use crate::nor::SimulatedNor;

/// Cycles of the core in a microsecond.
const CYCLES_PER_US: u32 = 25;
/// Cycles from one frame to the next: faster than sound, so that a test is short.
const FRAME_CYCLES: u32 = 200 * CYCLES_PER_US;
/// Bytes that outlive a reset; the last sector's worth of them is no flash.
const NOR_BYTES: usize = 48 * 1024;

unsafe extern "C" {
    /// Memory that the linker gives to nothing and a reset leaves as it is: the flash, and a last word that counts starts.
    static mut _nor: [u8; NOR_BYTES];
    /// The register of the board's LEDs.
    static mut _led: u32;
}

/// What firmware takes once.
#[derive(Debug)]
pub struct Board {
    /// The pin that a power meter watches: LED 0.
    pub led: Led,
    /// The clock.
    pub clock: Clock,
    /// The NOR flash.
    pub nor: SimulatedNor<'static>,
    /// How often the board was started since power was switched on, from 1.
    pub starts: u32,
}

impl Board {
    /// The board, the first time it is asked for; from then on frames come.
    pub fn take() -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        let memory = &raw mut _nor;
        // SAFETY: the linker script gives this memory, which is RAM and so holds bytes of some value, to nothing else,
        // and it is borrowed once.
        let memory = unsafe { &mut *memory };
        let (cells, count) = memory.split_at_mut_checked(NOR_BYTES - 4)?;
        let starts = u32::from_le_bytes(count.try_into().ok()?).wrapping_add(1);
        count.iter_mut().zip(starts.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        // Whole sectors.
        let cells = cells.get_mut(..NOR_BYTES - 4096)?;
        let mut timer = cortex_m::Peripherals::take()?.SYST;
        start(&mut timer);
        Some(Self { led: Led(()), clock: Clock(()), nor: SimulatedNor::new(cells), starts })
    }
}

/// An interrupt for every frame.
fn start(timer: &mut SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(FRAME_CYCLES - 1);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

/// Waits for an interrupt.
pub fn wait() {
    cortex_m::asm::wfi();
}

/// Starts again, as after a crash: everything is lost but the flash.
pub fn reset() -> ! {
    SCB::sys_reset()
}

/// Tells the emulator whether all went well; a board without one waits.
pub fn finish(passed: bool) -> ! {
    exit(if passed { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        wait();
    }
}

/// Says `text` and `number` to whom listens: a debugger's console, or `defmt` with the feature of that name. No formatting is
/// linked.
#[cfg(feature = "defmt")]
pub fn say(text: &str, number: u32) {
    defmt::info!("{=str}{=u32}", text, number);
}

/// Says `text` and `number` to whom listens: a debugger's console, or `defmt` with the feature of that name. No formatting is
/// linked.
#[cfg(not(feature = "defmt"))]
pub fn say(text: &str, number: u32) {
    let mut digits = *b"          \n";
    let mut rest = number;
    for digit in digits.iter_mut().rev().skip(1) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Ok(mut console) = hio::hstdout() {
        let _ = console.write_all(text.as_bytes());
        let _ = console.write_all(&digits);
    }
}

/// LED 0.
#[derive(Debug)]
pub struct Led(());

impl Led {
    fn set(&mut self, bit: u32) {
        let register = &raw mut _led;
        // SAFETY: the linker script says where the register is; only the one `Led` writes it.
        unsafe { register.write_volatile(bit) };
    }

    /// Whether it is on, as the board says.
    pub fn is_on(&self) -> bool {
        let register = &raw const _led;
        // SAFETY: as in `set`; reading has no effect.
        unsafe { register.read_volatile() & 1 == 1 }
    }
}

impl ErrorType for Led {
    type Error = core::convert::Infallible;
}

impl OutputPin for Led {
    fn set_low(&mut self) -> Result<(), Self::Error> {
        self.set(0);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Self::Error> {
        self.set(1);
        Ok(())
    }
}

/// Waits by counting cycles.
#[derive(Debug)]
pub struct Clock(());

impl DelayNs for Clock {
    fn delay_ns(&mut self, ns: u32) {
        cortex_m::asm::delay((ns / 1000).saturating_add(1).saturating_mul(CYCLES_PER_US));
    }
}
