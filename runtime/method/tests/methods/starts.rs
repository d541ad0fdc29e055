//! How methods start, move and learn.

use ingraft_adapter::TermSource;
use ingraft_kernel::{Factors, Host, Sites};
use ingraft_method::{Full, Head, Lora, METHODS, Saliency, Score, build, build_on, in_kernel, score_for};
use ingraft_plan::PlanView;
use ingraft_tensor::Rng;
use ingraft_train::{Clip, FrozenSite, LearningRate, Method, Part, Setup, TermLayout, Trainer, Truth, Unfit};

use crate::oracle::check;
use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, DEPTH, FEATURES, MIX, Net, POINT, clips};

pub(crate) const SITES: [u32; 3] = [POINT, DEPTH, MIX];

/// Every method with its defaults, and those settings that change what is trained.
pub(crate) fn methods() -> Vec<Box<dyn Method>> {
    let variants: [(&str, &[(&str, &str)]); 32] = [
        ("adalora", &[("rank", "2"), ("target_rank", "1"), ("alpha", "16")]),
        ("deft", &[("decomposition", "relu")]),
        ("peqa", &[("group", "2")]),
        ("delora", &[("lambda", "0.5")]),
        ("bone", &[("rank", "2")]),
        ("loha", &[("rank", "1")]),
        ("lora", &[("rank", "2"), ("alpha", "6"), ("depthwise", "scale")]),
        ("lora", &[("rank", "2"), ("depthwise", "factors")]),
        ("lora", &[("rank", "4"), ("slices", "3"), ("slice_steps", "5")]),
        ("shira", &[("density", "0.3")]),
        ("shira", &[("density", "0.3"), ("mask", "magnitude")]),
        ("shira", &[("density", "0.3"), ("mask", "row")]),
        ("shira", &[("density", "0.3"), ("mask", "gradient")]),
        ("shira", &[("density", "0.3"), ("mask", "snip")]),
        ("shira", &[("density", "0.5"), ("mask", "structured")]),
        ("speft", &[("budget", "0.3"), ("scope", "network")]),
        ("speft", &[("budget", "30"), ("score", "fisher")]),
        ("speft", &[("budget", "0.3"), ("score", "synflow"), ("scope", "network")]),
        ("speft", &[("budget", "0.3"), ("score", "grasp")]),
        ("smt", &[("tile", "1"), ("tiles", "12"), ("scope", "network")]),
        ("id3", &[("budget", "0.4"), ("steps", "10")]),
        ("loki", &[("quota", "50")]),
        ("losia", &[("fraction", "0.6")]),
        ("snell", &[("mode", "hard")]),
        ("snella", &[("mode", "hard"), ("steps", "10"), ("interval", "2")]),
        ("s2ft", &[("kind", "up"), ("ratio", "0.4")]),
        ("paca", &[("rank", "2"), ("alpha", "4")]),
        ("neuroada", &[("k", "2"), ("shared", "true")]),
        ("supertuning", &[("sparsity", "0.7"), ("rank", "2")]),
        ("rosa", &[("density", "0.2"), ("rank", "2")]),
        ("spt", &[("budget", "0.3"), ("rank", "1")]),
        ("vblora", &[("vectors", "6"), ("vector_length", "2"), ("rank", "2")]),
    ];
    // The network is too narrow for the default rank of bone and pieces of vblora, which must divide, and the default strength of delora;
    // and what adalora learns from so small a start in so few steps is below the steps of the weights. Default budgets of
    // sparse methods are a few weights here, and there are no experts.
    let apart = [
        "adalora",
        "bone",
        "delora",
        "esft",
        "id3",
        "loki",
        "losia",
        "rosa",
        "smt",
        "snell",
        "snella",
        "speft",
        "spt",
        "supertuning",
        "vblora",
    ];
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let sites = SITES.map(|site| plan.site(site as usize).unwrap());
    // The network has no normalizations, and what adapts nothing else is checked where there are.
    let adapts = |method: &dyn Method| {
        method.name() == Head.name() || sites.iter().any(|site| method.layout(site) != Ok(TermLayout::NONE))
    };
    let defaults = METHODS.iter().filter(|row| !apart.contains(&row.name)).map(|row| ready(row.name, &[]));
    defaults
        .chain(variants.map(|(name, settings)| ready(name, settings)))
        .filter(|method| adapts(&**method))
        .collect()
}

/// The method; where it chooses by gradients, those of a pass over clips.
fn ready(name: &str, settings: &[(&str, &str)]) -> Box<dyn Method> {
    match score_for(name, settings).unwrap() {
        Some(score) => build_on(name, settings, &saliency(score)).unwrap(),
        None => build(name, settings).unwrap(),
    }
}

