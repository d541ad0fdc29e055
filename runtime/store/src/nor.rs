//! NOR flash as the medium of a store.
//!
//! ```text
//! ┌ region ──────────────────────────────────────────────────────────────────┐
//! │ bank 0            │ bank 1            │ files, each from the start of a   │
//! │ head head record… │ head head record… │ sector: bytes, 0xff to 128, seal  │
//! └───────────────────┴───────────────────┴───────────────────────────────────┘
//! ```
//!
//! A step of a key is one record, appended to the bank whose head has the higher sequence number. Where the bank is full,
//! the last record of every key goes to the other bank, then that bank's head: from then on that bank counts.
//!
//! Words are erased before they are written, files' sectors immediately before, and all that is written is read back.
//! A write that was cut may leave a slot that still reads blank and must not be trusted: after a restart the slot behind
//! the last one that can be seen is skipped. Only where cuts go on and on at the very first word of a record is a
//! blank slot written to again, and what came of it read back; a slot that does not take a record is passed over.
//!
//! A head is 128 bytes: check (8), `INGRSTOR` (8), then as u32 the format version, sequence number, offset of
//! the region, bytes of a sector, sectors of a bank, sectors of files, first sector to try for the next file, and
//! zeros. The check is as in [`crate::record`], with a salt of its own.

mod bank;
mod room;

use embedded_storage::nor_flash::NorFlash;
use ingraft_tensor::hash::blake3;

use crate::index::Place;
use crate::medium::{Medium, Shortage, States};
use crate::record::{Bytes, RECORD_BYTES};
use crate::store::{Loaded, Store};
use crate::{Key, KeyState, Refusal, Seal, StoreError, Stored};

/// The part of a flash that a store lies in, in whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte, at the start of a sector.
    pub offset: u32,
    /// Bytes of each of the two banks of records. A bank holds 128-byte records for twice the keys and two more: what is
    /// beyond that spares erasures.
    pub bank_bytes: u32,
    /// Bytes of the files: the budget. A file takes whole sectors.
    pub file_bytes: u32,
}

/// A [`Store`] in NOR flash.
pub type FlashStore<'i, F> = Store<Nor<F>, &'i mut [Place]>;

/// NOR flash as the medium of a store.
#[derive(Debug)]
pub struct Nor<F> {
    flash: F,
    layout: Layout,
    /// Bank that counts, its sequence number and the slot for the next record.
    bank: u32,
    sequence: u32,
    next: u32,
    /// Sector to look for room from.
    cursor: u32,
}

/// A [`Region`] in sectors, checked against the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    offset: u32,
    sector_bytes: u32,
    bank_sectors: u32,
    file_sectors: u32,
}

type Result<T, F> = core::result::Result<T, StoreError<<F as embedded_storage::nor_flash::ErrorType>::Error>>;

impl<F: NorFlash> Nor<F> {
    /// Makes the region an empty store, whatever it was. Interrupted, it is no store and may be formatted again.
    ///
    /// # Errors
    /// [`StoreError::Region`], [`StoreError::Medium`], [`StoreError::Unwritable`].
    pub fn format(flash: F, region: Region) -> Result<Self, F> {
        let layout = Layout::new::<F>(&flash, region).ok_or(StoreError::Region)?;
        let mut nor = Self { flash, layout, bank: 0, sequence: 1, next: HEADS, cursor: 0 };
        nor.erase_bank(1)?;
        nor.erase_bank(0)?;
        nor.write_heads(0, 1)?;
        Ok(nor)
    }

    /// Finds the store that the region was formatted as.
    ///
    /// # Errors
    /// [`StoreError::Region`], [`StoreError::Unformatted`], [`StoreError::Format`], [`StoreError::Medium`].
    pub fn open(flash: F, region: Region) -> Result<Self, F> {
        let layout = Layout::new::<F>(&flash, region).ok_or(StoreError::Region)?;
        let mut nor = Self { flash, layout, bank: 0, sequence: 0, next: HEADS, cursor: 0 };
        nor.find_bank()?;
        Ok(nor)
    }

    /// Gives the flash back.
    pub fn into_inner(self) -> F {
        self.flash
    }

    /// Where the file of `stored` lies: offset on the flash, a multiple of the bytes of a sector.
    pub fn offset(&self, stored: &Stored) -> u32 {
        self.layout.file_offset(stored.sector)
    }

