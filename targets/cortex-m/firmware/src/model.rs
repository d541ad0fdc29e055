//! What lies in flash beside the program: the plan, an adapter from the laboratory, clips; and the sizes that the build
//! script read off the plan.

use ingraft_kernel::Host;

use crate::flash::{Aligned, file};
use crate::learn::{Codes, Example};

/// The base.
pub static PLAN: &Aligned<[u8]> = file!("base.plan");
/// A head that was trained in the laboratory, on windows of its sensor.
pub static LABORATORY: &Aligned<[u8]> = file!("laboratory.adapter");
/// The clips that were stored on the spot, to learn from.
static EXAMPLES: &Aligned<[u8]> = file!("examples");
/// Other clips from there, to judge by.
static HELD_OUT: &Aligned<[u8]> = file!("held_out");

include!(concat!(env!("OUT_DIR"), "/model.rs"));

/// The kernels of [`PLAN`] and of a head, and no others.
pub static TARGET: Host = Host::only("firmware", KERNELS);

/// The stored clips.
pub fn examples() -> impl Iterator<Item = Example<'static>> + Clone {
    clips(&EXAMPLES.0)
}

/// The clips to judge by.
pub fn held_out() -> impl Iterator<Item = Example<'static>> + Clone {
    clips(&HELD_OUT.0)
}

/// Clips one behind the other, each a byte for its class and its codes.
fn clips(file: &'static [u8]) -> impl Iterator<Item = Example<'static>> + Clone {
    file.chunks_exact(WINDOW + 1).filter_map(|clip| {
        let (class, codes) = clip.split_first()?;
        Some(Example { class: usize::from(*class), codes: ingraft_tensor::bytes::cast(codes)? })
    })
}

/// What must come of the clips.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Class of the first clip by the base.
    pub base_class: usize,
    /// The same by the laboratory's adapter.
    pub laboratory_class: usize,
    /// Hash of the base's output for it.
    pub base_output: [u8; 32],
    /// Hash of the adapter that is learned on the spot.
    pub learned: [u8; 32],
    /// Clips to judge by that are right with the laboratory's adapter, and with what was learned on the spot.
    pub right: [u32; 2],
}
