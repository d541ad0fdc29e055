//! From a trained state to an adapter that acts.

use ingraft_adapter::{Adapter, Base, TermSource, TermSpec};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::{Factors, Host, NO_SITE, SiteTerms, Sites, SparseValues};
use ingraft_method::{
    DeltaFormat, ExportError, ExportOptions, FactorFormat, Lora, Mask, Ranges, Saturation, Shira, TermFormat,
    build, deploy_as, export,
};
use ingraft_plan::{Phase, PlanView};
use ingraft_train::{Clip, FrozenSite, Method, Trainer, Truth};

use crate::setup::{HEAD, setup};
use crate::starts::{SITES, methods};
use crate::tiny::{Aligned, FEATURES, MIX, Net, PATCH, POINT, clips};

/// Trains `method` for a while and hands the trainer to `then`.
fn trained(method: &dyn Method, then: impl FnOnce(&mut Trainer<'_, '_>, &PlanView<'_>)) {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(method, &SITES, HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(5);
    clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    for _ in 0..15 {
        for (clip, class) in &clips {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
        }
        trainer.step().unwrap();
    }
    then(&mut trainer, &plan);
}

fn options<'o>(factors: FactorFormat<'o>) -> ExportOptions<'o> {
    let labels = ["left", "right", "half"].map(String::from).to_vec();
    ExportOptions { factors, labels, provenance: "test".to_string(), ..ExportOptions::default() }
}

fn measured(trainer: &mut Trainer<'_, '_>) -> Ranges {
    let mut ranges = Ranges::new(trainer);
    for (clip, _) in &clips(5) {
        trainer.forward(Clip::Inputs(clip), &mut ranges).unwrap();
    }
    ranges
}

/// Features and, with a head, logits of single patches in an inference session.
fn infer<S: TermSource>(plan: &PlanView<'_>, source: &S) -> Vec<([f32; FEATURES], [f32; 3])> {
    let needs = MemoryNeeds::new(plan, Phase::Infer, &Host::SCALAR).unwrap();
    let mut memory = Aligned::zeroed(needs.total());
    let mut session = Session::bind(*plan, Phase::Infer, &Host::SCALAR, memory.bytes_mut()).unwrap();
    let clips = clips(6);
    let patches = clips.iter().flat_map(|(clip, _)| clip.chunks(PATCH));
    patches
        .map(|patch| {
            let (mut features, mut logits) = ([0.0f32; FEATURES], [0.0f32; 3]);
            session.write_input(0, patch).unwrap();
            session.run(source).unwrap();
            // A head ends the run at the features it reads.
            session.read_features(NO_SITE, 3, 0, &mut features).unwrap();
            session.read_logits(0, &mut logits).unwrap();
            (features, logits)
        })
        .collect()
}

/// The largest difference of features and of logits between the trainer and an
/// inference session with the adapter in `bytes`.
fn difference(trainer: &mut Trainer<'_, '_>, plan: &PlanView<'_>, bytes: &[u8]) -> (f32, f32) {
    let file = Aligned::new(bytes);
    let adapter = Adapter::attach(file.bytes(), plan).unwrap();
    let furthest = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    let clips = clips(6);
    let patches = clips.iter().flat_map(|(clip, _)| clip.chunks(PATCH));
    let (mut far, mut far_logits) = (0.0f32, 0.0f32);
    for (patch, (features, logits)) in patches.zip(infer(plan, &adapter)) {
        let mut want = [0.0f32; FEATURES];
        trainer.features(Clip::Inputs(patch), &mut want).unwrap();
        far = far.max(furthest(&features, &want));
        far_logits = far_logits.max(furthest(&logits, trainer.logits(Clip::Inputs(patch)).unwrap()));
    }
    (far, far_logits)
}

/// Whether some site's whole or sparse delta is written in steps of the base.
fn has_delta(method: &dyn Method) -> bool {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let layout = |site: &u32| method.layout(&plan.site(*site as usize).unwrap()).unwrap();
    SITES.iter().any(|site| layout(site).nnz != 0 || layout(site).dense)
}

#[test]
fn whole_deltas_are_written_in_steps_of_the_base() {
    let step = Net::new(11).pool.scale;
    for method in methods().iter().filter(|method| has_delta(&***method)) {
        trained(&**method, |trainer, plan| {
            let written = export(trainer, &options(FactorFormat::F32)).unwrap();
            let worst = written.sites.iter().fold(0.0f64, |worst, site| worst.max(site.error));
            assert!(worst > 0.0, "{}", method.name());
            let (features, _) = difference(trainer, plan, &written.bytes);
            // A whole delta is rounded, not cut: scales widen where the base's do not hold it.
            let near = features <= 10.0 * step && worst < 0.5;
            assert!(near, "{}: {} steps, error {worst}", method.name(), features / step);
        });
    }
}

