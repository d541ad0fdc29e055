//! `peak`: what one core multiplies and adds per second when every operand is in a register, as JSON.
//!
//! The limit that shares in the tables of this folder refer to: the best of many short runs of the loops of
//! `ingraft_x86_64::peak`, which `cargo bench --bench kernels -- --peak` divides by too. Elsewhere an empty object.

#[cfg(target_arch = "x86_64")]
use ingraft_x86_64::{Avx2, Avx512, AvxVnni, peak::Peak};

fn main() {
    println!("{{{}}}", fields().join(", "));
}

#[cfg(target_arch = "x86_64")]
fn fields() -> Vec<String> {
    let (wide, avx2) = (Avx512::detect(), Avx2::detect());
    let f32 = wide.map(Peak::f32_avx512).or(avx2.map(Peak::f32));
    let vnni = AvxVnni::detect().map(Peak::int8_avx_vnni);
    let int8 = wide.map(Peak::int8_avx512).or(vnni).or(avx2.map(Peak::int8));
    [("f32", f32), ("int8", int8)].into_iter().filter_map(|(name, peak)| Some(field(name, peak?))).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn fields() -> Vec<String> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn field(name: &str, peak: Peak) -> String {
    /// Rounds of a run: about a tenth of a millisecond, so that many runs are not disturbed.
    const ROUNDS: u64 = 20_000;
    const RUNS: usize = 2_000;
    let mut most = 0.0f64;
    for _ in 0..RUNS {
        let start = std::time::Instant::now();
        let done = peak.run(core::hint::black_box(ROUNDS));
        most = most.max(done as f64 / start.elapsed().as_secs_f64());
    }
    format!("\"{name}\": {{\"gmacs\": {:.1}, \"instruction\": \"{}\"}}", most / 1e9, peak.instruction())
}
