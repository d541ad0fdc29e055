//! Training piece by piece beside inferences: the scheduler on a simulated clock, and the same bits as without.

use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::Rng;
use ingraft_train::{Arrival, Clip, CoServe, OPTIMIZERS, Setup, TrainError, Trainer, Truth, Turn};

use crate::everything::Everything;
use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, DEPTH, MIX, Net, PATCH, POINT, clips};

/// Pieces of these lengths in turn between inferences of 20 every 100; gives the latencies, and the pieces done.
fn simulate(target: u32, lengths: &[u32], known: bool, end: u64) -> (Vec<u64>, usize) {
    let mut estimates = vec![0; lengths.len()];
    let mut scheduler = CoServe::new(target, &mut estimates);
    let (mut now, mut due, mut done, mut latencies) = (0, 100, 0usize, Vec::new());
    while now < end {
        let arrival = match due {
            due if due <= now => Arrival::Waiting,
            due if known => Arrival::At(due),
            _ => Arrival::Unknown,
        };
        let piece = done % lengths.len();
        match scheduler.turn(now, arrival, piece) {
            Turn::Serve => {
                now += 20;
                scheduler.served(20);
                latencies.push(now - due);
                due += 100;
            }
            Turn::Train => {
                now += u64::from(lengths[piece]);
                scheduler.trained(piece, lengths[piece]);
                done += 1;
            }
            Turn::Wait => now = due,
        }
    }
    (latencies, done)
}

#[test]
fn inferences_are_in_time_and_idle_time_is_used() {
    for known in [true, false] {
        let (latencies, done) = simulate(25, &[1, 5, 3, 2, 4], known, 100_000);
        // Until every piece was measured once.
        assert!(latencies[1..].iter().all(|latency| *latency <= 25), "{known}: {latencies:?}");
        assert!(done * 3 > 950 * 80 * 9 / 10, "{known}: {done}");
    }
}

#[test]
fn a_known_arrival_leaves_room_for_long_pieces() {
    let (latencies, done) = simulate(22, &[30, 40], true, 100_000);
    assert!(latencies[2..].iter().all(|latency| *latency <= 22), "{latencies:?}");
    assert!(done > 1900, "{done}");
}

#[test]
fn a_piece_longer_than_all_room_is_rare_but_done() {
    let (latencies, done) = simulate(22, &[30], false, 1_000_000);
    let late = latencies.iter().filter(|latency| **latency > 22).count();
    assert!(done > 100, "{done}");
    assert!(late * 20 < latencies.len(), "{late} of {}", latencies.len());
}

#[test]
fn one_interruption_shuts_nothing_out() {
    let mut estimates = [5, 5];
    let mut scheduler = CoServe::new(25, &mut estimates);
    scheduler.served(20);
    scheduler.trained(0, 10_000);
    let mut inferences = 0;
    while scheduler.turn(0, Arrival::Unknown, 0) == Turn::Wait {
        scheduler.served(20);
        inferences += 1;
    }
    assert!(inferences < 120, "{inferences}");
}

