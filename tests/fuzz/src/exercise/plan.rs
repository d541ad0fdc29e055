//! A plan: check, describe, bind, run, train.

use ingraft_adapter::Base;
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_import::Aligned;
use ingraft_kernel::{Host, NO_SITE, Sites};
use ingraft_method::build;
use ingraft_plan::{Phase, PlanView};
use ingraft_signal::{FrontEnd, Recipe};
use ingraft_tensor::bytes;
use ingraft_train::{Clip, LearningRate, Loss, Moves, Readout, Schedule, Setup, Sgd, Trainer, Truth};

use super::{hosts, room, sealed};

/// Whatever `bytes` are as a plan.
pub fn plan(bytes: &[u8]) {
    let _ = PlanView::new(Aligned::copy_of(bytes).as_slice());
    let file = Aligned::copy_of(&sealed(bytes));
    let Ok(plan) = PlanView::new(file.as_slice()) else { return };
    describe(&plan);
    for host in hosts() {
        for phase in [Phase::Infer, Phase::Train] {
            run(plan, phase, host);
        }
        for readout in [Readout::Head { site: NO_SITE, pool: 0, classes: 2 }, Readout::Logits] {
            train(plan, host, readout);
        }
    }
}

fn describe(plan: &PlanView<'_>) {
    let _ = (plan.model_name().len(), plan.float_nodes().len());
    for index in 0..plan.site_count() + 1 {
        let _ = (plan.site(index), plan.site_diagonals(index), plan.site_is_late(index));
        for phase in [Phase::Infer, Phase::Train] {
            let _ = (plan.site_tensors(phase, index), plan.head_source(phase, index as u32));
        }
        for pool in 0..4 {
            let _ = plan.head_features(index as u32, pool);
        }
    }
    for io in plan.io() {
        let _ = (io.name.len(), io.labels.len(), plan.tensor(io.tensor));
        let Some(recipe) = Recipe::from_words(io.recipe) else { continue };
        let _ = (recipe.shape().dims().len(), recipe.patches(1 << 20), recipe.stream_len());
        front_end(&recipe);
    }
}

fn front_end(recipe: &Recipe) {
    let (memory, out) = (recipe.memory_len().saturating_mul(4), recipe.out_len().saturating_mul(4));
    // A recipe may ask for a clip of minutes: that is for the caller to refuse.
    if recipe.patch_len() > 4096 {
        return;
    }
    room(memory, |memory| {
        room(out, |out| {
            let (Some(memory), Some(out)) = (bytes::cast_mut(memory), bytes::cast_mut(out)) else { return };
            let Ok(mut front_end) = FrontEnd::bind(recipe, memory) else { return };
            let _ = front_end.patch(&[0.5f32, -0.25, 1.0, f32::NAN, 0.0][..recipe.patch_len().min(5)], out);
        })
    });
}

fn run(plan: PlanView<'_>, phase: Phase, host: &Host) {
    let Ok(needs) = MemoryNeeds::new(&plan, phase, host) else { return };
    room(needs.total(), |memory| {
        memory.fill(0);
        let Ok(mut session) = Session::bind(plan, phase, host, memory) else { return };
        if phase == Phase::Infer {
            let _ = session.run(&Base);
            for output in 0..plan.outputs().count() + 1 {
                let _ = session.output(output).map(|view| view.bytes().len());
            }
        }
    });
}

/// One step of two clips.
fn train(plan: PlanView<'_>, host: &Host, readout: Readout) {
    let reached = |site: &u32| {
        let place = plan.site_tensors(Phase::Train, *site as usize);
        place.is_some_and(|place| place.step as usize >= plan.train_cut())
    };
    let sites: Vec<u32> = (0..plan.site_count() as u32).filter(reached).take(4).collect();
    let rate = LearningRate { rate: 0.01, weight_decay: 0.0 };
    let Ok(method) = build("lora", &[("rank", "2")]) else { return };
    let setup = Setup {
        method: &*method,
        sites: &sites,
        readout,
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &Sgd,
        adapter: rate,
        head: rate,
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: Some(1.0),
        seed: 3,
    };
    let Ok(needs) = Trainer::memory(&plan, host, &setup) else { return };
    room(needs.total(), |memory| {
        memory.fill(0);
        let Ok(mut trainer) = Trainer::bind(plan, host, setup, memory) else { return };
        let patch = trainer.patch_bytes();
        if patch > 1 << 16 {
            return;
        }
        let input: Vec<u8> = (0..patch).map(|i| (i % 61) as u8).collect();
        for class in 0..2 {
            let _ = trainer.accumulate(Clip::Inputs(&input), Truth::Class(class));
        }
        let _ = trainer.step();
    });
}
