//! Every method on the built-in model: trains on it, is written, and acts as it was trained.

use ingraft::adapter::{Adapter, TermSource};
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, SiteDesc, SiteKind, Sites};
use ingraft::method::{
    ExportOptions, FactorFormat, Full, METHODS, NamedTensor, Ranges, Saliency, build, build_on, deploy,
    evaluate, export, score_for,
};
use ingraft::plan::{Phase, PlanView};
use ingraft::train::{
    AdamW, Clip, FrozenSite, LearningRate, Loss, Method, Moves, Readout, Schedule, ScheduleShape, Setup,
    TermLayout, Trainer, Truth,
};
use ingraft_import::{Base, Tensors, export_native, import_native};

use crate::support::{AlignedBytes, Lcg, as_bytes, infer};
use crate::targets;

/// The built-in base with its training schedule.
fn trainable() -> AlignedBytes {
    let mut options = CompileOptions { train_from: Some(TrainFrom::Late), ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    let compiled = compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles");
    AlignedBytes::copy_of(&compiled.plan)
}

/// Noise with a band that depends on the class.
fn clips(plan: &PlanView<'_>) -> Vec<(Vec<f32>, usize)> {
    let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("one input");
    let len = tensor.operand.shape.elements();
    let mut random = Lcg::new(5);
    let mut clip = |class: usize| {
        let band = |i: usize| if i % 64 / 16 == class { 2.0 } else { 0.0 };
        ((0..len).map(|i| random.real() * 2.0 - 1.0 + band(i)).collect(), class)
    };
    (0..CLIPS).map(|i| clip(i % 4)).collect()
}

/// The last sites of the schedule that the method is defined on.
fn sites(plan: &PlanView<'_>, method: &dyn Method) -> Vec<u32> {
    let pointwise = |index: &u32| {
        let desc = plan.site(*index as usize).expect("index is below the count");
        let trained = plan.site_tensors(Phase::Train, *index as usize);
        trained.is_some_and(|place| place.step as usize >= plan.train_cut())
            && matches!(desc.kind, SiteKind::Conv | SiteKind::Linear)
            && method.layout(&desc).is_ok_and(|layout| layout != TermLayout::NONE)
    };
    let all: Vec<u32> = (0..plan.site_count() as u32).filter(pointwise).collect();
    all[all.len().saturating_sub(3)..].to_vec()
}

/// The method with its defaults; where it chooses by gradients, those of a pass over `clips`.
fn ready(name: &str, plan: &PlanView<'_>, target: &Host, clips: &[(Vec<f32>, usize)]) -> Box<dyn Method> {
    let Some(score) = score_for(name, &[]).expect("a method of the list") else {
        return build(name, &[]).expect("a method of the list");
    };
    let sites = sites(plan, &Full);
    let setup = setup(&Full, &sites);
    let memory = Trainer::memory(plan, target, &setup).expect("every site can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer = Trainer::bind(*plan, target, setup, arena.as_mut()).expect("memory suffices");
    let mut saliency = Saliency::new(plan, &sites, score);
    for (clip, class) in clips {
        let clip = Clip::Inputs(as_bytes(clip));
        let same = saliency.measure(&mut trainer, clip, Truth::Class(*class)).expect("one whole patch");
        assert!(same, "the same sites");
    }
    build_on(name, &[], &saliency).expect("what it chooses by was measured")
}

/// Training of `sites` by `method`, on the model's own logits.
pub(crate) fn setup<'a>(method: &'a dyn Method, sites: &'a [u32]) -> Setup<'a> {
    let rate = LearningRate { rate: 2e-3, weight_decay: 0.01 };
    Setup {
        method,
        sites,
        readout: Readout::Logits,
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &AdamW::DEFAULT,
        adapter: rate,
        head: rate,
        moves: Moves::PLAIN,
        schedule: Schedule { shape: ScheduleShape::Constant, warm_up: 0 },
        clip_norm: Some(1.0),
        seed: 1,
    }
}

#[test]
fn every_method_learns_in_an_epoch_and_acts_as_it_was_trained() {
    let file = trainable();
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let target = targets::targets().pop().unwrap_or(Host::SCALAR);
    let clips = clips(&plan);
    // A head alone has no terms, and this trains without a head; the model has no experts.
    for row in METHODS.iter().filter(|row| !["head", "esft"].contains(&row.name)) {
        let method = ready(row.name, &plan, &target, &clips);
        let sites = sites(&plan, &*method);
        if sites.is_empty() {
            // Of normalizations alone, which the model has none of.
            let norm = SiteDesc { kind: SiteKind::Norm, ..plan.site(0).expect("a site") };
            assert_ne!(method.layout(&norm), Ok(TermLayout::NONE), "{} adapts nothing", row.name);
            continue;
        }
        let setup = setup(&*method, &sites);
        let memory = Trainer::memory(&plan, &target, &setup).expect("every site can be trained");
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, &target, setup, arena.as_mut()).expect("memory suffices");
        let before = mean_loss(&mut trainer, &clips);
        for (clip, class) in &clips {
            trainer.accumulate(Clip::Inputs(as_bytes(clip)), Truth::Class(*class)).expect("one whole patch");
            trainer.step().expect("gradients are finite");
        }
        let after = mean_loss(&mut trainer, &clips);
        assert!(after < before, "{}: {before} to {after}", row.name);
        let mut ranges = Ranges::new(&mut trainer);
        for (clip, _) in &clips {
            trainer.forward(Clip::Inputs(as_bytes(clip)), &mut ranges).expect("one whole patch");
        }
        let options = ExportOptions {
            factors: FactorFormat::Int8(&ranges),
            parameters: true,
            ..ExportOptions::default()
        };
        let written = export(&mut trainer, &options).expect("ranges were measured");
        let bytes = AlignedBytes::copy_of(&written.bytes);
        let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
        assert_eq!(adapter.method(), row.name);
        let exported = export_native(&written.bytes).expect("a file we wrote is whole");
        let base = Base { plan, initializers: Tensors::new() };
        let again = import_native(&base, exported.json.as_bytes(), &exported.tensors, "elsewhere");
        assert!(again.expect("we wrote it").bytes == written.bytes, "{}: other bytes came back", row.name);
        parameters_give_the_terms(&adapter, &plan, &*method, &trainer);
        let (mut furthest, mut largest) = (0.0f32, 0.0f32);
        for (clip, _) in &clips {
            let outputs = infer(plan, &target, &[as_bytes(clip)], &adapter);
            let wanted = trainer.logits(Clip::Inputs(as_bytes(clip))).expect("one whole patch");
            for (found, wanted) in outputs[0].chunks_exact(4).zip(wanted) {
                let found = f32::from_le_bytes([found[0], found[1], found[2], found[3]]);
                furthest = furthest.max((found - wanted).abs());
                largest = largest.max(wanted.abs());
            }
        }
        let worst = written.sites.iter().fold(0.0f64, |worst, site| worst.max(site.error));
        println!(
            "{}: loss {before:.4} to {after:.4}, {} parameters, {} bytes of memory, {} bytes written, deltas {worst:.3} \
             and logits {:.3} apart",
            row.name,
            trainer.fetched().values().len(),
            memory.total(),
            written.bytes.len(),
            furthest / largest
        );
        assert!(furthest < 0.1 * largest, "{}: logits {furthest} apart of {largest}", row.name);
    }
}

/// The tensors in the file are what the trainer computed its terms from, and all it takes.
fn parameters_give_the_terms(
    adapter: &Adapter<'_>,
    plan: &PlanView<'_>,
    method: &dyn Method,
    trainer: &Trainer<'_, '_>,
) {
    let section = adapter.parameters().expect("a section we wrote is valid");
    for site in trainer.fetched().sites() {
        let held: Vec<(&str, Vec<usize>, Vec<f64>)> = section
            .site(site as usize)
            .map(|tensor| {
                let values = (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect();
                (tensor.name, tensor.dims.iter().map(|dim| *dim as usize).collect(), values)
            })
            .collect();
        let tensors: Vec<NamedTensor<'_>> =
            held.iter().map(|(name, dims, values)| NamedTensor { name, dims, values }).collect();
        let frozen = FrozenSite::new(plan, site as usize).expect("a site with a weight");
        let terms = evaluate(method, &frozen, &tensors).expect("every tensor is there");
        let again = deploy(&frozen, site, terms.terms(), FactorFormat::F32).expect("finite");
        let wanted = trainer.fetched().terms(site as usize);
        let wanted = deploy(&frozen, site, wanted, FactorFormat::F32).expect("finite");
        assert_eq!(again, wanted, "{} at {}", method.name(), frozen.desc.name);
    }
}

fn mean_loss(trainer: &mut Trainer<'_, '_>, clips: &[(Vec<f32>, usize)]) -> f32 {
    let loss = |(clip, class): &(Vec<f32>, usize)| {
        trainer.evaluate(Clip::Inputs(as_bytes(clip)), Truth::Class(*class)).expect("one whole patch").loss
    };
    clips.iter().map(loss).sum::<f32>() / clips.len() as f32
}

/// Clips of the epoch.
const CLIPS: usize = 16;
