//! Buffers that the caller owns.

use ingraft_tensor::bytes::Plain;

use crate::status::Status;

/// Whether `count` values from `start` on can be an object in memory at all.
fn check<T>(start: *const T, count: usize) -> Result<(), Status> {
    if start.is_null() {
        return Err(Status::Null);
    }
    if !start.is_aligned() {
        return Err(Status::Misaligned);
    }
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
    let end = bytes.and_then(|bytes| start.addr().checked_add(bytes));
    end.map(drop).ok_or(Status::Length)
}

/// `count` values to read; none of them may be null.
///
/// # Safety
/// Unless it is refused, `start` points to `count` values that nobody writes while the slice lives.
pub(crate) unsafe fn slice<'a, T: Plain>(start: *const T, count: usize) -> Result<&'a [T], Status> {
    if count == 0 {
        return Ok(&[]);
    }
    check(start, count)?;
    // SAFETY: not null, aligned and of a possible length, as checked; the rest is the caller's word, and any bytes are
    // values of a `Plain` type.
    Ok(unsafe { core::slice::from_raw_parts(start, count) })
}

/// `count` values to write.
///
/// # Safety
/// Unless it is refused, `start` points to `count` values that nobody else reads or writes while the slice lives.
pub(crate) unsafe fn slice_mut<'a, T: Plain>(start: *mut T, count: usize) -> Result<&'a mut [T], Status> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(start, count)?;
    // SAFETY: as in `slice`.
    Ok(unsafe { core::slice::from_raw_parts_mut(start, count) })
}

/// Writes `value` to `to`.
///
/// # Safety
/// Unless it is refused, `to` may be written.
pub(crate) unsafe fn write<T>(to: *mut T, value: T) -> Result<(), Status> {
    check(to, 1)?;
    // SAFETY: not null and aligned, as checked; the rest is the caller's word.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes `value` to `to`, unless that is null.
///
/// # Safety
/// As [`write`].
pub(crate) unsafe fn write_if<T>(to: *mut T, value: T) -> Result<(), Status> {
    if to.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's word.
    unsafe { write(to, value) }
}

/// A copy of what `from` points to.
///
/// # Safety
/// Unless it is refused, `from` points to a value.
pub(crate) unsafe fn read<T: Copy>(from: *const T) -> Result<T, Status> {
    check(from, 1)?;
    // SAFETY: as in `write`.
    Ok(unsafe { from.read() })
}

/// The text that `start` points to, up to its zero byte; no text where it is null.
///
/// # Safety
/// `start` is null or points to a text with a zero byte behind it that nobody writes while the text lives.
pub(crate) unsafe fn text<'a>(start: *const core::ffi::c_char) -> Result<&'a str, Status> {
    if start.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's word.
    let text = unsafe { core::ffi::CStr::from_ptr(start) };
    text.to_str().map_err(|_| Status::NotUtf8)
}
