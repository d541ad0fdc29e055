//! Where the patches of a tile are read.

/// Addresses of `M` patches.
pub(crate) trait Addresses<const M: usize>: Copy {
    /// That of patch `m`.
    fn of(&self, m: usize) -> *const u8;
    /// Those `bytes` behind.
    fn after(self, bytes: usize) -> Self;
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
}

/// Patches that one pointer and a pitch stand for: what an address counts of both costs nothing.
const FOUR: usize = 4;

/// Patches at one pitch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Even {
    fours: [*const u8; 3],
    pitch: usize,
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
        Self { fours, pitch }
    }
}

impl<const M: usize> Addresses<M> for Even {
    #[inline(always)]
    fn of(&self, m: usize) -> *const u8 {
        const { assert!(M <= Self::MOST) };
        self.fours[m / FOUR].wrapping_add(m % FOUR * self.pitch)
    }

    #[inline(always)]
    fn after(mut self, bytes: usize) -> Self {
        for four in &mut self.fours {
            *four = four.wrapping_add(bytes);
        }
        self
    }
}
