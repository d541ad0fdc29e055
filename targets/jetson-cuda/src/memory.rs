//! The memory of a session on the GPU.

use cudarc::driver::{CudaGraph, CudaSlice};

use crate::CudaError;
use crate::device::Device;
use crate::terms::{ENTRY, Terms};

/// Memory of a session, on the GPU: activations and logits, and what was recorded of the session's runs.
///
/// Belongs to one session at a time; binding another to it forgets the recordings.
pub struct CudaMemory {
    pub(crate) bytes: CudaSlice<u8>,
    pub(crate) base: u64,
    pub(crate) len: usize,
    pub(crate) recordings: Vec<Recording>,
    pub(crate) mode: Mode,
    /// The table's entry for the step that is recorded next.
    pub(crate) entry: Option<u64>,
    /// Copies of what is resident nowhere, for the run under way.
    pub(crate) transients: Vec<CudaSlice<u8>>,
    /// One word, which kernels set where an index leads outside what it picks from.
    pub(crate) status: CudaSlice<u8>,
    /// Whether a step that was launched by itself may have set it.
    pub(crate) watched: bool,
    /// The last failure in words: a kernel error has no room for it.
    pub(crate) failure: Option<CudaError>,
}

impl core::fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CudaMemory").field("len", &self.len).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What a call to run a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Launches it.
    Steps,
    /// Adds it to the recording of this index.
    Recording(usize),
    /// Recordings of this index are being given their terms.
    Ready(usize),
}

/// A schedule as one graph, and the table of terms it reads.
pub(crate) struct Recording {
    /// Steps and sources it stands for.
    pub(crate) key: (usize, usize),
    pub(crate) graph: Option<CudaGraph>,
    /// Copies of constants that are resident nowhere, which the graph reads.
    pub(crate) constants: Vec<CudaSlice<u8>>,
    /// Whether a step picks by an index that is not known beforehand.
    pub(crate) watched: bool,
    /// On the device: an entry per step with a site and source.
    table: CudaSlice<u8>,
    address: u64,
    /// The entries as they are to be.
    entries: Vec<u8>,
    /// Whether the device's table is behind.
    stale: bool,
    /// The next entry.
    next: usize,
}

impl Recording {
    /// An empty recording with room for `slots` entries.
    pub(crate) fn new(device: &Device, key: (usize, usize), slots: usize) -> Result<Self, CudaError> {
        let table = device.zeros(slots.saturating_mul(ENTRY))?;
        let address = device.address(&table);
        Ok(Self {
            key,
            graph: None,
            constants: Vec::new(),
            watched: false,
            table,
            address,
            entries: Vec::new(),
            stale: true,
            next: 0,
        })
    }

    /// Goes back to the first entry.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Sets the next entry and gives its address.
    pub(crate) fn push(&mut self, terms: Terms) -> u64 {
        let (at, bytes) = (self.next, terms.to_bytes());
        self.next = at.saturating_add(ENTRY);
        match self.entries.get_mut(at..self.next) {
            Some(entry) if *entry == bytes => {}
            Some(entry) => {
                entry.copy_from_slice(&bytes);
                self.stale = true;
            }
            None => {
                self.entries.extend_from_slice(&bytes);
                self.stale = true;
            }
        }
        self.address.saturating_add(at as u64)
    }

    /// Brings the device's table up to date: the one copy that a switch is.
    pub(crate) fn upload(&mut self, device: &Device) -> Result<(), CudaError> {
        if self.stale && !self.entries.is_empty() {
            device.stream.memcpy_htod(&self.entries, &mut self.table)?;
        }
        self.stale = false;
        Ok(())
    }
}

/// Bytes of the status.
const STATUS: usize = 4;

impl CudaMemory {
    pub(crate) fn new(device: &Device, len: usize) -> Result<Self, CudaError> {
        let bytes = device.zeros(len)?;
        let base = device.address(&bytes);
        Ok(Self {
            bytes,
            base,
            len,
            recordings: Vec::new(),
            mode: Mode::Steps,
            entry: None,
            transients: Vec::new(),
            status: device.zeros(STATUS)?,
            watched: false,
            failure: None,
        })
    }

    /// What the last refused call was refused for.
    pub fn failure(&self) -> Option<&CudaError> {
        self.failure.as_ref()
    }

    /// Frees copies that the last run needed.
    pub(crate) fn clear_transients(&mut self, device: &Device) -> Result<(), CudaError> {
        if !self.transients.is_empty() {
            device.stream.synchronize()?;
            self.transients.clear();
        }
        Ok(())
    }

    /// Has the status looked at after what is being launched or recorded.
    pub(crate) fn watch(&mut self, watch: bool) {
        let recording = match self.mode {
            Mode::Recording(index) => self.recordings.get_mut(index).map(|recording| &mut recording.watched),
            _ => None,
        };
        *recording.unwrap_or(&mut self.watched) |= watch;
    }

    /// Whether an index led outside since it was last asked. Waits for what was launched.
    pub(crate) fn strayed(&mut self, device: &Device) -> Result<bool, CudaError> {
        let mut word = [0; STATUS];
        device.stream.memcpy_dtoh(&self.status, &mut word)?;
        device.stream.synchronize()?;
        let strayed = word != [0; STATUS];
        if strayed {
            device.stream.memset_zeros(&mut self.status)?;
        }
        Ok(strayed)
    }

    /// The device address of `len` bytes from `offset`.
    pub(crate) fn address(&self, offset: usize, len: usize) -> Option<u64> {
        (offset.checked_add(len)? <= self.len).then(|| self.base.saturating_add(offset as u64))
    }
}
