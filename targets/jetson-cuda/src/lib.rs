//! The CUDA target: the same plan and adapter bytes on Jetson and other NVIDIA GPUs.
//!
//! - **Memory.** A [`CudaMemory`] holds a session's activations. A plan and adapters are kept on the GPU by
//!   [`Cuda::keep`] and used from there in place; what is not is copied for every run, which is right and slow.
//! - **One graph.** The first run of a session is recorded as a CUDA graph, later ones replay it. Kernels find the
//!   terms of their site in a table on the GPU, so that switching adapters is one small copy and never a recording.
//! - **Overlays.** [`Cuda::share`] gives memory that `exec::Resident` and `exec::PatchedCopy` write integer overlays into: weights with
//!   the overlay in them, of which the GPU has a copy, so that an overlay costs what the base does.
//! - **Training.** Forward and backward are a graph each. Terms are read from copies of the trainer's parameters that
//!   are brought along once a step, gradients add up on the GPU and are fetched once a step.
//! - **Numbers.** int8 results equal the scalar reference to the bit: integer sums are exact in any order, and the
//!   epilogue rounds each f32 operation by itself (images are built without contraction). Sums of reals, with fused
//!   multiply-adds where a kernel says so, agree within the bound of the conformance cases; what only moves, chooses or
//!   converts is exact. Gradients are f32 sums in an order that extents alone decide, so the same step gives the same
//!   bytes.
//! - **Indices.** One that comes with an input and leads outside is [`KernelError::Index`](ingraft_kernel::KernelError::Index),
//!   as on the host: runs of plans with such a step wait for the GPU.
//! - **f16.** [`Cuda::with_halves`] is the target `cuda-fp16`: float convolutions, linear layers and products of two activations in f16,
//!   depthwise layers with weights in f16.
//! - **Building.** Kernels are compiled ahead of time (`build.py`) and committed, the driver is loaded at run time: a
//!   build needs no CUDA, and without a driver [`Cuda::open`] says so.
//!
//! Kernel names are `family_types`, with `_words`, `_fours`, `_unit`, `_bytes` or `_single` for how operands are read,
//! `_three` or `_five` for a window known when compiled, and `_wide`, `_split`, `_rows`, `_side`, `_warp`, `_block` or
//! `_one` for how the work is cut.

mod chain;
mod descent;
mod device;
mod error;
mod image;
mod launch;
mod memory;
mod params;
mod resident;
mod rows;
mod streams;
mod sums;
mod target;
mod terms;

pub use error::CudaError;
pub use memory::CudaMemory;
pub use resident::{Resident, Shared};
pub use target::{Cuda, Info};
