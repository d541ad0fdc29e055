//! The two banks of records.

use embedded_storage::nor_flash::NorFlash;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{BLANK, HEADS, Layout, Nor, Result};
use crate::medium::States;
use crate::record::{Bytes, RECORD_BYTES, decode, encode, with_check};
use crate::{KeyState, Stage, StoreError};

/// The start of a bank, written last: a bank without it does not count.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    check: [u8; 8],
    magic: [u8; 8],
    version: u32,
    sequence: u32,
    offset: u32,
    sector_bytes: u32,
    bank_sectors: u32,
    file_sectors: u32,
    cursor: u32,
    reserved: [u32; 21],
}

impl<F: NorFlash> Nor<F> {
    /// Finds the bank that counts.
    pub(super) fn find_bank(&mut self) -> Result<(), F> {
        let mut newest: Option<(u32, Head)> = None;
        for bank in 0..2 {
            let head = self.head(bank)?;
            if head.is_some_and(|head| newest.is_none_or(|(_, known)| head.follows(&known))) {
                newest = head.map(|head| (bank, head));
            }
        }
        let (bank, head) = newest.ok_or(StoreError::Unformatted)?;
        let same = head.version == VERSION && head.layout() == self.layout;
        same.then_some(()).ok_or(StoreError::Format)?;
        (self.bank, self.sequence, self.cursor) = (bank, head.sequence, head.cursor);
        Ok(())
    }

    /// The first of the heads of `bank` that can be read.
    fn head(&mut self, bank: u32) -> Result<Option<Head>, F> {
        for slot in 0..HEADS {
            let mut bytes = BLANK;
            self.read_at(self.layout.slot_offset(bank, slot), &mut bytes)?;
            if let Some(head) = read_head(&bytes) {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Hands the records of the bank that counts to `each`, and finds the slot for the next.
    pub(super) fn replay(&mut self, each: &mut dyn FnMut(KeyState) -> Result<(), F>) -> Result<(), F> {
        let mut last = HEADS.saturating_sub(1);
        for slot in HEADS..self.layout.slots() {
            let mut bytes = BLANK;
            self.read_at(self.layout.slot_offset(self.bank, slot), &mut bytes)?;
            if bytes == BLANK {
                continue;
            }
            last = slot;
            let state = decode(&bytes, u64::from(self.sequence));
            let Some(state) = state.filter(|state| state.files().all(|file| self.layout.holds(file))) else {
                continue;
            };
            if let Some(candidate) = state.candidate.filter(|candidate| candidate.stage == Stage::Staged) {
                let sectors = self.layout.sectors(candidate.stored.len, candidate.stored.sealed);
                self.cursor = candidate.stored.sector.saturating_add(sectors);
            }
            each(state)?;
        }
        // The slot behind the last may have been begun, though it reads blank.
        self.next = last.saturating_add(2);
        Ok(())
    }

    /// Appends a record; false where the bank is full.
    pub(super) fn append(&mut self, state: &KeyState) -> Result<bool, F> {
        let bytes = encode(state, u64::from(self.sequence));
        let written = self.write_slot(self.bank, self.next, &bytes)?;
        self.next = written.unwrap_or(self.layout.slots()).saturating_add(1);
        Ok(written.is_some())
    }

    /// Writes the last record of every key to the other bank, that of `state` among them, and lets it count.
    pub(super) fn compact(&mut self, state: &KeyState, states: &dyn States) -> Result<(), F> {
        let (bank, sequence) = (1 - self.bank.min(1), self.sequence.wrapping_add(1));
        self.erase_bank(bank)?;
        let mut next = Ok(HEADS);
        let mut write = |nor: &mut Self, state: &KeyState| {
            let Ok(slot) = next else { return };
            if state.is_empty() {
                return;
            }
            let bytes = encode(state, u64::from(sequence));
            next = match nor.write_slot(bank, slot, &bytes) {
                Ok(Some(written)) => Ok(written.saturating_add(1)),
                Ok(None) => Err(StoreError::Unwritable { offset: nor.layout.bank_offset(bank) }),
                Err(error) => Err(error),
            };
        };
        states.each(&mut |other| {
            if other.key != state.key {
                write(self, other);
            }
        });
        write(self, state);
        let next = next?;
        self.write_heads(bank, sequence)?;
        (self.bank, self.sequence, self.next) = (bank, sequence, next);
        Ok(())
    }

    pub(super) fn erase_bank(&mut self, bank: u32) -> Result<(), F> {
        let (from, to) = (self.layout.bank_offset(bank), self.layout.bank_offset(bank.saturating_add(1)));
        self.flash.erase(from, to).map_err(StoreError::Medium)
    }

    /// Writes both heads; one that can be read is enough.
    pub(super) fn write_heads(&mut self, bank: u32, sequence: u32) -> Result<(), F> {
        let head = write_head(&self.layout, sequence, self.cursor);
        let mut written = 0;
        for slot in 0..HEADS {
            match self.write_at(self.layout.slot_offset(bank, slot), &head) {
                Ok(()) => written += 1,
                Err(StoreError::Unwritable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let offset = self.layout.bank_offset(bank);
        (written > 0).then_some(()).ok_or(StoreError::Unwritable { offset })
    }

    /// Writes a record to the first slot from `slot` on that takes it, and says which; `None` where none does.
    fn write_slot(&mut self, bank: u32, slot: u32, bytes: &Bytes) -> Result<Option<u32>, F> {
        for slot in slot..self.layout.slots() {
            match self.write_at(self.layout.slot_offset(bank, slot), bytes) {
                Ok(()) => return Ok(Some(slot)),
                Err(StoreError::Unwritable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Head {
    /// Whether it was written after `other`. Numbers go round, so that there is no last one; the two banks of a store are
    /// one apart.
    fn follows(&self, other: &Self) -> bool {
        self.sequence.wrapping_sub(other.sequence).cast_signed() > 0
    }

    fn layout(&self) -> Layout {
        Layout {
            offset: self.offset,
            sector_bytes: self.sector_bytes,
            bank_sectors: self.bank_sectors,
            file_sectors: self.file_sectors,
        }
    }
}

fn write_head(layout: &Layout, sequence: u32, cursor: u32) -> Bytes {
    let mut head = Head::new_zeroed();
    (head.magic, head.version, head.sequence, head.cursor) = (MAGIC, VERSION, sequence, cursor);
    (head.offset, head.sector_bytes) = (layout.offset, layout.sector_bytes);
    (head.bank_sectors, head.file_sectors) = (layout.bank_sectors, layout.file_sectors);
    let mut bytes = [0; RECORD_BYTES];
    bytes.iter_mut().zip(head.as_bytes()).for_each(|(to, byte)| *to = *byte);
    with_check(bytes, SALT)
}

fn read_head(bytes: &Bytes) -> Option<Head> {
    (with_check(*bytes, SALT) == *bytes).then_some(())?;
    Head::read_from_bytes(bytes).ok().filter(|head| head.magic == MAGIC)
}

const MAGIC: [u8; 8] = *b"INGRSTOR";
const VERSION: u32 = 1;
/// No sequence number, so that no record is a head.
const SALT: u64 = u64::MAX;
