//! What a store does when the power stays.

use crate::device::{Fault, Flash};
use ingraft_store::{
    FlashStore, Guard, Key, Nor, Observed, Place, Policy, Reason, Refusal, Region, Stage, StoreError, Verdict,
};
use ingraft_tensor::bytes::aligned_mut;

type Nor4 = Flash<4, 512>;

const REGION: Region = Region { offset: 512, bank_bytes: 4096, file_bytes: 8 * 512 };
const GUARD: Guard = Guard { clips: 10, least_right: 600, most_lost: 100, most_saturated: 20 };

fn flash() -> Nor4 {
    Nor::format(Flash::new(25, 1), REGION).expect("it can be formatted").into_inner()
}

fn open<'p>(flash: Nor4, places: &'p mut [Place]) -> FlashStore<'p, Nor4> {
    let nor = Nor::open(flash, REGION).expect("it was formatted");
    FlashStore::open(nor, places).expect("it was formatted")
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a name")
}

/// Makes `file` the good adapter of `name`.
fn install(store: &mut FlashStore<'_, Nor4>, name: &str, file: &[u8]) -> Result<(), StoreError<Fault>> {
    let key = key(name);
    store.stage(key, file, None, &Policy::ANY)?;
    store.begin_trial(&key, 0)?;
    store.confirm(&key)
}

fn refused<T: core::fmt::Debug>(result: Result<T, StoreError<Fault>>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?} is not refused"),
    }
}

#[test]
fn the_good_one_stays_until_another_is_confirmed() {
    let (mut places, mut memory) = ([Place::EMPTY; 8], [0; 600]);
    let mut store = open(flash(), &mut places);
    let a = key("a");
    install(&mut store, "a", &[1; 100]).expect("there is room");
    store.stage(a, &[2; 200], None, &Policy::ANY).expect("there is room");
    assert_eq!(store.load(&a, &mut memory).expect("good").bytes, [1; 100], "what is staged is not in use");
    store.begin_trial(&a, 0).expect("staged");
    assert_eq!(refused(store.stage(a, &[3; 9], None, &Policy::ANY)), Refusal::OnTrial);
    let loaded = store.load(&a, &mut memory).expect("on trial");
    assert!(loaded.on_trial && loaded.bytes == [2; 200] && loaded.bytes.as_ptr().align_offset(16) == 0);
    let observed = Observed { clips: 10, right: 5, good_right: 5, ..Observed::default() };
    let verdict = store.judge(&a, &Observed { clips: 3, ..observed }, &GUARD).expect("on trial");
    assert_eq!((verdict, store.find(&a).expect("known").is_on_trial()), (Verdict::Undecided, true));
    let verdict = store.judge(&a, &observed, &GUARD).expect("on trial");
    assert_eq!(verdict, Verdict::Revert(Reason::Accuracy));
    assert_eq!(store.load(&a, &mut memory).expect("good").bytes, [1; 100]);
    assert_eq!(refused(store.judge(&a, &observed, &GUARD)), Refusal::NotOnTrial);
    store.stage(a, &[4; 300], None, &Policy::ANY).expect("there is room");
    store.begin_trial(&a, 0).expect("staged");
    let verdict = store.judge(&a, &Observed { right: 10, ..observed }, &GUARD).expect("on trial");
    assert_eq!(verdict, Verdict::Confirm);
    assert_eq!(store.load(&a, &mut memory).expect("good").bytes, [4; 300]);
}

#[test]
fn a_trial_outlives_as_many_restarts_as_it_was_given() {
    let mut flash = flash();
    let (a, b) = (key("a"), key("b"));
    {
        let mut places = [Place::EMPTY; 8];
        let mut store = open(flash, &mut places);
        install(&mut store, "a", &[1; 10]).expect("there is room");
        for (key, restarts) in [(a, 0), (b, 2)] {
            store.stage(key, &[2; 20], None, &Policy::ANY).expect("there is room");
            store.begin_trial(&key, restarts).expect("staged");
        }
        flash = store.close().into_inner();
    }
    for left in [Some(1), Some(0), None] {
        let mut places = [Place::EMPTY; 8];
        let store = open(flash, &mut places);
        assert!(store.find(&a).is_some_and(|state| state.candidate.is_none() && state.good.is_some()));
        let stage = store.find(&b).and_then(|state| state.candidate).map(|candidate| candidate.stage);
        assert_eq!(stage, left.map(|restarts| Stage::Trial { restarts }));
        assert_eq!(
            store.find(&b).is_some(),
            left.is_some(),
            "nothing is left to know of a key without files"
        );
        flash = store.close().into_inner();
    }
}

