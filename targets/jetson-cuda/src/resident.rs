//! Memory of the host of which the GPU has a copy: parts of it are found there by their address.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaSlice;
use ingraft_tensor::bytes::{ALIGN, of, of_mut};

use crate::CudaError;
use crate::device::Device;
use crate::streams::Streams;

/// Where memory lies on the host and on the GPU.
#[derive(Debug)]
pub(crate) struct Area {
    start: usize,
    len: usize,
    address: u64,
    /// The GPU's copy; none once the host's is about to go.
    copy: Mutex<Option<CudaSlice<u8>>>,
    /// Whether parts of it may be asked for.
    alive: AtomicBool,
    /// Those of sessions that may read the GPU's copy.
    readers: Arc<Streams>,
    /// Whether its address was asked for since they were last waited for.
    found: AtomicBool,
}

impl Area {
    /// That of `host`, of which `copy` is the GPU's.
    pub(crate) fn new(device: &Device, host: &[u8], copy: CudaSlice<u8>) -> Arc<Self> {
        let address = device.address(&copy);
        let area = Self {
            start: host.as_ptr().addr(),
            len: host.len(),
            address,
            copy: Mutex::new(Some(copy)),
            alive: AtomicBool::new(true),
            readers: device.streams.clone(),
            found: AtomicBool::new(false),
        };
        let area = Arc::new(area);
        device.watch(&area);
        area
    }

    /// Where `bytes` begin, if they are part of it.
    fn offset(&self, bytes: &[u8]) -> Option<usize> {
        self.alive.load(Ordering::Acquire).then_some(())?;
        let offset = bytes.as_ptr().addr().checked_sub(self.start)?;
        (offset.checked_add(bytes.len())? <= self.len).then_some(offset)
    }

    /// The address of `bytes` on the GPU, if they are part of it.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u64> {
        let offset = self.offset(bytes)?;
        self.found.store(true, Ordering::Relaxed);
        Some(self.address.wrapping_add(offset as u64))
    }

    /// Copies `bytes` to the GPU, behind all that was launched before, if they are part of it. Who holds them for writing keeps
    /// others from asking for them meanwhile.
    ///
    /// # Errors
    /// [`CudaError`] of the driver.
    pub(crate) fn renew(&self, device: &Device, bytes: &[u8]) -> Result<(), CudaError> {
        let Some(offset) = self.offset(bytes) else { return Ok(()) };
        self.wait()?;
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let range = offset..offset.saturating_add(bytes.len());
        let Some(mut part) = copy.as_mut().and_then(|copy| copy.try_slice_mut(range)) else {
            return Ok(());
        };
        device.copies.memcpy_htod(bytes, &mut part)?;
        Ok(device.copies.synchronize()?)
    }

    /// Waits until nobody reads the GPU's copy who asked where it is.
    fn wait(&self) -> Result<(), CudaError> {
        if self.found.swap(false, Ordering::Relaxed) { self.readers.wait() } else { Ok(()) }
    }

    /// Frees the GPU's copy.
    fn end(&self) {
        self.alive.store(false, Ordering::Release);
        // A failure here is reported by the next call.
        let _ = self.wait();
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Memory of the host and its area.
#[derive(Debug)]
struct Both {
    host: Vec<u128>,
    area: Arc<Area>,
}

impl Both {
    /// `len` bytes of the host, of which `copy` is the GPU's.
    fn new(device: &Device, host: Vec<u128>, len: usize, copy: CudaSlice<u8>) -> Self {
        let area = Area::new(device, of(&host).get(..len).unwrap_or(&[]), copy);
        Self { host, area }
    }
}

impl Drop for Both {
    /// Before the host's memory goes, whose address another thread may be given at once: who looks an area up meanwhile holds it, so
    /// this is the owner's to do.
    fn drop(&mut self) {
        self.area.end();
    }
}

/// A plan or an adapter on the GPU. Its bytes on the host are what a session is to be given: parts of them are found
/// on the GPU by their address, without a copy. Dropping it frees the GPU's copy.
#[derive(Clone, Debug)]
pub struct Resident(Arc<Both>);

impl Resident {
    /// Keeps a copy of `bytes` on both sides.
    pub(crate) fn new(device: &Device, bytes: &[u8]) -> Result<Self, CudaError> {
        let mut host = zeros(bytes.len());
        of_mut(&mut host).iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(Self(Arc::new(Both::new(device, host, bytes.len(), device.copy_of(bytes)?))))
    }

    /// The bytes, 16-byte aligned, on the host.
    pub fn bytes(&self) -> &[u8] {
        of(&self.0.host).get(..self.0.area.len).unwrap_or(&[])
    }
}

impl AsRef<[u8]> for Resident {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Memory for what is packed of adapters: give [`Self::bytes_mut`] to `exec::Resident` or `exec::PatchedCopy`. What they
/// write there is brought to the GPU as they do, and found there by every run.
#[derive(Debug)]
pub struct Shared(Both);

impl Shared {
    /// `len` bytes of zeros on both sides.
    pub(crate) fn new(device: &Device, len: usize) -> Result<Self, CudaError> {
        Ok(Self(Both::new(device, zeros(len), len, device.zeros(len)?)))
    }

    /// The bytes, 16-byte aligned, on the host.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        of_mut(&mut self.0.host).get_mut(..self.0.area.len).unwrap_or(&mut [])
    }
}

fn zeros(len: usize) -> Vec<u128> {
    vec![0u128; len.div_ceil(ALIGN)]
}
