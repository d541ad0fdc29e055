//! Models that compute on reals, in whole or in part: against their recordings, and with adapters against the host.

use std::collections::BTreeMap;
use std::fs;

use ingraft::adapter::{Adapter, Base, TermSource, TermSpec};
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{ExecError, MemoryNeeds, Session};
use ingraft::kernel::{Host, KernelError, SiteDesc, SiteKind};
use ingraft::plan::{Phase, PlanView};
use ingraft_dataset::{Array, read_npz};
use ingraft_jetson_cuda::Cuda;

use crate::build::{self, Terms};
use crate::gpu;
use crate::models::outputs;
use crate::support::{AlignedBytes, Lcg, data, floats, infer};

/// A model with what was recorded of it.
struct Recorded {
    plan: AlignedBytes,
    arrays: BTreeMap<String, Array>,
}

impl Recorded {
    /// Compiled for the shapes of the recorded inputs.
    fn open(stem: &str) -> Option<Self> {
        let root = data()?;
        let arrays = read_npz(&root.join(format!("models/golden/{stem}.npz"))).expect("the recording reads");
        let arrays: BTreeMap<String, Array> = arrays.into_iter().collect();
        let model = fs::read(root.join(format!("models/onnx/{stem}.onnx"))).expect("the model is there");
        let mut options = CompileOptions::default();
        for (name, array) in &arrays {
            if let Some(name) = name.strip_prefix("in__") {
                options.import.shapes.insert(name.to_owned(), array.shape().to_vec());
            }
        }
        let compiled = compile(&model, &options).unwrap_or_else(|error| panic!("{stem}: {error}"));
        Some(Self { plan: AlignedBytes::copy_of(&compiled.plan), arrays })
    }

    /// The array recorded for `name`, whose punctuation the recording spells as underscores.
    fn array(&self, side: &str, name: &str) -> &Array {
        &self.arrays[&format!("{side}__{}", name.replace(['.', ':', '/'], "_"))]
    }
}

/// The largest difference, relative to the largest value wanted.
fn worst(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let far = |(a, b): (&f32, &f32)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY };
    found.iter().zip(wanted).map(far).fold(0.0f32, f32::max) / largest
}

/// Real terms of every kind on every site, which change its output a little.
fn real_terms(plan: &PlanView<'_>, seed: u64) -> Terms {
    let mut random = Lcg::new(seed.wrapping_add(500));
    let mut terms = Terms::new();
    for (index, site) in build::sites(plan) {
        let table = site.kind == SiteKind::Embedding;
        if !site.kind.is_norm() && site.kind != SiteKind::Depthwise {
            terms.push((index, factors(&site, [3, 8, 11][index % 3], &mut random)));
        }
        if !site.kind.is_norm() {
            terms.push((index, entries(&site, &mut random)));
        }
        if site.kind == SiteKind::NormScale {
            let scale = (0..site.out).map(|_| 0.9 + 0.2 * random.real()).collect();
            terms.push((index, TermSpec::Affine { scale, shift: vec![0.0; site.out] }));
        } else if !table {
            terms.push((index, build::affine(&site, &mut random)));
        }
    }
    terms
}

fn factors(site: &SiteDesc<'_>, rank: usize, random: &mut Lcg) -> TermSpec {
    let width = 1.0 / (site.row() as f32).sqrt();
    let mut reals =
        |count: usize, width: f32| (0..count).map(|_| width * (2.0 * random.real() - 1.0)).collect();
    TermSpec::TwoFactorF32 {
        rank,
        down: reals(rank * site.groups * site.row(), width),
        up: reals(rank * site.out, 0.05),
    }
}

fn entries(site: &SiteDesc<'_>, random: &mut Lcg) -> TermSpec {
    let (mut indptr, mut indices, mut values) = (vec![0u32], Vec::new(), Vec::new());
    for _ in 0..site.out {
        let first = random.below(site.row());
        let second = first + 1 + random.below(site.row());
        for index in [first, second].into_iter().filter(|i| *i < site.row()) {
            indices.push(index as u16);
            values.push(0.04 * random.real() - 0.02);
        }
        indptr.push(indices.len() as u32);
    }
    TermSpec::SparseF32 { indptr, indices, values }
}

/// Checks every output of `stem` against its recording within `tolerance` of the largest value, and against the scalar
/// reference with the base and, within `adapted`, with adapters.
fn agrees(stem: &str, tolerance: f32, adapted: f32) {
    if let Some(cuda) = gpu() {
        agrees_on(&cuda, stem, tolerance, adapted);
    }
}

