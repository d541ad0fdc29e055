//! The most multiply-accumulates a core can do: products between registers, nothing loaded or stored.
//!
//! Benches divide what a layer achieves by it. Sums are independent and outnumber what latency and pipes keep in flight;
//! products depend on the round or on the sum, so that none is made once for several.

use core::arch::x86_64::*;
use core::hint::black_box;

use crate::features::{Avx2, Avx512, AvxVnni};

/// Independent sums: more than latency times instructions a cycle on any core, and sixteen registers hold them with their operands.
const SUMS: usize = 14;

/// A loop of products between registers, of the widest exact kind that rows use. To have one is the proof that it runs.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    instruction: &'static str,
    lanes: usize,
    products: fn(u64),
}

impl Peak {
    /// int8 on AVX2: `vpmaddwd` and `vpaddd`, which do not saturate.
    pub const fn int8(_proof: Avx2) -> Self {
        // SAFETY: the proof, here and below.
        Self { instruction: "vpmaddwd ymm + vpaddd", lanes: 16, products: |rounds| unsafe { int8(rounds) } }
    }

    /// int8 on AVX-VNNI: `vpdpbusd`.
    pub const fn int8_avx_vnni(_proof: AvxVnni) -> Self {
        // SAFETY: the proof.
        Self { instruction: "vpdpbusd ymm", lanes: 32, products: |rounds| unsafe { int8_avx_vnni(rounds) } }
    }

    /// int8 on AVX-512: `vpdpbusd`.
    pub const fn int8_avx512(_proof: Avx512) -> Self {
        // SAFETY: the proof.
        Self { instruction: "vpdpbusd zmm", lanes: 64, products: |rounds| unsafe { int8_avx512(rounds) } }
    }

    /// f32 on AVX2 with FMA.
    pub const fn f32(_proof: Avx2) -> Self {
        // SAFETY: the proof.
        Self { instruction: "vfmadd231ps ymm", lanes: 8, products: |rounds| unsafe { f32(rounds) } }
    }

    /// f32 on AVX-512.
    pub const fn f32_avx512(_proof: Avx512) -> Self {
        // SAFETY: the proof.
        Self { instruction: "vfmadd231ps zmm", lanes: 16, products: |rounds| unsafe { f32_avx512(rounds) } }
    }

    /// What the loop is made of.
    pub fn instruction(&self) -> &'static str {
        self.instruction
    }

    /// Runs `rounds` and gives the multiply-accumulates done.
    #[inline(never)]
    pub fn run(&self, rounds: u64) -> u64 {
        (self.products)(rounds);
        rounds.wrapping_mul((SUMS * self.lanes) as u64)
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_avx512(rounds: u64) {
    let mut sums = [_mm512_set1_epi32(1); SUMS];
    for round in 0..rounds {
        let x = _mm512_set1_epi32(round as i32);
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, x);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_avx_vnni(rounds: u64) {
    let mut sums = [_mm256_set1_epi32(1); SUMS];
    for round in 0..rounds {
        let x = _mm256_set1_epi32(round as i32);
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, x, x);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2")]
fn int8(rounds: u64) {
    let mut sums = [_mm256_set1_epi32(1); SUMS];
    for round in 0..rounds {
        let x = _mm256_set1_epi32(round as i32);
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, x));
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f")]
fn f32_avx512(rounds: u64) {
    let (x, w) = (_mm512_set1_ps(0.99), _mm512_set1_ps(1e-9));
    let mut sums = [_mm512_set1_ps(1.0); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, w);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2,fma")]
fn f32(rounds: u64) {
    let (x, w) = (_mm256_set1_ps(0.99), _mm256_set1_ps(1e-9));
    let mut sums = [_mm256_set1_ps(1.0); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, w);
        }
    }
    black_box(sums);
}
