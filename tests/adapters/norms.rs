//! Scales and shifts of normalizations: trained, written, run beside the base's, and nothing else there.

use ingraft::adapter::{Adapter, AdapterError, Base, TermSource, TermSpec};
use ingraft::compile::onnx::proto::{GraphProto, NodeProto};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{Host, SiteKind, Sites, Target};
use ingraft::method::{ExportOptions, Ln, Ssf, build as method, export};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::DType;
use ingraft::train::{Clip, FrozenSite, LearningRate, Method, Setup, TermLayout, Trainer, Truth};

use crate::build::{self, sites};
use crate::methods;
use crate::mixture::Writer;
use crate::support::{AlignedBytes, Lcg, as_bytes, floats, infer};
use crate::targets;

const WIDE: usize = 9;
const CLASSES: usize = 3;

/// A normalization before every weight, one behind the first layer without a bias, and a root mean square.
pub(crate) fn net(batch: usize) -> AlignedBytes {
    let graph = GraphProto::new("norms").with_input("x", DType::F32, &[batch.into(), WIDE.into()]);
    let mut it = Writer::new(graph);
    for name in ["first.weight", "first.bias", "second.weight", "rms.weight"] {
        it.constant(name, &[WIDE], 1.0);
    }
    let norm =
        |op: &str, inputs: &[&str], to: &str| NodeProto::new(op, inputs, &[to]).with_float("epsilon", 1e-5);
    it.node(norm("LayerNormalization", &["x", "first.weight", "first.bias"], "n0"));
    it.linear("n0", "up.weight", [WIDE, WIDE], "up");
    it.node(norm("LayerNormalization", &["up", "second.weight"], "n1"));
    it.node(NodeProto::new("Relu", &["n1"], &["active"]));
    it.node(norm("RMSNormalization", &["active", "rms.weight"], "n2"));
    it.linear("n2", "classes.weight", [WIDE, CLASSES], "logits");
    it.plan(23)
}

/// Normalizations over groups of channels: scale and shift are of channels.
fn grouped() -> AlignedBytes {
    let (channels, positions) = (3, WIDE / 3);
    let dims = [1usize.into(), channels.into(), positions.into()];
    let mut it = Writer::new(GraphProto::new("groups").with_input("x", DType::F32, &dims));
    for (name, count) in
        [("instance.weight", 3), ("instance.bias", 3), ("group.weight", 6), ("group.bias", 6)]
    {
        it.constant(name, &[count], 1.0);
    }
    it.node(NodeProto::new("InstanceNormalization", &["x", "instance.weight", "instance.bias"], &["n0"]));
    it.constant("mix.weight", &[6, channels, 1], 0.8);
    it.node(NodeProto::new("Conv", &["n0", "mix.weight"], &["mixed"]));
    let group = NodeProto::new("GroupNormalization", &["mixed", "group.weight", "group.bias"], &["n1"]);
    it.node(group.with_int("num_groups", 2));
    it.node(NodeProto::new("Relu", &["n1"], &["active"]));
    it.node(NodeProto::new("Flatten", &["active"], &["flat"]));
    it.linear("flat", "classes.weight", [6 * positions, CLASSES], "logits");
    it.plan(23)
}

/// Batch normalizations where no convolution can take them in: of an input, behind an activation, of features.
fn batched() -> AlignedBytes {
    let (channels, positions) = (3, WIDE / 3);
    let dims = [1usize.into(), channels.into(), positions.into()];
    let mut it = Writer::new(GraphProto::new("batched").with_input("x", DType::F32, &dims));
    let norm = |it: &mut Writer, from: &str, name: &str, count: usize, to: &str| {
        let part = |rest: &str| format!("{name}.{rest}");
        for rest in ["weight", "bias", "mean"] {
            it.constant(&part(rest), &[count], 1.0);
        }
        it.positive(&part("variance"), &[count]);
        let inputs = ["weight", "bias", "mean", "variance"].map(part);
        let [weight, bias, mean, variance] = inputs.each_ref().map(String::as_str);
        it.node(NodeProto::new("BatchNormalization", &[from, weight, bias, mean, variance], &[to]));
    };
    norm(&mut it, "x", "first", channels, "n0");
    it.constant("mix.weight", &[6, channels, 1], 0.8);
    it.node(NodeProto::new("Conv", &["n0", "mix.weight"], &["mixed"]));
    it.node(NodeProto::new("Relu", &["mixed"], &["active"]));
    norm(&mut it, "active", "second", 6, "n1");
    it.node(NodeProto::new("Flatten", &["n1"], &["flat"]));
    norm(&mut it, "flat", "third", 6 * positions, "n2");
    it.linear("n2", "classes.weight", [6 * positions, CLASSES], "logits");
    it.plan(23)
}

