//! What a store stands on: flash or a directory.

use crate::{KeyState, Seal, StoreError, Stored};

/// Where records and files lie: [`crate::Nor`] and `Directory` are the two there are.
///
/// All that a store promises follows from one promise of its medium: [`Self::commit`] happens whole or not at all,
/// whenever the power goes.
pub trait Medium {
    /// What the medium fails with.
    type Error;

    /// Reads the records that were committed, oldest first: the last one of a key is its state. Records of files that
    /// cannot lie on this medium are none.
    ///
    /// # Errors
    /// [`StoreError::Medium`], or that of `each`.
    fn records(
        &mut self,
        each: &mut dyn FnMut(KeyState) -> Result<(), StoreError<Self::Error>>,
    ) -> Result<(), StoreError<Self::Error>>;

    /// Keys there is room for.
    fn keys(&self) -> usize;

    /// Where a file of `len` bytes, and its seal, may be written without touching those of `kept`: its first sector.
    ///
    /// # Errors
    /// The [`Shortage`].
    fn room(&self, len: u32, sealed: bool, kept: &dyn States) -> Result<u32, Shortage>;

    /// Writes a file where [`Self::room`] said, and verifies what was written.
    ///
    /// # Errors
    /// [`StoreError::Medium`] or [`StoreError::Unwritable`]; the records are as before.
    fn write(
        &mut self,
        stored: &Stored,
        file: &[u8],
        seal: Option<&Seal>,
    ) -> Result<(), StoreError<Self::Error>>;

    /// Makes `state` that of its key, whole or not at all. `states` are those before.
    ///
    /// # Errors
    /// [`StoreError::Medium`] or [`StoreError::Unwritable`].
    fn commit(&mut self, state: &KeyState, states: &dyn States) -> Result<(), StoreError<Self::Error>>;

    /// Reads a file into `memory`, which is as long. Whether it is the right one is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Medium`].
    fn read(&mut self, stored: &Stored, memory: &mut [u8]) -> Result<(), StoreError<Self::Error>>;

    /// Takes note that a file is going to be read before long, and may bring it nearer meanwhile. Never waits, and promises
    /// nothing: without it, as on flash that is read where it lies, reading is as right.
    fn prefetch(&mut self, _stored: &Stored) {}

    /// Reads the seal of a file.
    ///
    /// # Errors
    /// [`StoreError::Medium`].
    fn read_seal(&mut self, stored: &Stored) -> Result<Seal, StoreError<Self::Error>>;

    /// Takes note that no state has this file any more.
    fn release(&mut self, stored: &Stored);
}

/// The states of all keys, one after the other.
pub trait States {
    /// Calls `visit` with each.
    fn each(&self, visit: &mut dyn FnMut(&KeyState));
}

/// How much room was asked for and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes asked for.
    pub needed: u32,
    /// Most bytes in a row that are free.
    pub most: u32,
}
