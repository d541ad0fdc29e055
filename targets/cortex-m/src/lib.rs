//! Microcontrollers: int8 kernels with the DSP and Helium instructions of Cortex-M, and in plain Rust
//! for cores without them.
//!
//! A program is compiled for one core, so what the core has is known then: the build script
//! reads it off the target and its flags, and instructions stand only in programs for which that
//! holds. Everywhere else the same loops are plain Rust, so that every target of this crate computes the same bits on
//! every machine: tests and sizes of a device are had on a host.
//!
//! # Kernels
//! Weights are used where they lie, in flash; nothing is packed at bind. A convolution or linear layer multiplies a few
//! rows of activations (`patch`) with the weights of a few channels at a time (`isa`, `dsp`, `helium`, `portable`); sums
//! of a part then become codes (`requantize`). Depthwise windows are lists of taps (`qdepthwise`). Rows called `LEAN` have no
//! reference behind them, which firmware then does not link.
//!
//! # Numerics
//! Integer results equal the reference to the bit, and so do float results: what is not computed on integers is left to
//! the reference or done in its order.
//!
//! # Examples
//!
//! ```
//! use ingraft_cortex_m::native;
//! use ingraft_kernel::Target;
//!
//! // On a board, this is the table for the core the firmware is compiled for.
//! assert!(native().name().starts_with("cortex-m"));
//! ```
#![no_std]

mod asm;
mod asm_float;
mod dsp;
mod helium;
mod isa;
mod low_rank;
mod patch;
mod portable;
mod qconv;
mod qdepthwise;
mod requantize;
mod taps;

use ingraft_kernel::Host;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident: $isa:ty, $suffix:literal) => {
        $(#[$doc])*
        pub mod $name {
            use ingraft_kernel::Kernel;

            use crate::{qconv, qdepthwise};

            /// int8 convolution and linear layers with int8 output.
            pub const QCONV: Kernel = qconv::codes::<$isa, true>(concat!("qconv_qs8_qc8w_qs8__", $suffix));
            /// The same with f32 output.
            pub const QCONV_F32: Kernel = qconv::reals::<$isa, true>(concat!("qconv_qs8_qc8w_f32__", $suffix));
            /// The same with the accumulators as output.
            pub const QCONV_I32: Kernel = qconv::accumulators::<$isa>(concat!("qconv_qs8_qc8w_s32__", $suffix));
            /// int8 depthwise convolution.
            pub const QDEPTHWISE: Kernel =
                qdepthwise::codes::<$isa, true>(concat!("qdepthwise_qs8_qc8w_qs8__", $suffix));
            /// [`QCONV`] without the reference behind it: real factors, ranks beyond 16, overlays and trained deltas are
            /// refused in a run ([`ingraft_kernel::KernelError::Terms`]). For firmware whose adapters have none of these.
            pub const QCONV_LEAN: Kernel =
                qconv::codes::<$isa, false>(concat!("qconv_qs8_qc8w_qs8__", $suffix, "_lean"));
            /// [`QCONV_F32`] without the reference behind it.
            pub const QCONV_F32_LEAN: Kernel =
                qconv::reals::<$isa, false>(concat!("qconv_qs8_qc8w_f32__", $suffix, "_lean"));
            /// [`QDEPTHWISE`] without the reference behind it: overlays and trained deltas are refused.
            pub const QDEPTHWISE_LEAN: Kernel =
                qdepthwise::codes::<$isa, false>(concat!("qdepthwise_qs8_qc8w_qs8__", $suffix, "_lean"));
            /// Every row.
            pub const ALL: &[Kernel] = &[QCONV, QCONV_F32, QCONV_I32, QDEPTHWISE];
        }
    };
}

table! {
    /// Rows in plain Rust, for `Host::only`.
    portable_rows: crate::portable::Portable, "portable"
}

table! {
    /// Rows with the DSP extension, for `Host::only`.
    dsp_rows: crate::dsp::Dsp, "dsp"
}

table! {
    /// Rows with Helium, for `Host::only`.
    helium_rows: crate::helium::Helium, "helium"
}

#[cfg(all(dsp, not(helium)))]
pub use dsp_rows as rows;
#[cfg(helium)]
pub use helium_rows as rows;
#[cfg(not(any(dsp, helium)))]
pub use portable_rows as rows;

/// The target `cortex-m`: rows in plain Rust, then the scalar reference.
pub const fn portable() -> Host {
    Host::new("cortex-m", portable_rows::ALL, &[])
}

/// The target `cortex-m-dsp`: Cortex-M4, M7 and M33.
pub const fn dsp() -> Host {
    Host::new("cortex-m-dsp", dsp_rows::ALL, &[])
}

/// The target `cortex-m-helium`: Cortex-M55, M85 and M52.
pub const fn helium() -> Host {
    Host::new("cortex-m-helium", helium_rows::ALL, &[])
}

/// The target for the core that the program is compiled for.
pub const fn native() -> Host {
    if cfg!(helium) {
        helium()
    } else if cfg!(dsp) {
        dsp()
    } else {
        portable()
    }
}
