//! Training that goes on from an adapter.

use ingraft_adapter::{Adapter, ParameterTensor, TermSource};
use ingraft_kernel::Host;
use ingraft_method::{ContinueError, ExportOptions, Lora, build, continue_from, export};
use ingraft_plan::PlanView;
use ingraft_train::{Clip, Method, Setup, TrainError, Trainer, Truth};

use crate::setup::{HEAD, setup};
use crate::starts::{SITES, methods};
use crate::tiny::{Aligned, DEPTH, MIX, Net, POINT, clips};

/// Hands a trainer whose head's features are standardized to `then`.
fn bound<R>(setup: Setup<'_>, then: impl FnOnce(&mut Trainer<'_, '_>) -> R) -> R {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    clips(5).iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    then(&mut trainer)
}

fn learn(trainer: &mut Trainer<'_, '_>, steps: usize) {
    for _ in 0..steps {
        for (clip, class) in &clips(5) {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
        }
        trainer.step().unwrap();
    }
}

/// The adapter as it is, for reading on any aligned place.
fn written(trainer: &mut Trainer<'_, '_>, parameters: bool) -> Aligned {
    let options = ExportOptions { parameters, ..ExportOptions::default() };
    let bytes = export(trainer, &options).unwrap().bytes;
    let mut aligned = Aligned::zeroed(bytes.len());
    aligned.bytes_mut().copy_from_slice(&bytes);
    aligned
}

/// What was trained for some steps.
fn adapter(method: &dyn Method, sites: &[u32], steps: usize, parameters: bool) -> Aligned {
    bound(setup(method, sites, HEAD), |trainer| {
        learn(trainer, steps);
        written(trainer, parameters)
    })
}

#[test]
fn every_method_goes_on_where_it_was() {
    for method in methods() {
        let file = adapter(&*method, &SITES, 4, true);
        let again = bound(Setup { seed: 8, ..setup(&*method, &SITES, HEAD) }, |trainer| {
            let plan = *trainer.plan();
            let adapter = Adapter::attach(file.bytes(), &plan).unwrap();
            continue_from(trainer, &adapter).unwrap_or_else(|error| panic!("{}: {error}", method.name()));
            written(trainer, true)
        });
        let [before, after] = [&file, &again].map(|file| Adapter::open(file.bytes()).unwrap());
        let tensors = |adapter: &Adapter<'_>| -> Vec<String> {
            let section = adapter.parameters().unwrap();
            let line = |tensor: ParameterTensor<'_>| format!("{tensor:?}");
            section.tensors().map(line).collect()
        };
        // A head has no parameters at sites.
        assert_eq!(tensors(&before).is_empty(), method.name() == "head", "{}", method.name());
        assert_eq!(tensors(&before), tensors(&after), "{}", method.name());
        for site in SITES {
            let terms = [&before, &after].map(|adapter| format!("{:?}", adapter.terms(site as usize)));
            assert_eq!(terms[0], terms[1], "{} at {site}", method.name());
        }
    }
}

#[test]
fn a_head_starts_as_it_was_folded() {
    let method = Lora::default();
    bound(setup(&method, &SITES, HEAD), |trainer| {
        learn(trainer, 6);
        let fold = |trainer: &Trainer<'_, '_>| {
            let head = trainer.head().unwrap();
            let (mut weight, mut bias) = (vec![0.0; head.weight.len()], vec![0.0; head.bias.len()]);
            head.fold(&mut weight, &mut bias).unwrap();
            (weight, bias)
        };
        let trained = trainer.fetched().values().to_vec();
        let (weight, bias) = fold(trainer);
        trainer.restore(&vec![0.5; trained.len()]).unwrap();
        trainer.start_head(&weight, &bias).unwrap();
        let near =
            |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()));
        let values = trainer.fetched().values();
        assert!(near(&values[..weight.len() + bias.len()], &trained));
        let again = fold(trainer);
        assert!(near(&again.0, &weight) && near(&again.1, &bias));
        let short = trainer.start_head(&weight[1..], &bias).unwrap_err();
        assert!(matches!(short, TrainError::Length { .. }), "{short}");
    });
}

#[test]
fn another_run_is_refused_and_says_how() {
    let lora = build("lora", &[("rank", "2")]).unwrap();
    let refused = |file: &Aligned, method: &dyn Method, sites: &[u32]| {
        bound(setup(method, sites, HEAD), |trainer| {
            let plan = *trainer.plan();
            continue_from(trainer, &Adapter::attach(file.bytes(), &plan).unwrap()).unwrap_err()
        })
    };
    let file = adapter(&*lora, &[POINT, MIX], 1, true);
    let terms = adapter(&*lora, &[POINT, MIX], 1, false);
    assert_eq!(refused(&terms, &*lora, &[POINT, MIX]), ContinueError::NoParameters);
    let error = refused(&file, &*build("rslora", &[("rank", "2")]).unwrap(), &[POINT, MIX]);
    assert!(matches!(&error, ContinueError::Method { .. }) && error.to_string().contains("lora"), "{error}");
    let error = refused(&file, &*build("lora", &[("rank", "3")]).unwrap(), &[POINT, MIX]);
    assert!(
        matches!(&error, ContinueError::Settings { held, wanted }
            if held.contains("rank=2") && wanted.contains("rank=3")),
        "{error}"
    );
    // A site too many, here and there; one that the method leaves alone is none.
    for (sites, name) in [(&[POINT][..], "mix"), (&[MIX], "point")] {
        let error = refused(&file, &*lora, sites);
        assert!(matches!(error, ContinueError::Site(site) if site.as_str() == name), "{error}");
    }
    let one = adapter(&*lora, &[POINT], 1, true);
    let error = refused(&one, &*lora, &[POINT, MIX]);
    assert!(matches!(error, ContinueError::Site(site) if site.as_str() == "mix"), "{error}");
    bound(setup(&*lora, &[POINT, DEPTH, MIX], HEAD), |trainer| {
        let plan = *trainer.plan();
        continue_from(trainer, &Adapter::attach(file.bytes(), &plan).unwrap()).unwrap();
    });
}
