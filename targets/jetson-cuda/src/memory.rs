//! The memory of a session on the GPU.

use std::sync::Arc;

use cudarc::driver::{CudaGraph, CudaSlice, CudaStream};

use crate::CudaError;
use crate::descent::Course;
use crate::device::Device;
use crate::streams::Streams;
use crate::terms::{ENTRY, Terms};

/// Memory of a session, on the GPU: activations and logits, and what was recorded of the session's runs.
///
/// It has one lane or several. Each has activations, recordings and a stream of its own, so that lanes run at once; what
/// terms are read from is held once. Belongs to one session at a time; binding another to it forgets the recordings.
pub struct CudaMemory {
    /// The lane that is worked in.
    pub(crate) lane: Lane,
    /// All others.
    pub(crate) others: Vec<Lane>,
    /// Bytes of a lane's activations.
    pub(crate) len: usize,
    /// How often the first lane wrote what all read.
    pub(crate) era: u64,
    /// Copies of what terms are parts of.
    pub(crate) mirrors: Vec<Twin>,
    /// Sums of gradients.
    pub(crate) sums: Vec<Twin>,
    /// What was fetched of them last.
    pub(crate) fetched: Vec<f32>,
    /// How parameters move that are mirrored here.
    pub(crate) course: Course,
    /// The last failure in words: a kernel error has no room for it.
    pub(crate) failure: Option<CudaError>,
}

/// Activations, and the stream of what is done with them.
pub(crate) struct Lane {
    /// Its number; the first adds gradients up where they are collected.
    pub(crate) number: usize,
    pub(crate) stream: Arc<CudaStream>,
    streams: Arc<Streams>,
    pub(crate) bytes: CudaSlice<u8>,
    pub(crate) base: u64,
    /// The memory's era that its stream has waited for.
    pub(crate) era: u64,
    /// Gradients that are not yet added to the sums, in their order; of all lanes but the first.
    pub(crate) parts: Vec<CudaSlice<u8>>,
    /// Whether there are any.
    pub(crate) ran: bool,
    pub(crate) recordings: Vec<Recording>,
    pub(crate) mode: Mode,
    /// The table's entries for the step that is recorded next: the address of the first, and how many follow each other.
    pub(crate) entries: Option<(u64, usize)>,
    /// Copies of what is resident nowhere, for the run under way.
    pub(crate) transients: Vec<CudaSlice<u8>>,
    /// One word, which kernels set where an index leads outside what it picks from.
    pub(crate) status: CudaSlice<u8>,
    /// Whether a step that was launched by itself may have set it.
    pub(crate) watched: bool,
    /// What a step works in beside its operands, and what it outgrew that a graph may name.
    scratch: Vec<CudaSlice<u8>>,
}

impl core::fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CudaMemory")
            .field("len", &self.len)
            .field("mode", &self.lane.mode)
            .finish_non_exhaustive()
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
    /// First step, the one behind the last, and sources that it stands for.
    pub(crate) key: (usize, usize, usize),
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
    pub(crate) fn new(device: &Device, key: (usize, usize, usize), slots: usize) -> Result<Self, CudaError> {
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
    pub(crate) fn upload(&mut self, stream: &Arc<CudaStream>) -> Result<(), CudaError> {
        if self.stale && !self.entries.is_empty() {
            stream.memcpy_htod(&self.entries, &mut self.table)?;
        }
        self.stale = false;
        Ok(())
    }
}

/// Bytes of the status.
const STATUS: usize = 4;
/// Memory of the device that goes with memory of the host, known by where that lies.
pub(crate) struct Twin {
    start: usize,
    pub(crate) device: CudaSlice<u8>,
}

impl Twin {
    /// One of `bytes`, with `device` as its other half.
    pub(crate) fn new(bytes: &[u8], device: CudaSlice<u8>) -> Self {
        Self { start: bytes.as_ptr().addr(), device }
    }

    /// Whether it is that of `bytes` as a whole.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        self.start == bytes.as_ptr().addr() && self.device.len() == bytes.len()
    }

    /// Where the part `bytes` of the host's half lies on the device.
    pub(crate) fn offset(&self, bytes: &[u8]) -> Option<usize> {
        let offset = bytes.as_ptr().addr().checked_sub(self.start)?;
        (offset.checked_add(bytes.len())? <= self.device.len()).then_some(offset)
    }
}

impl Lane {
    fn new(device: &Device, number: usize, len: usize, priority: Priority) -> Result<Self, CudaError> {
        let bytes = device.zeros(len)?;
        let base = device.address(&bytes);
        Ok(Self {
            number,
            stream: device.stream(priority)?,
            streams: device.streams.clone(),
            bytes,
            base,
            era: 0,
            parts: Vec::new(),
            ran: false,
            recordings: Vec::new(),
            mode: Mode::Steps,
            entries: None,
            transients: Vec::new(),
            status: device.zeros(STATUS)?,
            watched: false,
            scratch: Vec::new(),
        })
    }

    /// Bytes beside the activations: a status word, gradients, tables and constants of recordings, and scratch.
    fn held(&self) -> usize {
        let recorded = self.recordings.iter().flat_map(|r| r.constants.iter().chain([&r.table]));
        let other = self.transients.iter().chain(&self.scratch).chain(&self.parts);
        recorded.chain(other).map(CudaSlice::len).fold(STATUS, usize::saturating_add)
    }