#[test]
fn the_least_recently_used_go_and_the_pinned_stay() {
    let (mut places, mut memory) = ([Place::EMPTY; 16], [0; 600]);
    let mut store = open(flash(), &mut places);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for name in names {
        install(&mut store, name, name.as_bytes()).expect("there is room");
    }
    store.pin(&key("a"), true).expect("known");
    for name in ["c", "b", "d"] {
        store.load(&key(name), &mut memory).expect("good");
    }
    store.stage(key("i"), &[9; 512 * 2], None, &Policy::ANY).expect("room is made");
    let gone = |store: &FlashStore<'_, Nor4>| -> Vec<&str> {
        names.into_iter().filter(|name| store.find(&key(name)).is_none_or(|s| s.good.is_none())).collect()
    };
    assert_eq!(gone(&store), ["e", "f"], "staged after a to d, which were loaded since");
    store.begin_trial(&key("i"), 0).expect("staged");
    store.confirm(&key("i")).expect("on trial");
    store.load(&key("i"), &mut memory).expect_err("600 bytes are too few");
    store.stage(key("j"), &[9; 512 * 3], None, &Policy::ANY).expect("room is made");
    assert_eq!(gone(&store), ["b", "c", "d", "e", "f", "g", "h"], "a is pinned, i was used last");
    let too_much = refused(store.stage(key("k"), &[9; 512 * 8], None, &Policy::ANY));
    assert!(matches!(too_much, Refusal::Room { needed: 4096, .. }), "{too_much:?}");
}

#[test]
fn what_is_used_often_does_not_wear() {
    let (mut places, mut memory) = ([Place::EMPTY; 8], [0; 600]);
    let mut store = open(flash(), &mut places);
    install(&mut store, "a", &[1; 100]).expect("there is room");
    let mut flash = store.close().into_inner();
    let units = flash.units;
    flash.erased.fill(0);
    let mut places = [Place::EMPTY; 8];
    let mut store = open(flash, &mut places);
    for _ in 0..10_000 {
        store.load(&key("a"), &mut memory).expect("good");
    }
    let flash = store.close().into_inner();
    assert_eq!((flash.units, flash.erased.iter().sum::<u32>()), (units, 0));
}

#[test]
fn files_are_used_in_place() {
    let mut places = [Place::EMPTY; 8];
    let mut store = open(flash(), &mut places);
    install(&mut store, "a", &[7; 700]).expect("there is room");
    // A copy stands for the window that hardware maps the flash to.
    let window = |store: FlashStore<'_, Nor4>| store.close().into_inner();
    let flash = window(store);
    let mut copy = vec![0; flash.bytes.len() + 16];
    let copy = &mut aligned_mut(&mut copy)[..flash.bytes.len()];
    copy.copy_from_slice(&flash.bytes);
    let mut places = [Place::EMPTY; 8];
    let store = open(flash, &mut places);
    let loaded = store.mapped(&key("a"), copy).expect("good");
    assert_eq!((loaded.bytes, loaded.bytes.as_ptr().align_offset(16)), (&[7; 700][..], 0));
    assert_eq!(store.mapped(&key("b"), copy).expect_err("unknown"), Refusal::UnknownKey);
    assert_eq!(store.mapped(&key("a"), &copy[..600]).expect_err("another memory"), Refusal::Damaged);
}

