//! The optimizer's step on the GPU, and batches in lanes: to the bits of the host's step, and of one clip after the other.

use ingraft::compile::lower::train::TrainFrom;
use ingraft::method::{Head, Ia3, Shira};
use ingraft::plan::PlanView;
use ingraft::train::{
    Adam, AdamW, Clip, Group, GroupShape, LearningRate, Method, Momentum, Moves, Optimizer, Rate, Schedule,
    ScheduleShape, Setup, Sgd, Trainer, Truth,
};
use ingraft_jetson_cuda::Cuda;
use ingraft_models::demo::BASE_INT8;

use crate::gpu;
use crate::support::AlignedBytes;
use crate::training::{CLASSES, LORA, READOUT, clips, compiled};

/// The same rule, of which no target knows.
#[derive(Debug)]
struct HostAlone<'o>(&'o dyn Optimizer);

impl Optimizer for HostAlone<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn state_words(&self, shape: GroupShape) -> usize {
        self.0.state_words(shape)
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        self.0.update(rate, group);
    }
}

/// The last sites that it adapts, which is enough here and takes the emulator less; none for a head alone.
fn last_sites(plan: &PlanView<'_>, method: &dyn Method) -> Vec<u32> {
    let all: Vec<u32> = READOUT.adapted(plan, method).collect();
    if method.name() == "head" { Vec::new() } else { all[all.len().saturating_sub(2)..].to_vec() }
}

/// All that a step has: two rates and a ratio, decay, a schedule, a longest gradient.
fn setup<'s>(method: &'s dyn Method, sites: &'s [u32], optimizer: &'s dyn Optimizer) -> Setup<'s> {
    let rate = LearningRate { rate: 3e-3, weight_decay: 0.01 };
    let mut setup = Setup::new(method, sites, READOUT, optimizer, rate);
    setup.head.rate = 1e-2;
    setup.schedule = Schedule { shape: ScheduleShape::Cosine { steps: 5, floor: 0.1 }, warm_up: 2 };
    setup.clip_norm = Some(LONGEST);
    setup
}

/// Whether the GPU moved the parameters, lengths of gradients and losses, and the checkpoint behind the last step.
type Course = (bool, Vec<f32>, Vec<u8>);

/// What a run does beside its steps.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    /// It looks at gradients and parameters, and puts them back.
    Look,
    /// It goes on in another trainer behind the second step.
    Resume,
}

const STEPS: usize = 4;
/// The longest gradient.
const LONGEST: f32 = 0.5;

fn bound<R>(
    cuda: &Cuda,
    plan: PlanView<'_>,
    setup: Setup<'_>,
    lanes: usize,
    then: impl FnOnce(&mut Trainer<'_, '_, Cuda>) -> R,
) -> R {
    let needs = Trainer::memory(&plan, cuda, &setup).expect("the plan can be trained");
    let mut memory = cuda.allocate_lanes(needs.device(), lanes).expect("the GPU has room");
    let mut beside = AlignedBytes::zeroed(needs.beside());
    let bound = Trainer::bind_apart(plan, cuda, setup, &mut memory, beside.as_mut());
    then(&mut bound.unwrap_or_else(|error| panic!("{error}")))
}

fn saved(trainer: &mut Trainer<'_, '_, Cuda>) -> Vec<u8> {
    let mut checkpoint = vec![0; trainer.checkpoint_bytes()];
    trainer.save(&mut checkpoint).expect("between two steps");
    checkpoint
}

fn run(cuda: &Cuda, plan: PlanView<'_>, setup: Setup<'_>, beside: Beside) -> Course {
    let clips = clips(&plan);
    let steps = |trainer: &mut Trainer<'_, '_, Cuda>, count: usize, seen: &mut Vec<f32>| {
        for _ in 0..count {
            for (index, clip) in clips.iter().enumerate() {
                let loss = trainer.accumulate(Clip::Inputs(clip), Truth::Class(index));
                seen.push(loss.expect("a clip of this plan"));
            }
            if beside == Beside::Look {
                assert!(trainer.gradients().iter().any(|g| *g != 0.0));
                let values = trainer.parameters().values().to_vec();
                trainer.restore(&values).expect("as many");
            }
            seen.push(trainer.step().expect("gradients are finite"));
        }
    };
    let mut seen = Vec::new();
    let first = if beside == Beside::Resume { 2 } else { STEPS };
    let (apart, checkpoint) = bound(cuda, plan, setup, 1, |trainer| {
        clips.iter().for_each(|clip| trainer.observe(Clip::Inputs(clip)).expect("a clip of this plan"));
        trainer.standardize();
        steps(trainer, first, &mut seen);
        (trainer.moves_apart(), saved(trainer))
    });
    if beside != Beside::Resume {
        return (apart, seen, checkpoint);
    }
    bound(cuda, plan, setup, 1, |trainer| {
        trainer.resume(&checkpoint).expect("of the same run");
        steps(trainer, STEPS - first, &mut seen);
        (trainer.moves_apart(), seen, saved(trainer))
    })
}

