//! Stacks: an adapter trained beside another that acts and stays as it is.

use ingraft::adapter::{Adapter, Base, TermSource, TermSpec};
use ingraft::kernel::{Host, SiteTerms, Sites, Target};
use ingraft::method::{ExportOptions, build as method, export};
use ingraft::plan::PlanView;
use ingraft::train::{Clip, Method, TrainError, Trainer, Truth};

use crate::build;
use crate::norms::{clips, net, setup};
use crate::support::{AlignedBytes, Lcg, as_bytes, floats, infer};
use crate::targets;

/// Another scale and shift at every normalization, and a delta of the first layer.
fn first(plan: &PlanView<'_>) -> AlignedBytes {
    let mut random = Lcg::new(12);
    let mut draw = |count: usize| (0..count).map(|_| random.real() - 0.25).collect::<Vec<f32>>();
    let mut terms = Vec::new();
    for (index, site) in build::sites(plan) {
        if site.kind.is_norm() {
            terms.push((index, TermSpec::Affine { scale: draw(site.out), shift: draw(site.out) }));
        } else if site.name == "up.weight" {
            let (out, row) = (site.out, site.row());
            let indptr = (0..=out).map(|channel| (channel * row) as u32).collect();
            let indices = (0..out * row).map(|place| (place % row) as u16).collect();
            terms.push((index, TermSpec::SparseF32 { indptr, indices, values: draw(out * row) }));
        }
    }
    build::adapter(plan, &terms)
}

/// The site called `name`.
fn site(plan: &PlanView<'_>, name: &str) -> u32 {
    build::sites(plan)
        .find(|(_, site)| site.name == name)
        .map(|(index, _)| index as u32)
        .expect("it is there")
}

