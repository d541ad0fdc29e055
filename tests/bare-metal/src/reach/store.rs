//! A store in flash of any content, through the life of an adapter.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use ingraft_store::{
    FlashStore, Guard, Key, Nor, Observed, Place, Policy, PublicKey, Region, Seal, StoreError,
};
use ingraft_tensor::bytes;

use super::{Untrusted, keep};

/// Flash in memory, as total as a driver is expected to be.
struct Flash<'m>(&'m mut [u8]);

impl ErrorType for Flash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, to: &mut [u8]) -> Result<(), Self::Error> {
        let from = self.0.get(offset as usize..).and_then(|rest| rest.get(..to.len()));
        let from = from.ok_or(NorFlashErrorKind::OutOfBounds)?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for Flash<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        let sectors = self.0.get_mut(from as usize..to as usize).ok_or(NorFlashErrorKind::OutOfBounds)?;
        sectors.fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, from: &[u8]) -> Result<(), Self::Error> {
        let to = self.0.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..from.len()));
        let to = to.ok_or(NorFlashErrorKind::OutOfBounds)?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to &= *from);
        Ok(())
    }
}

/// Every call of a store.
pub(super) fn store(
    untrusted: &Untrusted<'_>,
    memory: &mut [u8],
) -> Result<(), StoreError<NorFlashErrorKind>> {
    let number = untrusted.number;
    let word = number as u32;
    let (flash, memory) = memory.split_at_mut_checked(number).unwrap_or_default();
    let region = Region { offset: word, bank_bytes: word, file_bytes: word };
    let mut places = [Place::EMPTY; 8];
    let places = places.get_mut(..number).unwrap_or_default();
    let nor = match number & 1 {
        0 => Nor::format(Flash(flash), region)?,
        _ => Nor::open(Flash(flash), region)?,
    };
    let mut store = FlashStore::open(nor, places)?;
    let name = core::str::from_utf8(untrusted.adapter).unwrap_or_default();
    let Some(key) = Key::new(name) else { return Ok(()) };
    let seal = Seal::read(untrusted.bytes);
    let public = untrusted.bytes.first_chunk().and_then(|bytes| PublicKey::new(bytes).ok());
    let trusted = public.as_slice();
    let base = bytes::cast::<[u8; 32]>(untrusted.plan).and_then(|hashes| hashes.get(number));
    let policy = match number & 3 {
        0 => Policy::ANY,
        1 => Policy::HASHED,
        _ => Policy::signed(trusted, (number & 4 == 0).then_some(number as u64)),
    };
    let policy = base.map_or(policy, |base| policy.for_base(*base));
    store.stage(key, untrusted.adapter, seal.as_ref(), &policy)?;
    store.begin_trial(&key, number as u8)?;
    keep(store.load(&key, memory)?);
    keep(store.seal(&key)?.map(|seal| seal.verify(trusted)));
    let [clips, right, good_right, not_finite, codes, saturated] = [word; 6];
    let observed = Observed { clips, right, good_right, not_finite, codes, saturated };
    let share = number as u16;
    let guard = Guard { clips, least_right: share, most_lost: share, most_saturated: share };
    keep(store.judge(&key, &observed, &guard)?);
    store.confirm(&key)?;
    store.revert(&key)?;
    store.pin(&key, number & 1 == 0)?;
    store.touch(&key);
    keep(store.mapped(&key, untrusted.bytes)?);
    keep((store.find(&key), store.most_keys()));
    store.iter().for_each(keep);
    store.remove(&key)?;
    store.forget(&key)?;
    keep(store.close().into_inner().0);
    Ok(())
}
