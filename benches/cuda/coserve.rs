//! Inferences while the same GPU trains: alone, beside training on a stream that is no better, and on one that goes first.
//!
//! An inference is wanted every four milliseconds, on a thread of its own: its input is written, it runs, its output is read.
//! Meanwhile another thread trains LoRA beside every dense layer, step after step. Every output is compared with that of the
//! inference alone.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use ingraft::adapter::Adapter;
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::plan::{Phase, PlanView};
use ingraft::train::{AdamW, Clip, Setup, Trainer, Truth};
use ingraft_jetson_cuda::{Cuda, CudaMemory};

use crate::support::AlignedBytes;
use crate::training::{CLASSES, LORA, RATE, READOUT, random_input};

const INFERENCES: usize = 500;
const EVERY: Duration = Duration::from_millis(4);

/// The head of the table that [`measure`] prints rows of.
pub(crate) const HEAD: &str = "| model | inferences | median µs | p99 µs | written µs | launched µs | read µs | training steps a second |\n|---|---|---|---|---|---|---|---|";

/// Prints a row for each of the three.
pub(crate) fn measure(cuda: &Cuda, name: &str, model: &[u8]) {
    let mut options = CompileOptions {
        head_classes: CLASSES as u32,
        train_from: Some(TrainFrom::All),
        ..CompileOptions::default()
    };
    options.import.dims.insert("N".into(), 1);
    let compiled = compile(model, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let resident = cuda.keep(&compiled.plan).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let bytes = MemoryNeeds::new(&plan, Phase::Infer, cuda).expect("the GPU runs every step").total();
    let memory = |first: bool| if first { cuda.allocate_first(bytes) } else { cuda.allocate(bytes) };
    let memory = |first| memory(first).expect("the GPU has room");
    let (alone, times) = serve(cuda, plan, memory(false));
    report(name, "alone", times, 0.0);
    for first in [false, true] {
        let (going, steps) = (AtomicBool::new(true), AtomicUsize::new(0));
        let started = Instant::now();
        let (output, times) = thread::scope(|scope| {
            scope.spawn(|| train(cuda, plan, &going, &steps));
            // The first steps are recorded.
            while steps.load(Ordering::Relaxed) < 3 {
                thread::yield_now();
            }
            steps.store(0, Ordering::Relaxed);
            let served = serve(cuda, plan, memory(first));
            going.store(false, Ordering::Relaxed);
            served
        });
        assert_eq!(output, alone, "{name}: an inference beside training gives other bytes");
        let rate = steps.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
        report(name, if first { "first beside training" } else { "beside training" }, times, rate);
    }
}

fn report(name: &str, case: &str, times: Vec<[f64; 3]>, rate: f64) {
    let sorted = |of: &dyn Fn(&[f64; 3]) -> f64| {
        let mut times: Vec<f64> = times.iter().map(of).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (whole, middle) = (sorted(&|parts| parts.iter().sum()), times.len() / 2);
    let (median, late) = (whole[middle], whole[times.len() * 99 / 100]);
    let [written, launched, read] = [0, 1, 2].map(|part| sorted(&|parts| parts[part])[middle]);
    println!(
        "| {name} | {case} | {median:.0} | {late:.0} | {written:.0} | {launched:.0} | {read:.0} | {rate:.0} |"
    );
}

/// Serves inferences; gives their output, which is always the same, and what writing the input, launching, and reading the output
/// took of each in µs.
fn serve(cuda: &Cuda, plan: PlanView<'_>, mut memory: CudaMemory) -> (Vec<u8>, Vec<[f64; 3]>) {
    let base: Option<&Adapter<'_>> = None;
    let mut session = Session::bind(plan, Phase::Infer, cuda, &mut memory).expect("memory suffices");
    let input = random_input(&plan, 99);
    let tensor = plan.outputs().next().and_then(|io| plan.tensor(io.tensor)).expect("a plan has an output");
    let len = tensor.operand.shape.elements() * tensor.operand.dtype.size();
    let (mut outputs, mut times) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for round in 0..INFERENCES as u32 {
        while begun.elapsed() < EVERY * round {
            thread::yield_now();
        }
        let (mut last, mut output) = (Instant::now(), vec![0; len]);
        let mut lap = || core::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64() * 1e6;
        session.write_input(0, &input).expect("the input has this length");
        let written = lap();
        session.run(&base).expect("it runs");
        let launched = lap();
        session.read_output(0, &mut output).expect("the output has this length");
        times.push([written, launched, lap()]);
        outputs.push(output);
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "the same inference gives other bytes");
    (outputs.swap_remove(0), times)
}

/// Trains while `going`, counting steps.
fn train(cuda: &Cuda, plan: PlanView<'_>, going: &AtomicBool, steps: &AtomicUsize) {
    let sites: Vec<u32> = READOUT.adapted(&plan, &LORA).collect();
    let setup = Setup::new(&LORA, &sites, READOUT, &AdamW::DEFAULT, RATE);
    let needs = Trainer::memory(&plan, cuda, &setup).expect("the plan can be trained");
    let mut memory = cuda.allocate(needs.device()).expect("the GPU has room");
    let mut beside = AlignedBytes::zeroed(needs.beside());
    let mut trainer = Trainer::bind_apart(plan, cuda, setup, &mut memory, beside.as_mut()).expect("it binds");
    let clip = random_input(&plan, 1);
    while going.load(Ordering::Relaxed) {
        trainer.accumulate(Clip::Inputs(&clip), Truth::Class(0)).expect("a sample of this plan");
        trainer.step().expect("gradients are finite");
        steps.fetch_add(1, Ordering::Relaxed);
    }
}
