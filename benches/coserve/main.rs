//! Training in the gaps of a stream of inferences, on one thread: what it costs the inferences, and what of the idle
//! time it gets.
//!
//! `cargo bench --bench coserve -- [METHOD [SECONDS [ROUNDS]]]`: the int8 YAMNet answers 20 patches a second, as a
//! microphone would send them, while an adapter of it trains on recordings (`lora` of rank 8 on the late sites, or
//! `full` on all). Windows of SECONDS with inferences alone, with both, and with training alone take turns for ROUNDS,
//! so that what else runs on the machine falls on all three alike. At the end the adapter is compared with that of
//! training which nothing interrupted.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;
mod window;

use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::Target;
use ingraft::method::{Full, Lora};
use ingraft::plan::{Phase, PlanView};
use ingraft::signal::Recipe;
use ingraft::train::{CoServe, Method, Setup, Trainer};
use ingraft_dataset::Dataset;
use support::AlignedBytes;
use window::{Latencies, Lesson, Pupil, Stream};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let argument =
        |index: usize, default: &str| arguments.get(index).map_or(default, String::as_str).to_owned();
    let lora = Lora { rank: 8, alpha: 8.0, ..Lora::default() };
    let (method, train_from): (&dyn Method, _) = match argument(0, "lora").as_str() {
        "lora" => (&lora, TrainFrom::Late),
        "full" => (&Full, TrainFrom::All),
        other => panic!("no method {other}; lora or full"),
    };
    let seconds = argument(1, "10").parse().expect("seconds are a number");
    let rounds: u32 = argument(2, "6").parse().expect("rounds are a number");
    let Some(data) = support::data() else { return };

    let onnx = std::fs::read(data.join("models/onnx").join(MODEL)).expect("the model reads");
    let mut options = CompileOptions {
        head_classes: support::CLASSES as u32,
        train_from: Some(train_from),
        ..CompileOptions::default()
    };
    options.import.dims.insert("N".into(), 1);
    let file = AlignedBytes::copy_of(&compile(&onnx, &options).expect("the model compiles").plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let sites = support::trained_sites(&plan, method);
    let setup = Setup { clip_norm: Some(1.0), ..support::setup(method, &sites, 1e-4) };
    let lessons = lessons(&data.join("audio/esc10_cc0"));
    let target = support::native();

    let needed = Trainer::memory(&plan, &target, &setup).expect("the plan can be trained").total();
    let mut memories = [AlignedBytes::zeroed(needed), AlignedBytes::zeroed(needed)];
    let [shared, alone] = &mut memories;
    let bind = |memory| Trainer::bind(plan, &target, setup, memory).expect("memory suffices");
    let (mut shared, mut alone) = (
        Pupil::new(bind(shared.as_mut()), &lessons, BATCH),
        Pupil::new(bind(alone.as_mut()), &lessons, BATCH),
    );
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("the target runs every step");
    let mut arena = AlignedBytes::zeroed(needs.total());
    let session = Session::bind(plan, Phase::Infer, &target, arena.as_mut()).expect("memory suffices");
    let mut stream = Stream::new(session, &lessons, RATE);

    let warm = stream.alone(seconds);
    let limit = warm.latencies.quantile(0.99) * LIMIT;
    let mut estimates = vec![0; shared.trainer.piece_count()];
    let mut scheduler = CoServe::new(limit as u32, &mut estimates);
    println!(
        "YAMNet int8 on {}, {RATE} inferences a second; {} on {} sites, {} clips a step; latency limit {:.2} ms",
        target.name(),
        method.name(),
        sites.len(),
        BATCH,
        limit / 1e6
    );
    // Every piece once, and what the processor predicts.
    stream.shared(seconds, &mut shared, &mut scheduler);
    let (mut quiet, mut busy, mut trained) = Default::default();
    for _ in 0..rounds {
        add(&mut quiet, stream.alone(seconds));
        add(&mut busy, stream.shared(seconds, &mut shared, &mut scheduler));
        add(&mut trained, alone.run(seconds));
    }
    report(&quiet, &busy, &trained);

    shared.finish_step();
    while alone.clips() < shared.clips() {
        alone.piece();
    }
    while shared.clips() < alone.clips() {
        shared.piece();
    }
    alone.finish_step();
    shared.finish_step();
    let bits = |pupil: &Pupil<'_, '_, '_>| -> Vec<u32> {
        pupil.trainer.fetched().values().iter().map(|value| value.to_bits()).collect()
    };
    let same = bits(&shared) == bits(&alone);
    println!(
        "adapter after {} clips, {} steps: {}",
        shared.clips(),
        shared.trainer.steps(),
        match same {
            true => "the same bits as without interruption",
            false => "DIFFERENT from that without interruption",
        }
    );
    assert!(same, "interruption changed the adapter");
}

/// What windows of one kind came to.
#[derive(Debug, Default)]
struct Sum {
    latencies: Latencies,
    /// Seconds of inferences.
    serving: f64,
    clips: f64,
    seconds: f64,
}

fn add(sum: &mut Sum, window: window::Window) {
    sum.latencies.extend(window.latencies);
    sum.serving += window.serving;
    sum.clips += window.clips;
    sum.seconds += window.seconds;
}

fn report(quiet: &Sum, busy: &Sum, trained: &Sum) {
    let ms = |sum: &Sum, q: f64| sum.latencies.quantile(q) / 1e6;
    println!("{:<22}{:>10}{:>10}{:>10}{:>10}{:>12}", "", "n", "p50 ms", "p99 ms", "max ms", "clips/s");
    for (name, sum) in [("inferences alone", quiet), ("with training", busy), ("training alone", trained)] {
        println!(
            "{name:<22}{:>10}{:>10.3}{:>10.3}{:>10.3}{:>12.2}",
            sum.latencies.len(),
            ms(sum, 0.5),
            ms(sum, 0.99),
            ms(sum, 1.0),
            sum.clips / sum.seconds
        );
    }
    let idle = 1.0 - quiet.serving / quiet.seconds;
    let allowed = trained.clips / trained.seconds * idle;
    println!("p99 with training ÷ without: {:.2}", ms(busy, 0.99) / ms(quiet, 0.99));
    println!(
        "training ÷ what idle time allows ({:.1} % of all): {:.2}",
        idle * 100.0,
        busy.clips / busy.seconds / allowed
    );
}

/// The first patches of recordings, with their classes.
fn lessons(folder: &std::path::Path) -> Vec<Lesson> {
    let recipe = Recipe::preset("yamnet", &[96, 64]).expect("the preset exists");
    let (mut memory, mut patch) = (vec![0.0; recipe.memory_len()], vec![0.0; recipe.out_len()]);
    let recordings = Dataset::open(folder).expect("the folder reads");
    let mut lessons = Vec::new();
    let labels = recordings.labels().expect("every recording has one label");
    for (index, class) in labels.into_iter().enumerate() {
        let clip = recordings.audio(index, 16_000).expect("the recording reads");
        if let Some(window) = recipe.cut(&clip).next() {
            recipe.patch(window, &mut memory, &mut patch).expect("the patch has its length");
            lessons.push(Lesson { patch: support::as_bytes(&patch).to_vec(), class });
        }
    }
    lessons
}

const MODEL: &str = "yamnet_audioset521_int8.onnx";
/// Inferences a second.
const RATE: f64 = 20.0;
/// Clips between two steps of the optimizer.
const BATCH: u64 = 8;
/// The scheduler's latency limit, in 99th percentiles of the latency without training.
const LIMIT: f64 = 1.2;
