//! Labelled clips kept from a stream, for training that goes on.

use ingraft_tensor::Rng;

/// A class-balancing reservoir in caller memory (CBRS, Chrysakis & Moens, 2020).
///
/// While there is room, every clip is kept. Then a clip of a class that is not among the largest takes the place of a
/// random one of a largest class; one of a largest class takes, with the chance (kept of its class) ÷ (seen of its class),
/// that of a random one of its own. So classes become as even as the stream allows, and of each class those kept are a
/// uniform sample of those seen, as of a reservoir (Vitter, 1985) of their number.
///
/// What is kept of a clip is the caller's choice: bytes of [`crate::Clip::Inputs`], or of [`crate::Clip::Prefixes`], which
/// are fewer and not what was recorded. The same stream and seed keep the same.
#[derive(Debug)]
pub struct Reservoir<'m> {
    clips: &'m mut [u8],
    clip_bytes: usize,
    labels: &'m mut [u32],
    seen: &'m mut [u32],
    kept: usize,
    rng: Rng,
}

impl<'m> Reservoir<'m> {
    /// Room for `labels.len()` clips of `clip_bytes` each, in `clips`, of as many classes as `seen` has entries; `None`
    /// where `clips` is too short or there is no room for a clip.
    pub fn new(
        clips: &'m mut [u8],
        clip_bytes: usize,
        labels: &'m mut [u32],
        seen: &'m mut [u32],
        seed: u64,
    ) -> Option<Self> {
        let needed = labels.len().checked_mul(clip_bytes)?;
        (needed != 0 && needed <= clips.len()).then_some(())?;
        seen.fill(0);
        Some(Self { clips, clip_bytes, labels, seen, kept: 0, rng: Rng::new(seed) })
    }

