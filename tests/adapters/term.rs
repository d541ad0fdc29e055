//! What each term computes, against an independent path.

use ingraft::adapter::{Adapter, Base, HeadView, PatchedSite, TermSource, TermSpec};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::attrs::{Attrs, QConvAttrs};
use ingraft::kernel::{Host, Place, SiteTerms, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::bytes;

use crate::build::{self, adapter, clamped, constants, low_rank, sites};
use crate::support::{AlignedBytes, Lcg, as_bytes, infer};
use crate::{base, input};

/// One site's resident copy, as the terms of a run.
struct Resident<'r, 'm> {
    site: usize,
    copy: &'r PatchedSite<'m>,
}

impl TermSource for Resident<'_, '_> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let patched = (index == self.site).then(|| self.copy.patched());
        SiteTerms { patched, ..SiteTerms::NONE }
    }
    fn head(&self) -> Option<HeadView<'_>> {
        None
    }
}

#[test]
fn overlay_and_patch_agree_to_the_bit_and_the_patch_comes_off() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 11);
    let mut random = Lcg::new(12);
    for (index, site) in sites(&plan) {
        let (mut weight, mut bias, zero_point) = constants(&plan, index);
        let original = (weight.clone(), bias.clone());
        let overlay = clamped(build::overlay(&site, &mut random), &site, &weight);
        let file = adapter(&plan, &[(index, overlay)]);
        let overlay = Adapter::attach(file.as_slice(), &plan).expect("it fits");
        let wanted = infer(plan, &Host::SCALAR, &[as_bytes(&x)], &overlay);
        let mut log = vec![0; 4096];
        let mut copy = PatchedSite::new(&site, zero_point, &mut weight, &mut bias, &mut log)
            .expect("sizes are the site's");
        copy.apply(&overlay.terms(index).sparse.expect("a sparse term")).expect("the log is long enough");
        let found = infer(plan, &Host::SCALAR, &[as_bytes(&x)], &Resident { site: index, copy: &copy });
        assert_eq!(found, wanted, "{}", site.name);
        copy.revert();
        assert_eq!((weight, bias), original, "{}", site.name);
    }
}

#[test]
fn a_log_too_short_leaves_the_base() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let (index, site) = sites(&plan).next().expect("a site");
    let (mut weight, mut bias, zero_point) = constants(&plan, index);
    let original = (weight.clone(), bias.clone());
    let overlay = clamped(build::overlay(&site, &mut Lcg::new(5)), &site, &weight);
    let file = adapter(&plan, &[(index, overlay)]);
    let adapter = Adapter::attach(file.as_slice(), &plan).expect("it fits");
    let mut log = [0; 2];
    let mut copy = PatchedSite::new(&site, zero_point, &mut weight, &mut bias, &mut log).expect("sizes fit");
    assert!(copy.apply(&adapter.terms(index).sparse.expect("a sparse term")).is_err());
    assert_eq!((weight, bias), original);
}

