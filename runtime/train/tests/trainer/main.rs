//! The trainer on a small int8 network built in code.

mod coserve;
mod everything;
mod gradient;
mod memory;
mod oracle;
mod private;
mod refusals;
mod setup;
#[allow(dead_code, reason = "shared with the methods' tests, which look at more of it")]
mod surrogate;
mod tiny;
mod training;
mod update;
