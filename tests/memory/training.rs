//! How much memory training needs, to the byte.

use std::fs;

use ingraft::adapter::SiteName;
use ingraft::compile::lower::LowerError;
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileError, CompileOptions, Compiled, compile};
use ingraft::exec::MemoryNeeds;
use ingraft::kernel::{Host, NO_SITE, SiteKind, Sites, Target};
use ingraft::method::build;
use ingraft::plan::{Phase, PlanView};
use ingraft::train::{
    Clip, LearningRate, Loss, Method, Moves, Readout, Schedule, Setup, Sgd, TrainError, TrainMemory, Trainer,
    Truth,
};
use ingraft_models::tiny::Net;

use crate::one_sample;
use crate::support::{AlignedBytes, Lcg, as_bytes, data};
use crate::targets::targets;

/// The sites of `plan` that the training schedule reaches.
fn reached(plan: &PlanView<'_>) -> Vec<u32> {
    let reached = |site: &u32| {
        let place = plan.site_tensors(Phase::Train, *site as usize);
        place.is_some_and(|place| place.step as usize >= plan.train_cut())
    };
    (0..plan.site_count() as u32).filter(reached).collect()
}

/// The last two 1×1 convolutions of a model: indices of their sites.
fn last_pointwise(plan: &PlanView<'_>) -> Vec<u32> {
    let pointwise = |site: &u32| {
        plan.site(*site as usize)
            .is_some_and(|site| site.kernel == [1, 1] && matches!(site.kind, SiteKind::Conv))
    };
    let all: Vec<u32> = (0..plan.site_count() as u32).filter(pointwise).collect();
    all[all.len().saturating_sub(2)..].to_vec()
}

fn onnx(name: &str) -> Option<Vec<u8>> {
    Some(fs::read(data()?.join("models/onnx").join(name).with_extension("onnx")).expect("the model is there"))
}

fn compiled(onnx: &[u8], from: &TrainFrom, budget: Option<usize>) -> Result<Compiled, CompileError> {
    let options = CompileOptions {
        import: one_sample(),
        train_from: Some(from.clone()),
        train_memory: budget,
        ..CompileOptions::default()
    };
    compile(onnx, &options)
}

/// Batch 1, plain descent: no state beside the gradients.
fn setup<'s>(method: &'s dyn Method, sites: &'s [u32]) -> Setup<'s> {
    let rate = LearningRate { rate: 0.01, weight_decay: 0.0 };
    Setup {
        method,
        sites,
        readout: Readout::Logits,
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &Sgd,
        adapter: rate,
        head: rate,
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: None,
        seed: 3,
    }
}

