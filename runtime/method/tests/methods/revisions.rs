//! What methods do between two steps, over all sites of a trainer.

use ingraft_adapter::TermSource;
use ingraft_kernel::{Factors, Host, Sites};
use ingraft_method::{NamedTensor, Score, build, build_on, evaluate};
use ingraft_plan::PlanView;
use ingraft_train::{Clip, FrozenSite, LatentHolder, Method, Trainer, Truth};

use crate::setup::{HEAD, setup};
use crate::starts::saliency;
use crate::tiny::{Aligned, MIX, Net, POINT, clips};

const SITES: [u32; 2] = [POINT, MIX];

/// Tensor `name` of every site.
fn tensors(trainer: &Trainer<'_, '_>, plan: &PlanView<'_>, method: &dyn Method, name: &str) -> Vec<Vec<f32>> {
    let head = trainer.head().map_or(0, |head| head.weight.len() + head.bias.len());
    let mut rest = &trainer.fetched().values()[head..];
    SITES
        .map(|site| {
            let desc = plan.site(site as usize).unwrap();
            let latent = method.layout(&desc).unwrap().latent;
            let (decaying, tail) = rest.split_at(latent.decaying as usize);
            let (steady, tail) = tail.split_at(latent.steady as usize);
            rest = tail;
            let mut found = Vec::new();
            method.tensors(&desc, &mut |tensor| {
                let range = tensor.first..tensor.first + tensor.rows * tensor.columns;
                if tensor.name == name {
                    found = match tensor.holder {
                        LatentHolder::Decaying => decaying[range].to_vec(),
                        LatentHolder::Steady => steady[range].to_vec(),
                        LatentHolder::Constants => panic!("{name} is not trained"),
                    };
                }
            });
            assert!(!found.is_empty(), "no tensor {name}");
            found
        })
        .to_vec()
}

