//! A task, a method and sites, over all splits and seeds.

use std::path::Path;

use ingraft_dataset::Split;

use crate::arguments::Arguments;
use crate::base::Base;
use crate::baseline::{Baseline, Heights};
use crate::choose::Trial;
use crate::corpus::Corpus;
use crate::course::{Course, Subject, Weights, head};
use crate::deployed::{self, Deployed};
use crate::lessons::{Lessons, in_parallel};
use crate::report::{Facts, HEADER, Tally};
use crate::support::AlignedBytes;
use crate::task::{HEAD, Task};
use crate::{Failure, baseline, dump};

/// The model of the tasks on recordings.
const MODEL: &str = "models/onnx/yamnet_audioset521_int8.onnx";

/// One split with the seed of its run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The split.
    pub(crate) split: Split,
    /// Seed of everything that training draws.
    pub(crate) seed: u64,
}

/// What one run gives.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For each test clip, whether the written adapter gets it right.
    pub(crate) hits: Vec<bool>,
    /// The same for the trainer's own parameters.
    pub(crate) float_hits: Vec<bool>,
    /// The head, where one was trained.
    pub(crate) head: Option<Weights>,
    /// Seconds of training.
    pub(crate) seconds: f64,
    /// Parameters, bytes of the adapter, bytes of the arena, and of those that are packed weights.
    pub(crate) sizes: [usize; 4],
}

/// Measures `task` as `arguments` say and prints a row.
pub(crate) fn run(data: &Path, task: &Task, arguments: &Arguments) -> Result<(), Failure> {
    let augment = task.recipe(arguments.augment.as_deref())?;
    let changes: Vec<String> = augment.steps().iter().map(|step| step.to_string()).collect();
    let corpus = Corpus::open(data, task, augment)?;
    let runs = runs(&corpus, task, arguments)?;
    let first_seed = runs.iter().filter(|run| run.seed == arguments.first_seed);
    let outer: Vec<&Split> = first_seed.map(|run| &run.split).collect();
    let views = arguments.views.unwrap_or(task.views);
    if let Some(path) = &arguments.dump {
        return dump::write(path, &corpus, &outer, views);
    }
    let is_baseline = arguments.method == "lr";
    let method = if is_baseline { "head" } else { arguments.method.as_str() };
    let blocks = if method == "head" { 0 } else { arguments.blocks };
    let (base, sites, tap) = base(data, blocks, arguments.head_at, corpus.classes.len())?;
    let settings = arguments.settings();
    let readout = head(tap, corpus.classes.len());
    let subject = Subject { method, settings: &settings, sites: &sites, readout };
    let course = arguments.course(if blocks == 0 { HEAD } else { task.terms });
    let lessons = lessons(&base, &subject, &corpus, &runs, views, arguments.threads)?;
    let (bytes, versions) = lessons.size();
    println!("{versions} versions of {} clips in {bytes} bytes, {views} of each training clip", corpus.len());
    println!("augmentation {}; {course:?}", changes.join(","));
    if arguments.choose {
        let trial = Trial {
            base: &base,
            subject: &subject,
            lessons: &lessons,
            corpus: &corpus,
            threads: arguments.threads,
        };
        return match is_baseline {
            true => trial.print_baseline(&outer, arguments),
            false => trial.print(&outer, course, arguments),
        };
    }
    let clips: Vec<Vec<u8>> =
        (0..corpus.len()).map(|clip| corpus.patches(clip, 0)).collect::<Result<_, _>>()?;
    let outcomes = in_parallel(&runs, arguments.threads, |run| {
        let outcome = if is_baseline {
            let hits = baseline::hits(&lessons, &run.split, corpus.classes.len())?;
            Ok(Outcome { hits, float_hits: Vec::new(), head: None, seconds: 0.0, sizes: [0; 4] })
        } else {
            measure(&base, &subject, &lessons, course, run, &clips)
        };
        eprint!(".");
        outcome
    })?;
    eprintln!();
    let mut tally = Tally::default();
    let mut facts = Facts {
        task: task.name.to_owned()
            + &arguments.split.as_ref().map_or(String::new(), |split| format!(", {split}")),
        method: format!("{}, {views} views", arguments.describe()),
        sites: placement(blocks, arguments.head_at),
        ..Facts::default()
    };
    for (run, outcome) in runs.iter().zip(&outcomes) {
        tally.add(&run.split.test, &outcome.hits, &outcome.float_hits, outcome.seconds);
        [facts.parameters, facts.adapter, facts.arena, facts.packed] = outcome.sizes;
    }
    println!("{HEADER}\n{}", tally.row(&facts));
    if blocks == 0 && !is_baseline {
        println!(
            "objective on training clips: {}",
            heights(&lessons, corpus.classes.len(), &runs, &outcomes)?
        );
    }
    Ok(())
}

