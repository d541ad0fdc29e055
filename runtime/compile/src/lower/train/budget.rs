//! A training schedule within a budget of memory.

use super::{TrainFrom, TrainSchedule, derive, in_place, lowest_step};
use crate::lower::memory::{MemoryPlan, live_ranges, place, place_around};
use crate::lower::{LowerError, Program};

/// Where the tensors of `schedule` lie: model inputs where inference, placed as `infer` says, has them, since a plan names
/// every input once.
pub fn place_beside(schedule: &TrainSchedule, infer: &MemoryPlan) -> MemoryPlan {
    let inputs = schedule.program.inputs.iter().map(|(_, input)| schedule.program.root(*input));
    let fixed = inputs.filter_map(|input| Some((input, *infer.offsets.get(&input)?))).collect();
    place_around(&live_ranges(&schedule.program, schedule.backward), &fixed)
}

/// The schedule that trains from `from` on, or else from the first later site from which `budget` bytes suffice;
/// sites asked for by name are trained all or not at all.
///
/// Where they do not suffice otherwise, gradients are written over those they are computed from: slower where a
/// target has a kernel that prefers whole tensors, the same to the bit.
///
/// # Errors
/// [`LowerError::TrainMemory`] says what the least schedule would need; those of [`derive()`].
pub fn fit(program: &Program, from: &TrainFrom, budget: usize) -> Result<TrainSchedule, LowerError> {
    let lowest = lowest_step(program, from)?;
    let infer = place(&live_ranges(program, 0));
    let arena_bytes = |schedule: &TrainSchedule| place_beside(schedule, &infer).arena_bytes;
    let mut needed = usize::MAX;
    for site in program.sites.iter().filter(|site| site.step >= lowest) {
        let candidate = match from {
            TrainFrom::Sites(_) if site.step > lowest => break,
            TrainFrom::Sites(_) => from.clone(),
            _ => TrainFrom::Site(site.name.clone()),
        };
        let schedule = match derive(program, &candidate) {
            Ok(schedule) if schedule.backward > schedule.cut => schedule,
            Ok(_) => continue,
            Err(error @ LowerError::NoBackward { .. }) if site.step == lowest => return Err(error),
            Err(_) => continue,
        };
        if arena_bytes(&schedule) <= budget {
            return Ok(schedule);
        }
        let schedule = in_place(schedule);
        let bytes = arena_bytes(&schedule);
        if bytes <= budget {
            return Ok(schedule);
        }
        needed = needed.min(bytes);
    }
    Err(LowerError::TrainMemory { budget, needed })
}