/// Trains `steps` steps and shows the trainer after each, with its number.
fn train(method: &dyn Method, steps: u32, mut show: impl FnMut(u32, &Trainer<'_, '_>, &PlanView<'_>)) {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(method, &SITES, HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(5);
    clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    for step in 1..=steps {
        for (clip, class) in &clips {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
        }
        trainer.step().unwrap();
        show(step, &trainer, &plan);
    }
}

#[test]
fn gates_shrink_to_exact_zeros() {
    for (sparsity, pruned) in [("3", true), ("0", false)] {
        let method = build("sora", &[("rank", "2"), ("sparsity", sparsity)]).unwrap();
        train(&*method, 60, |step, trainer, plan| {
            let gates = tensors(trainer, plan, &*method, "gate").concat();
            let zeros = gates.iter().filter(|gate| **gate == 0.0).count();
            if step == 60 {
                assert_eq!(zeros != 0, pruned, "{gates:?}");
            }
            assert!(step > 3 || zeros == 0, "a gate takes a while to close: {gates:?}");
        });
    }
}

#[test]
fn the_budget_is_met_over_all_sites_and_kept() {
    let given = [
        ("rank", "3"),
        ("target_rank", "1"),
        ("warm_up", "2"),
        ("final", "4"),
        ("interval", "2"),
        ("steps", "14"),
    ];
    let method = build("adalora", &given).unwrap();
    let mut pattern = Vec::new();
    train(&*method, 18, |step, trainer, plan| {
        let e = tensors(trainer, plan, &*method, "lora_E").concat();
        let alive: Vec<bool> = e.iter().map(|e| *e != 0.0).collect();
        let count = alive.iter().filter(|alive| **alive).count();
        match step {
            // The head starts at zero, so the first step moves nothing. Six triplets until the warm-up is over; at step 4
            // two, and four times (3/4)³, rounded down, are left.
            2 | 3 => assert_eq!(count, 6, "step {step}"),
            4 => assert_eq!(count, 3, "step {step}"),
            10 => {
                assert_eq!(count, 2, "step {step}");
                pattern = alive;
            }
            11.. => assert_eq!(alive, pattern, "what is pruned stays pruned, step {step}"),
            _ => {}
        }
    });
}

#[test]
fn the_strongest_vector_stands_still_between_checks() {
    let given = [("frozen", "1"), ("warm_up", "2"), ("interval", "3"), ("rounds", "2")];
    let method = build("vectorfit", &given).unwrap();
    let mut before: Option<Vec<Vec<f32>>> = None;
    train(&*method, 16, |step, trainer, plan| {
        let mut vectors = tensors(trainer, plan, &*method, "vectorfit_sigma");
        vectors.extend(tensors(trainer, plan, &*method, "vectorfit_bias"));
        if let Some(before) = &before {
            let still: Vec<usize> = (0..4).filter(|i| before[*i] == vectors[*i]).collect();
            // Checks are after steps 5 and 8; the one after step 11 sets all free.
            let frozen = (6..=11).contains(&step);
            assert_eq!(still.len(), usize::from(frozen), "step {step}: {still:?}");
        }
        before = Some(vectors);
    });
}

#[test]
fn products_of_steps_are_summed_beside_the_first_order() {
    let method = build("hd-pissa", &[("slices", "2"), ("rank", "1")]).unwrap();
    let (mut moved, mut sums) = (None::<[Vec<Vec<f32>>; 2]>, vec![Vec::new(); 2]);
    train(&*method, 4, |_, trainer, plan| {
        let now = ["hdpissa_A", "hdpissa_B"].map(|name| tensors(trainer, plan, &*method, name));
        let before = moved
            .take()
            .unwrap_or_else(|| now.clone().map(|all| all.iter().map(|v| vec![0.0; v.len()]).collect()));
        for (at, site) in SITES.into_iter().enumerate() {
            let frozen = FrozenSite::new(plan, site as usize).unwrap();
            let (out, row) = (frozen.desc.out, frozen.desc.row());
            let step =
                |which: usize, i: usize| f64::from(now[which][at][i]) - f64::from(before[which][at][i]);
            let sum: &mut Vec<f64> = &mut sums[at];
            sum.resize(out * row, 0.0);
            for (i, sum) in sum.iter_mut().enumerate() {
                *sum += (0..2).map(|k| step(1, i / row * 2 + k) * step(0, k * row + i % row)).sum::<f64>();
            }
            // The same factors without the sum are the first order.
            let wide = |which: usize| now[which][at].iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let ([a, b], none) = ([wide(0), wide(1)], vec![0.0; out * row]);
            let given = [
                NamedTensor { name: "hdpissa_A", dims: &[2, row], values: &a },
                NamedTensor { name: "hdpissa_B", dims: &[out, 2], values: &b },
                NamedTensor { name: "second_order", dims: &[out, row], values: &none },
            ];
            let first = evaluate(&*method, &frozen, &given).unwrap();
            let all = trainer.fetched().terms(site as usize).dense.unwrap();
            let [height, width] = frozen.desc.kernel;
            for channel in 0..out {
                for (position, i) in
                    (0..row).map(|p| (p, p % frozen.desc.inputs * height * width + p / frozen.desc.inputs))
                {
                    let at = frozen.offset(channel, position);
                    let second = f64::from(all[at]) - f64::from(first.dense[at]);
                    assert!((second - sum[channel * row + i]).abs() < 1e-6, "{second}");
                }
            }
        }
        moved = Some(now);
    });
    assert!(sums.iter().flatten().any(|v| v.abs() > 1e-6), "{sums:?}");
}

#[test]
fn rows_of_least_attribution_move_and_no_others() {
    let score = Score::Attribution(50.0);
    let method = build_on("loki", &[("quota", "50")], &saliency(score)).unwrap();
    train(&*method, 8, |_, trainer, plan| {
        for site in SITES {
            let desc = plan.site(site as usize).unwrap();
            let terms = trainer.fetched().terms(site as usize);
            let (sparse, affine) = (terms.sparse.unwrap(), terms.affine.unwrap());
            let rows = sparse.indptr.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
            let chosen: Vec<bool> = rows.map(|len| len != 0).collect();
            assert_eq!(sparse.indices.len(), desc.out / 2 * desc.row(), "whole rows");
            assert_eq!(chosen.iter().filter(|chosen| **chosen).count(), desc.out / 2);
            assert!(chosen.iter().zip(affine.shift).all(|(chosen, shift)| *chosen || *shift == 0.0));
            assert!(affine.scale.iter().all(|scale| *scale == 1.0));
        }
        let all = trainer.fetched().values();
        let head = trainer.head().map_or(0, |head| head.weight.len() + head.bias.len());
        // Half of 4 by 4 and of 6 by 18, and a shift of every output.
        assert_eq!(all.len() - head, 8 + 4 + 54 + 6);
    });
}

#[test]
fn every_step_trains_a_slice_and_the_last_ones_the_whole() {
    let given = [("rank", "2"), ("slices", "2"), ("slice_steps", "12")];
    let method = build("lora", &given).unwrap();
    let mut seen = [0; 3];
    train(&*method, 16, |step, trainer, plan| {
        for site in SITES {
            let row = plan.site(site as usize).unwrap().row();
            let term = trainer.fetched().terms(site as usize).two_factor.unwrap();
            let Factors::F32 { down, .. } = term.factors else { panic!("live factors are f32") };
            let acts = |k: usize| down[k * row..][..row].iter().any(|a| *a != 0.0);
            let active = (0..2).take_while(|k| acts(*k)).count();
            assert!((active..2).all(|k| !acts(k)), "the first rows and no others");
            assert!((1..=2).contains(&active) && (step < 12 || active == 2), "step {step}: {active}");
            seen[active] += 1;
        }
    });
    assert!(seen[1..].iter().all(|count| *count != 0), "{seen:?}");
}