/// What the clips say of the weights, when the head has learned a little.
pub(crate) fn saliency(score: Score) -> Saliency {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let still = LearningRate { rate: 0.0, weight_decay: 0.0 };
    let setup = Setup { adapter: still, ..setup(&Full, &SITES, HEAD) };
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(5);
    clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    for _ in 0..5 {
        for (clip, class) in &clips {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
        }
        trainer.step().unwrap();
    }
    let mut saliency = Saliency::new(&plan, &SITES, score);
    for pass in 0..score.passes() {
        if pass > 0 {
            saliency.again();
        }
        let before = trainer.fetched().values().to_vec();
        for (clip, class) in &clips {
            assert!(saliency.measure(&mut trainer, Clip::Inputs(clip), Truth::Class(*class)).unwrap());
            assert_eq!(trainer.fetched().values(), before, "measuring moves nothing");
        }
    }
    saliency
}

#[test]
fn gradients_of_every_method_match_finite_differences() {
    // Where a value counts as a constant the gradient is, as published, not that of what is computed; it is
    // checked beside the expression, as is that of an orthonormal base of columns too short for these differences.
    let elsewhere = ["bora", "deft", "dora", "edora", "l4q", "snell", "snella", "vblora"];
    for method in methods().iter().filter(|method| !elsewhere.contains(&method.name())) {
        check(&**method, HEAD, &SITES, 2);
    }
}

fn starts_as_base(method: &dyn Method) -> bool {
    METHODS.iter().any(|row| row.name == method.name() && row.starts_as_base)
}

#[test]
fn every_method_starts_as_listed_and_learns() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let clips = clips(5);
    let mut base = Vec::new();
    let mut all = methods();
    all.insert(0, Box::new(Head));
    for method in &all {
        let setup = setup(&**method, &SITES, HEAD);
        let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
        for (i, (clip, _)) in clips.iter().enumerate() {
            let mut features = [0.0f32; FEATURES];
            trainer.features(Clip::Inputs(clip), &mut features).unwrap();
            trainer.observe(Clip::Inputs(clip)).unwrap();
            if method.name() == "head" && base.len() < clips.len() {
                base.push(features.map(f32::to_bits));
            }
            let same = base[i] == features.map(f32::to_bits);
            // Products of two small numbers are below the steps of the codes.
            let faint = ["unilora", "vblora"].contains(&method.name());
            assert!(
                faint || same == starts_as_base(&**method),
                "{} starts as the base: {same}",
                method.name()
            );
        }
        trainer.standardize();
        let mut losses = Vec::new();
        for _ in 0..20 {
            let mut sum = 0.0;
            for (clip, class) in &clips {
                sum += trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
            }
            trainer.step().unwrap();
            losses.push(sum);
        }
        assert!(losses[19] < 0.8 * losses[0], "{}: {losses:?}", method.name());
    }
}

#[test]
fn lora_starts_as_in_peft() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let method = Lora { rank: 64, ..Lora::default() };
    let setup = setup(&method, &SITES, HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    assert!(trainer.fetched().sites().eq([POINT, MIX]), "depthwise sites have no low rank");
    for (site, row, groups) in [(POINT, 4, 1), (MIX, 18, 2)] {
        let Factors::F32 { down, up } = trainer.fetched().terms(site as usize).two_factor.unwrap().factors
        else {
            panic!("live factors are f32");
        };
        assert_eq!(down.len(), groups * 64 * row);
        assert!(up.iter().all(|b| *b == 0.0));
        let bound = 1.0 / (row as f32).sqrt();
        let mean = down.iter().sum::<f32>() / down.len() as f32;
        let deviation = (down.iter().map(|a| a * a).sum::<f32>() / down.len() as f32).sqrt();
        assert!(down.iter().all(|a| a.abs() <= bound) && mean.abs() < 0.2 * bound, "{mean}");
        assert!((deviation / (bound / 3.0f32.sqrt()) - 1.0).abs() < 0.1, "{deviation}");
    }
}

#[test]
fn scales_are_those_of_the_papers() {
    let scale =
        |rank, alpha, rank_stabilized| Lora { rank, alpha, rank_stabilized, ..Lora::default() }.scale();
    assert_eq!((scale(4, 16.0, false), scale(64, 16.0, false)), (4.0, 0.25));
    assert_eq!((scale(4, 16.0, true), scale(64, 16.0, true)), (8.0, 2.0));
    let method = Lora { rank: 4, alpha: 16.0, ..Lora::default() };
    assert_eq!((method.rate(Part::Up).scale, method.rate(Part::Down).scale), (4.0, 1.0));
}

