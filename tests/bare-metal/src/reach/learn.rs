//! Training with any method, loss, optimizer and readout.

use ingraft_exec::Silent;
use ingraft_kernel::Host;
use ingraft_method::{Bias, DepthwiseTerm, Full, Head, Ia3, Lora, Mask, Shira};
use ingraft_plan::PlanView;
use ingraft_tensor::bytes;
use ingraft_train::{
    Clip, EarlyStop, LearningRate, Loss, Method, OPTIMIZERS, Readout, Schedule, ScheduleShape, Setup,
    TrainError, Trainer, Truth, optimizer,
};

use super::{Untrusted, keep};

const METHODS: [&dyn Method; 8] = [
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
    let Some(setup) = setup(untrusted) else { return Ok(()) };
    keep(Trainer::memory(&plan, &Host::SCALAR, &setup).map(|memory| memory.total()));
    let (scratch, memory) = memory.split_at_mut_checked(number).unwrap_or_default();
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory)?;
    keep((trainer.patch_bytes(), trainer.cut_bytes(), trainer.feature_count(), trainer.logit_count()));
    let clip = clip(untrusted);
    let truth = truth(untrusted);
    trainer.run_prefix(untrusted.bytes, scratch)?;
    let values = bytes::cast_mut(scratch).unwrap_or_default();
    trainer.features(clip, values)?;
    trainer.observe(clip)?;
    trainer.standardize();
    trainer.forward(clip, &mut Silent)?;
    keep(trainer.logits(clip)?);
    let mut stop = EarlyStop::new(number as u32).margin(1e-3).smoothing(0.5);
    while trainer.advance(clip, truth, number)?.is_none() {}
    keep(stop.observe(trainer.accumulate(clip, truth)?));
    keep((trainer.gradients(), stop.best()));
    trainer.step()?;
    trainer.discard();
    keep(trainer.evaluate(clip, truth)?);
    if let Some(head) = trainer.head() {
        let (weight, bias) = values.split_at_mut_checked(number).unwrap_or_default();
        keep((head.features(), head.fold(weight, bias)));
    }
    trainer.parameters().sites().for_each(keep);
    keep(trainer.parameters().values());
    trainer.restore(values)?;
    keep((trainer.steps(), trainer.setup().seed, trainer.plan().hash()));
    Ok(())
}

fn setup<'u>(untrusted: &Untrusted<'u>) -> Option<Setup<'u>> {
    let number = untrusted.number;
    let real = *bytes::cast::<f32>(untrusted.bytes)?.get(number)?;
    let name = core::str::from_utf8(untrusted.adapter).unwrap_or_default();
    let rate = LearningRate { rate: real, weight_decay: real };
    let (word, choice) = (number as u32, number & 3);
    let shape = match choice {
        0 => ScheduleShape::Constant,
        _ => ScheduleShape::Cosine { steps: word, floor: real },
    };
    Some(Setup {
        method: *METHODS.get(number)?,
        sites: bytes::cast(untrusted.bytes)?,
        readout: match choice {
            0 => Readout::Logits,
            _ => Readout::Head { site: word, pool: word, classes: word },
        },
        loss: match choice {
            0 => Loss::CrossEntropy { smoothing: real },
            1 => Loss::BinaryCrossEntropy,
            _ => Loss::MeanSquaredError,
        },
        optimizer: *OPTIMIZERS.get(number).or(optimizer(name).as_ref())?,
        adapter: rate,
        head: rate,
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
    match untrusted.number & 1 {
        0 => Truth::Class(untrusted.number),
        _ => Truth::Values(bytes::cast(untrusted.bytes).unwrap_or(&[])),
    }
}
