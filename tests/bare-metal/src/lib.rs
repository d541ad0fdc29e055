//! The runtime on a microcontroller: what the binaries share.
//!
//! `infer` runs the built-in model from flash, `train` teaches it something, both
//! compared with the host to the bit; `no-panic` is linked and never run.
#![no_std]
#![deny(unsafe_code)]

pub mod command;
pub mod end;
pub mod flash;
pub mod hear;
#[path = "../../../targets/cortex-m/firmware/src/flash.rs"]
pub mod in_flash;
pub mod inference;
#[path = "../../../targets/cortex-m/firmware/src/learn.rs"]
pub mod learn;
pub mod reach;
pub mod training;
