//! Launches that begin before the kernel they follow has ended.
//!
//! CUDA's name is programmatic dependent launch. Every kernel waits for the one before it and lets the next come as far (`follow` in
//! `cu/types.cuh`), so the driver places its blocks while the last ones of that still run, and it reads its weights meanwhile.
//! From sm_90 and CUDA 12.3 on, which is the first to keep it in graphs. The call is looked up at run time: our floor, the
//! driver of JetPack 5, is older than it.

use core::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUresult, CUstream};
use cudarc::driver::{CudaFunction, CudaStream, DeviceRepr, DriverError};

/// The first compute capability whose kernels wait for themselves, and the first driver that records them so.
const CAPABILITY: (i32, i32) = (9, 0);
const DRIVER: i32 = 12_030;

/// `CUlaunchAttribute`: an attribute's number and value.
#[repr(C)]
struct Attribute {
    id: u32,
    padding: u32,
    value: [u64; 8],
}

/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`.
const SERIALIZATION: u32 = 6;

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: CUstream,
    attributes: *mut Attribute,
    count: u32,
}

type LaunchKernelEx =
    unsafe extern "C" fn(*const Config, CUfunction, *mut *mut c_void, *mut *mut c_void) -> CUresult;

/// A driver and a GPU that can do so.
pub(crate) struct Chain(LaunchKernelEx);

impl Chain {
    /// That of this driver, for kernels compiled for `capability`.
    pub(crate) fn find(capability: (i32, i32), driver: i32) -> Option<Self> {
        if capability < CAPABILITY || driver < DRIVER {
            return None;
        }
        // SAFETY: the driver is loaded, and this is the function's type in its header since CUDA 11.8.
        let found = unsafe { cudarc::driver::sys::culib().get::<LaunchKernelEx>(b"cuLaunchKernelEx\0") };
        found.ok().map(|symbol| Self(*symbol))
    }

    /// Launches `function` on a grid of blocks of `threads` threads, behind the kernel before it in `stream`.
    ///
    /// # Safety
    /// `record` is the function's one parameter, and the function begins with the wait.
    ///
    /// # Errors
    /// [`DriverError`].
    pub(crate) unsafe fn launch<P: DeviceRepr>(
        &self,
        stream: &Arc<CudaStream>,
        function: &CudaFunction,
        grid: (u32, u32, u32),
        threads: u32,
        record: &P,
    ) -> Result<(), DriverError> {
        stream.context().bind_to_thread()?;
        let mut attribute = Attribute { id: SERIALIZATION, padding: 0, value: [1, 0, 0, 0, 0, 0, 0, 0] };
        let config = Config {
            grid: [grid.0, grid.1, grid.2],
            block: [threads, 1, 1],
            shared: 0,
            stream: stream.cu_stream(),
            attributes: &raw mut attribute,
            count: 1,
        };
        let mut parameters = [core::ptr::from_ref(record).cast_mut().cast::<c_void>()];
        // SAFETY: the driver reads configuration and parameter before it returns; the rest is the caller's promise.
        let result = unsafe {
            (self.0)(&config, function.cu_function(), parameters.as_mut_ptr(), core::ptr::null_mut())
        };
        result.result()
    }
}