#[test]
fn the_gpu_moves_parameters_to_the_bits_of_the_host() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(compiled(BASE_INT8, TrainFrom::All).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let ratio = Moves { up_ratio: 16.0, ..Moves::PLAIN };
    let shrinking = Moves { soft_threshold: 0.01, ..Moves::PLAIN };
    let cases: [(&dyn Optimizer, &dyn Method, Moves); 4] = [
        (&Sgd, &LORA, Moves::PLAIN),
        (&Momentum::DEFAULT, &Ia3, Moves::PLAIN),
        (&Adam::DEFAULT, &LORA, shrinking),
        (&AdamW::DEFAULT, &LORA, ratio),
    ];
    for (optimizer, method, moves) in cases {
        let sites = last_sites(&plan, method);
        let alone = HostAlone(optimizer);
        let setup = |optimizer| Setup { moves, ..setup(method, &sites, optimizer) };
        let name = format!("{} {} {moves:?}", optimizer.name(), method.name());
        let (apart, seen, checkpoint) = run(&cuda, plan, setup(&alone), Beside::Nothing);
        assert!(!apart, "{name}");
        assert!(
            seen.iter().skip(2).step_by(3).any(|norm| *norm > LONGEST),
            "{name}: nothing was clipped: {seen:?}"
        );
        let all = [Beside::Nothing, Beside::Look, Beside::Resume];
        for beside in all.into_iter().take(if optimizer.name() == "adamw" { 3 } else { 1 }) {
            let have = run(&cuda, plan, setup(optimizer), beside);
            assert!(have == (true, seen.clone(), checkpoint.clone()), "{name}: {:?} {seen:?}", have.1);
        }
    }
}

/// What the GPU does not move, the host does: it is told by [`Trainer::moves_apart`].
#[test]
fn what_the_host_alone_moves_stays_there() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(compiled(BASE_INT8, TrainFrom::All).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let shira = Shira::default();
    let compact = ingraft::train::optimizer("adamw-int8").expect("it is listed");
    let cases: [(&dyn Method, &dyn Optimizer); 3] =
        [(&LORA, compact), (&shira, &AdamW::DEFAULT), (&Head, &AdamW::DEFAULT)];
    for (method, optimizer) in cases {
        let sites = last_sites(&plan, method);
        let apart = bound(&cuda, plan, setup(method, &sites, optimizer), 1, |trainer| trainer.moves_apart());
        assert!(!apart, "{} {}", method.name(), optimizer.name());
    }
}

/// Batches of clips of one and of three patches, in as many lanes as there are: the same bytes as in one.
#[test]
fn lanes_add_up_to_one() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(compiled(BASE_INT8, TrainFrom::All).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let patches = clips(&plan);
    let mixed =
        |patches: &[&Vec<u8>]| patches.iter().flat_map(|patch| patch.iter().copied()).collect::<Vec<u8>>();
    let (a, b) = (&patches[0], &patches[1]);
    let clips = [mixed(&[a]), mixed(&[b]), mixed(&[b]), mixed(&[b, a, a])];
    let methods: [&dyn Method; 2] = [&LORA, &Head];
    for method in methods {
        let sites = last_sites(&plan, method);
        let of = |lanes: usize| {
            bound(&cuda, plan, setup(method, &sites, &AdamW::DEFAULT), lanes, |trainer| {
                let mut seen = Vec::new();
                for _ in 0..2 {
                    let batch: Vec<_> = clips
                        .iter()
                        .enumerate()
                        .map(|(index, clip)| (Clip::Inputs(clip), Truth::Class(index % CLASSES)))
                        .collect();
                    trainer.accumulate_all(&batch, |loss| seen.push(loss)).expect("clips of this plan");
                    seen.push(trainer.step().expect("gradients are finite"));
                }
                (seen, saved(trainer))
            })
        };
        let one = of(1);
        assert_eq!(one.0.len(), 2 * 5);
        for lanes in [2, 3] {
            assert!(of(lanes) == one, "{} in {lanes} lanes", method.name());
        }
    }
}