/// Runs the step of one site alone with and without a term, on the codes the
/// base feeds it, and gives input codes, base output codes and adapted output codes.
fn site_codes(plan: &PlanView<'_>, index: usize, adapter: &Adapter<'_>, x: &[f32]) -> [Vec<i8>; 3] {
    let target = Host::SCALAR;
    let needs = MemoryNeeds::new(plan, Phase::Infer, &target).expect("runs");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(*plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
    let place = plan.site_tensors(Phase::Infer, index).expect("the site runs");
    let step = place.step as usize;
    session.write_input(0, as_bytes(x)).expect("fits");
    session.run_steps(0..step, &[Base], &mut ingraft::exec::Silent).expect("runs");
    let read = |session: &Session<'_, '_, Host>, tensor| {
        session.tensor(tensor).expect("a tensor").as_slice::<i8>().expect("codes").to_vec()
    };
    let input = read(&session, place.input);
    session.run_steps(step..step + 1, &[Base], &mut ingraft::exec::Silent).expect("runs");
    let plain = read(&session, place.output);
    session.run_steps(step..step + 1, &[adapter], &mut ingraft::exec::Silent).expect("runs");
    [input, plain, read(&session, place.output)]
}

#[test]
fn fused_factors_agree_with_a_side_path() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 21);
    let mut random = Lcg::new(22);
    let mut worst = 0i32;
    for (index, site) in sites(&plan).filter(|(_, s)| low_rank(s) && s.kernel == [1, 1]) {
        let step = plan.site_tensors(Phase::Infer, index).expect("runs").step as usize;
        let attrs = *QConvAttrs::read(plan.step(Phase::Infer, step).expect("a step").attrs).expect("integer");
        let rank = 3;
        let mut real = |count: usize| -> Vec<f32> { (0..count).map(|_| random.real() - 0.5).collect() };
        let (down, up) = (real(rank * site.row()), real(rank * site.out));
        let term = TermSpec::TwoFactorF32 { rank, down: down.clone(), up: up.clone() };
        let file = adapter(&plan, &[(index, term)]);
        let adapter = Adapter::attach(file.as_slice(), &plan).expect("it fits");
        let [input, _, fused] = site_codes(&plan, index, &adapter, &x);
        let (weight, bias, _) = constants(&plan, index);
        let multiplier = multipliers(&plan, index);
        for (pixel, codes) in input.chunks_exact(site.row()).enumerate() {
            for o in 0..site.out {
                let row = &weight[o * site.row()..][..site.row()];
                let acc: i64 = row.iter().zip(codes).map(|(w, c)| i64::from(*w) * i64::from(*c)).sum();
                let base = (acc + i64::from(bias[o])) as f64 * f64::from(multiplier[o]);
                // The side path: two float products in binary64, added to the base's pre-activation value.
                let side: f64 = (0..rank)
                    .map(|r| {
                        let a = &down[r * site.row()..][..site.row()];
                        let t: f64 = a
                            .iter()
                            .zip(codes)
                            .map(|(a, c)| {
                                f64::from(*a)
                                    * f64::from(i32::from(*c) - attrs.in_zero_point)
                                    * f64::from(attrs.in_scale)
                            })
                            .sum();
                        t * f64::from(up[o * rank + r])
                    })
                    .sum();
                let v = base + side / f64::from(attrs.out_scale);
                let v = v.clamp(f64::from(attrs.lo), f64::from(attrs.hi)).round_ties_even();
                let wanted = v as i32 + attrs.out_zero_point;
                worst = worst.max((wanted - i32::from(fused[pixel * site.out + o])).abs());
            }
        }
    }
    println!("fused against side path: {worst} output steps at worst");
    assert!(worst <= 1);
}

fn multipliers(plan: &PlanView<'_>, site: usize) -> Vec<f32> {
    let step = plan.site_tensors(Phase::Infer, site).expect("the site runs").step as usize;
    match plan.resolve(Phase::Infer, step).expect("resolves").input(3).expect("an operand").place {
        Place::Plan(data) => bytes::cast::<f32>(data).expect("floats").to_vec(),
        Place::Memory(_) => panic!("multipliers are constants"),
    }
}

#[test]
fn a_head_gives_its_own_logits() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 31);
    let target = Host::SCALAR;
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
    let features = plan.head_features(ingraft::kernel::NO_SITE, 0).expect("features");
    let file = build::head(&plan, 5, features);
    let adapter = Adapter::attach(file.as_slice(), &plan).expect("it fits");
    session.write_input(0, as_bytes(&x)).expect("fits");
    session.run(&adapter).expect("runs");
    let mut logits = [0.0f32; 5];
    session.read_logits(0, &mut logits).expect("five classes");
    let mut values = vec![0.0f32; features];
    session.read_features(ingraft::kernel::NO_SITE, 0, 0, &mut values).expect("features");
    let head = adapter.head().expect("a head");
    for (c, logit) in logits.iter().enumerate() {
        let row = &head.weight[c * features..][..features];
        let wanted: f64 = row.iter().zip(&values).map(|(w, f)| f64::from(*w) * f64::from(*f)).sum();
        let wanted = wanted + f64::from(head.bias[c]);
        assert!((wanted - f64::from(*logit)).abs() < 1e-4 * wanted.abs().max(1.0), "class {c}");
    }
}
