//! `run-plan BASE.plan TARGET COUNT [WHAT]`: COUNT inferences on zeros, then their median time. WHAT is `closed` for the plan
//! without sites, a rank for resident low-rank factors on every 1×1 convolution, or `train` for steps of full training on one
//! sample of zeros in the place of inferences.
//!
//! Two runs with different counts give the instructions of one inference, or of one step, as a difference.
#![forbid(unsafe_code)]

#[path = "../../../adapters/made.rs"]
#[allow(dead_code, reason = "the bench of adapters uses more")]
mod made;
#[path = "../../../../tests/support/mod.rs"]
mod support;
mod training;

// As those files know them. The facade itself would bring the compiler of models.
extern crate self as ingraft;
use ingraft_adapter as adapter;
use ingraft_exec as exec;
use ingraft_kernel as kernel;
use ingraft_plan as plan;
use ingraft_tensor as tensor;

use std::time::{Duration, Instant};

use ingraft_adapter::{Adapter, Base, TermSource};
use ingraft_exec::{MemoryNeeds, Resident, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use support::AlignedBytes;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, name, count, what) = match arguments.as_slice() {
        [path, name, count] => (path, name, count, None),
        [path, name, count, what] => (path, name, count, Some(what.as_str())),
        _ => {
            return Err("usage: run-plan BASE.plan scalar|arm-neon|arm-dotprod|arm-i8mm|arm-fp16 COUNT \
                        [closed|RANK|train]"
                .into());
        }
    };
    let target = target(name).ok_or_else(|| format!("this processor has no target {name}"))?;
    let mut file = AlignedBytes::copy_of(&std::fs::read(path)?);
    if what == Some("closed") {
        file = AlignedBytes::copy_of(&plan::closed(&PlanView::new(file.as_slice())?));
    }
    let plan = PlanView::new(file.as_slice())?;
    let inputs: Vec<Vec<u8>> = plan
        .inputs()
        .filter_map(|input| plan.tensor(input.tensor))
        .map(|tensor| vec![0; tensor.operand.shape.elements() * tensor.operand.dtype.size()])
        .collect();
    let count = count.parse()?;
    let mut times = match what {
        Some("train") => training::steps(plan, &target, &inputs.concat(), count)?,
        None | Some("closed") => inferences(plan, &target, &inputs, count, None)?,
        Some(rank) => inferences(plan, &target, &inputs, count, Some(rank.parse()?))?,
    };
    times.sort();
    if let Some(median) = times.get(times.len() / 2) {
        println!("{path} {name} median_us={}", median.as_micros());
    }
    Ok(())
}

/// The times of `count` inferences, with factors of `rank` on every 1×1 convolution if there is one.
fn inferences(
    plan: PlanView<'_>,
    target: &Host,
    inputs: &[Vec<u8>],
    count: usize,
    rank: Option<usize>,
) -> Result<Vec<Duration>, Failure> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target)?;
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut())?;
    let file =
        rank.map(|rank| made::adapter(&plan, false, |site, _, rng| Some(made::low_rank(site, rank, rng))));
    let adapter = file.as_ref().map(|file| Adapter::attach(file.as_slice(), &plan)).transpose()?;
    let bytes = adapter.map(|adapter| Resident::bytes(&session, &adapter)).transpose()?;
    let mut packed = AlignedBytes::zeroed(bytes.unwrap_or(0));
    let resident = adapter.map(|adapter| Resident::new(&session, adapter, packed.as_mut())).transpose()?;
    let source: &dyn TermSource = match &resident {
        Some(resident) => resident,
        None => &Base,
    };
    let mut times = Vec::new();
    for _ in 0..count {
        for (index, input) in inputs.iter().enumerate() {
            session.write_input(index, input)?;
        }
        let start = Instant::now();
        session.run(&source)?;
        times.push(start.elapsed());
    }
    Ok(times)
}

#[cfg(target_arch = "aarch64")]
fn target(name: &str) -> Option<Host> {
    use ingraft_arm_neon::{DotProd, Fp16, I8mm, Neon, dotprod, fp16, i8mm, neon};
    match name {
        "scalar" => Some(Host::SCALAR),
        "arm-neon" => Neon::detect().map(neon),
        "arm-dotprod" => DotProd::detect().map(dotprod),
        "arm-i8mm" => I8mm::detect().map(i8mm),
        "arm-fp16" => Some(fp16(Fp16::detect()?, I8mm::detect().map(i8mm)?)),
        _ => None,
    }
}

#[cfg(not(target_arch = "aarch64"))]
fn target(name: &str) -> Option<Host> {
    (name == "scalar").then_some(Host::SCALAR)
}
