//! Files made to hurt: every answer is a typed error, never a panic.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/targets.rs"]
mod targets;

#[path = "../fuzz/src/exercise/mod.rs"]
mod exercise;

mod faults;
mod seeds;

use ingraft::adapter::{
    Adapter, AdapterBuilder, AdapterError, AdapterFacts, Base, ParameterSpec, TermSource, TermSpec,
};
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{Host, Sites};
use ingraft::plan::{Phase, PlanView};
use support::{AlignedBytes, Lcg};

/// The fastest target of this machine, for `exercise`.
fn native() -> Option<Host> {
    targets::targets().into_iter().skip(1).last()
}

fn plan_file() -> Vec<u8> {
    let mut options =
        CompileOptions { head_classes: 4, train_from: Some(TrainFrom::Late), ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles").plan
}

/// Makes a file's content hash right again, so that the checks behind it are reached.
fn rehash(bytes: &mut [u8]) {
    if bytes.len() > 48 {
        let hash = blake3::hash(&bytes[48..]);
        bytes[16..48].copy_from_slice(hash.as_bytes());
    }
}

/// Opens, binds and runs whatever `bytes` still permits.
fn exercise_plan(bytes: &[u8]) {
    let file = AlignedBytes::copy_of(bytes);
    let Ok(plan) = PlanView::new(file.as_slice()) else { return };
    for phase in [Phase::Infer, Phase::Train] {
        let Ok(needs) = MemoryNeeds::new(&plan, phase, &Host::SCALAR) else { continue };
        // A plan may ask for more than there is; refusing that is the caller's policy.
        if needs.total() > 64 << 20 {
            continue;
        }
        let mut memory = AlignedBytes::zeroed(needs.total());
        let Ok(mut session) = Session::bind(plan, phase, &Host::SCALAR, memory.as_mut()) else { continue };
        if phase == Phase::Infer {
            let _ = session.run(&Base);
        }
    }
    for index in 0..plan.site_count() + 1 {
        let _ = (plan.site(index), plan.site_tensors(Phase::Infer, index), plan.site_diagonals(index));
    }
    for io in plan.io() {
        let _ = (plan.tensor(io.tensor), io.recipe.len(), io.labels.len());
    }
}

#[test]
fn truncated_plans_are_refused() {
    let whole = plan_file();
    for len in (0..whole.len()).step_by(whole.len() / 400 + 1).chain(0..256) {
        let mut bytes = whole[..len].to_vec();
        rehash(&mut bytes);
        let file = AlignedBytes::copy_of(&bytes);
        assert!(PlanView::new(file.as_slice()).is_err(), "{len} bytes");
    }
}

#[test]
fn corrupted_plans_never_panic() {
    let whole = plan_file();
    // Header and tables come first; most of the file behind them is weights.
    let tables = whole.len().min(24_000);
    let mut random = Lcg::new(1);
    let values = [0u32, 1, 2, 15, 16, 127, 128, 255, 0x7fff_ffff, 0x8000_0000, u32::MAX - 15, u32::MAX];
    for round in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 3 {
            let at = 48 + random.below(tables - 52);
            if random.below(2) == 0 {
                let value = values[random.below(values.len())];
                bytes[at & !3..(at & !3) + 4].copy_from_slice(&value.to_le_bytes());
            } else {
                bytes[at] = random.bits() as u8;
            }
        }
        rehash(&mut bytes);
        exercise_plan(&bytes);
    }
}

#[test]
fn corrupted_adapters_never_panic() {
    let file = AlignedBytes::copy_of(&plan_file());
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let whole = adapter(&plan);
    let mut random = Lcg::new(2);
    let (mut accepted, mut parameters) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 3 {
            let at = random.below(bytes.len() - 49) + 48;
            bytes[at] = if random.below(2) == 0 { 0xff } else { random.bits() as u8 };
        }
        if round % 10 == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        rehash(&mut bytes);
        let file = AlignedBytes::copy_of(&bytes);
        if let Ok(adapter) = Adapter::attach(file.as_slice(), &plan) {
            accepted += 1;
            for site in 0..plan.site_count() + 1 {
                let _ = adapter.terms(site);
            }
            let _ = (adapter.head().is_some(), adapter.sites().count());
            parameters += u32::from(walk_parameters(&adapter, plan.site_count()).is_ok());
        }
    }
    println!("{accepted} of 20000 corrupted adapters were still well formed, parameters of {parameters}");
}

