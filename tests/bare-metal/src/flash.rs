//! What lies in flash: files made by the build script, and what the host computed from them.

/// Bytes that start at a 16-byte boundary, as plans, adapters and arenas must.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(pub T);

macro_rules! file {
    ($name:literal) => {
        &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name)))
    };
}

/// The built-in model, for inference.
pub static PLAN: &Aligned<[u8]> = file!("infer.plan");
/// The built-in model with a training schedule and a front end.
pub static TRAIN_PLAN: &Aligned<[u8]> = file!("train.plan");
/// An adapter of [`PLAN`].
pub static ADAPTER: &Aligned<[u8]> = file!("site.adapter");
/// One input of [`PLAN`].
pub static INPUT: &Aligned<[u8]> = file!("input.f32");
/// What the host's reference gives for it with the base.
pub static BASE_OUTPUT: &Aligned<[u8]> = file!("base.out");
/// What the host's reference gives for it with the adapter.
pub static ADAPTER_OUTPUT: &Aligned<[u8]> = file!("adapter.out");

include!(concat!(env!("OUT_DIR"), "/host.rs"));
