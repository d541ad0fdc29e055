//! The keys of a store in memory: found in a time that does not depend on their number.

use crate::{Key, KeyState};

/// A place for one key in the memory that the caller lends a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(pub(crate) Option<KeyState>);

impl Place {
    /// A place without a key.
    pub const EMPTY: Self = Self(None);

    /// Places for `keys` keys: a third more than keys, so that searches stay short.
    pub const fn places(keys: usize) -> usize {
        keys.saturating_add(keys / 3).saturating_add(1)
    }
}

/// A table with open addresses and linear probes.
#[derive(Debug)]
pub(crate) struct Index<P> {
    places: P,
    len: usize,
    clock: u32,
}

impl<P: AsRef<[Place]> + AsMut<[Place]>> Index<P> {
    pub(crate) fn new(mut places: P) -> Self {
        places.as_mut().fill(Place::EMPTY);
        Self { places, len: 0, clock: 0 }
    }

    /// Keys there is room for: one place in four stays free.
    pub(crate) fn most(&self) -> usize {
        let places = self.places.as_ref().len();
        places.saturating_sub(places.div_ceil(4))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyState> {
        self.places.as_ref().iter().filter_map(|place| place.0.as_ref())
    }

    pub(crate) fn find(&self, key: &Key) -> Option<&KeyState> {
        self.places.as_ref().get(self.locate(key)?)?.0.as_ref()
    }

    /// Puts `state` in place of what was known of its key; `None` where there is no room.
    pub(crate) fn put(&mut self, state: KeyState) -> Option<()> {
        self.clock = self.clock.max(state.used);
        let at = match self.locate(&state.key) {
            Some(at) => at,
            None if self.len < self.most() => {
                self.len = self.len.wrapping_add(1);
                self.probe(&state.key).find(|at| self.at(*at).is_none())?
            }
            None => return None,
        };
        self.places.as_mut().get_mut(at)?.0 = Some(state);
        Some(())
    }

    /// Forgets a key. Those behind it move up, so that a search may end at the first free place.
    pub(crate) fn remove(&mut self, key: &Key) {
        let Some(mut hole) = self.locate(key) else { return };
        let count = self.places.as_ref().len();
        self.len = self.len.saturating_sub(1);
        self.set(hole, None);
        let mut next = hole;
        for _ in 1..count {
            next = wrap(next.wrapping_add(1), count);
            let Some(state) = self.at(next) else { break };
            if distance(home(&state.key, count), next, count) >= distance(hole, next, count) {
                self.set(hole, Some(state));
                self.set(next, None);
                hole = next;
            }
        }
    }

    /// The key at place `at`.
    pub(crate) fn at(&self, at: usize) -> Option<KeyState> {
        self.places.as_ref().get(at)?.0
    }

    pub(crate) fn places(&self) -> usize {
        self.places.as_ref().len()
    }

    /// Notes that `key` was used now.
    pub(crate) fn touch(&mut self, key: &Key) {
        let (now, at) = (self.tick(), self.locate(key));
        let state = at.and_then(|at| self.places.as_mut().get_mut(at)?.0.as_mut());
        state.into_iter().for_each(|state| state.used = now);
    }

    /// A time after all others.
    pub(crate) fn tick(&mut self) -> u32 {
        if self.clock == u32::MAX {
            // Order stays, but for neighbors in time.
            let places = self.places.as_mut().iter_mut();
            places.filter_map(|place| place.0.as_mut()).for_each(|state| state.used >>= 1);
            self.clock >>= 1;
        }
        self.clock = self.clock.saturating_add(1);
        self.clock
    }

    /// Where `key` stands.
    fn locate(&self, key: &Key) -> Option<usize> {
        self.probe(key)
            .find(|at| self.at(*at).is_none_or(|state| state.key == *key))
            .filter(|at| self.at(*at).is_some())
    }

    /// The places where `key` may stand, in order.
    fn probe(&self, key: &Key) -> impl Iterator<Item = usize> + use<P> {
        let count = self.places.as_ref().len();
        let home = home(key, count);
        (0..count).map(move |step| wrap(home.wrapping_add(step), count))
    }

    fn set(&mut self, at: usize, state: Option<KeyState>) {
        self.places.as_mut().get_mut(at).into_iter().for_each(|place| place.0 = state);
    }
}

fn home(key: &Key, count: usize) -> usize {
    wrap(key.spread(), count)
}

/// `at` round the end of `count` places.
fn wrap(at: usize, count: usize) -> usize {
    at.checked_rem(count).unwrap_or(0)
}

/// Steps from place `from` on to `to`.
fn distance(from: usize, to: usize, count: usize) -> usize {
    wrap(to.wrapping_add(count).wrapping_sub(from), count)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeMap;
    use std::format;
    use std::vec;

    use ingraft_tensor::Rng;

    use super::*;

    #[test]
    fn keys_come_and_go_as_in_a_map() {
        let mut rng = Rng::new(3);
        for places in [0, 1, 2, 5, 16, 41] {
            let mut index = Index::new(vec![Place::EMPTY; places]);
            let mut map = BTreeMap::new();
            for round in 0..4000 {
                let key = Key::new(&format!("k{}", rng.below(2 * places + 1))).expect("a name");
                if rng.below(3) == 0 {
                    index.remove(&key);
                    map.remove(&key);
                } else {
                    let state = KeyState { floor: round, ..KeyState::new(key) };
                    let fits = map.contains_key(&key) || map.len() < index.most();
                    assert_eq!(index.put(state).is_some(), fits);
                    fits.then(|| map.insert(key, state));
                }
                assert_eq!(index.len(), map.len());
                assert_eq!(index.iter().count(), map.len());
                assert!(map.iter().all(|(key, state)| index.find(key) == Some(state)), "{places} places");
            }
        }
        assert!((0..1000).all(|keys| Index::new(vec![Place::EMPTY; Place::places(keys)]).most() >= keys));
    }

    /// A key is found in as many steps among thousands as among ten, in the mean; the longest search grows a little.
    #[test]
    fn searches_stay_short() {
        for keys in [10, 100, 1000, 10_000] {
            let mut index = Index::new(vec![Place::EMPTY; Place::places(keys)]);
            let names = (0..keys).map(|i| Key::new(&format!("site-{i}")).expect("a name"));
            names.clone().for_each(|key| index.put(KeyState::new(key)).expect("there is room"));
            let steps = |key: &Key| {
                let found = index.locate(key).expect("it is there");
                distance(home(key, index.places()), found, index.places()) + 1
            };
            let sum: usize = names.map(|key| steps(&key)).sum();
            assert!(sum < 3 * keys, "{keys} keys: {sum} steps in all");
        }
    }

    #[test]
    fn the_clock_of_uses_does_not_end() {
        let keys = ["a", "b", "c"].map(|name| Key::new(name).expect("a name"));
        let mut index = Index::new([Place::EMPTY; 8]);
        for (key, used) in keys.iter().zip([5, u32::MAX, 900]) {
            index.put(KeyState { used, ..KeyState::new(*key) }).expect("there is room");
        }
        index.touch(&keys[0]);
        let used = keys.map(|key| index.find(&key).expect("it is there").used);
        assert!(used[0] > used[1] && used[1] > used[2], "{used:?}");
    }
}
