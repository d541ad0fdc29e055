//! A GPU with its kernels loaded, and what is kept resident on it.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr};
use cudarc::nvrtc::Ptx;

use crate::chain::Chain;
use crate::image::Image;
use crate::memory::Priority;
use crate::resident::Area;
use crate::streams::Streams;
use crate::{CudaError, error};

/// One GPU: its kernels and its resident files. Sessions have streams of their own.
pub(crate) struct Device {
    /// Where copies to the GPU are made: other streams may be recording.
    pub(crate) copies: Arc<CudaStream>,
    pub(crate) image: &'static Image,
    /// How long the context took, and what came of kernels behind it.
    pub(crate) took: [Duration; 2],
    /// Those of sessions.
    pub(crate) streams: Arc<Streams>,
    /// How recorded kernels follow each other, where driver and GPU can do better than one after the other.
    pub(crate) chain: Option<Chain>,
    functions: HashMap<&'static str, CudaFunction>,
    areas: Mutex<Vec<Weak<Area>>>,
}

impl core::fmt::Debug for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device").field("image", &self.image.name).finish_non_exhaustive()
    }
}

impl Device {
    /// GPU `ordinal` with `kernels` loaded from the image that `choose` takes for its compute capability.
    pub(crate) fn open(
        ordinal: usize,
        kernels: &[&'static str],
        choose: fn((i32, i32)) -> Result<&'static Image, CudaError>,
    ) -> Result<Self, CudaError> {
        // SAFETY: loads the driver library, whose initializers are the vendor's.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        error::served(driver()?)?;
        let started = Instant::now();
        let context = CudaContext::new(ordinal).map_err(|error| match CudaError::of(error, 0) {
            CudaError::Driver(_) => CudaError::NoDevice(ordinal),
            error => error,
        })?;
        let made = started.elapsed();
        // SAFETY: a slice is written by one stream; others read it behind an event that `CudaMemory::select` or
        // `sums::join` places, or, in resident files, after the copy was waited for.
        unsafe { context.disable_event_tracking() };
        let image = choose(context.compute_capability()?)?;
        let module = context.load_module(Ptx::from_binary(image.load()?))?;
        let mut functions = HashMap::new();
        for name in kernels {
            functions.insert(*name, module.load_function(name)?);
        }
        let copies = context.new_stream()?;
        let chain = Chain::find(image.capability, driver()?);
        let took = [made, started.elapsed().saturating_sub(made)];
        Ok(Self { copies, image, took, streams: Arc::default(), chain, functions, areas: Mutex::default() })
    }

    /// A stream for a session.
    pub(crate) fn stream(&self, priority: Priority) -> Result<Arc<CudaStream>, CudaError> {
        let context = self.copies.context();
        let stream = match priority {
            Priority::Equal => context.new_stream()?,
            // Out of the range of the GPU, the driver takes its end.
            Priority::First => context.new_stream_with_priority(i32::MIN / 2)?,
        };
        self.streams.add(&stream);
        Ok(stream)
    }

    /// The kernel called `name`.
    pub(crate) fn function(&self, name: &str) -> Option<&CudaFunction> {
        self.functions.get(name)
    }

    /// `len` bytes of zeros on the device, ready when this returns.
    pub(crate) fn zeros(&self, len: usize) -> Result<CudaSlice<u8>, CudaError> {
        let slice = self.copies.alloc_zeros(len.max(1)).map_err(|error| CudaError::of(error, len))?;
        self.copies.synchronize()?;
        Ok(slice)
    }

    /// A copy of `bytes` on the device, ready when this returns.
    pub(crate) fn copy_of(&self, bytes: &[u8]) -> Result<CudaSlice<u8>, CudaError> {
        let mut slice = self.zeros(bytes.len())?;
        self.copies.memcpy_htod(bytes, &mut slice)?;
        self.copies.synchronize()?;
        Ok(slice)
    }

    /// The device address of `slice`.
    pub(crate) fn address(&self, slice: &CudaSlice<u8>) -> u64 {
        // The guard tracks use by several streams, which events of ours order.
        slice.device_ptr(&self.copies).0
    }

    /// Finds parts of `area` from now on, for as long as it lives.
    pub(crate) fn watch(&self, area: &Arc<Area>) {
        let mut areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
        areas.retain(|known| known.strong_count() != 0);
        areas.push(Arc::downgrade(area));
    }

    /// Where `bytes` lie on the device, if they are part of something resident.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u64> {
        let areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
        areas.iter().filter_map(Weak::upgrade).find_map(|area| area.find(bytes))
    }

    /// Brings `bytes`, which were written, to the device, if they are part of something resident.
    ///
    /// # Errors
    /// [`CudaError`] of the driver.
    pub(crate) fn renew(&self, bytes: &[u8]) -> Result<(), CudaError> {
        let known = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
        let areas: Vec<_> = known.iter().filter_map(Weak::upgrade).collect();
        // Who records meanwhile looks here for what is resident, and is waited for.
        drop(known);
        areas.iter().try_for_each(|area| area.renew(self, bytes))
    }
}

/// The driver's CUDA version, major · 1000 + minor · 10.
///
/// # Errors
/// [`CudaError`] when it does not answer.
pub(crate) fn driver() -> Result<i32, CudaError> {
    let mut version = 0;
    // SAFETY: writes one int.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}
