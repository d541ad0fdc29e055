//! Records of a file of the host.

use cortex_m_semihosting::{nr, syscall};

/// An open file.
pub(crate) struct File {
    handle: usize,
}

impl File {
    /// Opens `path`, which ends in a zero byte.
    pub(crate) fn open(path: &'static str) -> Option<Self> {
        let length = path.len().checked_sub(1)?;
        // SAFETY: the call reads a string of the length said, with a zero behind it, and nothing else.
        let handle = unsafe { syscall!(OPEN, path.as_ptr(), nr::open::R_BINARY, length) };
        (handle != usize::MAX).then_some(Self { handle })
    }

    /// The next record, in `buffer`; `None` at the end, or when it is longer.
    pub(crate) fn record<'b>(&mut self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        self.read(buffer.get_mut(..16)?)?;
        let len = u32::from_le_bytes(*buffer.first_chunk()?) as usize;
        self.read(buffer.get_mut(16..len)?)?;
        buffer.get(..len)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        // SAFETY: the call writes at most as many bytes as the slice has.
        let missing = unsafe { syscall!(READ, self.handle, bytes.as_mut_ptr(), bytes.len()) };
        (missing == 0).then_some(())
    }
}
