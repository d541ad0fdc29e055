//! The loops of x86-64.

use core::arch::x86_64::*;

use crate::Loop;

/// Independent accumulators: more than latency times instructions a cycle on any core.
const CHAINS: usize = 14;

/// The loops that this processor runs.
pub fn loops() -> Vec<Loop> {
    let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let f32 = match (wide, avx2) {
        (true, _) => Some(("vfmadd231ps zmm", 16, run_fma512 as fn(usize) -> u32)),
        (_, true) => Some(("vfmadd231ps ymm", 8, run_fma256 as fn(usize) -> u32)),
        _ => None,
    };
    let int8 = match (wide, avx2) {
        (true, _) => Some(("vpdpbusd zmm", 64, run_dot512 as fn(usize) -> u32)),
        (_, true) => Some(("vpmaddwd ymm + vpaddd", 16, run_dot256 as fn(usize) -> u32)),
        _ => None,
    };
    [("f32", f32), ("int8", int8)]
        .into_iter()
        .filter_map(|(name, found)| {
            let (instruction, lanes, run) = found?;
            Some(Loop { name, instruction, macs: lanes * CHAINS, run })
        })
        .collect()
}

macro_rules! entry {
    ($($entry:ident $of:ident)+) => {$(
        fn $entry(rounds: usize) -> u32 {
            // SAFETY: listed only where the processor has the instructions.
            unsafe { $of(rounds) }
        }
    )+};
}

entry! { run_fma512 fma512 run_fma256 fma256 run_dot512 dot512 run_dot256 dot256 }

#[target_feature(enable = "avx512f")]
fn fma512(rounds: usize) -> u32 {
    let (x, w) = (_mm512_set1_ps(0.99), _mm512_set1_ps(1e-9));
    let mut sums = [_mm512_set1_ps(1.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, w);
        }
    }
    sums.into_iter().fold(0.0, |total, sum| total + _mm512_reduce_add_ps(sum)).to_bits()
}

#[target_feature(enable = "avx2,fma")]
fn fma256(rounds: usize) -> u32 {
    let (x, w) = (_mm256_set1_ps(0.99), _mm256_set1_ps(1e-9));
    let mut sums = [_mm256_set1_ps(1.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, w);
        }
    }
    sums.into_iter().fold(0, |total, sum| total ^ _mm256_movemask_ps(sum)) as u32
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn dot512(rounds: usize) -> u32 {
    let mut sums = [_mm512_set1_epi32(1); CHAINS];
    for round in 0..rounds {
        // Changes every round, so that sums are not multiples known beforehand.
        let x = _mm512_set1_epi32(round as i32);
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, x);
        }
    }
    sums.into_iter().fold(0, |total, sum| total ^ _mm512_reduce_add_epi32(sum)) as u32
}

#[target_feature(enable = "avx2")]
fn dot256(rounds: usize) -> u32 {
    let mut sums = [_mm256_set1_epi32(1); CHAINS];
    for round in 0..rounds {
        let x = _mm256_set1_epi32(round as i32);
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, x));
        }
    }
    sums.into_iter().fold(0, |total, sum| total ^ _mm256_extract_epi32::<0>(sum)) as u32
}
