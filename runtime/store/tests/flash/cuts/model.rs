//! What a store should hold, said in another way: a map from keys to what is known of them.

use std::collections::BTreeMap;

use ingraft_store::{Key, KeyState, Stage};

/// What can be seen of a key; where its files lie is the store's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) good: Option<[u8; 32]>,
    pub(crate) candidate: Option<([u8; 32], Stage)>,
    pub(crate) pinned: bool,
}

/// All keys of which something is known.
pub(crate) type View = BTreeMap<Key, Entry>;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Stage { key: Key, file: usize, sealed: bool },
    BeginTrial { key: Key, restarts: u8 },
    Confirm(Key),
    Revert(Key),
    Pin(Key, bool),
    Remove(Key),
    Forget(Key),
    Load(Key),
}

impl Op {
    pub(crate) fn key(&self) -> Key {
        match *self {
            Self::Stage { key, .. } | Self::BeginTrial { key, .. } => key,
            Self::Confirm(key) | Self::Revert(key) | Self::Pin(key, _) => key,
            Self::Remove(key) | Self::Forget(key) | Self::Load(key) => key,
        }
    }
}

/// The entry of `state`.
pub(crate) fn entry(state: &KeyState) -> Entry {
    let candidate = state.candidate.map(|candidate| (candidate.stored.hash, candidate.stage));
    Entry { good: state.good.map(|good| good.hash), candidate, pinned: state.pinned }
}

/// What `op` makes of the entry of its key, or `None` where it must be refused. `hash` is that of the file staged.
pub(crate) fn applied(entry: Option<Entry>, op: &Op, hash: [u8; 32]) -> Option<Entry> {
    let known = entry.unwrap_or_default();
    let on_trial = matches!(known.candidate, Some((_, Stage::Trial { .. })));
    let candidate = |candidate| Entry { candidate, ..known };
    if let Op::Stage { .. } = op {
        return (!on_trial).then_some(candidate(Some((hash, Stage::Staged))));
    }
    entry?;
    match *op {
        Op::BeginTrial { restarts, .. } => {
            let (hash, _) = known.candidate.filter(|_| !on_trial)?;
            Some(candidate(Some((hash, Stage::Trial { restarts }))))
        }
        Op::Confirm(_) => {
            let (hash, _) = known.candidate.filter(|_| on_trial)?;
            Some(Entry { good: Some(hash), candidate: None, ..known })
        }
        Op::Revert(_) => known.candidate.map(|_| candidate(None)),
        Op::Pin(_, pinned) => Some(Entry { pinned, ..known }),
        Op::Remove(_) | Op::Forget(_) => Some(Entry::default()),
        Op::Load(_) => (on_trial || known.good.is_some()).then_some(known),
        Op::Stage { .. } => None,
    }
}

/// What is left of an entry after a restart.
pub(crate) fn restarted(entry: Entry) -> Entry {
    let candidate = match entry.candidate {
        Some((hash, Stage::Trial { restarts })) => {
            restarts.checked_sub(1).map(|restarts| (hash, Stage::Trial { restarts }))
        }
        other => other,
    };
    Entry { candidate, ..entry }
}

/// The same view with `entry` for `key`.
pub(crate) fn with(mut view: View, key: Key, entry: Entry) -> View {
    if entry == Entry::default() {
        view.remove(&key);
    } else {
        view.insert(key, entry);
    }
    view
}

/// The same view after a restart.
pub(crate) fn after_restart(view: &View) -> View {
    view.iter().fold(View::new(), |new, (key, entry)| with(new, *key, restarted(*entry)))
}
