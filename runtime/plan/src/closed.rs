//! A plan without sites.

use alloc::vec::Vec;

use ingraft_tensor::hash;
use zerocopy::{FromBytes, IntoBytes};

use crate::PlanView;
use crate::record::{HASH_END, Header, NONE, StepRecord};

/// The inference of `plan` with no place for an adapter, as a plan of its own: what a run without an active adapter is
/// measured against.
pub fn closed(plan: &PlanView<'_>) -> Vec<u8> {
    let mut file = plan.bytes().to_vec();
    let Ok((header, _)) = Header::read_from_prefix(&file) else { return file };
    let steps = header.infer.offset as usize..;
    let steps = file.get_mut(steps).unwrap_or(&mut []).chunks_exact_mut(size_of::<StepRecord>());
    for step in steps.take(header.infer.count as usize) {
        if let Ok(step) = StepRecord::mut_from_bytes(step) {
            step.site = NONE;
        }
    }
    let mut closed = header;
    closed.sites.count = 0;
    closed.train.count = 0;
    write(&mut file, &closed);
    closed.hash = hash::blake3(file.get(HASH_END..).unwrap_or(&[]));
    write(&mut file, &closed);
    file
}

fn write(file: &mut [u8], header: &Header) {
    if let Some(start) = file.get_mut(..size_of::<Header>()) {
        start.copy_from_slice(header.as_bytes());
    }
}