/// The parameters after a few steps on random clips in exactly the memory that is said to suffice, and that memory.
fn train(compiled: &Compiled, method: &dyn Method, sites: &[u32]) -> (Vec<u32>, TrainMemory) {
    let file = AlignedBytes::copy_of(&compiled.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let setup = setup(method, sites);
    let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("the sites can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer =
        Trainer::bind(plan, &Host::SCALAR, setup, arena.as_mut()).expect("exactly this suffices");
    let mut random = Lcg::new(11);
    for class in [0, 1, 0] {
        let input: Vec<u8> = (0..trainer.patch_bytes()).map(|_| random.below(256) as u8).collect();
        trainer.accumulate(Clip::Inputs(&input), Truth::Class(class)).expect("one whole patch");
        trainer.step().expect("gradients are finite");
    }
    (trainer.fetched().values().iter().map(|v| v.to_bits()).collect(), memory)
}

fn print(name: &str, memory: &TrainMemory) {
    println!("{name}: {} bytes: {memory:?}", memory.total());
}

/// Rank 4 on the last two pointwise layers of the int8 DS-CNN: within 64 KiB in all, where the gradients of one of its
/// layers alone would be as much if both stood beside each other.
#[test]
fn two_layers_of_a_keyword_model_train_in_64_kib() {
    let Some(onnx) = onnx("mlperf_tiny_kws_dscnn_int8") else { return };
    let method = build("lora", &[("rank", "4")]).expect("a method of the list");
    let whole = compiled(&onnx, &TrainFrom::All, None).expect("it has a gradient");
    let file = AlignedBytes::copy_of(&whole.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let sites = last_pointwise(&plan);
    let name = |site: &u32| plan.site(*site as usize).expect("a site of this plan").name.to_owned();
    let from = compiled(&onnx, &TrainFrom::Site(name(&sites[0])), None).expect("it has a gradient");
    let only = TrainFrom::Sites(sites.iter().map(name).collect());
    let beside = compiled(&onnx, &only, None).expect("it has a gradient");
    let over = compiled(&onnx, &only, Some(52 * 1024)).expect("it fits");
    let (wanted, plenty) = train(&from, &*method, &sites);
    print("DS-CNN, LoRA of rank 4 on the last two 1x1 layers, every input kept", &plenty);
    let (found, less) = train(&beside, &*method, &sites);
    print("DS-CNN, LoRA of rank 4 on the last two 1x1 layers, frozen layers keep none", &less);
    assert_eq!(found, wanted, "the same parameters to the bit");
    let (found, memory) = train(&over, &*method, &sites);
    print("DS-CNN, LoRA of rank 4 on the last two 1x1 layers, gradients over each other", &memory);
    assert_eq!(found, wanted, "the same parameters to the bit");
    assert!(memory.total() < less.total() && less.total() < plenty.total());
    assert!(memory.total() <= 64 * 1024, "{}", memory.total());
}

/// A layer that keeps no input cannot be trained, and says so by name; a budget that is too small says by how much.
#[test]
fn what_was_left_out_is_refused() {
    let Some(onnx) = onnx("mlperf_tiny_kws_dscnn_int8") else { return };
    let whole = compiled(&onnx, &TrainFrom::All, None).expect("it has a gradient");
    let file = AlignedBytes::copy_of(&whole.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let sites = last_pointwise(&plan);
    let name = |site: &u32| plan.site(*site as usize).expect("a site of this plan").name.to_owned();
    let only = TrainFrom::Sites(sites.iter().map(name).collect());
    let plan_file = compiled(&onnx, &only, None).expect("it has a gradient");
    let file = AlignedBytes::copy_of(&plan_file.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let between = sites[0] + 1;
    let method = build("bias", &[]).expect("a method of the list");
    let error = Trainer::memory(&plan, &Host::SCALAR, &setup(&*method, &[between])).err();
    assert_eq!(error, Some(TrainError::NotTrainable(SiteName::new(&name(&between)))));
    let needed = match compiled(&onnx, &only, Some(1000)).err() {
        Some(CompileError::Lower(LowerError::TrainMemory { budget: 1000, needed })) => needed,
        other => panic!("{other:?}"),
    };
    assert!(compiled(&onnx, &only, Some(needed)).is_ok());
    assert!(compiled(&onnx, &only, Some(needed - 1)).is_err());
}

/// Every layer of ResNet-8, by scale and shift and by factors: 256 KiB in all.
#[test]
fn a_residual_net_trains_in_256_kib() {
    let Some(onnx) = onnx("mlperf_tiny_ic_resnet8_int8") else { return };
    for (name, settings, budget) in
        [("bias", &[][..], 240_000), ("ia3", &[], 240_000), ("lora", &[("rank", "2")], 208_000)]
    {
        let plan_file = compiled(&onnx, &TrainFrom::All, Some(budget)).expect("it fits");
        assert_eq!(trains_in_256_kib("ResNet-8", &plan_file, (name, settings)), 10);
    }
}

/// All layers but the first four, whose pictures are large, of the network that tells whether a person is in sight, with
/// random weights: 256 KiB in all. The planner chooses them by the budget.
#[test]
fn a_picture_net_trains_in_256_kib() {
    for (name, settings, budget) in
        [("bias", &[][..], 228_000), ("ia3", &[], 228_000), ("lora", &[("rank", "2")], 208_000)]
    {
        let options = CompileOptions {
            train_from: Some(TrainFrom::All),
            train_memory: Some(budget),
            ..CompileOptions::default()
        };
        let plan_file = Net::VisualWakeWords.quantized(2, &options).expect("it fits");
        assert_eq!(trains_in_256_kib("Visual wake words", &plan_file, (name, settings)), 24);
    }
}

/// Trains every layer that the plan can train, in 256 KiB; how many these are.
fn trains_in_256_kib(net: &str, plan_file: &Compiled, (name, settings): (&str, &[(&str, &str)])) -> usize {
    let method = build(name, settings).expect("a method of the list");
    let file = AlignedBytes::copy_of(&plan_file.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let sites = reached(&plan);
    let (_, memory) = train(plan_file, &*method, &sites);
    let bound = plan.lower_bound_bytes(Phase::Train);
    print(&format!("{net}, {name} on {} layers, lower bound {bound}", sites.len()), &memory);
    assert!(memory.total() <= 256 * 1024, "{}", memory.total());
    sites.len()
}

/// A float layer reads its input by another name, of the same bytes: what is kept of a patch where the first layer is trained is
/// the input, and stands for it.
#[test]
fn a_patch_of_a_net_whose_first_layer_is_trained_is_kept_as_it_is() {
    let options = CompileOptions { train_from: Some(TrainFrom::All), ..CompileOptions::default() };
    let compiled = compile(&Net::AnomalyDetection.onnx(2), &options).expect("a net of floats compiles");
    let file = AlignedBytes::copy_of(&compiled.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let (lora, sites) = (build("lora", &[("rank", "1")]).expect("a method of the list"), reached(&plan));
    let setup = setup(&*lora, &sites);
    let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("the sites can be trained");
    let mut random = Lcg::new(4);
    let input: Vec<f32> = (0..640).map(|_| random.real()).collect();
    let input: &[u8] = as_bytes(&input);
    let [whole, kept] = [false, true].map(|keeps| {
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer =
            Trainer::bind(plan, &Host::SCALAR, setup, arena.as_mut()).expect("exactly this suffices");
        let mut prefix = vec![0; trainer.cut_bytes()];
        trainer.run_prefix(input, &mut prefix).expect("one patch");
        assert!(prefix == input, "{} bytes", prefix.len());
        let clip = if keeps { Clip::Prefixes(&prefix) } else { Clip::Inputs(input) };
        trainer.accumulate(clip, Truth::Class(1)).expect("one whole patch");
        trainer.step().expect("gradients are finite");
        trainer.fetched().values().to_vec()
    });
    assert_eq!(whole, kept);
}

/// A head alone takes what inference takes and its own few numbers. Where a target packs weights, those of every layer
/// are most of it, and the account names them.
#[test]
fn a_head_alone_trains_in_the_memory_of_inference() {
    let options = CompileOptions { import: one_sample(), head_classes: 3, ..CompileOptions::default() };
    let compiled = compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles");
    let file = AlignedBytes::copy_of(&compiled.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let head = build("head", &[]).expect("a method of the list");
    let setup = Setup { readout: Readout::Head { site: NO_SITE, pool: 0, classes: 3 }, ..setup(&*head, &[]) };
    let own = |memory: TrainMemory| memory.total() - memory.session - memory.packed;
    let reference = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("a head trains on any plan");
    for target in targets() {
        let memory = Trainer::memory(&plan, &target, &setup).expect("a head trains on any plan");
        print(target.name(), &memory);
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("the target runs every step");
        assert_eq!((memory.session, memory.packed), (needs.total() - needs.packed, needs.packed));
        assert_eq!(own(memory), own(reference), "{}", target.name());
    }
}
