//! The most int8 multiply-accumulates a core can do: products between registers, nothing loaded or stored.
//!
//! Benches divide what a layer achieves by it.

use core::arch::x86_64::*;
use core::hint::black_box;

use crate::features::{Avx2, Avx512};

/// Independent sums: enough to hide the latency of every product on two pipes.
const SUMS: usize = 24;
/// The same where sixteen registers must hold operands too.
const SUMS_AVX2: usize = 12;

/// Products of `vpdpbusd`; gives the multiply-accumulates done.
#[inline(never)]
pub fn products_avx512(_proof: Avx512, rounds: u64) -> u64 {
    // SAFETY: the proof.
    unsafe { run_avx512(rounds) };
    rounds * SUMS as u64 * 64
}

/// Products of `vpmaddwd`, summed by `vpaddd`, which is what AVX2 has that does not saturate; gives the
/// multiply-accumulates done.
#[inline(never)]
pub fn products(_proof: Avx2, rounds: u64) -> u64 {
    // SAFETY: the proof.
    unsafe { run_avx2(rounds) };
    rounds * SUMS_AVX2 as u64 * 16
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn run_avx512(rounds: u64) {
    let (x, w) = (black_box(_mm512_set1_epi8(1)), black_box(_mm512_set1_epi8(2)));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, w);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2")]
fn run_avx2(rounds: u64) {
    let mut x = black_box(_mm256_set1_epi16(1));
    let w = black_box(_mm256_set1_epi16(2));
    let mut sums = [_mm256_setzero_si256(); SUMS_AVX2];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
        }
        // Another operand each round: equal products would be made once.
        x = _mm256_xor_si256(x, w);
    }
    black_box(sums);
}