pub(crate) fn setup<'a>(method: &'a dyn Method, sites: &'a [u32]) -> Setup<'a> {
    let rate = LearningRate { rate: 2e-2, weight_decay: 0.0 };
    Setup { adapter: rate, head: rate, clip_norm: None, ..methods::setup(method, sites) }
}

/// Rows whose loudest part is their class.
pub(crate) fn clips() -> Vec<(Vec<f32>, usize)> {
    let mut random = Lcg::new(6);
    let mut clip = |class: usize| {
        let value = |i: usize| 2.0 * random.real() - 1.0 + if i % CLASSES == class { 1.0 } else { 0.0 };
        ((0..WIDE).map(value).collect(), class)
    };
    (0..12).map(|i| clip(i % CLASSES)).collect()
}

fn norms(plan: &PlanView<'_>) -> Vec<u32> {
    sites(plan).filter(|(_, site)| site.kind.is_norm()).map(|(index, _)| index as u32).collect()
}

#[test]
fn scales_and_shifts_are_sites_and_nothing_else_acts_there() {
    let file = net(1);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let found: Vec<(&str, SiteKind)> = sites(&plan).map(|(_, site)| (site.name, site.kind)).collect();
    let wanted = [
        ("first.weight", SiteKind::Norm),
        ("up.weight", SiteKind::Linear),
        ("second.weight", SiteKind::NormScale),
        ("rms.weight", SiteKind::NormScale),
        ("classes.weight", SiteKind::Linear),
    ];
    assert_eq!(found, wanted);
    let parameters = |method: &dyn Method| -> usize {
        let sites: Vec<u32> = (0..plan.site_count() as u32).collect();
        let setup = setup(method, &sites);
        let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("every site can be trained");
        let mut arena = AlignedBytes::zeroed(memory.total());
        let trainer = Trainer::bind(plan, &Host::SCALAR, setup, arena.as_mut()).expect("memory suffices");
        trainer.fetched().values().len()
    };
    // Two vectors where there is a shift, one where there is none; methods of weights pass normalizations by.
    assert_eq!(parameters(&Ln), 2 * WIDE + WIDE + WIDE);
    assert_eq!(parameters(&Ssf), 2 * (WIDE + CLASSES));
    let lora = method("lora", &[]).expect("a method of the list");
    for site in norms(&plan) {
        let desc = plan.site(site as usize).expect("it is there");
        assert_eq!(lora.layout(&desc), Ok(TermLayout::NONE));
        let factors = TermSpec::TwoFactorF32 { rank: 1, down: vec![0.0; WIDE], up: vec![0.0; WIDE] };
        let refused = build::adapter(&plan, &[(site as usize, factors)]);
        match Adapter::attach(refused.as_slice(), &plan) {
            Err(AdapterError::Kind(name)) => assert_eq!(name.as_str(), desc.name),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn normalizations_are_trained_and_run_as_they_were() {
    trained_and_run(&net(1), 0.8);
}

#[test]
fn normalizations_over_groups_of_channels_are_too() {
    let file = grouped();
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let found: Vec<(&str, SiteKind, usize)> =
        sites(&plan).filter(|(_, s)| s.kind.is_norm()).map(|(_, s)| (s.name, s.kind, s.out)).collect();
    assert_eq!(found, [("instance.weight", SiteKind::Norm, 3), ("group.weight", SiteKind::Norm, 6)]);
    // Every channel loses the mean of its three positions: there is less to learn from.
    trained_and_run(&file, 0.85);
}

#[test]
fn batch_normalizations_left_are_too() {
    let file = batched();
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let found: Vec<(&str, SiteKind, usize)> =
        sites(&plan).filter(|(_, s)| s.kind.is_norm()).map(|(_, s)| (s.name, s.kind, s.out)).collect();
    let wanted = [("first.weight", 3), ("second.weight", 6), ("third.weight", 18)];
    assert_eq!(found, wanted.map(|(name, count)| (name, SiteKind::Norm, count)));
    trained_and_run(&file, 0.8);
}

/// Trains to less than `share` of the first loss, and runs what was written.
fn trained_and_run(file: &AlignedBytes, share: f32) {
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let (clips, sites) = (clips(), norms(&plan));
    for target in targets::targets() {
        let setup = setup(&Ln, &sites);
        let memory = Trainer::memory(&plan, &target, &setup).expect("every site can be trained");
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, &target, setup, arena.as_mut()).expect("memory suffices");
        let base = |x: &[f32]| infer(plan, &target, &[as_bytes(x)], &Base).remove(0);
        // Untrained it is the base, to the bit.
        let written = export(&mut trainer, &ExportOptions::default()).expect("finite");
        let bytes = AlignedBytes::copy_of(&written.bytes);
        let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
        for (x, _) in &clips {
            assert_eq!(
                infer(plan, &target, &[as_bytes(x)], &adapter).remove(0),
                base(x),
                "{}",
                target.name()
            );
        }
        let mut losses = Vec::new();
        for _ in 0..30 {
            let mut sum = 0.0;
            for (clip, class) in &clips {
                let clip = Clip::Inputs(as_bytes(clip));
                sum += trainer.accumulate(clip, Truth::Class(*class)).expect("one clip");
            }
            trainer.step().expect("gradients are finite");
            losses.push(sum);
        }
        assert!(losses[29] < share * losses[0], "{}: {losses:?}", target.name());
        let written = export(&mut trainer, &ExportOptions::default()).expect("finite");
        let bytes = AlignedBytes::copy_of(&written.bytes);
        let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
        // The file holds what was trained, as it is: it stands in the base's place.
        let held: Vec<f32> = sites
            .iter()
            .flat_map(|site| {
                let affine = adapter.terms(*site as usize).affine.expect("every site was trained");
                let shift = plan.site(*site as usize).is_some_and(|site| site.kind == SiteKind::Norm);
                [affine.scale, if shift { affine.shift } else { &[] }].concat()
            })
            .collect();
        assert_eq!(held, trainer.fetched().values());
        for (x, _) in &clips {
            let wanted = trainer.logits(Clip::Inputs(as_bytes(x))).expect("one clip").to_vec();
            let found = floats(&infer(plan, &target, &[as_bytes(x)], &adapter).remove(0));
            let near = found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-5);
            assert!(near, "{}: {found:?} {wanted:?}", target.name());
        }
    }
}

#[test]
fn every_sample_may_have_a_scale_of_its_own() {
    let (single, batched) = (net(1), net(2));
    let one = PlanView::new(single.as_slice()).expect("a plan we wrote is valid");
    let two = PlanView::new(batched.as_slice()).expect("a plan we wrote is valid");
    let mut random = Lcg::new(9);
    let x: Vec<f32> = (0..2 * WIDE).map(|_| 2.0 * random.real() - 1.0).collect();
    let mut draw = || (0..WIDE).map(|_| random.real() + 0.5).collect::<Vec<f32>>();
    let terms: Vec<(usize, TermSpec)> = norms(&one)
        .iter()
        .map(|site| (*site as usize, TermSpec::Affine { scale: draw(), shift: draw() }))
        .collect();
    let files = [&one, &two].map(|plan| build::adapter(plan, &terms));
    let adapter = |plan, file: usize| Adapter::attach(files[file].as_slice(), plan).expect("it fits");
    for target in targets::targets() {
        let needs = MemoryNeeds::new(&two, Phase::Infer, &target).expect("runs");
        let mut memory = AlignedBytes::zeroed(needs.total());
        let mut session = Session::bind(two, Phase::Infer, &target, memory.as_mut()).expect("binds");
        session.write_input(0, as_bytes(&x)).expect("fits");
        session.run_batch(&[None, Some(adapter(&two, 1))]).expect("runs");
        let mixed = session.output(0).expect("output").bytes().to_vec();
        let (first, second) = x.split_at(WIDE);
        let without = infer(one, &target, &[as_bytes(first)], &Base).remove(0);
        let with = infer(one, &target, &[as_bytes(second)], &adapter(&one, 0)).remove(0);
        assert_ne!(with, infer(one, &target, &[as_bytes(second)], &Base).remove(0));
        assert_eq!(mixed, [without, with].concat(), "{}", target.name());
    }
}

#[test]
fn the_base_of_a_site_is_its_scale_and_shift() {
    let file = net(1);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let [first, second, rms] = <[u32; 3]>::try_from(norms(&plan)).expect("three");
    let frozen = |site: u32| FrozenSite::new(&plan, site as usize).expect("it has a scale");
    assert!((0..WIDE).any(|i| frozen(first).real_bias(i) != 0.0));
    for site in [second, rms] {
        assert!((0..WIDE).all(|i| frozen(site).weight(i, 0) != 0.0 && frozen(site).real_bias(i) == 0.0));
    }
}
