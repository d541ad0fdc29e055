//! Training on the device: losses, optimizers, the trainer.
//!
//! A [`Trainer`] takes a plan with a training schedule, a [`Method`] that says
//! which terms the sites get, a [`Loss`], an [`Optimizer`] and memory whose size
//! is known to the byte beforehand ([`Trainer::memory`]). It changes adapter
//! parameters only; the base stays as it is.
//!
//! The unit is the clip: its patches are pooled before the head, and gradients
//! flow back to each of them. Everything is seeded and sums in a fixed order, so
//! a run can be repeated to the bit.
#![no_std]
#![forbid(unsafe_code)]

mod clip;
mod coserve;
mod error;
mod head;
mod loss;
mod memory;
mod method;
mod optim;
mod parameters;
mod prefix;
pub mod private;
mod readout;
mod reservoir;
mod revise;
mod route;
mod schedule;
mod setup;
mod site;
mod stop;
mod trainer;
mod twofold;

pub use clip::Clip;
pub use coserve::{Arrival, CoServe, Turn};
pub use error::TrainError;
pub use head::TrainedHead;
pub use loss::{Loss, Truth};
pub use memory::TrainMemory;
pub use method::{
    Latent, LatentGradients, LatentHolder, LatentLayout, LatentTensor, LatentValues, Method, Part, PartRate,
    Setting, SiteValues, TermLayout, Unfit,
};
pub use optim::{
    Adam, AdamStep, AdamW, Beta, Bf16, Compact, Elementwise, Format, GaLore, Group, GroupShape, Int8,
    MAX_HISTORY, MAX_SLOTS, Momentum, Moves, OPTIMIZERS, Optimizer, Rate, STATE_BLOCK, Sgd, Slot, optimizer,
    soft_threshold,
};
pub use parameters::Parameters;
pub use readout::{Readout, adapts};
pub use reservoir::Reservoir;
pub use revise::{LatentSites, Revision};
pub use schedule::{Schedule, ScheduleShape};
pub use setup::{LearningRate, Setup};
pub use site::{FrozenSite, SiteScales};
pub use stop::{EarlyStop, Verdict};
pub use trainer::{Evaluation, Trainer};
