//! `-- --peak`: what share of a core's int8 products the 1×1 layers achieve.

use core::hint::black_box;
use core::time::Duration;
use std::time::Instant;

use ingraft::kernel::{Kernel, OpCode};
use ingraft::tensor::DType;

use crate::problem::{self, Problem};
use crate::{own_rows, support};

/// How long each figure is looked for; the best of the attempts stands, of layer and peak in turn.
const TIME: Duration = Duration::from_millis(40);
const ATTEMPTS: usize = 7;

/// Prints a table for each target whose products this crate can run between registers.
pub(crate) fn print() {
    for target in support::targets() {
        let Some(peak) = registers(ingraft::kernel::Target::name(&target)) else { continue };
        let Some(row) =
            own_rows(&target).iter().find(|row| row.op == OpCode::QConv && row.output == Some(DType::I8))
        else {
            continue;
        };
        println!("\n{}: share of the products between registers\n", row.name);
        println!(
            "| layer | µs | 10⁹ multiply-accumulates / s | registers alone | share |\n| --- | --- | --- | --- | --- |"
        );
        let problems = problem::of(OpCode::QConv);
        for problem in problems.iter().filter(|p| p.is_pointwise() && p.suits(row)) {
            layer(problem, row, &peak);
        }
    }
}

fn layer(problem: &Problem, row: &Kernel, peak: &dyn Fn(u64) -> u64) {
    let (mut seconds, mut most) = (f64::INFINITY, 0.0f64);
    for _ in 0..ATTEMPTS {
        problem.run(row, |run| seconds = seconds.min(shortest(run)));
        most = most.max(rate(peak));
    }
    let achieved = problem.macs as f64 / seconds / 1e9;
    let (name, share) = (problem.name, 100.0 * achieved / most);
    println!("| {name} | {:.1} | {achieved:.1} | {most:.1} | {share:.0} % |", seconds * 1e6);
}

/// The shortest of the calls that fill [`TIME`].
fn shortest(call: &mut dyn FnMut()) -> f64 {
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    while begun.elapsed() < TIME {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// 10⁹ multiply-accumulates a second.
fn rate(peak: &dyn Fn(u64) -> u64) -> f64 {
    let mut done = 0;
    let seconds = shortest(&mut || done = black_box(peak(black_box(2000))));
    done as f64 / seconds / 1e9
}

/// The loop between registers that limits the rows of `target`.
#[cfg(target_arch = "x86_64")]
fn registers(target: &str) -> Option<impl Fn(u64) -> u64> {
    use ingraft::x86_64::{Avx2, Avx512, AvxVnni, peak::Peak};
    let peak = match target {
        "x86-64-avx512" => Peak::int8_avx512(Avx512::detect()?),
        "x86-64-avxvnni" => Peak::int8_avx_vnni(AvxVnni::detect()?),
        "x86-64" => Peak::int8(Avx2::detect()?),
        _ => return None,
    };
    Some(move |rounds| peak.run(rounds))
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_: &str) -> Option<fn(u64) -> u64> {
    None
}
