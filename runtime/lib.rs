//! Ingraft: an adaptation runtime for the edge.
//!
//! One frozen, quantized base model from ONNX; many small adapters. The base
//! runs in int8 on anything from a Cortex-M4 to a Jetson, an adapter is trained
//! on the device itself, adapters switch between two inferences, and the way
//! back to the base is exact, bit for bit.
//!
//! This crate re-exports the parts; each is a crate of its own, so that firmware
//! links only what it runs:
//!
//! | module | what it is | needs |
//! |---|---|---|
//! | [`tensor`] | element types, shapes, views | core |
//! | [`kernel`] | operators, the [`kernel::Target`] contract, the scalar reference | core |
//! | [`adapter`] | checked adapter files, attach, switch, detach | core |
//! | [`plan`] | the file that crosses from host to device | core |
//! | [`exec`] | running a plan in caller memory | core |
//! | [`train`] | training an adapter in caller memory | core |
//! | [`store`] | adapters in flash or a directory through power cuts, signatures | core |
//! | [`signal`] | audio and image front ends | core |
//! | [`method`] | the adaptation methods by name | alloc |
//! | [`compile`] | ONNX to plan | std |
//! | `x86_64` | AVX2 kernels, on that architecture | core |
//! | `arm_neon` | NEON, dotprod and i8mm kernels, on 64-bit Arm | core |
//!
//! # Examples
//!
//! From ONNX bytes to an output, on any host:
//!
//! ```
//! use ingraft::adapter::Base;
//! use ingraft::exec::{MemoryNeeds, Session};
//! use ingraft::kernel::Host;
//! use ingraft::plan::{Phase, PlanView};
//! use ingraft::tensor::bytes;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = ingraft::compile::CompileOptions::default();
//! options.import.dims.insert("N".into(), 1);
//! let compiled = ingraft::compile::compile(ingraft_models::demo::BASE_INT8, &options)?;
//!
//! // The plan is used in place, from any 16-byte aligned memory.
//! let mut file = vec![0u8; compiled.plan.len() + bytes::ALIGN];
//! let file = &mut bytes::aligned_mut(&mut file)[..compiled.plan.len()];
//! file.copy_from_slice(&compiled.plan);
//! let plan = PlanView::new(file)?;
//!
//! let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR)?;
//! let mut memory = vec![0u8; needs.total() + bytes::ALIGN];
//! let memory = bytes::aligned_mut(&mut memory);
//! let mut session = Session::bind(plan, Phase::Infer, &Host::SCALAR, memory)?;
//! session.run(&Base)?;
//! assert!(session.output(0).is_some());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub use ingraft_adapter as adapter;
#[cfg(target_arch = "aarch64")]
pub use ingraft_arm_neon as arm_neon;
pub use ingraft_compile as compile;
pub use ingraft_exec as exec;
pub use ingraft_kernel as kernel;
pub use ingraft_method as method;
pub use ingraft_plan as plan;
pub use ingraft_signal as signal;
pub use ingraft_store as store;
pub use ingraft_tensor as tensor;
pub use ingraft_train as train;
#[cfg(target_arch = "x86_64")]
pub use ingraft_x86_64 as x86_64;