/// How far the written terms are from `delta`, a delta of the weight in kernel order.
fn distance(site: &FrozenSite<'_>, terms: &[TermSpec], delta: &[f32]) -> f64 {
    let (row, scales) = (site.desc.row(), site.scales().unwrap());
    let (mut apart, mut total) = (0.0, 0.0);
    for (i, wanted) in delta.iter().enumerate() {
        let (channel, position) = (i / row, i % row);
        let group = channel / (site.desc.out / site.desc.groups);
        let found = match &terms[0] {
            TermSpec::FusedI8 { weight, .. } => {
                let factor = match terms.get(1) {
                    Some(TermSpec::Affine { scale, .. }) => f64::from(scale[channel]),
                    _ => 1.0,
                };
                let base = f64::from(site.code(channel, position).unwrap());
                (f64::from(weight[i]) * factor - base) * f64::from(scales.weight(channel))
            }
            TermSpec::TwoFactorF32 { rank, down, up } => (0..*rank)
                .map(|k| {
                    f64::from(up[channel * rank + k]) * f64::from(down[(group * rank + k) * row + position])
                })
                .sum(),
            other => panic!("{other:?}"),
        };
        apart += (found - f64::from(*wanted)).powi(2);
        total += f64::from(*wanted).powi(2);
    }
    (apart / total).sqrt()
}

#[test]
fn deltas_below_half_a_step_are_kept_as_two_factors() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let site = FrozenSite::new(&plan, MIX as usize).unwrap();
    let (out, row, step) = (site.desc.out, site.desc.row(), site.scales().unwrap().weight(0));
    let across: Vec<f32> = (0..out).map(|o| 0.2 + 0.1 * (o as f32).sin()).collect();
    let delta = |size: f32| -> Vec<f32> {
        (0..out * row).map(|i| size * step * across[i / row] * ((i % row) as f32).cos()).collect()
    };
    let written = |delta: &[f32], deltas| {
        let terms = SiteTerms { dense: Some(delta), ..SiteTerms::NONE };
        deploy_as(&site, MIX, terms, TermFormat { factors: FactorFormat::F32, deltas }).unwrap()
    };
    let small = delta(1.0);
    let fused = written(&small, DeltaFormat::Fused);
    assert_eq!((fused.error, distance(&site, &fused.terms, &small)), (1.0, 1.0));
    let auto = written(&small, DeltaFormat::Auto);
    assert!(auto.error < 1e-6 && distance(&site, &auto.terms, &small) < 1e-6, "{}", auto.error);
    assert_eq!((auto.fused_error, auto.two_factor_error), (Some(1.0), Some(auto.error)));
    // What the steps hold well stays fused, unless two factors are asked for.
    let large = delta(100.0);
    let auto = written(&large, DeltaFormat::Auto);
    assert!(matches!(auto.terms[0], TermSpec::FusedI8 { .. }) && auto.two_factor_error.is_none());
    assert!((auto.error - distance(&site, &auto.terms, &large)).abs() < 1e-6);
    let asked = written(&large, DeltaFormat::TwoFactor(3));
    assert!(asked.error < 1e-6 && matches!(asked.terms[0], TermSpec::TwoFactorF32 { .. }));
}

#[test]
fn what_is_trained_on_the_steps_of_the_base_is_written_without_error() {
    let method = build("sqft", &[("quantized", "true"), ("rank", "2")]).unwrap();
    trained(&*method, |trainer, plan| {
        let written = export(trainer, &options(FactorFormat::F32)).unwrap();
        assert!(written.sites.iter().all(|site| site.error < 1e-6), "{:?}", written.sites);
        assert!(difference(trainer, plan, &written.bytes).0 <= Net::new(11).pool.scale);
    });
}

