//! What adapters reach on real recordings: one command per figure.
//!
//! ```text
//! cargo bench --bench tasks -- TASK... [--method NAME] [--blocks N] [--head-at N] [--set NAME=VALUE]
//!                              [--augment CHANGE=RANGE,...] [--views K] [--lr RATE] [--head-lr RATE]
//!                              [--head-decay DECAY] [--head-first EPOCHS] [--epochs N] [--batch N]
//!                              [--schedule constant|linear|cosine] [--warmup SHARE] [--smoothing SHARE] [--state f32|bf16|int8]
//!                              [--seeds N] [--first-seed N] [--split blocks] [--choose [--inner N]] [--dump FILE.npz] [--quick]
//!                              [--threads N]
//! ```
//!
//! TASK is one of `uav_detect`, `esc10_cc0`, `uav_motor_prop`, `spoken_digits` (int8 YAMNet) and `keywords` (int8
//! DS-CNN). NAME is a method of `ingraft methods`, or `lr`: the logistic regression on mean features that
//! every adapter must beat. Figures are those of the written adapter, attached to a fresh session.
//!
//! The unit is the clip, splits are the committed files, early stopping sees the training loss alone, and one recipe
//! per task ([`task`]) serves all folds and seeds; `--choose` prints the grid it was chosen from, on inner folds of
//! every split's training clips, and `--dump` writes what `search.py` searches wider grids on, on a GPU.

mod arguments;
mod base;
mod baseline;
mod choose;
mod corpus;
mod course;
mod deployed;
mod dump;
mod experiment;
mod keywords;
mod lessons;
mod pass;
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;
mod task;

use core::error::Error;

use arguments::Arguments;

/// Whatever went wrong, on any thread.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let Some(data) = support::data() else { return Ok(()) };
    if arguments.tasks.is_empty() {
        println!("name a task: {}, keywords", task::names());
    }
    for name in &arguments.tasks {
        match task::find(name) {
            Some(task) => experiment::run(&data, task, &arguments)?,
            None if name == "keywords" => keywords::run(&data, &arguments)?,
            None => return Err(format!("there is no task {name}: {}, keywords", task::names()).into()),
        }
    }
    Ok(())
}