/// The objectives of heads alone beside those of the baseline on the same training clips.
fn heights(
    lessons: &Lessons,
    classes: usize,
    runs: &[Run],
    outcomes: &[Outcome],
) -> Result<Heights, Failure> {
    // Seeds share splits, and the baseline has no seed.
    let mut fitted: Vec<(&[usize], Baseline)> = Vec::new();
    for Run { split, .. } in runs {
        if fitted.iter().all(|(learned, _)| *learned != split.train) {
            fitted.push((&split.train, Baseline::fit(lessons, &split.train, classes)?));
        }
    }
    let of = |run: &Run| fitted.iter().find(|(learned, _)| *learned == run.split.train);
    let pairs = runs.iter().zip(outcomes);
    Heights::measure(pairs.filter_map(|(run, outcome)| Some((&of(run)?.1, outcome.head.as_ref()?))))
}

/// Trains, writes, attaches to a fresh session and judges on `clips`, the input bytes of every clip.
///
/// # Errors
/// Whatever fails on the way, a base that is not what it was included.
pub(crate) fn measure(
    base: &Base,
    subject: &Subject<'_>,
    lessons: &Lessons,
    course: Course,
    run: &Run,
    clips: &[Vec<u8>],
) -> Result<Outcome, Failure> {
    let plan = base.plan()?;
    let Split { train, test } = &run.split;
    let trained = course.train(plan, subject, lessons, (train, test), run.seed)?;
    let file = AlignedBytes::copy_of(&trained.bytes);
    let mut memory = deployed::memory(&plan)?;
    let judged: Vec<Vec<u8>> = test.iter().map(|&clip| clips[clip].clone()).collect();
    let classes = Deployed::new(plan, &mut memory)?.classify(file.as_slice(), &judged)?;
    let hits = classes.iter().zip(test).map(|(class, &clip)| *class == lessons.labels[clip]).collect();
    let memory = trained.memory;
    let sizes = [trained.parameters, trained.bytes.len(), memory.total(), memory.packed];
    Ok(Outcome { hits, float_hits: trained.float_hits, head: trained.head, seconds: trained.seconds, sizes })
}

/// Every split with every seed. Where a split file belongs to a seed, that is its training seed too.
fn runs(corpus: &Corpus, task: &Task, arguments: &Arguments) -> Result<Vec<Run>, Failure> {
    let mut runs = Vec::new();
    // The baseline has no seed.
    let seeds = if arguments.method == "lr" && !task.seeded_splits { 1 } else { arguments.seeds };
    for name in task.splits {
        for seed in arguments.first_seed..arguments.first_seed + seeds {
            let suffix = match &arguments.split {
                Some(split) => format!("_{split}"),
                None if task.seeded_splits => format!("_{seed}"),
                None => String::new(),
            };
            let splits = corpus.splits(&format!("{name}{suffix}"))?;
            runs.extend(splits.into_iter().map(|split| Run { split, seed }));
        }
    }
    if arguments.quick {
        runs.truncate(1);
    }
    Ok(runs)
}

/// YAMNet, trainable from the last `blocks` blocks on; those blocks' sites and the site the head reads.
fn base(
    data: &Path,
    blocks: usize,
    head_at: Option<usize>,
    classes: usize,
) -> Result<(Base, Vec<u32>, Option<u32>), Failure> {
    let path = data.join(MODEL);
    let frozen = Base::compile(&path, None, classes as u32)?;
    let pointwise = frozen.pointwise()?;
    // Block 1 is the first convolution, which is not pointwise.
    let tap = match head_at {
        Some(block) => {
            let site = block.checked_sub(2).and_then(|at| pointwise.get(at));
            Some(site.ok_or(format!("blocks a head can read are 2 to {}", pointwise.len() + 1))?.0)
        }
        None => None,
    };
    if blocks == 0 {
        return Ok((frozen, Vec::new(), tap));
    }
    let first = pointwise.len().checked_sub(blocks).ok_or(format!("there are {} blocks", pointwise.len()))?;
    let chosen = &pointwise[first..];
    let base = Base::compile(&path, chosen.first().map(|(_, name)| name.as_str()), classes as u32)?;
    Ok((base, chosen.iter().map(|(site, _)| *site).collect(), tap))
}

/// Clips that no split trains on need no further versions.
fn lessons(
    base: &Base,
    subject: &Subject<'_>,
    corpus: &Corpus,
    runs: &[Run],
    views: u32,
    threads: usize,
) -> Result<Lessons, Failure> {
    let mut wanted = vec![1; corpus.len()];
    runs.iter().flat_map(|run| &run.split.train).for_each(|&clip| wanted[clip] = views.max(1));
    let source = |clip: usize, view: u32| corpus.patches(clip, view);
    Lessons::compute(base.plan()?, subject, &corpus.labels, &wanted, &source, threads)
}

fn placement(blocks: usize, head_at: Option<usize>) -> String {
    let trained = if blocks == 0 { "head alone".to_owned() } else { format!("last {blocks} blocks") };
    head_at.map_or(trained.clone(), |block| format!("{trained}, on block {block} over time"))
}