#[test]
fn steps_of_the_quantizer_are_an_output_scale_before_the_bias() {
    let method = build("peqa", &[]).unwrap();
    let net = Net::new(11);
    trained(&*method, |trainer, plan| {
        for site in SITES {
            let frozen = FrozenSite::new(plan, site as usize).unwrap();
            let affine = trainer.fetched().terms(site as usize).affine.unwrap();
            let layer = &net.layers[site as usize];
            for (channel, (scale, shift)) in affine.scale.iter().zip(affine.shift).enumerate() {
                // scale·(Wx + b) + shift is (s₀ + Δs)·(W̄x) + b, whatever x is.
                let bias = f64::from(frozen.real_bias(channel));
                let unit = f64::from(layer.input.scale) * f64::from(layer.scales[channel]);
                assert!((bias - f64::from(layer.bias[channel]) * unit).abs() < 1e-6, "{bias}");
                let moved = f64::from(*scale) * bias + f64::from(*shift);
                assert!((moved - bias).abs() <= 1e-6 * bias.abs().max(1.0), "{moved} {bias}");
                let own = f64::from(frozen.weight(channel, 0)) * f64::from(*scale);
                let step = f64::from(layer.scales[channel]) * f64::from(*scale);
                let code = f64::from(frozen.code(channel, 0).unwrap());
                assert!((own - step * code).abs() < 1e-6);
            }
        }
        let written = export(trainer, &options(FactorFormat::F32)).unwrap();
        assert!(written.sites.iter().all(|site| site.error == 0.0));
    });
}

#[test]
fn float_terms_act_as_they_were_trained() {
    for method in methods().iter().filter(|method| !has_delta(&***method)) {
        trained(&**method, |trainer, plan| {
            let written = export(trainer, &options(FactorFormat::F32)).unwrap();
            assert!(written.sites.iter().all(|site| site.error == 0.0));
            let (features, logits) = difference(trainer, plan, &written.bytes);
            assert_eq!(features, 0.0, "{}", method.name());
            assert!(logits < 1e-4, "{}: {logits}", method.name());
        });
    }
}

#[test]
fn the_file_says_what_made_it() {
    trained(&Lora::default(), |trainer, plan| {
        let file = Aligned::new(&export(trainer, &options(FactorFormat::F32)).unwrap().bytes);
        let adapter = Adapter::attach(file.bytes(), plan).unwrap();
        assert_eq!(adapter.method(), "lora");
        assert_eq!(adapter.hyper(), "rank=8\nalpha=8\nrslora=false\ndepthwise=skip\nslices=1\nslice_steps=0");
        assert_eq!(adapter.provenance(), "test");
        assert!(adapter.sites().eq(["point", "mix"]));
        assert_eq!(adapter.head().unwrap().labels, "left\nright\nhalf");
    });
}

#[test]
fn integer_factors_stay_close_and_within_int16() {
    let step = Net::new(11).pool.scale;
    for rank in [1, 8] {
        trained(&Lora { rank, alpha: 16.0, ..Lora::default() }, |trainer, plan| {
            let uncalibrated = export(trainer, &options(FactorFormat::Int8(&Ranges::default())));
            assert!(
                matches!(uncalibrated, Err(ExportError::NotCalibrated(site)) if site.as_str() == "point")
            );
            let ranges = measured(trainer);
            let written = export(trainer, &options(FactorFormat::Int8(&ranges))).unwrap();
            assert_eq!(written.sites.len(), 2);
            for site in &written.sites {
                assert!(site.error > 0.0 && site.error < 0.02, "{}: {}", site.name, site.error);
            }
            let (features, _) = difference(trainer, plan, &written.bytes);
            assert!(features <= 2.0 * step, "{} steps", features / step);

            let file = Aligned::new(&written.bytes);
            let adapter = Adapter::attach(file.bytes(), plan).unwrap();
            let Factors::I8 { down, down_scale, .. } =
                adapter.terms(POINT as usize).two_factor.unwrap().factors
            else {
                panic!("factors are written as int8");
            };
            // The peak of each rank row lands on half of int16.
            let sx = f64::from(FrozenSite::new(plan, POINT as usize).unwrap().scales().unwrap().input);
            let trained = trainer.fetched().terms(POINT as usize).two_factor.unwrap();
            let Factors::F32 { down: real, .. } = trained.factors else { panic!("live factors are f32") };
            for (k, peak) in ranges.peaks(POINT).unwrap().iter().enumerate() {
                let largest = real[k * 4..][..4].iter().fold(0.0f32, |m, a| m.max(a.abs()));
                let accumulated = f64::from(*peak) / (sx * f64::from(largest) / 127.0);
                let code = accumulated * f64::from(down_scale[k]);
                assert!((code / 16384.0 - 1.0).abs() < 1e-4, "{code}");
                assert_eq!(down[k * 4..][..4].iter().map(|a| a.unsigned_abs()).max(), Some(127));
            }
        });
    }
}

