//! Three starts of a device. The first is delivered: it hears, switches adapters, and loses its power while it writes to
//! flash. The second finds the flash in order, learns from what was stored on the spot, and keeps it. The third comes
//! back with what was learned. Each ends in a reset; the last tells the host whether all was as the host computed.
#![no_std]
#![no_main]

use core::cell::RefCell;

use cortex_m::interrupt::{Mutex, free};
use cortex_m_rt::{entry, exception};
use ingraft_adapter::{Adapter, AdapterId, AdapterSet};
use ingraft_firmware::board::{Board, Clock, Led, finish, reset, say, wait};
use ingraft_firmware::device::{Device, Running};
use ingraft_firmware::flash::Aligned;
use ingraft_firmware::keep::{self, Places};
use ingraft_firmware::listen::{Frames, Listener, Overrun, Sensor, split};
use ingraft_firmware::model::{
    ADAPTER_BYTES, EXPECTED, FEATURE_VALUES, HELD_OUT_CLIPS, LABORATORY, MEMORY_BYTES, PLAN, WINDOW, held_out,
};
use ingraft_firmware::nor::SimulatedNor;
use ingraft_store::{Guard, Observed, Place, Refusal, StoreError, Verdict};
use ingraft_tensor::hash::blake3;

static SENSOR: Mutex<RefCell<Option<Sensor>>> = Mutex::new(RefCell::new(None));

/// A frame has come.
#[exception]
fn SysTick() {
    with_sensor(Sensor::tick);
}

fn with_sensor<R>(act: impl FnOnce(&mut Sensor) -> R) -> Option<R> {
    free(|section| SENSOR.borrow(section).try_borrow_mut().ok()?.as_mut().map(act))
}

/// Everything that is not on the stack.
struct Parts {
    device: Device<'static, Led, Clock>,
    listener: Listener,
    window: &'static mut [f32; WINDOW],
    file: &'static mut [u8],
    nor: SimulatedNor<'static>,
    places: &'static mut Places,
}

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; MEMORY_BYTES]> = Aligned([0; MEMORY_BYTES]);
    static mut FEATURES: [f32; FEATURE_VALUES] = [0.0; FEATURE_VALUES];
    static mut WINDOW_VALUES: [f32; WINDOW] = [0.0; WINDOW];
    static mut FILE: Aligned<[u8; ADAPTER_BYTES]> = Aligned([0; ADAPTER_BYTES]);
    static mut FRAMES: Frames = Frames::new();
    static mut PLACES: Places = [Place::EMPTY; Place::places(4)];
    let (sensor, listener) = split(FRAMES);
    let Some(board) = Board::take() else { finish(false) };
    free(|section| SENSOR.borrow(section).try_borrow_mut().map(|mut slot| *slot = Some(sensor)).ok());
    let Ok(device) = Device::new(&mut MEMORY.0, FEATURES, board.led, board.clock) else { finish(false) };
    let mut parts =
        Parts { device, listener, window: WINDOW_VALUES, file: &mut FILE.0, nor: board.nor, places: PLACES };
    say("start ", board.starts);
    let passed = match board.starts {
        1 => delivered(&mut parts).is_some(),
        2 => on_the_spot(&mut parts).is_some(),
        _ => finish(back_again(&mut parts).is_some()),
    };
    if passed { reset() } else { finish(false) }
}

/// Hears one clip of the base, of the laboratory's adapter and of the base again; then loses its power while it stores.
fn delivered(parts: &mut Parts) -> Option<()> {
    let Parts { device, listener, window, nor, places, .. } = parts;
    say("plan in flash, bytes ", PLAN.0.len() as u32);
    say("arena, bytes ", MEMORY_BYTES as u32);
    let plan = device.plan();
    let mut adapters = AdapterSet::<2>::new();
    let laboratory = adapters.attach(&LABORATORY.0, &plan).ok()?;
    let mut running = device.run().ok()?;
    overrun(&mut running, listener, window)?;
    let clip = held_out().next()?;
    hear(listener, clip.codes, window)?;
    let wanted = [EXPECTED.base_class, EXPECTED.laboratory_class, EXPECTED.base_class];
    for (choice, wanted) in [None, Some(laboratory), None].into_iter().zip(wanted) {
        adapters.switch(choice).ok()?;
        let class = running.classify(window, adapters.active()).ok()?;
        (class == wanted).then_some(())?;
        // With a head, the model's own last layers are not run.
        (choice.is_some() || blake3(running.output()) == EXPECTED.base_output).then_some(())?;
    }
    say("base, adapter, base: as on the host, class ", EXPECTED.laboratory_class as u32);
    keep::deliver(nor, places, &LABORATORY.0, *plan.hash())?;
    say("the power went while an adapter was stored ", 1);
    Some(())
}

