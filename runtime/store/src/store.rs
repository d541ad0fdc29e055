//! The store: what may be done with adapters, whatever they lie on.

use ingraft_tensor::bytes::{self, ALIGN};
use ingraft_tensor::hash::blake3;

use crate::index::{Index, Place};
use crate::medium::{Medium, States};
use crate::{Candidate, Guard, Key, KeyState, Observed, Policy, Refusal, Seal, StoreError, Stored, Verdict};

/// Adapters by key, on flash or in a directory.
///
/// `P` is the memory of the index, [`Place::places`] of the number of keys: a slice on a device. Finding a key takes
/// the same time in the mean, whatever their number. Every operation that changes something happens whole or not at all, whenever
/// the power goes; where room is made first, each eviction is a step of its own.
#[derive(Debug)]
pub struct Store<M, P> {
    pub(crate) medium: M,
    pub(crate) index: Index<P>,
    stale: bool,
}

/// A file that was read and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded<'m> {
    /// The file, aligned as [`ingraft_adapter::Adapter::attach`] asks for.
    pub bytes: &'m [u8],
    /// Whether it is on trial; else it is the last good one.
    pub on_trial: bool,
}

type Result<T, M> = core::result::Result<T, StoreError<<M as Medium>::Error>>;

impl<M: Medium, P: AsRef<[Place]> + AsMut<[Place]>> Store<M, P> {
    /// Opens the store on `medium`. Each trial outlives one restart fewer, or is reverted: opening is a restart.
    ///
    /// Takes time linear in the records. Files are not read: they are verified when they are loaded.
    ///
    /// # Errors
    /// [`StoreError::Index`] where `places` are too few, or why the medium cannot be used.
    pub fn open(medium: M, places: P) -> Result<Self, M> {
        let mut store = Self { medium, index: Index::new(places), stale: false };
        let Self { medium, index, .. } = &mut store;
        medium.records(&mut |state| {
            if state.is_empty() {
                index.remove(&state.key);
                return Ok(());
            }
            let keys = index.len();
            index.put(state).ok_or(StoreError::Index { keys })
        })?;
        // Keys are taken out behind the loop: taking one out moves others, and none may be restarted twice.
        for at in 0..store.index.places() {
            let Some(before) = store.index.at(at) else { continue };
            if let Some(state) = before.restarted() {
                store.record(&state)?;
                store.replace(state);
                store.release(&before, &state);
            }
        }
        let mut at = 0;
        while at < store.index.places() {
            match store.index.at(at).filter(KeyState::is_empty) {
                Some(state) => store.index.remove(&state.key),
                None => at = at.saturating_add(1),
            }
        }
        Ok(store)
    }

    /// What is known of `key`.
    pub fn find(&self, key: &Key) -> Option<&KeyState> {
        self.index.find(key)
    }