/// Hands a trainer of `method` at `sites` beside `on` to `then`.
fn beside<R>(
    (plan, target): (PlanView<'_>, &Host),
    (method, sites): (&dyn Method, &[u32]),
    on: &dyn TermSource,
    then: impl FnOnce(&mut Trainer<'_, '_>) -> R,
) -> Result<R, TrainError> {
    let setup = setup(method, sites);
    let memory = Trainer::memory(&plan, target, &setup).expect("every site can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer = Trainer::bind(plan, target, setup, arena.as_mut()).expect("memory suffices");
    trainer.freeze(on)?;
    Ok(then(&mut trainer))
}

#[test]
fn a_second_adapter_learns_beside_the_first_and_leaves_it_as_it_is() {
    let file = net(1);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let held = first(&plan);
    let below = Adapter::attach(held.as_slice(), &plan).expect("it fits");
    let sites = ["up.weight", "classes.weight"].map(|name| site(&plan, name));
    let lora = method("lora", &[("rank", "2"), ("alpha", "2")]).expect("a method of the list");
    let clips = clips();
    for target in targets::targets() {
        let run = |x: &[f32], source: &dyn TermSource| {
            floats(&infer(plan, &target, &[as_bytes(x)], &source).remove(0))
        };
        let trained = beside((plan, &target), (&*lora, &sites), &below, |trainer| {
            // Before a step it is the first alone, which is not the base.
            for (x, _) in &clips {
                let logits = trainer.logits(Clip::Inputs(as_bytes(x))).expect("one clip").to_vec();
                assert_eq!(logits, run(x, &below));
                assert_ne!(logits, run(x, &Base));
            }
            slopes(trainer, &clips);
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
            assert!(losses[29] < 0.8 * losses[0], "{losses:?}");
            let options =
                ExportOptions { parameters: true, stacked_on: "abc".into(), ..ExportOptions::default() };
            let bytes = AlignedBytes::copy_of(&export(trainer, &options).expect("finite").bytes);
            let stack = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
            for (x, _) in &clips {
                let wanted = trainer.logits(Clip::Inputs(as_bytes(x))).expect("one clip").to_vec();
                let near = run(x, &stack).iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5);
                assert!(near, "{}", target.name());
            }
            bytes
        });
        let bytes = trained.expect("they fit");
        let stack = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
        // The first is there as it was, the second beside it, and the file says so.
        for index in 0..plan.site_count() {
            let (whole, below) = (stack.terms(index), below.terms(index));
            let second = whole.two_factor.is_some();
            assert_eq!(second, sites.contains(&(index as u32)));
            let without = SiteTerms { two_factor: None, ..whole };
            assert_eq!(format!("{without:?}"), format!("{below:?}"));
        }
        assert!(stack.hyper().lines().any(|line| line == "stacked_on=abc"), "{}", stack.hyper());
        let section = stack.parameters().expect("a section we wrote is valid");
        assert!(section.tensors().all(|tensor| tensor.name.starts_with("lora_")));
    }
}

/// The gradient beside the first adapter is the slope of the loss there.
fn slopes(trainer: &mut Trainer<'_, '_>, clips: &[(Vec<f32>, usize)]) {
    let mut random = Lcg::new(7);
    let untrained = trainer.fetched().values().to_vec();
    let start: Vec<f32> = untrained.iter().map(|v| v + 0.4 * (random.real() - 0.5)).collect();
    trainer.restore(&start).expect("as many values");
    trainer.discard();
    for (clip, class) in clips {
        trainer.accumulate(Clip::Inputs(as_bytes(clip)), Truth::Class(*class)).expect("one clip");
    }
    let gradient: Vec<f64> = trainer.gradients().iter().map(|g| f64::from(*g)).collect();
    let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let step = 2e-3;
    let mut loss = |steps: f64| {
        let along = |(v, g): (&f32, &f64)| (f64::from(*v) + steps * step * g / length) as f32;
        let moved: Vec<f32> = start.iter().zip(&gradient).map(along).collect();
        trainer.restore(&moved).expect("as many values");
        let one = |(clip, class): &(Vec<f32>, usize)| {
            let clip = Clip::Inputs(as_bytes(clip));
            f64::from(trainer.evaluate(clip, Truth::Class(*class)).expect("one clip").loss)
        };
        clips.iter().map(one).sum::<f64>()
    };
    let rise = 8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0));
    let slope = rise / (12.0 * step);
    assert!((slope / length - 1.0).abs() < 2e-3, "{slope} is not {length}");
    trainer.restore(&untrained).expect("as many values");
    trainer.discard();
}

#[test]
fn what_leaves_no_room_is_refused_by_site() {
    let file = net(1);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let held = first(&plan);
    let below = Adapter::attach(held.as_slice(), &plan).expect("it fits");
    let target = Host::SCALAR;
    let refused = |name: &str, at: &str, on: &dyn TermSource| {
        let method = method(name, &[]).expect("a method of the list");
        match beside((plan, &target), (&*method, &[site(&plan, at)]), on, |_| ()) {
            Err(TrainError::Stacked(site)) => assert_eq!(site.as_str(), at),
            other => panic!("{name} at {at}: {other:?}"),
        }
    };
    refused("full", "up.weight", &below);
    refused("shira", "up.weight", &below);
    refused("ln", "rms.weight", &below);
    let index = site(&plan, "classes.weight");
    let desc = plan.site(index as usize).expect("it is there");
    let pair = TermSpec::TwoFactorF32 { rank: 1, down: vec![0.5; desc.row()], up: vec![0.5; desc.out] };
    let pair = build::adapter(&plan, &[(index as usize, pair)]);
    refused("lora", "classes.weight", &Adapter::attach(pair.as_slice(), &plan).expect("it fits"));
    // Where the first has nothing, or something of another kind, there is room.
    for (name, at) in [("full", "classes.weight"), ("ssf", "up.weight"), ("lora", "up.weight")] {
        let method = method(name, &[]).expect("a method of the list");
        let room = beside((plan, &target), (&*method, &[site(&plan, at)]), &below, |_| ());
        assert_eq!(room, Ok(()), "{name} at {at}");
    }
}