/// A window that was not heard in time is refused; the next is whole.
fn overrun(
    running: &mut Running<'_, Led, Clock>,
    listener: &mut Listener,
    window: &mut [f32; WINDOW],
) -> Option<()> {
    let clip = held_out().next()?;
    with_sensor(|sensor| sensor.play(clip.codes))?;
    while with_sensor(|sensor| sensor.is_playing())? {
        wait();
    }
    let Err(Overrun { frames }) = listener.window(window, wait) else { return None };
    say("late for a window, frames lost ", frames);
    hear(listener, clip.codes, window)?;
    running.classify(window, None).ok().map(drop)
}

/// Finds the flash in order, learns, and keeps what was learned once it proved itself.
fn on_the_spot(parts: &mut Parts) -> Option<()> {
    let Parts { device, listener, window, file, nor, places } = parts;
    let plan = device.plan();
    let ([laboratory, key], mut store) = (keep::keys()?, keep::open(nor, places).ok()?);
    // The cut left neither half an adapter nor a broken store: the one before is there.
    (store.load(&key, file) == Err(StoreError::Refused(Refusal::UnknownKey))).then_some(())?;
    (store.load(&laboratory, file).ok()?.bytes == &LABORATORY.0).then_some(())?;
    say("the adapter before is there, bytes ", LABORATORY.0.len() as u32);
    let learned = device.learn(window, file).ok()?;
    (blake3(learned) == EXPECTED.learned).then_some(())?;
    say("learned as on the host, bytes of the adapter ", learned.len() as u32);
    store.stage(key, learned, None, &keep::policy(*plan.hash())).ok()?;
    store.begin_trial(&key, 1).ok()?;
    let mut adapters = AdapterSet::<2>::new();
    let laboratory = adapters.attach(&LABORATORY.0, &plan).ok()?;
    let here = adapters.attach(learned, &plan).ok()?;
    let mut running = device.run().ok()?;
    let mut judge = |id| judge(&mut running, listener, window, &mut adapters, id);
    let (good_right, right) = (judge(laboratory)?, judge(here)?);
    say("right with the laboratory's adapter ", good_right);
    say("right with what was learned here ", right);
    let observed = Observed { clips: HELD_OUT_CLIPS as u32, right, good_right, ..Observed::default() };
    let guard = Guard { clips: HELD_OUT_CLIPS as u32, least_right: 600, most_lost: 0, most_saturated: 1000 };
    let verdict = store.judge(&key, &observed, &guard).ok()?;
    (verdict == Verdict::Confirm && [good_right, right] == EXPECTED.right).then_some(())
}

/// Comes back with what was learned.
fn back_again(parts: &mut Parts) -> Option<()> {
    let Parts { device, listener, window, file, nor, places } = parts;
    let plan = device.plan();
    let ([_, key], mut store) = (keep::keys()?, keep::open(nor, places).ok()?);
    let loaded = store.load(&key, file).ok()?;
    (!loaded.on_trial && blake3(loaded.bytes) == EXPECTED.learned).then_some(())?;
    let mut adapters = AdapterSet::<1>::new();
    let here = adapters.attach(loaded.bytes, &plan).ok()?;
    let mut running = device.run().ok()?;
    let right = judge(&mut running, listener, window, &mut adapters, here)?;
    say("back from flash, right ", right);
    (Some(&right) == EXPECTED.right.last()).then_some(())
}

/// How many of the clips to judge by are right with `id`.
fn judge<const N: usize>(
    running: &mut Running<'_, Led, Clock>,
    listener: &mut Listener,
    window: &mut [f32; WINDOW],
    adapters: &mut AdapterSet<'_, N>,
    id: AdapterId,
) -> Option<u32> {
    adapters.switch(Some(id)).ok()?;
    let adapter: Option<&Adapter<'_>> = adapters.active();
    let mut right = 0;
    for clip in held_out() {
        hear(listener, clip.codes, window)?;
        right += u32::from(running.classify(window, adapter).ok()? == clip.class);
    }
    Some(right)
}

/// Hears `clip` whole; says it again where the loop was late.
fn hear(listener: &mut Listener, clip: &'static [i8], window: &mut [f32; WINDOW]) -> Option<()> {
    for _ in 0..100 {
        with_sensor(|sensor| sensor.play(clip))?;
        if listener.window(window, wait).is_ok() {
            return Some(());
        }
        with_sensor(|sensor| sensor.play(&[]))?;
    }
    None
}
