//! A device that hears whether a machine is in good order, with the built-in autoencoder and synthesized motors. As in the
//! firmware that tells classes apart there are three starts: delivered with an adapter for another sensor; on the spot,
//! where it learns what is normal here from fifty windows; and back from flash after a reset.
//!
//! Build it with `cargo run --release --bin anomaly --features anomaly`.
#![no_std]
#![no_main]

mod model;

use cortex_m_rt::{entry, exception};
use ingraft_adapter::{Adapter, AdapterSet};
use ingraft_exec::Session;
use ingraft_firmware::board::{Board, finish, reset, say};
use ingraft_firmware::flash::Aligned;
use ingraft_firmware::keep::{self, Places};
use ingraft_firmware::nor::SimulatedNor;
use ingraft_firmware::normal::{self, Limit};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use ingraft_store::Place;
use ingraft_tensor::bytes;
use ingraft_tensor::hash::blake3;

use model::{
    ADAPTER_BYTES, CODES, EXPECTED, LABORATORY, LIMIT, MEMORY_BYTES, PLAN, TARGET, WINDOW, clips, examples,
};

/// Everything that is not on the stack.
struct Parts {
    plan: PlanView<'static>,
    memory: &'static mut [u8],
    window: &'static mut [f32; WINDOW],
    file: &'static mut [u8],
    nor: SimulatedNor<'static>,
    places: &'static mut Places,
}

/// The board's clock ticks; windows are read from flash here, so nothing waits for it. `main.rs` shows a queue that does.
#[exception]
fn SysTick() {}

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; MEMORY_BYTES]> = Aligned([0; MEMORY_BYTES]);
    static mut WINDOW_VALUES: [f32; WINDOW] = [0.0; WINDOW];
    static mut FILE: Aligned<[u8; ADAPTER_BYTES]> = Aligned([0; ADAPTER_BYTES]);
    static mut PLACES: Places = [Place::EMPTY; Place::places(4)];
    let (Some(board), Ok(plan)) = (Board::take(), PlanView::new(&PLAN.0)) else { finish(false) };
    let parts = &mut Parts {
        plan,
        memory: &mut MEMORY.0,
        window: WINDOW_VALUES,
        file: &mut FILE.0,
        nor: board.nor,
        places: PLACES,
    };
    say("start ", board.starts);
    let passed = match board.starts {
        1 => delivered(parts).is_some(),
        2 => on_the_spot(parts).is_some(),
        _ => finish(back_again(parts).is_some()),
    };
    if passed { reset() } else { finish(false) }
}

/// Hears with the base, with the laboratory's adapter and with the base again; then loses its power while it stores.
fn delivered(parts: &mut Parts) -> Option<()> {
    let Parts { plan, memory, window, nor, places, .. } = parts;
    say("plan in flash, bytes ", PLAN.0.len() as u32);
    say("arena, bytes ", MEMORY_BYTES as u32);
    let mut adapters = AdapterSet::<1>::new();
    let laboratory = adapters.attach(&LABORATORY.0, plan).ok()?;
    let mut session = Session::bind(*plan, Phase::Infer, &TARGET, memory).ok()?;
    for choice in [None, Some(laboratory), None] {
        adapters.switch(choice).ok()?;
        error(&mut session, window, adapters.active(), examples().next()?)?;
        let same = blake3(session.output(0)?.bytes()) == EXPECTED.base_output;
        (same == choice.is_none()).then_some(())?;
    }
    say("base, adapter, base: as on the host ", 1);
    keep::deliver(nor, places, &LABORATORY.0, *plan.hash())?;
    say("the power went while an adapter was stored ", 1);
    Some(())
}

/// Finds the flash in order, learns what is normal here, and keeps it.
fn on_the_spot(parts: &mut Parts) -> Option<()> {
    let Parts { plan, memory, window, file, nor, places } = parts;
    let ([laboratory, key], mut store) = (keep::keys()?, keep::open(nor, places).ok()?);
    (store.load(&laboratory, file).ok()?.bytes == &LABORATORY.0).then_some(())?;
    let learned = normal::learn((*plan, &TARGET), examples(), CODES, memory, &mut window[..], file).ok()?;
    (blake3(learned) == EXPECTED.learned).then_some(())?;
    say("learned as on the host, bytes of the adapter ", learned.len() as u32);
    store.stage(key, learned, None, &keep::policy(*plan.hash())).ok()?;
    store.begin_trial(&key, 1).ok()?;
    let before = judge(*plan, memory, window, &LABORATORY.0, Some(LIMIT))?;
    let right = [before, judge(*plan, memory, window, learned, None)?];
    say("right with the laboratory's adapter ", right[0]);
    say("right with what was learned here ", right[1]);
    store.confirm(&key).ok()?;
    (right == EXPECTED.right).then_some(())
}

/// Comes back with what was learned.
fn back_again(parts: &mut Parts) -> Option<()> {
    let Parts { plan, memory, window, file, nor, places } = parts;
    let ([_, key], mut store) = (keep::keys()?, keep::open(nor, places).ok()?);
    let loaded = store.load(&key, file).ok()?;
    (!loaded.on_trial && blake3(loaded.bytes) == EXPECTED.learned).then_some(())?;
    let right = judge(*plan, memory, window, loaded.bytes, None)?;
    say("back from flash, right ", right);
    (Some(&right) == EXPECTED.right.last()).then_some(())
}

/// How many of the clips to judge by are taken for what they are with the adapter in `file`, at a known limit or at what the
/// stored windows say is normal.
fn judge(
    plan: PlanView<'static>,
    memory: &mut [u8],
    window: &mut [f32; WINDOW],
    file: &[u8],
    known: Option<f32>,
) -> Option<u32> {
    let adapter = Adapter::attach(file, &plan).ok()?;
    let mut session = Session::bind(plan, Phase::Infer, &TARGET, memory).ok()?;
    let limit = match known {
        Some(limit) => limit,
        None => {
            let mut observed = Limit::default();
            for codes in examples() {
                observed.observe(error(&mut session, window, Some(&adapter), codes)?);
            }
            observed.value()
        }
    };
    let mut right = 0;
    for (faulty, clip) in clips() {
        let (mut count, mut sum) = (0.0, 0.0);
        for codes in clip.chunks_exact(WINDOW) {
            sum += error(&mut session, window, Some(&adapter), codes)?;
            count += 1.0;
        }
        right += u32::from((sum / count > limit) == faulty);
    }
    Some(right)
}

/// What does not come back of a window.
fn error(
    session: &mut Session<'static, '_, Host>,
    window: &mut [f32; WINDOW],
    adapter: Option<&Adapter<'_>>,
    codes: &[i8],
) -> Option<f32> {
    CODES.read(codes, window);
    session.write_input(0, bytes::of(window)).ok()?;
    session.run(&adapter).ok()?;
    Some(normal::error(window, session.output(0)?.as_slice()?))
}
