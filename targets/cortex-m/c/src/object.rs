//! Objects in storage that the caller places: a seal, and the value behind it.
//!
//! The seal is made of the kind of object and its address, so storage that was never bound, was copied elsewhere, or holds
//! another kind of object is told apart from an object with all but certainty.

use core::mem::MaybeUninit;

use crate::status::Status;

/// What storage holds.
#[repr(C)]
struct Held<T> {
    seal: usize,
    value: MaybeUninit<T>,
}

/// Storage of a type of the header.
pub(crate) trait Storage: Sized {
    /// What it holds.
    type Value;
    /// Tells kinds of objects apart.
    const KIND: usize;
    /// The header says enough bytes, and not many more.
    const FITS: () = {
        let (needed, given) = (size_of::<Held<Self::Value>>(), size_of::<Self>());
        assert!(needed <= given, "the storage in the header is too small");
        assert!(given - needed < 64, "the storage in the header is too large");
        assert!(
            align_of::<Held<Self::Value>>() <= align_of::<Self>(),
            "the storage in the header is misaligned"
        );
    };
}

/// The seal of an object of `S` at `place`.
fn seal<S: Storage>(place: *const S) -> usize {
    place.addr() ^ S::KIND
}

fn check<S: Storage>(place: *const S) -> Result<*const Held<S::Value>, Status> {
    const { S::FITS };
    if place.is_null() {
        return Err(Status::Null);
    }
    if !place.is_aligned() {
        return Err(Status::Misaligned);
    }
    Ok(place.cast())
}

/// Empties the storage at `place`.
///
/// # Safety
/// Unless it is refused, `place` may be written for the size of `S`.
pub(crate) unsafe fn clear<S: Storage>(place: *mut S) -> Result<(), Status> {
    let held = check(place)?.cast_mut();
    // SAFETY: the field lies within the storage (`FITS`), which the caller lets be written.
    unsafe { (&raw mut (*held).seal).write(0) };
    Ok(())
}

/// Puts what `make` gives into the storage at `place`, which is empty where it gives none.
///
/// # Safety
/// As [`clear`]. Whatever the value borrows outlives its use.
pub(crate) unsafe fn put<S: Storage>(
    place: *mut S,
    make: impl FnOnce() -> Result<S::Value, Status>,
) -> Result<(), Status> {
    // SAFETY: the caller's word.
    unsafe { clear(place)? };
    let value = make()?;
    let held = check(place)?.cast_mut();
    // SAFETY: both fields lie within the storage (`FITS`), which the caller lets be written.
    unsafe {
        (&raw mut (*held).value).write(MaybeUninit::new(value));
        (&raw mut (*held).seal).write(seal(place));
    }
    Ok(())
}

/// The object at `place`.
///
/// # Safety
/// Unless it is refused, `place` may be read for the size of `S`, and nobody writes it while the object is borrowed.
pub(crate) unsafe fn get<'a, S: Storage>(place: *const S) -> Result<&'a S::Value, Status> {
    let held = check(place)?;
    // SAFETY: the field lies within the storage, and any word is a seal.
    if unsafe { (&raw const (*held).seal).read() } != seal(place) {
        return Err(Status::NotBound);
    }
    // SAFETY: `put` alone writes this seal, behind a value.
    Ok(unsafe { (*held).value.assume_init_ref() })
}

/// The object at `place`, to change.
///
/// # Safety
/// As [`get`], and nobody reads it either.
pub(crate) unsafe fn get_mut<'a, S: Storage>(place: *mut S) -> Result<&'a mut S::Value, Status> {
    // SAFETY: the caller's word.
    unsafe { get(place.cast_const())? };
    let held = check(place)?.cast_mut();
    // SAFETY: `get` found a value.
    Ok(unsafe { (*held).value.assume_init_mut() })
}
