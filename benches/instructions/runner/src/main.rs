//! `run-plan BASE.plan TARGET COUNT [train]`: COUNT inferences on zeros, or steps of full training on one sample of zeros, then
//! their median time.
//!
//! Two runs with different counts give the instructions of one inference, or of one step, as a difference.
#![forbid(unsafe_code)]

mod training;

use std::time::{Duration, Instant};

use ingraft_adapter::Base;
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, name, count, train) = match arguments.as_slice() {
        [path, name, count] => (path, name, count, false),
        [path, name, count, train] if train == "train" => (path, name, count, true),
        _ => {
            return Err(
                "usage: run-plan BASE.plan scalar|arm-neon|arm-dotprod|arm-i8mm|arm-fp16 COUNT [train]"
                    .into(),
            );
        }
    };
    let target = target(name).ok_or_else(|| format!("this processor has no target {name}"))?;
    let file = std::fs::read(path)?;
    let mut aligned = vec![0; file.len() + bytes::ALIGN];
    let aligned = bytes::aligned_mut(&mut aligned).get_mut(..file.len()).ok_or("no memory")?;
    aligned.copy_from_slice(&file);
    let plan = PlanView::new(aligned)?;
    let inputs: Vec<Vec<u8>> = plan
        .inputs()
        .filter_map(|input| plan.tensor(input.tensor))
        .map(|tensor| vec![0; tensor.operand.shape.elements() * tensor.operand.dtype.size()])
        .collect();
    let count = count.parse()?;
    let mut times = if train {
        training::steps(plan, &target, &inputs.concat(), count)?
    } else {
        inferences(plan, &target, &inputs, count)?
    };
    times.sort();
    if let Some(median) = times.get(times.len() / 2) {
        println!("{path} {name} median_us={}", median.as_micros());
    }
    Ok(())
}

/// The times of `count` inferences.
fn inferences(
    plan: PlanView<'_>,
    target: &Host,
    inputs: &[Vec<u8>],
    count: usize,
) -> Result<Vec<Duration>, Failure> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target)?;
    let mut memory = vec![0; needs.total() + bytes::ALIGN];
    let mut session = Session::bind(plan, Phase::Infer, target, bytes::aligned_mut(&mut memory))?;
    let mut times = Vec::new();
    for _ in 0..count {
        for (index, input) in inputs.iter().enumerate() {
            session.write_input(index, input)?;
        }
        let start = Instant::now();
        session.run(&Base)?;
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
