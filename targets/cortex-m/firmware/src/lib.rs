//! Firmware to start from: it hears words, switches adapters, learns on the spot, and keeps what it learned through
//! resets and power cuts.
//!
//! | file | what it is | on a board of your own |
//! |---|---|---|
//! | `model.rs`, `build.rs` | plan, clips and sizes in flash | name your model |
//! | `listen.rs` | interrupt → queue → window | feed it from your sensor |
//! | `device.rs` | run, switch, train in one static arena | stays |
//! | `learn.rs` | what is trained, and how | your method and rates |
//! | `normal.rs`, `anomaly` | the same for what is out of order | your rates |
//! | `keep.rs` | adapters in NOR flash | your region |
//! | `nor.rs` | a simulated NOR flash | your flash's driver |
//! | `board.rs` | pin, clock, interrupt, where to report | your HAL |
//!
//! Nothing allocates, and nothing can panic: the panic handler calls a function that does not exist, so a firmware in
//! which a panic is reachable does not link. (With the feature `defmt` it does: its logger can panic.)
#![no_std]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
pub mod board;
pub mod device;
pub mod flash;
pub mod keep;
pub mod learn;
pub mod listen;
pub mod model;
pub mod nor;
pub mod normal;
#[cfg(target_os = "none")]
mod panic;
