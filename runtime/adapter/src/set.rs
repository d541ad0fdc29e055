//! Resident adapters: attach, switch, detach.

use ingraft_kernel::Sites;

use crate::{Adapter, AdapterError};

/// Names one resident adapter. A handle outlives its adapter harmlessly: after
/// `detach` it finds nothing, even when the slot is taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterId {
    slot: u32,
    generation: u32,
}

/// Why a set refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetError {
    /// Every slot is taken; detach one first.
    Full,
    /// The handle's adapter was detached.
    Gone,
    /// The adapter itself was refused.
    Adapter(AdapterError),
}

impl core::fmt::Display for SetError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("every adapter slot is taken; detach one first"),
            Self::Gone => f.write_str("the adapter was detached"),
            Self::Adapter(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SetError {}

/// Up to `N` adapters of one base.
///
/// Which one acts is chosen per run; [`Self::switch`] merely remembers a default
/// choice, one index.
///
/// # Examples
/// ```
/// # use ingraft_adapter::AdapterSet;
/// let set = AdapterSet::<8>::new();
/// assert!(set.active().is_none());
/// ```
///
/// # Concurrency
/// Nothing here is written through a shared reference, so that there is no half a switch to see: whoever switches has the set
/// alone, and the compiler refuses a reader beside it. Threads share a set behind a lock; on one core, a handler of an
/// interrupt leaves the id to the loop that runs inferences, in a queue or an atomic, or takes the set in a critical section.
///
/// ```compile_fail,E0502
/// # use ingraft_adapter::AdapterSet;
/// let mut set = AdapterSet::<8>::new();
/// let reader = set.active();
/// set.switch(None); // while it is read
/// assert!(reader.is_none());
/// ```
#[derive(Debug)]
pub struct AdapterSet<'a, const N: usize> {
    slots: [Slot<'a>; N],
    active: Option<AdapterId>,
}

#[derive(Clone, Copy, Debug)]
struct Slot<'a> {
    adapter: Option<Adapter<'a>>,
    generation: u32,
}

impl<'a, const N: usize> Default for AdapterSet<'a, N> {
    fn default() -> Self {
        Self { slots: [Slot { adapter: None, generation: 0 }; N], active: None }
    }
}

impl<'a, const N: usize> AdapterSet<'a, N> {
    /// An empty set: the base acts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks `bytes` against `base` and keeps the adapter. A refusal leaves the set as it was.
    ///
    /// # Errors
    /// [`SetError::Full`], or the adapter's own [`AdapterError`].
    pub fn attach(&mut self, bytes: &'a [u8], base: &dyn Sites) -> Result<AdapterId, SetError> {
        let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.adapter.is_none());
        let (index, slot) = free.ok_or(SetError::Full)?;
        slot.adapter = Some(Adapter::attach(bytes, base).map_err(SetError::Adapter)?);
        Ok(AdapterId { slot: index as u32, generation: slot.generation })
    }

    /// Forgets an adapter; the base acts if it was active.
    ///
    /// # Errors
    /// [`SetError::Gone`].
    pub fn detach(&mut self, id: AdapterId) -> Result<(), SetError> {
        self.find(id).ok_or(SetError::Gone)?;
        if let Some(slot) = self.slots.get_mut(id.slot as usize) {
            slot.adapter = None;
            slot.generation = slot.generation.wrapping_add(1);
        }
        if self.active == Some(id) {
            self.active = None;
        }
        Ok(())
    }

    /// Makes `id`, or the base, the default choice: one index changes.
    ///
    /// # Errors
    /// [`SetError::Gone`]; the previous choice then stays.
    pub fn switch(&mut self, id: Option<AdapterId>) -> Result<(), SetError> {
        if let Some(id) = id {
            self.find(id).ok_or(SetError::Gone)?;
        }
        self.active = id;
        Ok(())
    }

    /// The adapter chosen last, or `None` for the base.
    pub fn active(&self) -> Option<&Adapter<'a>> {
        self.find(self.active?)
    }

    /// The adapter `id` names.
    pub fn find(&self, id: AdapterId) -> Option<&Adapter<'a>> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.adapter.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// The resident adapters.
    pub fn iter(&self) -> impl Iterator<Item = (AdapterId, &Adapter<'a>)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| {
            let id = AdapterId { slot: i as u32, generation: slot.generation };
            slot.adapter.as_ref().map(|adapter| (id, adapter))
        })
    }
}