    /// What is known of every key, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyState> {
        self.index.iter()
    }

    /// Keys there is room for.
    pub fn most_keys(&self) -> usize {
        self.index.most().min(self.medium.keys())
    }

    /// Writes `file`, verifies it on the medium and makes it the candidate of `key`, in place of one that was only
    /// staged. Good adapters of other keys that are not pinned go where room is needed, the least recently used first,
    /// and none where that would not be enough.
    ///
    /// # Errors
    /// [`Refusal::OnTrial`], [`Refusal::Empty`], [`Refusal::Room`], [`Refusal::Keys`], why `policy` does not admit the
    /// file, or why it could not be written.
    pub fn stage(
        &mut self,
        key: Key,
        file: &[u8],
        seal: Option<&Seal>,
        policy: &Policy<'_>,
    ) -> Result<(), M> {
        self.usable()?;
        let state = self.index.find(&key).copied().unwrap_or(KeyState::new(key));
        if state.is_on_trial() {
            return Err(Refusal::OnTrial.into());
        }
        let len = u32::try_from(file.len()).unwrap_or(u32::MAX);
        if len == 0 {
            return Err(Refusal::Empty.into());
        }
        let version = policy.admit(&key, file, seal, state.floor)?;
        // Nothing goes for a file that has no room even then.
        let staying = Staying { states: &self.index, key: &key };
        self.medium.room(len, seal.is_some(), &staying).map_err(Refusal::from)?;
        self.make_place(&key)?;
        let sector = self.make_room(&key, len, seal.is_some())?;
        let stored = Stored { hash: blake3(file), len, sector, sealed: seal.is_some() };
        self.medium.write(&stored, file, seal)?;
        let used = self.index.tick();
        self.commit(KeyState { used, ..state.staged(stored, version)? })
    }

    /// Puts what was staged to use: [`Self::load`] gives it from now on. It may outlive `restarts` restarts of the
    /// device; with 0 any restart reverts it.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NothingStaged`], [`Refusal::OnTrial`].
    pub fn begin_trial(&mut self, key: &Key, restarts: u8) -> Result<(), M> {
        let state = self.known(key)?.on_trial(restarts)?;
        self.commit(state)
    }

    /// Makes the adapter on trial the good one; the room of the one before is free.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NotOnTrial`].
    pub fn confirm(&mut self, key: &Key) -> Result<(), M> {
        let state = self.known(key)?.confirmed()?;
        self.commit(state)
    }

    /// Drops the candidate, staged or on trial.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NothingStaged`].
    pub fn revert(&mut self, key: &Key) -> Result<(), M> {
        let state = self.known(key)?.reverted()?;
        self.commit(state)
    }

    /// Ends the trial as `guard` decides on what was `observed`, and says how.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NotOnTrial`].
    pub fn judge(&mut self, key: &Key, observed: &Observed, guard: &Guard) -> Result<Verdict, M> {
        if !self.known(key)?.is_on_trial() {
            return Err(Refusal::NotOnTrial.into());
        }
        let verdict = guard.verdict(observed);
        match verdict {
            Verdict::Undecided => {}
            Verdict::Confirm => self.confirm(key)?,
            Verdict::Revert(_) => self.revert(key)?,
        }
        Ok(verdict)
    }

    /// Says whether the good adapter of `key` must never be evicted.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`].
    pub fn pin(&mut self, key: &Key, pinned: bool) -> Result<(), M> {
        let state = self.known(key)?;
        if state.pinned == pinned { Ok(()) } else { self.commit(KeyState { pinned, ..state }) }
    }

    /// Removes the files of `key`, pinned or on trial. The lowest version that may be staged again is kept.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`].
    pub fn remove(&mut self, key: &Key) -> Result<(), M> {
        let KeyState { floor, .. } = self.known(key)?;
        self.commit(KeyState { floor, ..KeyState::new(*key) })
    }

    /// Forgets `key`, its version too: signed files of any version may be staged again.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`].
    pub fn forget(&mut self, key: &Key) -> Result<(), M> {
        self.known(key)?;
        self.commit(KeyState::new(*key))
    }

    /// Notes that `key` was used, as [`Self::load`] does. The note is in memory and goes with the next record of the
    /// key, so that using an adapter wears nothing.
    pub fn touch(&mut self, key: &Key) {
        self.index.touch(key);
    }

    /// Reads what `key` is to run, verified by hash: the adapter on trial, else the last good one. A candidate that does
    /// not verify is reverted. `memory` takes the file and what aligning it to 16 bytes costs, 15 at most.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NoAdapter`], [`Refusal::Memory`], [`Refusal::Damaged`].
    pub fn load<'m>(&mut self, key: &Key, memory: &'m mut [u8]) -> Result<Loaded<'m>, M> {
        let state = self.known(key)?;
        self.touch(key);
        if let Some(Candidate { stored, .. }) = state.candidate.filter(|_| state.is_on_trial()) {
            if self.read(&stored, memory)? {
                return Ok(Loaded { bytes: file(memory, stored.len), on_trial: true });
            }
            self.revert(key)?;
        }
        let stored = state.good.ok_or(Refusal::NoAdapter)?;
        let whole = self.read(&stored, memory)?;
        whole.then_some(()).ok_or(Refusal::Damaged)?;
        Ok(Loaded { bytes: file(memory, stored.len), on_trial: false })
    }

    /// Says that [`Self::load`] of `key` comes before long: a medium that is slow to read may bring the file nearer
    /// meanwhile. Does not wait, verifies nothing and notes no use.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NoAdapter`].
    pub fn prefetch(&mut self, key: &Key) -> Result<(), M> {
        let (stored, _) = self.known(key)?.in_use().ok_or(Refusal::NoAdapter)?;
        self.medium.prefetch(&stored);
        Ok(())
    }

    /// The seal that the file which [`Self::load`] gives was staged with. A device that does not trust its flash holds
    /// both to its policy again.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`], [`Refusal::NoAdapter`].
    pub fn seal(&mut self, key: &Key) -> Result<Option<Seal>, M> {
        let stored = self.known(key)?.in_use().ok_or(Refusal::NoAdapter)?.0;
        stored.sealed.then(|| self.medium.read_seal(&stored)).transpose()
    }

    /// Gives the medium back.
    pub fn close(self) -> M {
        self.medium
    }

    /// Reads a file; whether it verifies.
    fn read(&mut self, stored: &Stored, memory: &mut [u8]) -> Result<bool, M> {
        let needed = stored.len as usize;
        let to = bytes::aligned_mut(memory).get_mut(..needed);
        let to = to.ok_or(Refusal::Memory { needed: needed.saturating_add(ALIGN - 1) })?;
        self.medium.read(stored, to)?;
        Ok(blake3(to) == stored.hash)
    }

    fn usable(&self) -> Result<(), M> {
        if self.stale { Err(StoreError::Stale) } else { Ok(()) }
    }

    fn known(&self, key: &Key) -> Result<KeyState, M> {
        self.usable()?;
        self.index.find(key).copied().ok_or(Refusal::UnknownKey.into())
    }

    /// Makes `state` that of its key, on the medium and then in memory.
    fn commit(&mut self, state: KeyState) -> Result<(), M> {
        self.usable()?;
        self.record(&state)?;
        let before = self.index.find(&state.key).copied();
        if state.is_empty() {
            self.index.remove(&state.key);
        } else {
            self.replace(state);
        }
        before.iter().for_each(|before| self.release(before, &state));
        Ok(())
    }

    /// Lets go of the files of a key that it has no more.
    fn release(&mut self, before: &KeyState, now: &KeyState) {
        for file in before.files().filter(|file| now.files().all(|kept| kept != *file)) {
            self.medium.release(file);
        }
    }

    fn record(&mut self, state: &KeyState) -> Result<(), M> {
        self.stale = true;
        self.medium.commit(state, &self.index)?;
        self.stale = false;
        Ok(())
    }

    fn replace(&mut self, state: KeyState) {
        // There is a place: the key is known, or `make_place` made one.
        let _ = self.index.put(state);
    }

    /// Makes sure that `key` can be known.
    fn make_place(&mut self, key: &Key) -> Result<(), M> {
        let most = self.most_keys();
        while self.index.find(key).is_none() && self.index.len() >= most {
            // Without a version to remember, an evicted key is a free place.
            let oldest = self.oldest(|state| state.floor == 0).ok_or(Refusal::Keys { most })?;
            self.commit(KeyState { good: None, ..oldest })?;
        }
        Ok(())
    }

    /// Where a file of `key` may go, after evictions where there must be some.
    fn make_room(&mut self, key: &Key, len: u32, sealed: bool) -> Result<u32, M> {
        loop {
            match self.medium.room(len, sealed, &self.index) {
                Ok(sector) => return Ok(sector),
                Err(shortage) => {
                    let oldest = self.oldest(|state| state.key != *key).ok_or(Refusal::from(shortage))?;
                    self.commit(KeyState { good: None, ..oldest })?;
                }
            }
        }
    }

    /// The least recently used key whose good adapter may go.
    fn oldest(&self, mut allowed: impl FnMut(&KeyState) -> bool) -> Option<KeyState> {
        self.index
            .iter()
            .filter(|state| state.may_go() && allowed(state))
            .min_by_key(|state| state.used)
            .copied()
    }
}

impl<P: AsRef<[Place]> + AsMut<[Place]>> States for Index<P> {
    fn each(&self, visit: &mut dyn FnMut(&KeyState)) {
        self.iter().for_each(visit);
    }
}

/// What would stay if all went that may go for a file of `key`.
struct Staying<'s> {
    states: &'s dyn States,
    key: &'s Key,
}

impl States for Staying<'_> {
    fn each(&self, visit: &mut dyn FnMut(&KeyState)) {
        self.states.each(&mut |state| {
            if !state.may_go() || state.key == *self.key {
                visit(state);
            }
        });
    }
}

/// The file at the start of aligned memory.
fn file(memory: &mut [u8], len: u32) -> &[u8] {
    bytes::aligned_mut(memory).get(..len as usize).unwrap_or(&[])
}
