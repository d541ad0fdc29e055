//! What lies in flash beside the program, and what the build script read off the plan.

use ingraft_firmware::flash::{Aligned, file};
use ingraft_firmware::learn::Codes;
use ingraft_kernel::Host;
use ingraft_tensor::bytes;

/// The base.
pub(crate) static PLAN: &Aligned<[u8]> = file!("anomaly.plan");
/// What was learned in the laboratory, with its sensor.
pub(crate) static LABORATORY: &Aligned<[u8]> = file!("anomaly.adapter");
/// Windows of a machine in good order on the spot, to learn from.
static EXAMPLES: &Aligned<[u8]> = file!("anomaly.examples");
/// Clips from there, to judge by.
static CLIPS: &Aligned<[u8]> = file!("anomaly.clips");

include!(concat!(env!("OUT_DIR"), "/anomaly.rs"));

/// The kernels of [`PLAN`], for inference and for training, and no others.
pub(crate) static TARGET: Host = Host::only("firmware", KERNELS);

/// The stored windows.
pub(crate) fn examples() -> impl Iterator<Item = &'static [i8]> + Clone {
    EXAMPLES.0.chunks_exact(WINDOW).filter_map(bytes::cast)
}

/// The clips to judge by, and whether each is out of order.
pub(crate) fn clips() -> impl Iterator<Item = (bool, &'static [i8])> {
    CLIPS.0.chunks_exact(CLIP + 1).filter_map(|clip| {
        let (faulty, codes) = clip.split_first()?;
        Some((*faulty != 0, bytes::cast(codes)?))
    })
}

/// What must come of the windows.
pub(crate) struct Expected {
    /// Hash of what the base gives back of the first window.
    pub(crate) base_output: [u8; 32],
    /// Hash of the adapter that is learned on the spot.
    pub(crate) learned: [u8; 32],
    /// Clips that are judged right with the laboratory's adapter, and with what was learned on the spot.
    pub(crate) right: [u32; 2],
}
