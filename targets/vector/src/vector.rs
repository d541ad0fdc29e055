//! An instruction set's f32 vectors.

use ingraft_kernel::{Call, KernelError};

/// What a row does, on any instruction set that is a `V`.
pub trait Row<V> {
    /// Runs the step. Must be `inline(always)`, to become part of [`Vector::enter`].
    ///
    /// # Errors
    /// Those of the row's reference.
    fn run(call: &mut Call<'_, '_>, vector: V) -> Result<(), KernelError>;
}

/// Work in a function of its own, compiled for the instruction set.
pub trait Task<V> {
    /// What it gives.
    type Output;
    /// Does it. Must be `inline(always)`, to become part of [`Vector::perform`].
    fn run(self, vector: V) -> Self::Output;
}

/// The entry of a row. It executes the instructions of `V`: who makes a row of it lets it out only against a proof.
pub(crate) fn entry<V: Vector, R: Row<V>>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: whoever makes a row promises that it runs only where the instructions are.
    unsafe { V::assume() }.enter::<R>(call)
}

/// An instruction set, as its proof.
pub trait Vector: Copy + core::fmt::Debug {
    /// The proof, in a row.
    ///
    /// # Safety
    /// The processor executes the instructions.
    unsafe fn assume() -> Self;
    /// Runs a row, compiled for the instruction set.
    ///
    /// # Errors
    /// The row's.
    fn enter<R: Row<Self>>(self, call: &mut Call<'_, '_>) -> Result<(), KernelError>;
    /// Does `task` in a function that is not made part of the caller.
    fn perform<T: Task<Self>>(self, task: T) -> T::Output;

    /// f32 lanes in a vector, at most 16.
    const LANES: usize;
    /// Vectors of a tile of six rows whose sums leave room for operands in the registers: 4 or 2.
    const WIDTH: usize;
    /// Rows of such a tile of dot products, by four columns: 6 or 3.
    const DOTS: usize;

    /// A vector of f32.
    type Real: Copy;
    /// The first lanes of a vector.
    type Part: Copy;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::Real;
    /// Lane-wise sum.
    fn add(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a − b` lane by lane.
    fn sub(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// Lane-wise product.
    fn mul(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a·b + c`, rounded once.
    fn mul_add(self, a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
    /// Lane-wise quotient.
    fn div(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// Lane-wise square root.
    fn sqrt(self, v: Self::Real) -> Self::Real;
    /// The lesser; `b` where one is NaN.
    fn min(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// The larger; `b` where one is NaN.
    fn max(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// Values without their signs.
    fn size(self, v: Self::Real) -> Self::Real;
    /// `size` with the sign of `sign`; `size` is not negative.
    fn with_sign(self, size: Self::Real, sign: Self::Real) -> Self::Real;
    /// The nearest integers as reals, half to even.
    fn round_real(self, v: Self::Real) -> Self::Real;
    /// `v·2ⁿ`, for whole `n` within −252…254.
    fn scale(self, v: Self::Real, n: Self::Real) -> Self::Real;
    /// The lanes whose bit is 1, the others 0 whatever they hold.
    fn keep(self, v: Self::Real, bits: u32) -> Self::Real;
    /// The largest lane.
    fn largest(self, v: Self::Real) -> f32;
    /// The sum of all lanes.
    fn sum(self, v: Self::Real) -> f32;
    /// The sums across the lanes of four vectors.
    fn sums(self, v: [Self::Real; 4]) -> [f32; 4];

    /// # Safety
    /// `LANES` values lie at `from`.
    unsafe fn load(self, from: *const f32) -> Self::Real;
    /// The first `count` lanes, or all.
    fn part(self, count: usize) -> Self::Part;
    /// The lanes of `part`, zero in the others.
    ///
    /// # Safety
    /// As many values lie at `from`.
    unsafe fn load_part(self, from: *const f32, part: Self::Part) -> Self::Real;
    /// The first `count` lanes, zero in the others.
    ///
    /// # Safety
    /// `count` values, at most `LANES`, lie at `from`.
    #[inline(always)]
    unsafe fn load_some(self, from: *const f32, count: usize) -> Self::Real {
        // SAFETY: the caller's contract.
        unsafe { self.load_part(from, self.part(count)) }
    }
    /// Codes as reals.
    ///
    /// # Safety
    /// `LANES` codes lie at `from`.
    unsafe fn load_i8(self, from: *const i8) -> Self::Real;
    /// The first `count` codes as reals, zero in the other lanes.
    ///
    /// # Safety
    /// `count` codes, at most `LANES`, lie at `from`.
    unsafe fn load_some_i8(self, from: *const i8, count: usize) -> Self::Real;
    /// # Safety
    /// `to` has room for `LANES` values.
    unsafe fn store(self, to: *mut f32, v: Self::Real);
    /// Writes the lanes of `part`.
    ///
    /// # Safety
    /// `to` has room for as many values.
    unsafe fn store_part(self, to: *mut f32, v: Self::Real, part: Self::Part);
    /// Writes the first `count` lanes.
    ///
    /// # Safety
    /// `to` has room for `count` values, at most `LANES`.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, v: Self::Real, count: usize) {
        // SAFETY: the caller's contract.
        unsafe { self.store_part(to, v, self.part(count)) }
    }
}