    /// One that goes on where another ended: as many clips as the number beside `labels` says are in `clips` and `labels`
    /// still, and `seen` says of how many. What it draws follows from `seed` and the number seen. `None` as for
    /// [`Self::new`], and for more clips than room, of a class that `seen` has not, or more of a class than were seen.
    pub fn resume(
        clips: &'m mut [u8],
        clip_bytes: usize,
        (labels, kept): (&'m mut [u32], usize),
        seen: &'m mut [u32],
        seed: u64,
    ) -> Option<Self> {
        let needed = labels.len().checked_mul(clip_bytes)?;
        (needed != 0 && needed <= clips.len()).then_some(())?;
        let offered = seen.iter().fold(0u64, |sum, seen| sum.wrapping_add(u64::from(*seen)));
        let it = Self { clips, clip_bytes, labels, seen, kept, rng: Rng::stream(seed, offered) };
        let known = it.labels.get(..kept)?.iter().all(|class| (*class as usize) < it.seen.len());
        let fits = (0..it.seen.len() as u32).all(|class| it.count(class) <= it.seen(class) as usize);
        (known && fits).then_some(it)
    }

    /// Offers a clip; says where it is kept now, if it is. `None` too for a clip of another length or an unknown class.
    pub fn offer(&mut self, clip: &[u8], class: u32) -> Option<usize> {
        let seen = self.seen.get_mut(class as usize).filter(|_| clip.len() == self.clip_bytes)?;
        *seen = seen.saturating_add(1);
        let seen = *seen as usize;
        let place = if self.kept < self.labels.len() {
            self.kept = self.kept.saturating_add(1);
            self.kept.checked_sub(1)?
        } else {
            let own = self.count(class);
            let largest = (0..self.seen.len() as u32).map(|class| self.count(class)).max()?;
            let goes = if own < largest {
                let rivals =
                    (0..self.seen.len() as u32).filter(|class| self.count(*class) == largest).count();
                let chosen = self.rng.below(rivals);
                (0..self.seen.len() as u32).filter(|class| self.count(*class) == largest).nth(chosen)?
            } else if self.rng.below(seen) < own {
                class
            } else {
                return None;
            };
            let victim = self.rng.below(self.count(goes));
            self.places(goes).nth(victim)?
        };
        let start = place.checked_mul(self.clip_bytes)?;
        let room = self.clips.get_mut(start..start.checked_add(self.clip_bytes)?)?;
        room.iter_mut().zip(clip).for_each(|(to, from)| *to = *from);
        *self.labels.get_mut(place)? = class;
        Some(place)
    }

    /// Number of clips kept.
    pub fn len(&self) -> usize {
        self.kept
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// The clip at `place` and its class.
    pub fn get(&self, place: usize) -> Option<(&[u8], u32)> {
        let label = self.labels.get(..self.kept)?.get(place)?;
        let start = place.checked_mul(self.clip_bytes)?;
        Some((self.clips.get(start..start.checked_add(self.clip_bytes)?)?, *label))
    }

    /// Number of clips kept of `class`.
    pub fn count(&self, class: u32) -> usize {
        self.places(class).count()
    }

    /// Number of clips seen of `class`.
    pub fn seen(&self, class: u32) -> u32 {
        self.seen.get(class as usize).copied().unwrap_or(0)
    }

    fn places(&self, class: u32) -> impl Iterator<Item = usize> {
        let kept = self.labels.get(..self.kept).unwrap_or(&[]).iter().enumerate();
        kept.filter(move |(_, label)| **label == class).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams clips that hold their number, of classes by `class_of`; gives what is kept.
    fn keep(room: usize, stream: u32, class_of: fn(u32) -> u32, seed: u64) -> ([u32; 3], [u32; 64], usize) {
        let (mut clips, mut labels, mut seen) = ([0; 256], [0; 64], [0; 3]);
        let mut reservoir = Reservoir::new(&mut clips, 4, &mut labels[..room], &mut seen, seed).unwrap();
        for number in 0..stream {
            if let Some(place) = reservoir.offer(&number.to_le_bytes(), class_of(number)) {
                assert_eq!(reservoir.get(place), Some((&number.to_le_bytes()[..], class_of(number))));
            }
        }
        let counts = [0, 1, 2].map(|class| reservoir.count(class) as u32);
        let mut numbers = [0; 64];
        for (place, number) in numbers.iter_mut().enumerate().take(reservoir.len()) {
            let (clip, class) = reservoir.get(place).unwrap();
            *number = u32::from_le_bytes(clip.try_into().unwrap());
            assert_eq!(class, class_of(*number));
        }
        assert_eq!(reservoir.get(reservoir.len()), None);
        assert_eq!((0..3).map(|class| reservoir.seen(class)).sum::<u32>(), stream);
        (counts, numbers, reservoir.len())
    }

    #[test]
    fn classes_become_even_and_rare_ones_stay_whole() {
        // Of 100 clips, 90 of class 0, 8 of class 1, 2 of class 2.
        let skewed = |number: u32| match number % 50 {
            7 => 2,
            11 | 23 | 31 | 43 => 1,
            _ => 0,
        };
        for seed in 0..20 {
            assert_eq!(keep(24, 100, skewed, seed).0, [14, 8, 2]);
            assert_eq!(keep(24, 2000, skewed, seed).0, [8; 3]);
            assert_eq!(keep(24, 10, skewed, seed).2, 10);
        }
        assert_eq!(keep(24, 300, skewed, 3), keep(24, 300, skewed, 3));
        assert_ne!(keep(24, 300, skewed, 3).1, keep(24, 300, skewed, 4).1);
    }

    #[test]
    fn of_a_class_every_clip_is_as_likely() {
        let mut kept = [0u32; 90];
        for seed in 0..6000 {
            let (_, numbers, len) = keep(12, 90, |number| number % 3, seed);
            numbers[..len].iter().for_each(|number| kept[*number as usize] += 1);
        }
        // 12 of 90: a mean of 800 each, and a deviation of 26.
        for (number, count) in kept.iter().enumerate() {
            assert!((670..930).contains(count), "{number}: {count}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let (mut clips, mut labels, mut seen) = ([0; 8], [0; 2], [0; 2]);
        assert!(Reservoir::new(&mut clips[..7], 4, &mut labels, &mut seen, 0).is_none());
        assert!(Reservoir::new(&mut clips, 4, &mut [], &mut seen, 0).is_none());
        for (kept, held, known) in [(3, [0, 0], 9), (2, [0, 2], 9), (2, [0, 0], 1)] {
            (labels, seen) = (held, [known; 2]);
            assert!(Reservoir::resume(&mut clips, 4, (&mut labels, kept), &mut seen, 0).is_none());
        }
        let mut reservoir = Reservoir::new(&mut clips, 4, &mut labels, &mut seen, 0).unwrap();
        assert_eq!(reservoir.offer(&[0; 3], 0), None);
        assert_eq!(reservoir.offer(&[0; 4], 2), None);
        assert!(reservoir.is_empty() && reservoir.seen(0) == 0);
    }
}
