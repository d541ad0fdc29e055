//! Parameters that several sites have in common.

use ingraft_adapter::{Adapter, ParameterValues, TermSource};
use ingraft_kernel::{Factors, Host};
use ingraft_method::{ExportOptions, FactorFormat, build, export};
use ingraft_plan::PlanView;
use ingraft_train::{Clip, Trainer, Truth};

use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, MIX, Net, POINT, clips};

/// The squares of all factors' values; a factor that reads the input is counted once, not for every group.
fn squares(trainer: &Trainer<'_, '_>) -> f64 {
    let of = |(site, row): (u32, usize)| {
        let two_factor = trainer.fetched().terms(site as usize).two_factor.expect("rank 1 is two factors");
        let Factors::F32 { down, up } = two_factor.factors else { panic!("live factors are f32") };
        let values = down[..row].iter().chain(up);
        values.map(|value| f64::from(*value).powi(2)).sum::<f64>()
    };
    [(POINT, 4), (MIX, 18)].into_iter().map(of).sum()
}

#[test]
fn one_vector_makes_the_factors_of_all_sites_and_follows_them() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let method = build("unilora", &[("rank", "1"), ("theta_d_length", "4")]).unwrap();
    let setup = setup(&*method, &[POINT, MIX], HEAD);
    let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap();
    let mut arena = Aligned::zeroed(memory.total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, arena.bytes_mut()).unwrap();
    let head = trainer.head().map_or(0, |head| head.weight.len() + head.bias.len());
    let clips = clips(5);
    clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    let theta = |trainer: &Trainer<'_, '_>| trainer.fetched().values()[head..].to_vec();
    let start = theta(&trainer);
    assert_eq!(start.len(), 4, "held once");
    for step in 0..4 {
        // The map from the vector to all factors keeps lengths: every place was counted over both sites.
        let length: f64 = theta(&trainer).iter().map(|value| f64::from(*value).powi(2)).sum();
        assert!(
            (squares(&trainer) / length - 1.0).abs() < 1e-5,
            "step {step}: {} {length}",
            squares(&trainer)
        );
        for (clip, class) in &clips {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
        }
        trainer.step().unwrap();
    }
    assert!(theta(&trainer).iter().zip(&start).all(|(now, then)| now != then), "it learns");
}

#[test]
fn sites_of_other_shapes_share_nothing_by_shape() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let count = |name: &str, settings: &[(&str, &str)], sites: &[u32]| {
        let method = build(name, settings).unwrap();
        let setup = setup(&*method, sites, HEAD);
        let mut arena = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let trainer = Trainer::bind(plan, &Host::SCALAR, setup, arena.bytes_mut()).unwrap();
        let head = trainer.head().map_or(0, |head| head.weight.len() + head.bias.len());
        trainer.fetched().values().len() - head
    };
    // Weights of 4 by 4 and 6 by 18.
    assert_eq!(count("s2lora", &[("rank", "2")], &[POINT, MIX]), 2 * (8 + 1) + 2 * (24 + 1));
    let pyramid = [("global_rank", "3"), ("group_rank", "2"), ("layer_rank", "1")];
    assert_eq!(count("msplora", &pyramid, &[POINT, MIX]), (8 + 24) * (3 + 3 * 2 + 1));
    let bank = [("rank", "1"), ("vectors", "5"), ("vector_length", "2")];
    assert_eq!(count("vblora", &bank, &[POINT]), 5 * 2 + 5 * 8 / 2);
    assert_eq!(count("vblora", &bank, &[POINT, MIX]), 5 * 2 + 5 * 8 / 2 + 5 * 24 / 2);
}

#[test]
fn a_file_holds_what_sites_share_once_and_every_site_reads_it() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let method = build("unilora", &[("rank", "1"), ("theta_d_length", "64")]).unwrap();
    let setup = setup(&*method, &[POINT, MIX], HEAD);
    let mut arena = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, arena.bytes_mut()).unwrap();
    let options = ExportOptions { factors: FactorFormat::F32, parameters: true, ..ExportOptions::default() };
    let file = Aligned::new(&export(&mut trainer, &options).unwrap().bytes);
    let adapter = Adapter::attach(file.bytes(), &plan).unwrap();
    let section = adapter.parameters().unwrap();
    let theta =
        |site: u32| section.site(site as usize).find(|tensor| tensor.name.contains("theta_d")).unwrap();
    let (ParameterValues::F32(point), ParameterValues::F32(mix)) = (theta(POINT).values, theta(MIX).values)
    else {
        panic!("trained values are f32")
    };
    assert_eq!((point.len(), point), (64, mix));
    assert_eq!(point.as_ptr(), mix.as_ptr());
}
