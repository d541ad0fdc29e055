//! What lies in flash: files made by the build script, and what the host computed from them.

use crate::in_flash::file;

pub use crate::in_flash::Aligned;

/// A file of the counted model, at a 16-byte boundary, in a section that machines with little memory for code keep elsewhere.
macro_rules! counted {
    ($name:literal) => {{
        const LEN: usize = include_bytes!(concat!(env!("OUT_DIR"), "/", $name)).len();
        // SAFETY: a section of constants, whose name begins as that of all constants.
        #[allow(unsafe_code, reason = "the attribute that names a section")]
        #[unsafe(link_section = ".rodata.counted")]
        static FILE: Aligned<[u8; LEN]> = Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name)));
        &FILE
    }};
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

/// The model whose instructions are counted.
pub static COUNT_PLAN: &Aligned<[u8]> = counted!("count.plan");
/// An adapter of rank 2 on its 1×1 layers.
pub static COUNT_RANK_2: &Aligned<[u8]> = counted!("count.rank_2");
/// The same of rank 4.
pub static COUNT_LOW_RANK: &Aligned<[u8]> = counted!("count.low_rank");
/// An overlay of one weight in a hundred of its dense layers.
pub static COUNT_SPARSE: &Aligned<[u8]> = counted!("count.sparse");
/// One input of it.
pub static COUNT_INPUT: &Aligned<[u8]> = counted!("count.input");

include!(concat!(env!("OUT_DIR"), "/host.rs"));
