//! Memory: known to the byte, used to the byte, nothing beside it.

use ingraft_exec::MemoryNeeds;
use ingraft_kernel::{Host, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_train::{Clip, Method, OPTIMIZERS, Readout, Setup, TrainError, TrainMemory, Trainer, Truth};

use crate::everything::{Everything, Nothing};
use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, CUT, DEPTH, FEATURES, MIX, Net, PATCH, POINT};

const SITES: [u32; 3] = [POINT, DEPTH, MIX];

fn up(bytes: usize) -> usize {
    bytes.div_ceil(16) * 16
}

/// Parameters of `Everything` at a site, counted by hand.
fn parameters(plan: &PlanView<'_>, site: u32) -> usize {
    let desc = plan.site(site as usize).unwrap();
    let rank = if site == DEPTH { 0 } else { 2 };
    desc.groups * rank * desc.row() + desc.out * rank + 5 + desc.out * (desc.row() + 2)
}

/// The matrices and vectors of the head and of [`SITES`] under `Everything`, counted by hand.
fn groups(plan: &PlanView<'_>) -> Vec<[usize; 2]> {
    let mut groups = vec![[3, FEATURES], [1, 3]];
    for site in SITES {
        let desc = plan.site(site as usize).unwrap();
        let rank = if site == DEPTH { 0 } else { 2 };
        let down = [rank, desc.groups * desc.row()];
        groups.extend([down, [desc.out, rank], [1, 5], [desc.out, desc.row()], [1, desc.out], [1, desc.out]]);
    }
    groups
}

/// Bytes of the state of optimizer `name`, by the formulas of its documentation.
fn state(plan: &PlanView<'_>, name: &str) -> usize {
    let words = |of: &dyn Fn([usize; 2]) -> usize| groups(plan).into_iter().map(of).sum::<usize>();
    let (rule, form) = name.split_once('-').unwrap_or((name, ""));
    let slots = match rule {
        "sgd" => 0,
        "momentum" => 1,
        _ => 2,
    };
    let blocks = |[m, n]: [usize; 2]| (m * n).div_ceil(64) * slots;
    let history = if rule == "natural" { 20 } else { 0 };
    let projected = |[m, n]: [usize; 2]| m.min(n) > 4;
    match (rule, form) {
        ("galore", _) | ("natural", _) => {
            let state = words(&|[m, n]| match projected([m, n]) {
                true => 4 * m.min(n) + (2 + history) * 4 * m.max(n),
                false => 2 * m * n,
            });
            let work = groups(plan).into_iter().filter(|group| projected(*group));
            let work = work.map(|[m, n]| 2 * history * (history + 1) + 4 * (m + n)).max().unwrap_or(0);
            up(4 * state) + up(4 * work)
        }
        (_, "") => up(4 * words(&|[m, n]| slots * m * n)),
        (_, "bf16") => up(128 * words(&blocks)),
        (_, "int8") => up(68 * words(&blocks)),
        _ => panic!("what {name} keeps is not counted here"),
    }
}

#[test]
fn the_report_is_what_the_parts_add_up_to() {
    let plan = Net::new(1).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let session = MemoryNeeds::new(&plan, Phase::Train, &Host::SCALAR).unwrap().total();
    for optimizer in OPTIMIZERS {
        let setup = Setup { optimizer: *optimizer, ..setup(&Everything, &SITES, HEAD) };
        let head = 3 * FEATURES + 3;
        let vector = up(4 * (head + SITES.iter().map(|s| parameters(&plan, *s)).sum::<usize>()));
        let want = TrainMemory {
            session,
            packed: 0,
            parameters: vector,
            gradients: vector,
            optimizer: state(&plan, optimizer.name()),
            head: 4 * up(4 * FEATURES) + 2 * up(4 * 3),
            constants: up(4 * (5 + 5 + 7)) + up(2 * 15),
            latent: 0,
            tables: up(3 * 84) + up(7) + up(4),
            cached_patch: CUT,
            cached_clip: 4 * FEATURES,
        };
        assert_eq!(Trainer::memory(&plan, &Host::SCALAR, &setup), Ok(want), "{}", optimizer.name());
    }
}

#[test]
fn a_head_alone_needs_no_more_than_inference_and_its_own() {
    let net = Net::new(1);
    for plan in [net.plan(), net.inference_plan()] {
        let plan = PlanView::new(plan.bytes()).unwrap();
        let memory = Trainer::memory(&plan, &Host::SCALAR, &setup(&Nothing, &SITES, HEAD)).unwrap();
        let session = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).unwrap().total();
        let vector = up(4 * (3 * FEATURES + 3));
        assert_eq!(
            (memory.session, memory.parameters, memory.optimizer),
            (session, vector, up(8 * (3 * FEATURES + 3)))
        );
        // One cached tensor, the features' own.
        assert_eq!((memory.constants, memory.tables, memory.cached_patch), (0, up(4), FEATURES));
    }
}

#[test]
fn one_byte_less_is_refused_and_no_byte_more_is_touched() {
    const GUARD: usize = 64;
    let plan = Net::new(1).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    for (method, readout) in
        [(&Everything as &dyn Method, HEAD), (&Everything, Readout::Logits), (&Nothing, HEAD)]
    {
        let setup = setup(method, &SITES, readout);
        let needed = Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total();
        let mut region = Aligned::zeroed(needed + 2 * GUARD);
        region.bytes_mut().fill(0xa5);
        let short = &mut region.bytes_mut()[GUARD..GUARD + needed - 1];
        let refused = Trainer::bind(plan, &Host::SCALAR, setup, short).map(|_| ());
        assert_eq!(refused, Err(TrainError::MemoryTooSmall { needed, supplied: needed - 1 }));
        let skewed = &mut region.bytes_mut()[GUARD + 1..GUARD + 1 + needed];
        let refused = Trainer::bind(plan, &Host::SCALAR, setup, skewed).map(|_| ());
        assert_eq!(refused, Err(TrainError::MemoryTooSmall { needed, supplied: 0 }));
        {
            let mut trainer =
                Trainer::bind(plan, &Host::SCALAR, setup, &mut region.bytes_mut()[GUARD..GUARD + needed])
                    .unwrap();
            for class in 0..3 {
                trainer.observe(Clip::Inputs(&[class as u8; 2 * PATCH])).unwrap();
                trainer.standardize();
                trainer.accumulate(Clip::Inputs(&[class as u8; 2 * PATCH]), Truth::Class(class)).unwrap();
                trainer.step().unwrap();
            }
        }
        let guards = region.bytes()[..GUARD].iter().chain(&region.bytes()[GUARD + needed..]);
        assert!(guards.copied().all(|b| b == 0xa5));
    }
}
