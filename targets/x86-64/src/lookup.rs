//! Tables with one entry per code, in four registers.

use core::arch::x86_64::*;

use ingraft_kernel::lookup::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError};

/// Codes of a vector.
const BLOCK: usize = 64;

/// `y = table[x + 128]`, by two permutations of 128 entries each.
pub(crate) const AVX512: Kernel = Kernel { name: "lookup_qs8_qs8__avx512", run, ..REFERENCE };

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { lookup(call) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn lookup(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (input, table): (&[i8], &[i8]) = (call.slice(0)?, call.slice(1)?);
    let [a, b, c, d] = table.as_chunks().0 else { return Err(call.operands()) };
    let [a, b, c, d] = [load(a), load(b), load(c), load(d)];
    map(input, call.slice_mut::<i8>(0)?, |codes, out| {
        let codes = load(codes);
        // Codes from 0 on select from the upper half; a permutation reads the low seven bits alone,
        // which are those of the entry's index within its half.
        let (negative, positive) =
            (_mm512_permutex2var_epi8(a, codes, b), _mm512_permutex2var_epi8(c, codes, d));
        store(out, _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), positive, negative));
    });
    Ok(())
}

/// Writes `function` of every block of `input`; the last, partial block is completed with defaults.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn map<T: Copy + Default, U: Copy + Default>(
    input: &[T],
    out: &mut [U],
    function: impl Fn(&[T; BLOCK], &mut [U; BLOCK]),
) {
    let ((blocks, rest), (outs, out_rest)) = (input.as_chunks(), out.as_chunks_mut());
    for (block, out) in blocks.iter().zip(outs) {
        function(block, out);
    }
    if !rest.is_empty() && rest.len() == out_rest.len() {
        let (mut block, mut results) = ([T::default(); BLOCK], [U::default(); BLOCK]);
        block.iter_mut().zip(rest).for_each(|(b, v)| *b = *v);
        function(&block, &mut results);
        out_rest.iter_mut().zip(results).for_each(|(o, v)| *o = v);
    }
}

/// A block of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(codes: &[i8; BLOCK]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}

/// Overwrites a block of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(out: &mut [i8; BLOCK], codes: __m512i) {
    // SAFETY: the reference covers the 64 bytes written; the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), codes) }
}
