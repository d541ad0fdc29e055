//! What it costs to keep adapters in flash: finding one, changing between two in place, opening the store.
//!
//! Finding a key and changing adapters must not depend on how many are kept; opening reads a record of each.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use core::hint::black_box;

use criterion::Criterion;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use ingraft::store::{FlashStore, Key, Nor, Place, Policy, Region};

fn main() {
    let mut criterion = support::criterion();
    [10, 100, 1000].into_iter().for_each(|keys| bench(&mut criterion, keys));
    criterion.final_summary();
}

/// A store of `keys` adapters of [`FILE_BYTES`] each.
fn bench(criterion: &mut Criterion, keys: usize) {
    let names: Vec<Key> = (0..keys).map(|i| Key::new(&format!("site-{i}")).expect("a name")).collect();
    let mut places = vec![Place::EMPTY; Place::places(keys)];
    // Every key is written three times: staged, tried, confirmed.
    let bank_bytes = (128 * (2 + 4 * keys)).next_multiple_of(SECTOR) as u32;
    let region = Region { offset: 0, bank_bytes, file_bytes: (keys * SECTOR) as u32 };
    let flash = Flash(vec![0xff; 2 * bank_bytes as usize + keys * SECTOR]);
    let nor = Nor::format(flash, region).expect("the region fits");
    let mut store = FlashStore::open(nor, &mut places).expect("the places suffice");
    for (number, key) in names.iter().enumerate() {
        store.stage(*key, &[number as u8; FILE_BYTES], None, &Policy::ANY).expect("there is room");
        store.begin_trial(key, 0).expect("staged");
        store.confirm(key).expect("on trial");
    }
    // A copy stands for the window that hardware maps the flash to.
    let flash = store.close().into_inner();
    let window = support::AlignedBytes::copy_of(&flash.0);

    let mut flash = Some(flash);
    criterion.bench_function(&format!("open/{keys}"), |bencher| {
        bencher.iter(|| {
            let nor = Nor::open(flash.take().expect("given back"), region).expect("a store");
            let store = FlashStore::open(nor, &mut places).expect("a store");
            flash = Some(store.close().into_inner());
        });
    });
    let nor = Nor::open(flash.expect("given back"), region).expect("a store");
    let mut store = FlashStore::open(nor, &mut places).expect("a store");
    let mut turn = names.iter().cycle();
    criterion.bench_function(&format!("find/{keys}"), |bencher| {
        bencher.iter(|| black_box(store.find(turn.next().expect("a cycle"))).expect("kept").is_on_trial());
    });
    criterion.bench_function(&format!("switch, verified in place/{keys}"), |bencher| {
        bencher.iter(|| {
            let key = turn.next().expect("a cycle");
            store.touch(key);
            black_box(store.mapped(key, window.as_slice()).expect("good").bytes.len())
        });
    });
    let mut memory = vec![0; FILE_BYTES + 16];
    criterion.bench_function(&format!("switch, verified copy/{keys}"), |bencher| {
        bencher.iter(|| {
            let key = turn.next().expect("a cycle");
            black_box(store.load(key, &mut memory).expect("good").bytes.len())
        });
    });
    for (number, key) in names.iter().enumerate() {
        assert_eq!(store.load(key, &mut memory).expect("good").bytes, [number as u8; FILE_BYTES]);
    }
}

/// Flash that is memory.
#[derive(Debug)]
struct Flash(Vec<u8>);

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

const SECTOR: usize = 4096;
const FILE_BYTES: usize = 4000;