#[test]
fn ranges_are_the_largest_rank_space_values() {
    let net = Net::new(11);
    trained(&Lora { rank: 2, alpha: 4.0, ..Lora::default() }, |trainer, _| {
        let ranges = measured(trainer);
        let terms = core::array::from_fn(|site| crate::surrogate::Terms::new(&trainer.fetched().terms(site)));
        let down = &terms[POINT as usize].down;
        let mut want = [0.0f64; 2];
        for patch in clips(5).iter().flat_map(|(clip, _)| clip.chunks(PATCH)) {
            for pixel in net.record(patch, &terms).0.stem.chunks(4) {
                for (k, want) in want.iter_mut().enumerate() {
                    *want =
                        want.max(down[k * 4..][..4].iter().zip(pixel).map(|(a, x)| a * x).sum::<f64>().abs());
                }
            }
        }
        for (got, want) in ranges.peaks(POINT).unwrap().iter().zip(want) {
            assert!((f64::from(*got) / want - 1.0).abs() < 1e-5, "{got} {want}");
        }
        assert_eq!(ranges.peaks(0), None);
    });
}

#[test]
fn saturation_counts_codes_at_the_top() {
    let net = Net::new(11);
    trained(&Lora::default(), |trainer, _| {
        let mut saturation = Saturation::new(trainer);
        for (clip, _) in &clips(5) {
            trainer.forward(Clip::Inputs(clip), &mut saturation).unwrap();
        }
        let terms = core::array::from_fn(|site| crate::surrogate::Terms::new(&trainer.fetched().terms(site)));
        let scale = f64::from(net.layers[MIX as usize].output.unwrap().scale);
        let (mut reached, mut total) = (0.0, 0.0);
        for patch in clips(5).iter().flat_map(|(clip, _)| clip.chunks(PATCH)) {
            let values = net.record(patch, &terms).0.mix;
            reached += values.iter().filter(|v| (**v / scale).round() == 255.0).count() as f64;
            total += values.len() as f64;
        }
        let rates: Vec<_> = saturation.rates().collect();
        assert_eq!((rates[0].0, rates[1]), (POINT, (MIX, reached / total)));
        assert!(reached > 0.0);
    });
}

#[test]
fn sparse_terms_become_steps_of_the_base() {
    let net = Net::new(11);
    for mask in [Mask::Random, Mask::Magnitude, Mask::Row] {
        trained(&Shira { density: 0.3, mask }, |trainer, plan| {
            let written = export(trainer, &options(FactorFormat::F32)).unwrap();
            let file = Aligned::new(&written.bytes);
            let adapter = Adapter::attach(file.bytes(), plan).unwrap();
            let mut patched = Net::new(11);
            for (site, report) in SITES.into_iter().zip(&written.sites) {
                let layer = &net.layers[site as usize];
                let entries = |source: &dyn TermSource| {
                    let sparse = source.terms(site as usize).sparse.unwrap();
                    let value = |at: usize| match sparse.values {
                        SparseValues::F32(values) => f64::from(values[at]),
                        SparseValues::I16(values) => f64::from(values[at]),
                    };
                    let mut all = vec![0.0; layer.codes.len()];
                    for (channel, ends) in sparse.indptr.windows(2).enumerate() {
                        for at in ends[0] as usize..ends[1] as usize {
                            all[channel * layer.row() + sparse.indices[at] as usize] = value(at);
                        }
                    }
                    all
                };
                let (real, steps) = (entries(trainer.fetched()), entries(&adapter));
                let (mut error, mut total) = (0.0, 0.0);
                for (i, (real, step)) in real.iter().zip(&steps).enumerate() {
                    let (code, scale) = (f64::from(layer.codes[i]), f64::from(layer.scales[i / layer.row()]));
                    let want = (code + real / scale).clamp(code.min(-127.0), 127.0) - code;
                    assert!((step - want).abs() <= 0.5 + 1e-4, "{step} {want}");
                    error += (step * scale - real).powi(2);
                    total += real.powi(2);
                    patched.layers[site as usize].codes[i] += *step as i8;
                }
                let error = (error / total).sqrt();
                assert!((report.error - error).abs() < 1e-3, "{}: {} {error}", report.name, report.error);
            }
            // The overlay is the same as other weights.
            let other = patched.plan();
            let other = infer(&PlanView::new(other.bytes()).unwrap(), &Base);
            for (beside, within) in infer(plan, &adapter).iter().zip(&other) {
                assert_eq!(beside.0.map(f32::to_bits), within.0.map(f32::to_bits));
            }
            let (features, _) = difference(trainer, plan, &written.bytes);
            assert!(features <= 4.0 * net.pool.scale, "{} steps", features / net.pool.scale);
        });
    }
}

#[test]
fn labels_must_be_as_many_as_classes() {
    trained(&Lora::default(), |trainer, _| {
        let two = ExportOptions { labels: vec![String::new(); 2], ..ExportOptions::default() };
        assert_eq!(export(trainer, &two), Err(ExportError::Labels { classes: 3, labels: 2 }));
        assert!(export(trainer, &ExportOptions::default()).is_ok());
    });
}
