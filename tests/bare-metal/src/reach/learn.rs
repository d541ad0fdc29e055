//! Training with any method, loss, optimizer and readout.

use ingraft_exec::Silent;
use ingraft_kernel::{SiteDesc, SiteGrads};
use ingraft_method::{Bias, DepthwiseTerm, Full, Head, Ia3, Ln, Lora, Mask, RsLora, Shira, Ssf};
use ingraft_plan::PlanView;
use ingraft_tensor::{Rng, bytes};
use ingraft_train::{
    Arrival, Clip, CoServe, EarlyStop, FrozenSite, GaLore, Latent, LatentGradients, LatentLayout,
    LearningRate, Loss, Method, Moves, OPTIMIZERS, Readout, Reservoir, Schedule, ScheduleShape, Setting,
    Setup, SiteValues, TermLayout, TrainError, Trainer, Truth, Unfit, optimizer,
};

use super::{TARGET, Untrusted, keep};

const METHODS: [&dyn Method; 12] = [
    &Computed,
    &Ln,
    &RsLora { rank: 4, alpha: 4.0 },
    &Ssf,
    &Bias,
    &Full,
    &Head,
    &Ia3,
    &Lora { rank: 4, alpha: 4.0, rank_stabilized: true, depthwise: DepthwiseTerm::Scale },
    &Shira { density: 0.02, mask: Mask::Random },
    &Shira { density: 0.02, mask: Mask::Magnitude },
    &Shira { density: 0.02, mask: Mask::Row },
];

/// Every call of a trainer.
pub(super) fn trainer(
    untrusted: &Untrusted<'_>,
    plan: PlanView<'_>,
    memory: &mut [u8],
) -> Result<(), TrainError> {
    let number = untrusted.number;
    let word = number as u32;
    let subspace = GaLore { rank: word, every: word, history: word, ..GaLore::NATURAL };
    let Some(setup) = setup(untrusted, &subspace) else { return Ok(()) };
    keep(Trainer::memory(&plan, &TARGET, &setup).map(|memory| memory.total()));
    let (scratch, memory) = memory.split_at_mut_checked(number).unwrap_or_default();
    let mut trainer = Trainer::bind(plan, &TARGET, setup, memory)?;
    keep((trainer.patch_bytes(), trainer.cut_bytes(), trainer.feature_count(), trainer.logit_count()));
    let clip = clip(untrusted);
    let truth = truth(untrusted);
    trainer.run_prefix(untrusted.bytes, scratch)?;
    keep(trainer.advance_prefix(untrusted.bytes, scratch, number)?);
    let values = bytes::cast_mut(scratch).unwrap_or_default();
    trainer.features(clip, values)?;
    trainer.observe(clip)?;
    trainer.standardize();
    trainer.observe_class(clip, number)?;
    trainer.start_at_prototypes(number as f32)?;
    trainer.forward(clip, &mut Silent)?;
    keep(trainer.logits(clip)?);
    let mut stop = EarlyStop::new(number as u32).margin(1e-3).smoothing(0.5);
    while trainer.advance(clip, truth, number)?.is_none() {}
    keep(stop.observe(trainer.accumulate(clip, truth)?));
    keep((trainer.gradients(), stop.best()));
    keep(trainer.advance_step(number)?);
    trainer.step()?;
    trainer.discard();
    keep((trainer.piece_count(), trainer.next_piece()));
    keep(trainer.evaluate(clip, truth)?);
    if let Some(head) = trainer.head() {
        let (weight, bias) = values.split_at_mut_checked(number).unwrap_or_default();
        keep((head.features(), head.fold(weight, bias)));
    }
    trainer.fetched().sites().for_each(keep);
    keep(trainer.fetched().values());
    trainer.restore(values)?;
    trainer.start_head(values, values)?;
    let filled = trainer.fill(number, |site, latent, terms| {
        let pairs = terms.scale.iter_mut().zip(latent.decaying.iter());
        pairs.for_each(|(scale, held)| *scale = held + site.weight(number, number));
    })?;
    keep(filled);
    keep_clips(untrusted, bytes::of_mut(values));
    let mut scheduler =
        CoServe::new(number as u32, bytes::cast_mut(bytes::of_mut(values)).unwrap_or_default());
    keep(scheduler.turn(number as u64, Arrival::At(number as u64), number));
    keep(scheduler.turn(number as u64, Arrival::Unknown, number));
    scheduler.trained(number, number as u32);
    scheduler.served(number as u32);
    keep((trainer.steps(), trainer.setup().seed, trainer.plan().hash()));
    Ok(())
}

