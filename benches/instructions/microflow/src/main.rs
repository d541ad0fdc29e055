//! One inference of the keyword spotter by microflow, on the input that `count` in `tests/bare-metal` takes.
#![no_std]
#![no_main]

#[path = "../../../../tests/bare-metal/src/bin/count/stack.rs"]
mod stack;

use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
use cortex_m_semihosting::hprintln;
use microflow::buffer::Buffer2D;
use microflow::model;

use stack::Painted;

// `../mcu` puts it there: the macro reads it where the compiler runs.
#[model("model.tflite")]
struct Keywords;

#[entry]
fn main() -> ! {
    let painted = Painted::new();
    let code = |row: usize, column: usize| ((row * 10 + column) * 37 + 11) as i8;
    let output = Keywords::predict([Buffer2D::from_fn(|row, column| [f32::from(code(row, column)) / 32.0])]);
    let depth = painted.depth();
    let best = output.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    hprintln!("stack={} class={}", depth, best.map_or(0, |best| best.0));
    end(true)
}

fn end(passed: bool) -> ! {
    exit(if passed { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(false)
}