#[test]
fn a_damaged_candidate_reverts_and_a_damaged_good_one_is_refused() {
    let (mut places, mut memory) = ([Place::EMPTY; 8], [0; 600]);
    let mut store = open(flash(), &mut places);
    let a = key("a");
    install(&mut store, "a", &[1; 100]).expect("there is room");
    store.stage(a, &[2; 100], None, &Policy::ANY).expect("there is room");
    store.begin_trial(&a, 3).expect("staged");
    let state = *store.find(&a).expect("known");
    let nor = store.close();
    let [good, candidate] = [state.good.expect("one"), state.candidate.expect("one").stored];
    let offsets = [&good, &candidate].map(|stored| nor.offset(stored) as usize);
    let mut flash = nor.into_inner();
    flash.bytes[offsets[1] + 99] ^= 4;
    let mut places = [Place::EMPTY; 8];
    let mut store = open(flash, &mut places);
    let loaded = store.load(&a, &mut memory).expect("the good one");
    assert!(!loaded.on_trial && loaded.bytes == [1; 100]);
    assert!(store.find(&a).is_some_and(|state| state.candidate.is_none()));
    let mut flash = store.close().into_inner();
    flash.bytes[offsets[0]] ^= 128;
    let mut places = [Place::EMPTY; 8];
    let mut store = open(flash, &mut places);
    assert_eq!(refused(store.load(&a, &mut memory)), Refusal::Damaged);
}

#[test]
fn refusals_say_what_to_do_and_change_nothing() {
    let mut places = [Place::EMPTY; 4];
    let mut store = open(flash(), &mut places);
    let (a, b) = (key("a"), key("b"));
    assert_eq!(refused(store.begin_trial(&a, 0)), Refusal::UnknownKey);
    assert_eq!(refused(store.stage(a, &[], None, &Policy::ANY)), Refusal::Empty);
    store.stage(a, &[1], None, &Policy::ANY).expect("there is room");
    assert_eq!(refused(store.confirm(&a)), Refusal::NotOnTrial);
    assert_eq!(refused(store.load(&a, &mut [])), Refusal::NoAdapter);
    store.begin_trial(&a, 0).expect("staged");
    assert_eq!(refused(store.load(&a, &mut [])), Refusal::Memory { needed: 16 });
    assert_eq!(refused(store.begin_trial(&a, 0)), Refusal::OnTrial);
    store.revert(&a).expect("on trial");
    assert_eq!(refused(store.revert(&a)), Refusal::UnknownKey, "nothing was left to know");
    for name in ["a", "b", "c"] {
        store.stage(key(name), &[1], None, &Policy::ANY).expect("there is room");
    }
    assert_eq!(refused(store.stage(key("d"), &[1], None, &Policy::ANY)), Refusal::Keys { most: 3 });
    store.remove(&b).expect("known");
    store.stage(key("d"), &[1], None, &Policy::ANY).expect("there is room");
    let flash = store.close().into_inner();
    let nor = Nor::open(flash, REGION).expect("it was formatted");
    let few = FlashStore::open(nor, &mut [Place::EMPTY; 3]).expect_err("there are three keys");
    assert!(matches!(few, StoreError::Index { keys: 2 }), "{few}");
}

#[test]
fn regions_that_do_not_fit_are_refused() {
    let flash = || Flash::<4, 512>::new(25, 1);
    let regions = [
        Region { offset: 100, ..REGION },
        Region { bank_bytes: 0, ..REGION },
        Region { bank_bytes: 700, ..REGION },
        Region { bank_bytes: !511, ..REGION },
        Region { file_bytes: 0, ..REGION },
        Region { file_bytes: 64 * 512, ..REGION },
    ];
    for region in regions {
        assert!(matches!(Nor::format(flash(), region), Err(StoreError::Region)), "{region:?}");
    }
    let formatted = Nor::format(flash(), REGION).expect("it fits").into_inner();
    let other = Region { file_bytes: 7 * 512, ..REGION };
    assert!(matches!(Nor::open(formatted.clone(), other), Err(StoreError::Format)));
    assert!(matches!(Nor::open(formatted, Region { offset: 0, ..REGION }), Err(StoreError::Unformatted)));
    let narrow = Nor::format(Flash::<4, 64>::new(200, 1), Region { offset: 0, ..REGION });
    assert!(matches!(narrow, Err(StoreError::Region)), "a sector holds a record");
}