    fn forget(&mut self) {
        // What is freed may still be read. A failure here is told by the next call.
        let _ = self.stream.synchronize();
        self.recordings.clear();
        self.parts.clear();
        self.scratch.clear();
        self.mode = Mode::Steps;
        (self.watched, self.ran, self.era) = (false, false, 0);
    }

    /// The address of `len` bytes of scratch, whatever they hold.
    pub(crate) fn scratch(&mut self, device: &Device, len: usize) -> Result<u64, CudaError> {
        let held = self.scratch.last().map_or(0, CudaSlice::len);
        if held < len || self.scratch.is_empty() {
            // Twice as much as before, so that what was outgrown is less than what is used.
            self.scratch.push(device.zeros(len.max(held.saturating_mul(2)))?);
        }
        Ok(self.scratch.last().map_or(0, |slice| device.address(slice)))
    }

    /// Frees copies that the last run needed.
    pub(crate) fn clear_transients(&mut self) -> Result<(), CudaError> {
        if !self.transients.is_empty() {
            self.stream.synchronize()?;
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
    pub(crate) fn strayed(&mut self) -> Result<bool, CudaError> {
        let mut word = [0; STATUS];
        self.stream.memcpy_dtoh(&self.status, &mut word)?;
        self.stream.synchronize()?;
        let strayed = word != [0; STATUS];
        if strayed {
            self.stream.memset_zeros(&mut self.status)?;
        }
        Ok(strayed)
    }
}

/// Which work of a GPU goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Whatever came first.
    #[default]
    Equal,
    /// Before all that is not: blocks of it are placed as soon as others leave room, none are interrupted.
    First,
}

impl CudaMemory {
    pub(crate) fn new(
        device: &Device,
        len: usize,
        lanes: usize,
        priority: Priority,
    ) -> Result<Self, CudaError> {
        let lane = |number| Lane::new(device, number, len, priority);
        Ok(Self {
            lane: lane(0)?,
            others: (1..lanes.max(1)).map(lane).collect::<Result<_, _>>()?,
            len,
            era: 0,
            mirrors: Vec::new(),
            sums: Vec::new(),
            fetched: Vec::new(),
            course: Course::default(),
            failure: None,
        })
    }

    /// All lanes, in no order.
    pub(crate) fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        core::iter::once(&mut self.lane).chain(&mut self.others)
    }

    /// Works in lane `number` from now on, behind all that the first wrote for it.
    pub(crate) fn select(&mut self, number: usize) -> Result<(), CudaError> {
        if let Some(other) = self.others.iter_mut().find(|other| other.number == number) {
            core::mem::swap(&mut self.lane, other);
        }
        let first = self.others.iter().find(|lane| lane.number == 0);
        if let Some(first) = first.filter(|_| self.lane.era != self.era) {
            self.lane.stream.join(&first.stream)?;
        }
        self.lane.era = self.era;
        Ok(())
    }

    /// Bytes of the GPU that it holds: activations, status words, tables and constants of recordings, mirrors, sums,
    /// scratch, and what parameters move by.
    pub fn held(&self) -> usize {
        let twins = self.mirrors.iter().chain(&self.sums).map(|twin| twin.device.len());
        let lanes = core::iter::once(&self.lane).chain(&self.others);
        let lanes = lanes.map(|lane| self.len.saturating_add(lane.held()));
        twins.chain(lanes).fold(self.course.held(), usize::saturating_add)
    }

    /// What the last refused call was refused for.
    pub fn failure(&self) -> Option<&CudaError> {
        self.failure.as_ref()
    }

    /// The device address of `bytes`, if they are part of what is mirrored.
    pub(crate) fn mirrored(&self, device: &Device, bytes: &[u8]) -> Option<u64> {
        let twin = self.mirrors.iter().find(|twin| twin.offset(bytes).is_some())?;
        Some(device.address(&twin.device).saturating_add(twin.offset(bytes)? as u64))
    }

    /// The device address where the lane adds up gradients of the part `bytes`.
    pub(crate) fn summed(&self, device: &Device, bytes: &[u8]) -> Option<u64> {
        let index = self.sums.iter().position(|twin| twin.offset(bytes).is_some())?;
        let twin = self.sums.get(index)?;
        let own = if self.lane.number == 0 { &twin.device } else { self.lane.parts.get(index)? };
        Some(device.address(own).saturating_add(twin.offset(bytes)? as u64))
    }

    /// Forgets recordings, mirrors and sums.
    pub(crate) fn forget(&mut self) {
        self.lanes().for_each(Lane::forget);
        self.mirrors.clear();
        self.sums.clear();
        self.course = Course::default();
        self.era = 0;
    }

    /// The device address of `len` bytes from `offset`.
    pub(crate) fn address(&self, offset: usize, len: usize) -> Option<u64> {
        (offset.checked_add(len)? <= self.len).then(|| self.lane.base.saturating_add(offset as u64))
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        // What is freed may still be worked on. A failure here is reported by the next call.
        for lane in self.lanes() {
            if let Mode::Recording(_) = lane.mode {
                let _ = lane.streams.end(&lane.stream);
            }
            let _ = lane.stream.synchronize();
        }
    }
}
