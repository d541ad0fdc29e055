//! Every method on the small int8 network of the trainer's tests.

mod adapters;
mod continued;
mod masks;
mod revisions;
mod scores;
mod shared;
mod starts;

#[path = "../../../train/tests/trainer/oracle.rs"]
mod oracle;
#[path = "../../../train/tests/trainer/setup.rs"]
mod setup;
#[path = "../../../train/tests/trainer/surrogate.rs"]
mod surrogate;
#[allow(dead_code, reason = "shared with the trainer's tests, which use more of it")]
#[path = "../../../train/tests/trainer/tiny.rs"]
mod tiny;