/// A frozen prefix in pieces of any size writes what it writes whole, and no piece is longer than its budget.
#[test]
fn a_prefix_in_pieces_is_the_prefix() {
    let (net, clips) = (Net::new(11), &clips(2));
    let file = net.plan();
    let plan = PlanView::new(file.bytes()).unwrap();
    // Only the last of the sites: steps of the ones before it are the prefix.
    let setup = setup(&Everything, &SITES[2..], HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let (patch, truth) = (&clips[0].0[..PATCH], Truth::Class(clips[0].1));
    let (mut whole, mut out) = (vec![0; trainer.cut_bytes()], vec![0; trainer.cut_bytes()]);
    trainer.run_prefix(patch, &mut whole).unwrap();
    let between = trainer.next_piece();
    let mut calls = [0; 3];
    for (budget, calls) in [1, 2, 1000].into_iter().zip(&mut calls) {
        out.fill(0x5a);
        let mut before = 0;
        while trainer.advance_prefix(patch, &mut out, budget).unwrap().is_none() {
            *calls += 1;
            assert_eq!(trainer.next_piece(), before + budget, "as many steps as there may be");
            before += budget;
            assert_eq!(trainer.run_prefix(patch, &mut out), Err(TrainError::Busy));
            assert_eq!(trainer.advance(Clip::Inputs(&clips[0].0), truth, 1), Err(TrainError::Busy));
            assert_eq!(trainer.step(), Err(TrainError::Busy));
        }
        assert!(out == whole && trainer.next_piece() == between, "{budget}");
    }
    assert!(calls[0] >= 2 && calls[1] < calls[0] && calls[2] == 0, "{calls:?}");

    // What is wrong gives the patch up.
    assert_eq!(trainer.advance_prefix(patch, &mut out, 1), Ok(None));
    assert!(matches!(trainer.advance_prefix(&patch[1..], &mut out, 1), Err(TrainError::Clip { .. })));
    trainer.run_prefix(patch, &mut out).unwrap();
    assert!(out == whole);
}

const SITES: [u32; 3] = [POINT, DEPTH, MIX];

/// Clips between two steps.
const BATCH: usize = 4;

/// The next piece of a run over `clips`, of which `done` are; `true` behind the last.
fn piece(
    trainer: &mut Trainer<'_, '_>,
    clips: &[(Vec<u8>, usize)],
    done: &mut usize,
    stepping: &mut bool,
) -> bool {
    if *stepping {
        *stepping = trainer.advance_step(1).unwrap().is_none();
        return !*stepping && *done == clips.len();
    }
    let (clip, class) = &clips[*done];
    if trainer.advance(Clip::Inputs(clip), Truth::Class(*class), 1).unwrap().is_some() {
        *done += 1;
        *stepping = done.is_multiple_of(BATCH);
    }
    false
}

/// Training in the gaps of inferences on the same plan, killed in the middle of clips and steps and resumed from the last
/// save, ends in the bits of training alone; inferences see nothing of it.
#[test]
fn training_in_the_gaps_ends_in_the_same_bits() {
    let (net, clips) = (Net::new(11), &clips(4)[..4 * BATCH]);
    let file = net.plan();
    let plan = PlanView::new(file.bytes()).unwrap();
    for optimizer in OPTIMIZERS {
        let setup = Setup { optimizer: *optimizer, ..setup(&Everything, &SITES, HEAD) };
        let bytes = Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total();
        let (mut alone, mut shared) = (Aligned::zeroed(bytes), Aligned::zeroed(bytes));
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, alone.bytes_mut()).unwrap();
        for (i, (clip, class)) in clips.iter().enumerate() {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
            if i % BATCH == BATCH - 1 {
                trainer.step().unwrap();
            }
        }
        let whole: Vec<u32> = trainer.parameters().values().iter().map(|v| v.to_bits()).collect();

        let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).unwrap();
        let mut arena = Aligned::zeroed(needs.total());
        let mut session = Session::bind(plan, Phase::Infer, &Host::SCALAR, arena.bytes_mut()).unwrap();
        let patch = &clips[0].0[..PATCH];
        let mut infer = || {
            session.write_input(0, patch).unwrap();
            session.run(&ingraft_adapter::Base).unwrap();
            session.output(0).unwrap().bytes().to_vec()
        };
        let answer = infer();

        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, shared.bytes_mut()).unwrap();
        let mut rng = Rng::new(5);
        let (mut done, mut stepping, mut pieces) = (0, false, 0);
        let mut saved = (vec![0; trainer.checkpoint_bytes()], 0, false);
        trainer.save(&mut saved.0).unwrap();
        loop {
            assert!(trainer.next_piece() < trainer.piece_count());
            if piece(&mut trainer, clips, &mut done, &mut stepping) {
                break;
            }
            pieces += 1;
            if rng.below(5) == 0 {
                assert_eq!(infer(), answer);
            }
            if trainer.save(&mut saved.0).is_ok() {
                // Between clips and between steps alike.
                (saved.1, saved.2) = (done, stepping);
            }
            // Twice in every run, whatever it is in.
            if pieces == 40 || pieces == 90 {
                trainer.discard();
                trainer.restore(&vec![0.5; whole.len()]).unwrap();
                trainer.resume(&saved.0).unwrap();
                (done, stepping) = (saved.1, saved.2);
            }
        }
        let bits: Vec<u32> = trainer.parameters().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, whole, "{}", optimizer.name());
    }
}
