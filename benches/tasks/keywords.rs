//! Keyword features that drift, and what one adapter wins back.
//!
//! The drift is that of another microphone or room: a fixed filter in front of the features adds a constant to
//! every cepstral coefficient. It is drawn once, in units of each coefficient's deviation over the rows to learn
//! from, and scaled by the severity.

use std::path::Path;

use ingraft::adapter::Base as Untouched;
use ingraft::kernel::Sites;
use ingraft::tensor::bytes;
use ingraft::train::Readout;
use ingraft_dataset::{Rng, Split, split};

use crate::Failure;
use crate::arguments::Arguments;
use crate::base::Base;
use crate::course::{Course, Subject};
use crate::deployed::{self, Deployed};
use crate::experiment::{Run, measure};
use crate::lessons::{Lessons, in_parallel};
use crate::report::{Facts, HEADER, Tally};

const MODEL: &str = "models/onnx/mlperf_tiny_kws_dscnn_int8.onnx";
const FEATURES: &str = "features/speech_commands_kws01";
/// Coefficients of one frame.
const COEFFICIENTS: usize = 10;
/// Values of one row, frame by frame.
const ROW: usize = 49 * COEFFICIENTS;
/// Of the stored codes, from the data's README.
const SCALE: f32 = 0.584_702_9;
const ZERO_POINT: i32 = 83;
const SEVERITIES: [f32; 3] = [0.5, 1.0, 1.5];
const DRIFT_SEED: u64 = 0;
/// Taken as it is, without a grid.
const COURSE: Course = Course { rate: 3e-3, epochs: 30, ..Course::IDLE };

/// Rows of features with their labels.
struct Rows {
    labels: Vec<usize>,
    values: Vec<Vec<f32>>,
    split: Split,
}

/// Measures the base, the base under each drift, and the adapter.
pub(crate) fn run(data: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let rows = Rows::read(&data.join(FEATURES))?;
    let base = Base::compile_all(&data.join(MODEL))?;
    let plan = base.plan()?;
    let all: Vec<usize> = (0..rows.labels.len()).collect();
    let untouched = |severity: f32, of: &[usize]| rows.judge_base(&base, &rows.drift(severity), of);
    println!("base on all {} rows: {:.3}", all.len(), share(&untouched(0.0, &all)?));
    let clean = share(&untouched(0.0, &rows.split.test)?);
    println!("base on the {} test rows: {clean:.3}", rows.split.test.len());
    let settings = arguments.settings();
    let sites: Vec<u32> = (0..plan.site_count() as u32).collect();
    let subject =
        Subject { method: &arguments.method, settings: &settings, sites: &sites, readout: Readout::Logits };
    let course = arguments.course(COURSE);
    println!("{course:?}\n{HEADER}");
    for severity in SEVERITIES {
        let drift = rows.drift(severity);
        let drifted = share(&rows.judge_base(&base, &drift, &rows.split.test)?);
        let source = |row: usize, _: u32| Ok(rows.encode(row, &drift));
        let lessons = Lessons::compute(plan, &subject, &rows.labels, &vec![1; all.len()], &source, 1)?;
        let clips: Vec<Vec<u8>> = all.iter().map(|&row| rows.encode(row, &drift)).collect();
        let seeds = if arguments.quick { 1 } else { arguments.seeds };
        let runs: Vec<Run> = (0..seeds).map(|seed| Run { split: rows.split.clone(), seed }).collect();
        let outcomes = in_parallel(&runs, arguments.threads, |run| {
            measure(&base, &subject, &lessons, course, run, &clips)
        })?;
        let mut tally = Tally::default();
        let mut facts = Facts {
            task: format!("keywords, drift {severity}"),
            method: arguments.describe(),
            sites: format!("all {}", sites.len()),
            ..Facts::default()
        };
        for (run, outcome) in runs.iter().zip(&outcomes) {
            tally.add(&run.split.test, &outcome.hits, &outcome.float_hits, outcome.seconds);
            [facts.parameters, facts.adapter, facts.arena, facts.packed] = outcome.sizes;
        }
        println!("{}", tally.row(&facts));
        let won = (tally.accuracy() - drifted) / (clean - drifted);
        println!("drift {severity}: base {drifted:.3}, lost {:.3}, won back {won:.2} of it", clean - drifted);
    }
    Ok(())
}

impl Rows {
    fn read(folder: &Path) -> Result<Self, Failure> {
        let codes = std::fs::read(folder.join("mfcc_int8.bin"))?;
        let real = |code: &u8| (i32::from(*code as i8) - ZERO_POINT) as f32 * SCALE;
        let values: Vec<Vec<f32>> =
            codes.chunks_exact(ROW).map(|row| row.iter().map(real).collect()).collect();
        let table = std::fs::read_to_string(folder.join("labels.csv"))?;
        let label = |line: &str| line.split(',').nth(2).and_then(|field| field.parse().ok());
        let labels: Vec<usize> = table
            .lines()
            .skip(1)
            .map(label)
            .collect::<Option<_>>()
            .ok_or("labels.csv: a row has no label_id")?;
        if labels.len() != values.len() {
            return Err("labels.csv and mfcc_int8.bin disagree about the number of rows".into());
        }
        let names: Vec<String> = (0..labels.len()).map(|row| row.to_string()).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/splits/speech_commands_kws01.csv");
        let splits = split::read_splits(&path, names.iter().map(String::as_str))?;
        let split = splits.into_iter().next().ok_or("the split file is empty")?;
        Ok(Self { labels, values, split })
    }

    /// What the drift adds to each coefficient.
    fn drift(&self, severity: f32) -> [f32; COEFFICIENTS] {
        let mut rng = Rng::new(DRIFT_SEED);
        core::array::from_fn(|at| {
            let learned = self.split.train.iter().flat_map(|&row| &self.values[row]);
            let column: Vec<f64> = learned.skip(at).step_by(COEFFICIENTS).map(|v| f64::from(*v)).collect();
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            let variance = column.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / column.len() as f64;
            severity * (rng.uniform(-1.0, 1.0) * (3.0 * variance).sqrt()) as f32
        })
    }

    /// The model's input for one row under `drift`.
    fn encode(&self, row: usize, drift: &[f32; COEFFICIENTS]) -> Vec<u8> {
        let drifted: Vec<f32> =
            self.values[row].iter().zip(drift.iter().cycle()).map(|(v, d)| v + d).collect();
        bytes::of(&drifted).to_vec()
    }

    /// For each of `rows` under `drift`, whether the base gets it right.
    fn judge_base(
        &self,
        base: &Base,
        drift: &[f32; COEFFICIENTS],
        rows: &[usize],
    ) -> Result<Vec<bool>, Failure> {
        let plan = base.plan()?;
        let mut memory = deployed::memory(&plan)?;
        let mut session = Deployed::new(plan, &mut memory)?;
        rows.iter()
            .map(|&row| Ok(session.class(&Untouched, &self.encode(row, drift))? == self.labels[row]))
            .collect()
    }
}

fn share(hits: &[bool]) -> f64 {
    hits.iter().filter(|hit| **hit).count() as f64 / hits.len().max(1) as f64
}
