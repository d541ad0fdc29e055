//! Calibrated models on real inputs, against the float models they were made from.

mod agreement;
mod samples;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use agreement::Agreement;
use ingraft::adapter::Base;
use ingraft::compile::{CalibrateOptions, CompileOptions, Compiled, RangeMethod, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::Host;
use ingraft::plan::{Phase, PlanView};
use samples::{Frame, Samples, patches, pixels, planes, utterances, windows};
use support::{AlignedBytes, data, floats};

/// The fastest target of this machine: on the reference, samples of real size run for minutes.
fn target() -> Host {
    #[cfg(target_arch = "x86_64")]
    if let Some(proof) = ingraft::x86_64::Avx2::detect() {
        return ingraft::x86_64::target(proof);
    }
    Host::SCALAR
}

/// The first output of a plan for each input.
fn run(plan: &[u8], target: &Host, inputs: &[Vec<u8>]) -> Vec<Vec<f32>> {
    let file = AlignedBytes::copy_of(plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("the target runs every step");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut()).expect("memory suffices");
    let mut infer = |input: &Vec<u8>| {
        session.write_input(0, input).expect("the input has this length");
        session.run(&Base).expect("bound steps run");
        floats(session.output(0).expect("there is an output").bytes())
    };
    inputs.iter().map(&mut infer).collect()
}

/// One way to calibrate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Setting {
    method: RangeMethod,
    equalize: bool,
    bias_correction: bool,
}

impl Setting {
    /// What [`CalibrateOptions::default`] and the command do.
    fn default() -> Self {
        let CalibrateOptions { method, equalize, bias_correction, .. } = CalibrateOptions::default();
        Self { method, equalize, bias_correction }
    }

    /// Every way to differ from the defaults, then these.
    fn all() -> [Self; 5] {
        let default = Self::default();
        [
            Self { bias_correction: !default.bias_correction, ..default },
            Self { equalize: !default.equalize, ..default },
            Self { method: RangeMethod::Percentile(99.99), ..default },
            Self { method: RangeMethod::MeanSquaredError, ..default },
            default,
        ]
    }
}

/// A float model and real inputs for it.
struct Model<'m> {
    name: &'m str,
    onnx: Vec<u8>,
    input: &'m str,
    shape: &'m [usize],
    samples: Samples,
}

impl<'m> Model<'m> {
    fn read(data: &Path, name: &'m str, (input, shape): (&'m str, &'m [usize]), samples: Samples) -> Self {
        let path = data.join("models/onnx").join(format!("{name}.onnx"));
        Self { name, onnx: fs::read(path).expect("the model is there"), input, shape, samples }
    }

    fn compile(&self, calibrate: Option<CalibrateOptions>) -> Compiled {
        let mut options = CompileOptions { calibrate, ..CompileOptions::default() };
        options.import.shapes.insert(self.input.to_owned(), self.shape.to_vec());
        compile(&self.onnx, &options).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Prints how each setting does; gives the agreement of the defaults and what they leave in float.
    fn compare(&self) -> (Agreement, Vec<[String; 3]>) {
        let target = target();
        let wanted = run(&self.compile(None).plan, &target, &self.samples.test);
        let sample = |bytes: &Vec<u8>| vec![(self.input.to_owned(), bytes.clone())];
        let mut result = None;
        for setting in Setting::all() {
            let started = Instant::now();
            let made = self.compile(Some(CalibrateOptions {
                samples: self.samples.calibration.iter().map(sample).collect(),
                method: setting.method,
                equalize: setting.equalize,
                bias_correction: setting.bias_correction,
                target,
            }));
            let seconds = started.elapsed().as_secs_f64();
            let agreement = Agreement::of(&wanted, &run(&made.plan, &target, &self.samples.test));
            let Agreement { top, cosine, worst, snr } = agreement;
            let Setting { method, equalize, bias_correction } = setting;
            println!(
                "{}: {method:?}, equalize {equalize}, correct {bias_correction}: top-1 {top:.3}, cosine {cosine:.5} \
                 (worst {worst:.5}), SNR {snr:.1} dB, {} float nodes, {seconds:.1} s",
                self.name,
                made.program.notes.float_nodes.len()
            );
            result = Some((agreement, made.program.notes.float_nodes));
        }
        result.expect("there are settings")
    }
}

#[test]
fn resnet8_on_windows_of_photographs() {
    let Some(data) = data() else { return };
    let samples = windows(&data, &Frame { width: 32, height: 32, to_bytes: pixels }, [100, 200]);
    let model = Model::read(&data, "mlperf_tiny_ic_resnet8_f32", ("input", &[1, 32, 32, 3]), samples);
    let (Agreement { top, cosine, .. }, float) = model.compare();
    assert_eq!(float, Vec::<[String; 3]>::new());
    assert!(top >= 0.95 && cosine >= 0.99, "{top} {cosine}");
}

#[test]
fn the_demo_base_on_recordings() {
    let Some(data) = data() else { return };
    let onnx = ingraft_models::demo::BASE_F32.to_vec();
    let shape = &[1, 1, 96, 64];
    let model = Model { name: "demo base", onnx, input: "patch", shape, samples: patches(&data) };
    let (Agreement { top, cosine, worst, .. }, float) = model.compare();
    assert_eq!(float, Vec::<[String; 3]>::new());
    assert!(top >= 0.98 && cosine >= 0.999 && worst >= 0.99, "{top} {cosine} {worst}");
}

#[test]
fn efficientnet_lite0_on_windows_of_photographs() {
    let Some(data) = data() else { return };
    let samples = windows(&data, &Frame { width: 224, height: 224, to_bytes: planes }, [10, 8]);
    let model = Model::read(&data, "efficientnet_lite0_f32", ("image", &[1, 3, 224, 224]), samples);
    let (Agreement { cosine, worst, .. }, float) = model.compare();
    assert_eq!(float, Vec::<[String; 3]>::new());
    assert!(cosine >= 0.99 && worst >= 0.98, "{cosine} {worst}");
}

#[test]
fn textline_mobilenetv3_on_windows_of_photographs() {
    let Some(data) = data() else { return };
    let samples = windows(&data, &Frame { width: 192, height: 48, to_bytes: planes }, [40, 60]);
    let model = Model::read(&data, "ppocr_textline_cls_mobilenetv3_f32", ("x", &[1, 3, 48, 192]), samples);
    let (Agreement { top, cosine, .. }, float) = model.compare();
    assert_eq!(float, Vec::<[String; 3]>::new());
    // It knows lines of text; on photographs its two scores are close.
    assert!(top >= 0.85 && cosine >= 0.98, "{top} {cosine}");
}

#[test]
fn keyword_transformer_on_spoken_digits() {
    let Some(data) = data() else { return };
    let samples = utterances(&data, [24, 50]);
    let model = Model::read(&data, "kwt1_12labels_f32", ("input", &[1, 16_000]), samples);
    let (Agreement { top, cosine, .. }, float) = model.compare();
    // The MFCC front end, normalization, attention's products of activations and the residual stream.
    let reasons: BTreeSet<&str> = float.iter().map(|[_, _, reason]| reason.as_str()).collect();
    println!("{reasons:#?}");
    assert!(float.iter().all(|[_, _, reason]| !reason.contains("in the file")), "{float:?}");
    assert!(top >= 0.92 && cosine >= 0.98, "{top} {cosine}");
}
