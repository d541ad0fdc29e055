//! Why the GPU cannot serve.

use cudarc::driver::DriverError;

/// What went wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver library is not installed.
    NoDriver,
    /// There is no GPU of this number.
    NoDevice(usize),
    /// The driver is older than this build needs.
    DriverTooOld,
    /// No image was built for the GPU.
    NoImage {
        /// Compute capability, major and minor.
        capability: (i32, i32),
    },
    /// The GPU's kernels have no products of f16 summed in f32 on tensor cores.
    NoHalves {
        /// Compute capability that they are compiled for, major and minor.
        capability: (i32, i32),
    },
    /// The GPU's memory is used up.
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The GPU was lost, or a kernel failed; the process has to make a new [`crate::Cuda`].
    Lost(String),
    /// The driver refused a call.
    Driver(String),
}

impl core::fmt::Display for CudaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoDriver => f.write_str(
                "no CUDA driver on this machine (libcuda.so.1); use --target native, or install the driver",
            ),
            Self::NoDevice(ordinal) => write!(f, "there is no CUDA device {ordinal}"),
            Self::DriverTooOld => {
                f.write_str("the CUDA driver is older than 11.4; update it (JetPack 5 or later)")
            }
            Self::NoImage { capability: (major, minor) } => write!(
                f,
                "no kernels were built for compute capability {major}.{minor}; this build has {}",
                crate::image::names()
            ),
            Self::NoHalves { capability: (major, minor) } => write!(
                f,
                "products in f16 need kernels of compute capability 8.0, and this GPU runs those of {major}.{minor}; use --target cuda"
            ),
            Self::OutOfMemory { bytes } => {
                write!(f, "the GPU has no {bytes} bytes left; free some, or use --target native")
            }
            Self::Lost(reason) => {
                write!(f, "the GPU failed ({reason}); results are lost, other targets keep working")
            }
            Self::Driver(reason) => write!(f, "the CUDA driver refused: {reason}"),
        }
    }
}

impl core::error::Error for CudaError {}

impl CudaError {
    /// The error of a driver call that asked for `bytes`, or for none.
    pub(crate) fn of(error: DriverError, bytes: usize) -> Self {
        use cudarc::driver::sys::cudaError_enum as Code;
        match error.0 {
            Code::CUDA_ERROR_OUT_OF_MEMORY => Self::OutOfMemory { bytes },
            Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                Self::DriverTooOld
            }
            Code::CUDA_ERROR_ILLEGAL_ADDRESS
            | Code::CUDA_ERROR_LAUNCH_FAILED
            | Code::CUDA_ERROR_LAUNCH_TIMEOUT
            | Code::CUDA_ERROR_ECC_UNCORRECTABLE
            | Code::CUDA_ERROR_HARDWARE_STACK_ERROR => Self::Lost(format!("{:?}", error.0)),
            code => Self::Driver(format!("{code:?}")),
        }
    }
}

/// The oldest driver that is served, that of JetPack 5: major · 1000 + minor · 10, as `cudarc`'s floor in `Cargo.toml`.
const OLDEST: i32 = 11_040;

/// Whether a driver of this version is served.
///
/// # Errors
/// [`CudaError::DriverTooOld`].
pub(crate) fn served(version: i32) -> Result<(), CudaError> {
    if version < OLDEST { Err(CudaError::DriverTooOld) } else { Ok(()) }
}

impl From<DriverError> for CudaError {
    fn from(error: DriverError) -> Self {
        Self::of(error, 0)
    }
}

#[cfg(test)]
mod tests {
    use cudarc::driver::sys::cudaError_enum as Code;

    use super::*;

    #[test]
    fn codes_of_the_driver_say_what_to_do() {
        let of = |code| CudaError::of(DriverError(code), 7);
        for (code, wanted, advice) in [
            (Code::CUDA_ERROR_OUT_OF_MEMORY, CudaError::OutOfMemory { bytes: 7 }, "no 7 bytes left"),
            (Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, CudaError::DriverTooOld, "update it"),
            (Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, CudaError::DriverTooOld, "update it"),
        ] {
            assert_eq!(of(code), wanted);
            assert!(wanted.to_string().contains(advice), "{wanted}");
        }
        for code in [
            Code::CUDA_ERROR_ILLEGAL_ADDRESS,
            Code::CUDA_ERROR_LAUNCH_FAILED,
            Code::CUDA_ERROR_LAUNCH_TIMEOUT,
            Code::CUDA_ERROR_ECC_UNCORRECTABLE,
            Code::CUDA_ERROR_HARDWARE_STACK_ERROR,
        ] {
            let lost = of(code);
            assert!(matches!(&lost, CudaError::Lost(_)), "{lost:?}");
            assert!(lost.to_string().contains("other targets keep working"), "{lost}");
        }
        assert!(matches!(of(Code::CUDA_ERROR_INVALID_VALUE), CudaError::Driver(_)));
    }

    #[test]
    fn a_driver_before_jetpack_5_is_too_old() {
        assert_eq!(served(11_030), Err(CudaError::DriverTooOld));
        assert!([11_040, 12_060, 13_000].map(served).iter().all(Result::is_ok));
    }
}