/// Every call of a buffer of clips in `memory`.
fn keep_clips(untrusted: &Untrusted<'_>, memory: &mut [u8]) {
    let number = untrusted.number;
    let (words, clips) = memory.split_at_mut_checked(number).unwrap_or_default();
    let words: &mut [u32] = bytes::cast_mut(words).unwrap_or_default();
    let (labels, seen) = words.split_at_mut_checked(number / 8).unwrap_or_default();
    let Some(mut reservoir) = Reservoir::new(clips, number, labels, seen, number as u64) else { return };
    keep(reservoir.offer(untrusted.bytes, number as u32));
    keep((reservoir.get(number), reservoir.len(), reservoir.is_empty()));
    keep((reservoir.count(number as u32), reservoir.seen(number as u32)));
    let kept = reservoir.len();
    keep(Reservoir::resume(clips, number, (labels, kept), seen, number as u64).is_some());
}

fn setup<'u>(untrusted: &Untrusted<'u>, subspace: &'u GaLore) -> Option<Setup<'u>> {
    let number = untrusted.number;
    let real = *bytes::cast::<f32>(untrusted.bytes)?.get(number)?;
    let name = core::str::from_utf8(untrusted.adapter).unwrap_or_default();
    let rate = LearningRate { rate: real, weight_decay: real };
    let (word, choice) = (number as u32, number & 3);
    let shape = match choice {
        0 => ScheduleShape::Constant,
        1 => ScheduleShape::Linear { steps: word, floor: real },
        _ => ScheduleShape::Cosine { steps: word, floor: real },
    };
    Some(Setup {
        method: *METHODS.get(number)?,
        sites: bytes::cast(untrusted.bytes)?,
        readout: match choice {
            0 => Readout::Logits,
            _ => Readout::Head { site: word, pool: word, classes: word },
        },
        loss: match number & 7 {
            0 => Loss::CrossEntropy { smoothing: real },
            1 => Loss::BinaryCrossEntropy,
            2 => Loss::Distillation { temperature: real, share: real },
            3 => Loss::Contrastive { temperature: real },
            _ => Loss::MeanSquaredError,
        },
        optimizer: match choice {
            0 => subspace,
            _ => *OPTIMIZERS.get(number).or(optimizer(name).as_ref())?,
        },
        adapter: rate,
        head: rate,
        moves: Moves { up_ratio: real, soft_threshold: real },
        schedule: Schedule { shape, warm_up: word },
        clip_norm: (choice == 0).then_some(real),
        seed: number as u64,
    })
}

fn clip<'u>(untrusted: &Untrusted<'u>) -> Clip<'u> {
    match untrusted.number & 3 {
        0 => Clip::Inputs(untrusted.bytes),
        1 => Clip::Prefixes(untrusted.bytes),
        _ => Clip::Features(bytes::cast(untrusted.bytes).unwrap_or(&[])),
    }
}

fn truth<'u>(untrusted: &Untrusted<'u>) -> Truth<'u> {
    let (number, values) = (untrusted.number, bytes::cast(untrusted.bytes).unwrap_or(&[]));
    match number & 3 {
        0 => Truth::Class(number),
        1 => Truth::Taught { class: number, teacher: values },
        2 => Truth::Keys { keys: values, positive: number },
        _ => Truth::Values(values),
    }
}

/// A latent method that needs no heap: scales computed as one more than their parameters.
struct Computed;

impl Method for Computed {
    fn name(&self) -> &'static str {
        "computed"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        let values = site.out as u32;
        let (decaying, steady, constants, workspace) = (values, values, values, values);
        let latent = LatentLayout { decaying, steady, constants, workspace, shared: [0; 2] };
        Ok(TermLayout { scale: true, latent, ..TermLayout::NONE })
    }

    fn start(&self, _: &FrozenSite<'_>, rng: &mut Rng, latent: &mut Latent<'_>) {
        latent.constants.iter_mut().for_each(|constant| *constant = rng.unit());
    }

    fn compute(&self, _: &FrozenSite<'_>, latent: &mut Latent<'_>, terms: &mut SiteValues<'_>) {
        let parts = latent.decaying.iter().zip(latent.constants.iter()).zip(latent.workspace.iter_mut());
        for (scale, ((parameter, constant), work)) in terms.scale.iter_mut().zip(parts) {
            *work = f64::from(*parameter) * constant;
            *scale = 1.0 + *work as f32;
        }
    }

    fn pull_back(
        &self,
        _: &FrozenSite<'_>,
        latent: &mut Latent<'_>,
        terms: &SiteGrads<'_>,
        gradients: &mut LatentGradients<'_>,
    ) {
        let slopes = terms.scale.iter().flat_map(|scale| scale.iter()).zip(latent.constants.iter());
        for (gradient, (slope, constant)) in gradients.decaying.iter_mut().zip(slopes) {
            *gradient += (f64::from(*slope) * constant) as f32;
        }
    }
}
