//! Adapters in NOR flash: found again after every reset, and a new one only in use for good once it proved itself.

use embedded_storage::nor_flash::NorFlash;
use ingraft_store::{FlashStore, Key, Nor, Place, Policy, Region, StoreError};

use crate::nor::{NorFault, SimulatedNor};

/// Where adapters lie: two banks of records of a sector each, and eight sectors of files.
pub const REGION: Region = Region { offset: 0, bank_bytes: 4096, file_bytes: 8 * 4096 };
/// Places of the index, for four keys.
pub type Places = [Place; Place::places(4)];

/// Opens the store in `flash`, and makes one where none is.
///
/// # Errors
/// [`StoreError`] of the flash.
pub fn open<'i, 'f, F: NorFlash>(
    flash: &'f mut F,
    places: &'i mut Places,
) -> Result<FlashStore<'i, &'f mut F>, StoreError<F::Error>> {
    if let Err(StoreError::Unformatted) = Nor::open(&mut *flash, REGION) {
        Nor::format(&mut *flash, REGION)?;
    }
    FlashStore::open(Nor::open(flash, REGION)?, places)
}

/// The keys of the adapter from the laboratory and of what is learned here.
pub fn keys() -> Option<[Key; 2]> {
    Some([Key::new("laboratory")?, Key::new("here")?])
}

/// Stores `file` as the laboratory's adapter, in use for good; then the power goes while it is stored as what is learned here.
///
/// `None` where the store does anything else.
pub fn deliver(nor: &mut SimulatedNor<'_>, places: &mut Places, file: &[u8], base: [u8; 32]) -> Option<()> {
    let ([laboratory, here], policy) = (keys()?, policy(base));
    let mut store = open(nor, places).ok()?;
    store.stage(laboratory, file, None, &policy).ok()?;
    store.begin_trial(&laboratory, 0).ok()?;
    store.confirm(&laboratory).ok()?;
    nor.cut_after(40);
    let cut = open(nor, places).ok()?.stage(here, file, None, &policy);
    (cut == Err(StoreError::Medium(NorFault::Power))).then_some(())
}

/// Only undamaged adapters of this base are kept.
pub fn policy(base: [u8; 32]) -> Policy<'static> {
    Policy::HASHED.for_base(base)
}
