//! Tables with one entry per code, in sixteen registers.

use core::arch::aarch64::*;

use ingraft_kernel::lookup::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError};

use crate::codes::{BLOCK, load};
use crate::lanes::block;
use crate::requantize::store;

/// `y = table[x + 128]`, by four lookups of 64 entries each.
pub(crate) const KERNEL: Kernel = Kernel { name: "lookup_qs8_qs8__neon", run, ..REFERENCE };

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (input, table): (&[i8], &[i8]) = (call.slice(0)?, call.slice(1)?);
    let [a, b, c, d] = table.as_chunks().0 else { return Err(call.operands()) };
    let [a, b, c, d] = [quarter(a), quarter(b), quarter(c), quarter(d)];
    for (index, out) in call.slice_mut::<i8>(0)?.chunks_mut(BLOCK).enumerate() {
        let codes = vreinterpretq_u8_s8(load(&block(input, index * BLOCK)));
        let first = veorq_u8(codes, vdupq_n_u8(0x80));
        let rest = |start| vsubq_u8(first, vdupq_n_u8(start));
        // Indices from 64 on give zero in the first instruction, and leave what there is in the others.
        let found = vqtbl4q_s8(a, first);
        let found = vqtbx4q_s8(found, b, rest(64));
        let found = vqtbx4q_s8(found, c, rest(128));
        store(out, vqtbx4q_s8(found, d, rest(192)));
    }
    Ok(())
}

/// A quarter of the table.
#[inline]
#[target_feature(enable = "neon")]
fn quarter(entries: &[i8; 4 * BLOCK]) -> int8x16x4_t {
    // SAFETY: the reference covers the 64 bytes read; the load needs no alignment.
    unsafe { vld1q_s8_x4(entries.as_ptr()) }
}