pub(crate) fn agrees_on(cuda: &Cuda, stem: &str, tolerance: f32, adapted: f32) {
    let Some(recorded) = Recorded::open(stem) else { return };
    let resident = cuda.keep(recorded.plan.as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let inputs: Vec<&[u8]> = plan.inputs().map(|io| recorded.array("in", io.name).bytes()).collect();
    let files = [0, 1].map(|seed| build::adapter(&plan, &real_terms(&plan, seed)));
    let kept = files.each_ref().map(|file| cuda.keep(file.as_slice()).expect("the GPU has room"));
    let attached = kept.each_ref().map(|kept| Adapter::attach(kept.bytes(), &plan).expect("it fits"));
    let needs = MemoryNeeds::new(&plan, Phase::Infer, cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, cuda, &mut memory).expect("memory suffices");
    let base = None;
    // The first run records, the others replay.
    for (round, source) in [base, Some(&attached[0]), Some(&attached[1]), base].into_iter().enumerate() {
        let found =
            run(&mut session, &plan, &inputs, &source).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let wanted = infer(plan, &Host::SCALAR, &inputs, &source);
        for ((io, found), wanted) in plan.outputs().zip(&found).zip(&wanted) {
            let (found, wanted) = (floats(found), floats(wanted));
            let recorded = recorded.array("out", io.name).to_f32().expect("recordings are floats");
            let (from_reference, from_base) = (worst(&found, &wanted), worst(&found, &recorded));
            let line = format!(
                "{stem} {} round {round}: {from_reference:.1e} from the reference, {from_base:.1e} from the base as recorded",
                io.name
            );
            println!("{line}");
            match source {
                None => assert!(from_reference.max(from_base) <= tolerance, "{line}"),
                // Terms that were left out would leave the base's outputs.
                Some(_) => assert!(from_reference <= adapted && from_base > 2.0 * from_reference, "{line}"),
            }
        }
    }
}

fn run<S: TermSource>(
    session: &mut Session<'_, '_, Cuda>,
    plan: &PlanView<'_>,
    inputs: &[&[u8]],
    source: &S,
) -> Result<Vec<Vec<u8>>, ExecError> {
    for (index, input) in inputs.iter().enumerate() {
        session.write_input(index, input).expect("the input has this length");
    }
    session.run(source)?;
    Ok(outputs(session, plan))
}

#[test]
fn efficientnet_lite0_agrees() {
    agrees("efficientnet_lite0_f32", 1e-4, 1e-4);
}

#[test]
fn resnet8_agrees() {
    agrees("mlperf_tiny_ic_resnet8_f32", 1e-4, 1e-4);
}

#[test]
fn dscnn_with_stored_codes_agrees() {
    agrees("mlperf_tiny_kws_dscnn_weightonly_int8", 1e-4, 1e-4);
}

#[test]
fn mobilenet_v3_agrees() {
    agrees("ppocr_textline_cls_mobilenetv3_f32", 1e-4, 1e-4);
}

#[test]
fn silero_agrees() {
    agrees("silero_vad_16k_sequence", 1e-4, 1e-4);
}

#[test]
fn kwt1_agrees() {
    agrees("kwt1_12labels_f32", 1e-3, 1e-3);
}

#[test]
fn minilm_agrees() {
    // Real terms move values across the edges of codes whose range is found anew in every layer.
    agrees("minilm_l6_int8_dynamic", 1e-3, 0.15);
}

#[test]
fn dnsmos_agrees() {
    agrees("dnsmos_sig_bak_ovr_f32", 1e-3, 1e-3);
}

/// Samples of a batch each have their own adapter at real sites too.
#[test]
fn samples_of_a_real_batch_have_their_own_adapters() {
    let Some(cuda) = gpu() else { return };
    let Some(recorded) = Recorded::open("mlperf_tiny_ic_resnet8_f32") else { return };
    let resident = cuda.keep(recorded.plan.as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("valid");
    let input = recorded.array("in", plan.inputs().next().expect("one input").name).bytes();
    let file = cuda.keep(build::adapter(&plan, &real_terms(&plan, 2)).as_slice()).expect("the GPU has room");
    let adapter = Adapter::attach(file.bytes(), &plan).expect("it fits");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    for sources in [[Some(&adapter), None], [None, Some(&adapter)]] {
        session.write_input(0, input).expect("the input has this length");
        session.run_batch(&sources).expect("it runs");
        let found = floats(&outputs(&session, &plan)[0]);
        for (sample, source) in sources.iter().enumerate() {
            let alone = floats(&infer(plan, &Host::SCALAR, &[input], source)[0]);
            let part = sample * found.len() / 2..(sample + 1) * found.len() / 2;
            let far = worst(&found[part.clone()], &alone[part]);
            assert!(far <= 1e-4, "sample {sample}: {far:e}");
        }
    }
}

/// An index that comes with the input and leads outside its table is an error, as on the host; the next run is well.
#[test]
fn an_index_outside_its_table_is_an_error() {
    let Some(cuda) = gpu() else { return };
    let Some(recorded) = Recorded::open("minilm_l6_int8_dynamic") else { return };
    let plan = PlanView::new(recorded.plan.as_slice()).expect("valid");
    let inputs: Vec<&[u8]> = plan.inputs().map(|io| recorded.array("in", io.name).bytes()).collect();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    let astray: Vec<i64> = vec![1 << 40; inputs[0].len() / 8];
    let ids = plan.inputs().position(|io| io.name == "input_ids").expect("it reads words");
    let wanted = run(&mut session, &plan, &inputs, &Base).expect("it runs");
    let mut outside = inputs.clone();
    outside[ids] = ingraft::tensor::bytes::of(&astray);
    let refused = run(&mut session, &plan, &outside, &Base);
    assert!(matches!(refused, Err(ExecError::Step { error: KernelError::Index(_), .. })), "{refused:?}");
    assert_eq!(run(&mut session, &plan, &inputs, &Base), Ok(wanted));
}