/// Reads every parameter of a section that passed its check.
fn walk_parameters(adapter: &Adapter<'_>, sites: usize) -> Result<(), AdapterError> {
    let section = adapter.parameters()?;
    for site in 0..sites + 1 {
        let _ = section.settings(site).len();
        for tensor in section.site(site) {
            let count: u32 = tensor.dims.iter().product();
            assert_eq!(tensor.values.len(), count as usize, "{}", tensor.name);
            let values = (0..tensor.values.len()).filter_map(|i| tensor.values.get(i));
            assert!(values.into_iter().all(f64::is_finite), "{}", tensor.name);
        }
    }
    assert_eq!(section.tensors().count(), (0..sites).map(|site| section.site(site).count()).sum::<usize>());
    Ok(())
}

#[test]
fn damaged_parameters_are_refused_and_cost_the_terms_nothing() {
    let file = AlignedBytes::copy_of(&plan_file());
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let whole = AlignedBytes::copy_of(&adapter(&plan));
    let intact = Adapter::attach(whole.as_slice(), &plan).expect("valid");
    let section = intact.parameters().expect("valid");
    let found: Vec<(usize, &str, usize)> =
        section.tensors().map(|t| (t.site, t.name, t.values.len())).collect();
    assert_eq!(found, [(0, "a", 6), (0, "b", 2), (1, "a", 1)]);
    assert_eq!((section.settings(0), section.settings(1)), ("", "rank=3"));
    let cases = [
        ("not finite", vec![(0, parameter("a", &[1], &[f64::NAN]))]),
        ("twice", vec![(0, parameter("a", &[1], &[0.0])), (0, parameter("a", &[1], &[1.0]))]),
        ("more extents than values", vec![(0, parameter("a", &[1 << 20, 1 << 10], &[0.0]))]),
        ("a product that overflows", vec![(0, parameter("a", &[1 << 31; 6], &[0.0]))]),
        (
            "no values, of extents whose product overflows",
            vec![(0, parameter("a", &[0, 1 << 31, 1 << 31, 1 << 31], &[]))],
        ),
        ("no name", vec![(0, parameter("", &[1], &[0.0]))]),
        ("no such site", vec![(plan.site_count(), parameter("a", &[1], &[0.0]))]),
    ];
    for (what, parameters) in cases {
        let mut builder = AdapterBuilder::new(&plan);
        parameters.into_iter().for_each(|(site, parameter)| builder.parameter(site, "site", parameter));
        let file = AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()));
        let adapter = Adapter::attach(file.as_slice(), &plan).expect("terms do not depend on parameters");
        assert!(matches!(adapter.parameters(), Err(AdapterError::Parameters(_))), "{what}");
    }
}

fn parameter(name: &str, dims: &[usize], values: &[f64]) -> ParameterSpec {
    ParameterSpec { name: name.into(), dims: dims.to_vec(), values: values.to_vec() }
}

/// One term of every kind.
fn adapter(plan: &PlanView<'_>) -> Vec<u8> {
    let mut builder = AdapterBuilder::new(plan);
    let site = plan.site(0).expect("a site");
    let (out, row) = (site.out, site.row());
    let factors = TermSpec::TwoFactorI8 {
        rank: 2,
        down: vec![1; 2 * site.groups * row],
        up: vec![1; 2 * out],
        down_scale: vec![0.1; 2 * site.groups],
        up_scale: vec![0.1; out],
    };
    let sparse = TermSpec::SparseI16 {
        indptr: (0..=out as u32).collect(),
        indices: vec![0; out],
        values: vec![1; out],
    };
    let affine = TermSpec::Affine { scale: vec![1.0; out], shift: vec![0.0; out] };
    let fused = TermSpec::FusedI8 { weight: vec![1; out * row], bias: vec![1; out] };
    for term in [factors, sparse, affine, fused] {
        builder.term(0, &site, term);
    }
    builder.parameter(1, "site 1", parameter("a", &[1], &[1e-300]));
    builder.parameter(0, "site 0", parameter("b", &[2], &[0.5, 1.5]));
    builder.parameter(0, "site 0", parameter("a", &[2, 3], &[1.0; 6]));
    builder.site_settings(1, "site", &[("rank".into(), "3".into())]);
    builder.finish(&AdapterFacts::default())
}