#[test]
fn factors_behind_a_quantizer_start_from_the_weights_before_rounding() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let settings = [("weights", "float"), ("bits", "8")];
    let score = score_for("l4q", &settings).unwrap().unwrap();
    assert_eq!((score, score.passes(), score_for("l4q", &[]).unwrap()), (Score::Unrounded, 0, None));
    let frozen = FrozenSite::new(&plan, MIX as usize).unwrap();
    let (out, row) = (frozen.desc.out, frozen.desc.row());
    let mut rng = Rng::new(9);
    let held = |i: usize| f64::from(frozen.weight(i / row, in_kernel(&frozen.desc, i % row)));
    let half = f64::from(frozen.weight_step(0).unwrap()) / 2.0;
    let real: Vec<f64> = (0..out * row).map(|i| held(i) + rng.uniform(-half, half)).collect();
    let mut saliency = Saliency::new(&plan, &SITES, score);
    assert!(saliency.unrounded(&plan, MIX, &real));
    let method = build_on("l4q", &settings, &saliency).unwrap();
    // A site of codes whose weights were not given is refused, and so are all without any.
    assert_eq!(method.layout(&plan.site(POINT as usize).unwrap()), Err(Unfit::Rounded));
    assert_eq!(build("l4q", &settings).unwrap().layout(&frozen.desc), Err(Unfit::Rounded));
    let delta_of = |method: &dyn Method| -> Vec<f64> {
        let setup = setup(method, &[MIX], HEAD);
        let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
        let delta = trainer.fetched().terms(MIX as usize).dense.unwrap();
        let at = |i: usize| frozen.offset(i / row, in_kernel(&frozen.desc, i % row));
        (0..out * row).map(|i| f64::from(delta[at(i)])).collect()
    };
    let (given, without) = (delta_of(&*method), delta_of(&*build("l4q", &[("bits", "8")]).unwrap()));
    let (mut off, mut off_without) = (0.0, 0.0);
    for channel in 0..out {
        let mine = &real[channel * row..][..row];
        let least = mine.iter().copied().fold(f64::INFINITY, f64::min);
        let most = mine.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (q, low) = ((most - least) / 255.0, -128.0);
        let beta = least - low * q;
        for (position, real) in mine.iter().enumerate() {
            let i = channel * row + position;
            let wanted = ((real - beta) / q).clamp(low, 127.0).round_ties_even() * q + beta;
            assert!((held(i) + given[i] - wanted).abs() < 1e-5, "{channel} {position}");
            off += (held(i) + given[i] - real).powi(2);
            off_without += (held(i) + without[i] - real).powi(2);
        }
    }
    // Rounded once in place of twice.
    assert!(off < 0.75 * off_without, "{off} {off_without}");
}

#[test]
fn a_spectrum_gives_back_what_rounding_took() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let settings = [("start", "error"), ("rank", "8")];
    let score = score_for("qwha", &settings).unwrap().unwrap();
    assert_eq!((score, score_for("qwha", &[]).unwrap()), (Score::Rounding, None));
    let mut rng = Rng::new(9);
    let errors: Vec<(u32, Vec<f64>)> = [POINT, MIX]
        .map(|site| {
            let frozen = FrozenSite::new(&plan, site as usize).unwrap();
            let row = frozen.desc.row();
            let half = |i: usize| 0.5 * f64::from(frozen.weight_step(i / row).unwrap());
            (site, (0..frozen.desc.out * row).map(|i| rng.uniform(-half(i), half(i))).collect())
        })
        .into();
    let mut saliency = Saliency::new(&plan, &SITES, score);
    for (site, error) in &errors {
        let frozen = FrozenSite::new(&plan, *site as usize).unwrap();
        let row = frozen.desc.row();
        let held = |i: usize| f64::from(frozen.weight(i / row, in_kernel(&frozen.desc, i % row)));
        let real: Vec<f64> = error.iter().enumerate().map(|(i, e)| held(i) + e).collect();
        assert!(saliency.unrounded(&plan, *site, &real));
        assert!(!saliency.unrounded(&plan, *site, &real[1..]));
    }
    let clips = clips(5);
    {
        let setup = setup(&Full, &SITES, HEAD);
        let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
        for (clip, class) in &clips {
            assert!(saliency.measure(&mut trainer, Clip::Inputs(clip), Truth::Class(*class)).unwrap());
        }
    }
    let method = build_on("qwha", &settings, &saliency).unwrap();
    let setup = setup(&*method, &SITES, HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    for (site, error) in &errors {
        let frozen = FrozenSite::new(&plan, *site as usize).unwrap();
        let row = frozen.desc.row();
        let delta = trainer.fetched().terms(*site as usize).dense.unwrap();
        let at = |i: usize| frozen.offset(i / row, in_kernel(&frozen.desc, i % row));
        let left: f64 = error.iter().enumerate().map(|(i, e)| (e - f64::from(delta[at(i)])).powi(2)).sum();
        let all: f64 = error.iter().map(|e| e * e).sum();
        // The spectrum of a 4 by 4 weight has as many coefficients as are kept.
        let most = if *site == POINT { 1e-8 } else { 0.5 };
        assert!(left < most * all, "site {site}: {left} of {all}");
    }
}
