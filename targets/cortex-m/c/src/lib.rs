//! The runtime for firmware in C: what `include/ingraft.h` declares.
//!
//! | file | what it is |
//! |---|---|
//! | `status.rs` | the one enum of reasons, with a text for each |
//! | `plan.rs` | a checked plan: sizes, inputs, outputs |
//! | `session.rs` | bind, switch, run |
//! | `adapter.rs` | a checked adapter |
//! | `trainer.rs` | training a head |
//! | `object.rs`, `pointer.rs` | where `unsafe` is: objects that the caller places, buffers that the caller owns |
//!
//! Functions check pointers for null and alignment, objects for being what they are taken for, and never panic: the panic
//! handler calls a function that does not exist, so a firmware in which a panic is reachable does not link.
//!
//! # Safety
//! The contract that all functions share stands at the top of the header (`cbindgen.toml`); what each reads, writes and keeps,
//! with the function.
#![no_std]

pub mod adapter;
mod object;
mod panic;
pub mod plan;
mod pointer;
pub mod session;
pub mod status;
pub mod trainer;