    /// A whole number of records from `offset` on.
    fn read_at(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F> {
        self.flash.read(offset, bytes).map_err(StoreError::Medium)
    }

    /// Writes a whole number of records' bytes and reads them back.
    fn write_at(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F> {
        self.flash.write(offset, bytes).map_err(StoreError::Medium)?;
        let mut at = offset;
        for chunk in bytes.chunks(RECORD_BYTES) {
            let mut back = BLANK;
            self.read_at(at, &mut back)?;
            back.starts_with(chunk).then_some(()).ok_or(StoreError::Unwritable { offset: at })?;
            at = at.saturating_add(RECORD_BYTES as u32);
        }
        Ok(())
    }
}

impl<F: NorFlash> Medium for Nor<F> {
    type Error = F::Error;

    fn records(&mut self, each: &mut dyn FnMut(KeyState) -> Result<(), F>) -> Result<(), F> {
        self.replay(each)
    }

    fn keys(&self) -> usize {
        self.layout.slots().saturating_sub(HEADS) as usize / 2
    }

    fn room(&self, len: u32, sealed: bool, kept: &dyn States) -> core::result::Result<u32, Shortage> {
        room::find(&self.layout, self.cursor, self.layout.sectors(len, sealed), kept)
            .map_err(|most| Shortage { needed: payload_bytes(len, sealed), most })
    }

    fn write(&mut self, stored: &Stored, file: &[u8], seal: Option<&Seal>) -> Result<(), F> {
        let (from, sectors) = (self.offset(stored), self.layout.sectors(stored.len, stored.sealed));
        let end = from.saturating_add(sectors.saturating_mul(self.layout.sector_bytes));
        // The next file tries behind this one, even if this one comes to nothing: sectors wear evenly.
        self.cursor = stored.sector.saturating_add(sectors);
        self.flash.erase(from, end).map_err(StoreError::Medium)?;
        let (whole, rest) = file.split_at_checked(file.len() & !(RECORD_BYTES - 1)).unwrap_or((&[], file));
        self.write_at(from, whole)?;
        if !rest.is_empty() {
            self.write_at(from.saturating_add(whole.len() as u32), &padded(rest))?;
        }
        if let Some(seal) = seal {
            for (at, part) in (0..).step_by(RECORD_BYTES).zip(seal.as_bytes().chunks(RECORD_BYTES)) {
                self.write_at(self.seal_offset(stored).saturating_add(at), &padded(part))?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, state: &KeyState, states: &dyn States) -> Result<(), F> {
        match self.append(state)? {
            true => Ok(()),
            false => self.compact(state, states),
        }
    }

    fn read(&mut self, stored: &Stored, memory: &mut [u8]) -> Result<(), F> {
        let from = self.offset(stored);
        let whole = memory.len() & !(RECORD_BYTES - 1);
        let (whole, rest) = memory.split_at_mut_checked(whole).unwrap_or_default();
        self.read_at(from, whole)?;
        if !rest.is_empty() {
            let mut last = BLANK;
            self.read_at(from.saturating_add(whole.len() as u32), &mut last)?;
            rest.iter_mut().zip(last).for_each(|(to, byte)| *to = byte);
        }
        Ok(())
    }

    fn read_seal(&mut self, stored: &Stored) -> Result<Seal, F> {
        let mut bytes = [0; Seal::BYTES];
        let mut at = self.seal_offset(stored);
        for part in bytes.chunks_mut(RECORD_BYTES) {
            let mut read = BLANK;
            self.read_at(at, &mut read)?;
            part.iter_mut().zip(read).for_each(|(to, byte)| *to = byte);
            at = at.saturating_add(RECORD_BYTES as u32);
        }
        Ok(Seal::from_bytes(bytes))
    }

    fn release(&mut self, _: &Stored) {}
}

impl<F: NorFlash> Nor<F> {
    fn seal_offset(&self, stored: &Stored) -> u32 {
        self.offset(stored).saturating_add(payload_bytes(stored.len, false))
    }
}

impl<F: NorFlash, P: AsRef<[Place]> + AsMut<[Place]>> Store<Nor<F>, P> {
    /// What `key` is to run, verified by hash and used where it lies: `flash` is the whole flash as it is mapped to
    /// memory, at an address that is a multiple of 16. Unlike [`Self::load`] it takes no note of the use, so
    /// [`Self::touch`] the key before; a candidate that does not verify is for the caller to revert.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NoAdapter`], [`Refusal::Damaged`], also where `flash` is another memory.
    pub fn mapped<'s>(&'s self, key: &Key, flash: &'s [u8]) -> core::result::Result<Loaded<'s>, Refusal> {
        let (stored, on_trial) =
            self.find(key).ok_or(Refusal::UnknownKey)?.in_use().ok_or(Refusal::NoAdapter)?;
        let from = self.medium.offset(&stored) as usize;
        let file = flash.get(from..from.saturating_add(stored.len as usize)).ok_or(Refusal::Damaged)?;
        (blake3(file) == stored.hash).then_some(Loaded { bytes: file, on_trial }).ok_or(Refusal::Damaged)
    }
}

impl Layout {
    /// `None` where the region has no whole sectors, no room for one key, or does not lie in the flash.
    fn new<F: NorFlash>(flash: &F, region: Region) -> Option<Self> {
        let Region { offset, bank_bytes, file_bytes } = region;
        let sector_bytes = u32::try_from(F::ERASE_SIZE).ok().filter(|bytes| *bytes != 0)?;
        let whole = |bytes: u32| bytes.checked_rem(sector_bytes) == Some(0);
        let (bank_sectors, file_sectors) =
            (bank_bytes.checked_div(sector_bytes)?, file_bytes.checked_div(sector_bytes)?);
        let end = offset.checked_add(bank_bytes.checked_mul(2)?)?.checked_add(file_bytes)?;
        let divides = |size: usize| RECORD_BYTES.checked_rem(size) == Some(0);
        let layout = Self { offset, sector_bytes, bank_sectors, file_sectors };
        let fits = [offset, bank_bytes, file_bytes].into_iter().all(whole)
            && end as usize <= flash.capacity()
            && sector_bytes.is_multiple_of(RECORD_BYTES as u32)
            && divides(F::WRITE_SIZE)
            && divides(F::READ_SIZE)
            && layout.slots() >= HEADS + 2
            && file_sectors > 0;
        fits.then_some(layout)
    }

    /// Records and heads of a bank.
    fn slots(&self) -> u32 {
        self.bank_sectors.saturating_mul(self.sector_bytes) / RECORD_BYTES as u32
    }

    fn bank_offset(&self, bank: u32) -> u32 {
        let bank_bytes = self.bank_sectors.saturating_mul(self.sector_bytes);
        self.offset.saturating_add(bank_bytes.saturating_mul(bank))
    }

    fn slot_offset(&self, bank: u32, slot: u32) -> u32 {
        self.bank_offset(bank).saturating_add(slot.saturating_mul(RECORD_BYTES as u32))
    }

    fn file_offset(&self, sector: u32) -> u32 {
        self.bank_offset(2).saturating_add(sector.saturating_mul(self.sector_bytes))
    }

    /// Sectors that a file takes.
    fn sectors(&self, len: u32, sealed: bool) -> u32 {
        payload_bytes(len, sealed).div_ceil(self.sector_bytes.max(1))
    }

    /// Whether a file lies among the files.
    fn holds(&self, stored: &Stored) -> bool {
        let end = stored.sector.checked_add(self.sectors(stored.len, stored.sealed));
        end.is_some_and(|end| end <= self.file_sectors)
    }
}

/// Bytes that a file takes up to the end of its seal.
fn payload_bytes(len: u32, sealed: bool) -> u32 {
    let records = |bytes: u32| bytes.div_ceil(RECORD_BYTES as u32);
    let seal = if sealed { records(Seal::BYTES as u32) } else { 0 };
    records(len).saturating_add(seal).saturating_mul(RECORD_BYTES as u32)
}

/// `part` filled up with what erased flash reads as.
fn padded(part: &[u8]) -> Bytes {
    let mut bytes = BLANK;
    bytes.iter_mut().zip(part).for_each(|(to, byte)| *to = *byte);
    bytes
}

/// What an erased slot reads as.
const BLANK: Bytes = [0xff; RECORD_BYTES];
/// Slots of a bank that hold its head, one a copy of the other.
const HEADS: u32 = 2;
