//! `peak`: what one core multiplies and adds per second when every operand is in a register, as JSON.
//!
//! The limit that shares in the tables of this folder refer to: the best of many short runs of independent fused
//! multiply-adds (f32), and of the widest exact products of int8 that this project's kernels use.

#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::hint::black_box;
use std::time::Instant;

/// A loop over registers.
pub struct Loop {
    /// Element type.
    pub name: &'static str,
    /// The instruction.
    pub instruction: &'static str,
    /// Multiply-accumulates of one round.
    pub macs: usize,
    /// Runs so many rounds.
    pub run: fn(usize) -> u32,
}

/// Rounds of a run: about a tenth of a millisecond, so that many runs are not disturbed.
const ROUNDS: usize = 20_000;
/// Runs.
const RUNS: usize = 2_000;

fn main() {
    #[cfg(target_arch = "x86_64")]
    let loops = x86_64::loops();
    #[cfg(not(target_arch = "x86_64"))]
    let loops: Vec<Loop> = Vec::new();
    let fields: Vec<String> = loops.iter().map(field).collect();
    println!("{{{}}}", fields.join(", "));
}

fn field(this: &Loop) -> String {
    let seconds = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            black_box((this.run)(black_box(ROUNDS)));
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    let rate = (this.macs * ROUNDS) as f64 / seconds / 1e9;
    format!("\"{}\": {{\"gmacs\": {rate:.1}, \"instruction\": \"{}\"}}", this.name, this.instruction)
}
