//! Where the patches of a tile are read.

use core::arch::asm;

use super::STEP;

/// Addresses of `M` patches.
pub(crate) trait Addresses<const M: usize>: Copy {
    /// That of patch `m`.
    fn of(&self, m: usize) -> *const u8;
    /// Those `bytes` behind.
    fn after(self, bytes: usize) -> Self;
    /// Those of `step` of the segment that begins here.
    fn step(self, step: usize) -> Self;
}

/// A pointer each. Where there are more than registers, one is loaded beside each broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Each<const M: usize>([*const u8; M]);

impl<const M: usize> Each<M> {
    /// `offsets` behind `bytes`.
    #[inline(always)]
    pub(crate) fn new(bytes: &[u8], offsets: &[usize; M]) -> Self {
        let mut each = [bytes.as_ptr(); M];
        for (each, offset) in each.iter_mut().zip(offsets) {
            *each = each.wrapping_add(*offset);
        }
        Self(each)
    }
}

impl<const M: usize> Addresses<M> for Each<M> {
    #[inline(always)]
    fn of(&self, m: usize) -> *const u8 {
        self.0[m]
    }

    #[inline(always)]
    fn after(mut self, bytes: usize) -> Self {
        for each in &mut self.0 {
            *each = each.wrapping_add(bytes);
        }
        self
    }

    #[inline(always)]
    fn step(self, step: usize) -> Self {
        self.after(step * STEP)
    }
}

/// Patches that one pointer and a pitch stand for: what an address counts of both costs nothing.
const FOUR: usize = 4;

/// Patches at one pitch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Even {
    fours: [*const u8; 3],
    pitch: usize,
    /// Three of it: an address counts one, two, four or eight by itself.
    thrice: usize,
}

impl Even {
    /// Most of them.
    pub(crate) const MOST: usize = 3 * FOUR;

    /// From `first` behind `bytes` on.
    #[inline(always)]
    pub(crate) fn new(bytes: &[u8], first: usize, pitch: usize) -> Self {
        let mut fours = [bytes.as_ptr().wrapping_add(first); 3];
        for (at, four) in fours.iter_mut().enumerate() {
            *four = four.wrapping_add(at * FOUR * pitch);
        }
        Self { fours, pitch, thrice: opaque(core::ptr::without_provenance(3 * pitch)).addr() }
    }
}

impl<const M: usize> Addresses<M> for Even {
    #[inline(always)]
    fn of(&self, m: usize) -> *const u8 {
        const { assert!(M <= Self::MOST) };
        let four = self.fours[m / FOUR];
        match m % FOUR {
            0 => four,
            1 => four.wrapping_add(self.pitch),
            2 => four.wrapping_add(2 * self.pitch),
            _ => four.wrapping_add(self.thrice),
        }
    }

    #[inline(always)]
    fn after(mut self, bytes: usize) -> Self {
        for four in &mut self.fours {
            *four = four.wrapping_add(bytes);
        }
        self
    }

    // Pointers of which the compiler knows nothing: else it would make each out of the one before, an addition and a wait for
    // every patch.
    #[inline(always)]
    fn step(mut self, step: usize) -> Self {
        for four in &mut self.fours {
            *four = opaque(four.wrapping_add(step * STEP));
        }
        self
    }
}

/// `at`, of which the compiler knows nothing.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written")]
fn opaque(mut at: *const u8) -> *const u8 {
    // SAFETY: no instruction is executed.
    unsafe { asm!("/* {0} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags)) };
    at
}
