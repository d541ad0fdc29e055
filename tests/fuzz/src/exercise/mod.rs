//! What a fuzz target does with its bytes: everything a program may do with a file of that kind.
//!
//! Every function here must return, whatever the bytes. `tests/untrusted` runs them on the seeds and on inputs that
//! were findings once; the fuzzer runs them on what it makes of both.
//!
//! A hash or a length that is wrong is made right first, and the file read as it was before that: bytes that stop at
//! the first check would find nothing behind it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each user has a part")]

mod adapter;
mod base;
mod npy;
mod onnx;
mod onnx_adapter;
mod peft;
mod plan;
mod store;
mod wav;

pub use adapter::adapter;
pub use base::{MODELS, hosts, model, plan_file, room};
pub use npy::npy;
pub use onnx::{MODEL_BYTES, onnx};
pub use onnx_adapter::onnx_adapter;
pub use peft::{fits, joined, on, peft, split};
pub use plan::plan;
pub use store::{IMAGE_BYTES, REGION, lived, store};
pub use wav::wav;

/// What a target does with its bytes.
pub type Exercise = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: [(&str, Exercise); 8] = [
    ("adapter", adapter),
    ("npy", npy),
    ("onnx_adapter", onnx_adapter),
    ("onnx_import", onnx),
    ("plan", plan),
    ("safetensors_peft", peft),
    ("store_recovery", store),
    ("wav", wav),
];

/// `bytes` with their number in the place where plans and adapters keep it, and their hash.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if sealed.len() > 48 {
        let len = sealed.len() as u32;
        sealed[12..16].copy_from_slice(&len.to_le_bytes());
        let hash = blake3::hash(&sealed[48..]);
        sealed[16..48].copy_from_slice(hash.as_bytes());
    }
    sealed
}
