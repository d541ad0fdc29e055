//! How deep the stack goes: what lies below it is painted, and looked at afterwards.

use core::hint::black_box;
use core::ptr::with_exposed_provenance_mut;

const PAINT: u32 = 0x5aa5_c33c;
/// Words that are painted: more than any run takes.
const WORDS: usize = 16 * 1024;
/// Words below the marker that are left alone: the frame of what paints.
const FRAME: usize = 64;

/// A stack painted below the function that asked for it.
pub(crate) struct Painted {
    marker: usize,
}

impl Painted {
    /// Paints.
    #[inline(never)]
    pub(crate) fn new() -> Self {
        let marker = 0u32;
        let painted = Self { marker: (black_box(&raw const marker)).addr() };
        for index in 0..WORDS {
            // SAFETY: memory below the stack, of which the linker scripts of all machines leave far more than is painted.
            unsafe { painted.word(index).write_volatile(PAINT) };
        }
        painted
    }

    /// Bytes from there to the deepest word that was written since.
    #[inline(never)]
    pub(crate) fn depth(&self) -> usize {
        let mut index = 0;
        // SAFETY: as in `new`; words are initialized.
        while index < WORDS && unsafe { self.word(index).read_volatile() } == PAINT {
            index += 1;
        }
        (WORDS + FRAME - index) * size_of::<u32>()
    }

    /// Word `index` from the bottom of what is painted.
    fn word(&self, index: usize) -> *mut u32 {
        let bottom = self.marker.wrapping_sub((WORDS + FRAME) * size_of::<u32>());
        with_exposed_provenance_mut(bottom.wrapping_add(index * size_of::<u32>()))
    }
}
