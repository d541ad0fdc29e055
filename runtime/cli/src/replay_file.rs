//! Clips of earlier training sessions, kept for later ones.
//!
//! Layout, little-endian: magic; the fingerprint of what a plan is fed; the most clips; the number of inputs and the
//! bytes of each; the number of classes, and of each the clips seen, the length of its name, and the name; the number of
//! clips, and of each its class, runs, samples that only fill the batch, whether its runs are patches of one clip, and the
//! bytes of every input of every run; the BLAKE3 hash of all that.

use std::fs;
use std::path::Path;

use ingraft_plan::PlanView;
use ingraft_tensor::hash::{HASH_BYTES, blake3};
use ingraft_train::Reservoir;

use crate::CliError;
use crate::input::{Feed, InputSpec};
use crate::plan_file::write_whole;

const MAGIC: &[u8; 8] = b"INGRRPL1";

/// A bounded sample of the clips that were learned from, as even over classes as they allow ([`Reservoir`]).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReplayFile {
    intake: Intake,
    /// The most clips.
    pub(crate) room: usize,
    /// Every class that was learned, in the order it came.
    pub(crate) classes: Vec<Class>,
    pub(crate) clips: Vec<Kept>,
}

/// A class that was learned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// Clips of it that were offered, kept or not.
    pub(crate) seen: u32,
}

/// A clip that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    /// Index of its class.
    pub(crate) class: u32,
    pub(crate) feed: Feed,
}

/// What a plan is fed. Plans of equal intake take each other's clips, wherever they are trained from.
#[derive(Clone, Debug, PartialEq)]
struct Intake {
    /// Of names, types, extents, quantization and front end of all inputs.
    fingerprint: [u8; HASH_BYTES],
    /// Bytes of every input.
    lengths: Vec<usize>,
}

impl Intake {
    fn of(plan: &PlanView<'_>) -> Self {
        let (mut facts, specs) = (Vec::new(), InputSpec::all(plan));
        let mut word = |word: u32| facts.extend(word.to_le_bytes());
        for (spec, io) in specs.iter().zip(plan.inputs()) {
            let texts = [spec.name, spec.dtype.name()];
            texts.into_iter().for_each(|text| {
                word(text.len() as u32);
                text.bytes().for_each(|byte| word(u32::from(byte)));
            });
            word(spec.shape.len() as u32);
            spec.shape.iter().for_each(|extent| word(*extent as u32));
            word(spec.qparams.map_or(0, |codes| codes.scale.to_bits()));
            word(spec.qparams.map_or(0, |codes| codes.zero_point as u32));
            word(io.hop.unwrap_or(0));
            word(io.recipe.len() as u32);
            io.recipe.iter().for_each(|of_recipe| word(*of_recipe));
        }
        Self { fingerprint: blake3(&facts), lengths: specs.iter().map(InputSpec::bytes).collect() }
    }
}

impl ReplayFile {
    /// One without clips, for what `plan` is fed.
    pub(crate) fn new(plan: &PlanView<'_>, room: usize) -> Self {
        Self { intake: Intake::of(plan), room, classes: Vec::new(), clips: Vec::new() }
    }

    /// The file at `path`, whose clips `plan` can be fed.
    ///
    /// # Errors
    /// [`CliError::Io`]; [`CliError::Replay`] for a damaged file, or one of a model that takes something else.
    pub(crate) fn read(path: &Path, plan: &PlanView<'_>) -> Result<Self, CliError> {
        let refuse = |reason| CliError::Replay { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|source| CliError::io(path, source))?;
        let file = parse(&bytes)
            .ok_or_else(|| refuse("is cut short, damaged, or no replay file; give another name"))?;
        if file.intake != Intake::of(plan) {
            return Err(refuse(
                "has clips for a model with another input or front end; keep a file for each",
            ));
        }
        Ok(file)
    }

    /// Puts it at `path`, whole or not at all; gives its bytes.
    ///
    /// # Errors
    /// [`CliError::Io`].
    pub(crate) fn write(&self, path: &Path) -> Result<usize, CliError> {
        let bytes = self.bytes();
        write_whole(path, &bytes).map(|()| bytes.len())
    }

    /// The index of the class called `name`, which it has from now on.
    pub(crate) fn class(&mut self, name: &str) -> u32 {
        let found = self.classes.iter().position(|class| class.name == name);
        let index = found.unwrap_or_else(|| {
            self.classes.push(Class { name: name.to_owned(), seen: 0 });
            self.classes.len() - 1
        });
        index as u32
    }

    /// Number of clips kept of class `class`.
    pub(crate) fn kept(&self, class: usize) -> usize {
        self.clips.iter().filter(|clip| clip.class as usize == class).count()
    }

    /// Offers clips of these classes in turn; `feed` gives those that are kept, at least for a while. The same file, clips
    /// and seed keep the same.
    ///
    /// # Errors
    /// Those of `feed`.
    pub(crate) fn offer(
        &mut self,
        classes: &[u32],
        seed: u64,
        mut feed: impl FnMut(usize) -> Result<Feed, CliError>,
    ) -> Result<(), CliError> {
        // Clips differ in length: the reservoir decides, and they lie here.
        let (mut tokens, mut labels) = (vec![0; self.room], vec![0; self.room]);
        let mut seen: Vec<u32> = self.classes.iter().map(|class| class.seen).collect();
        labels.iter_mut().zip(&self.clips).for_each(|(label, clip)| *label = clip.class);
        let Some(mut reservoir) =
            Reservoir::resume(&mut tokens, 1, (&mut labels, self.clips.len()), &mut seen, seed)
        else {
            return Ok(());
        };
        for (number, &class) in classes.iter().enumerate() {
            let Some(place) = reservoir.offer(&[0], class) else { continue };
            let kept = Kept { class, feed: feed(number)? };
            match self.clips.get_mut(place) {
                Some(old) => *old = kept,
                None => self.clips.push(kept),
            }
        }
        self.classes.iter_mut().zip(&seen).for_each(|(class, seen)| class.seen = *seen);
        Ok(())
    }

    /// Whether there is room for its clips, and each is of a class that was seen as often.
    fn is_possible(&self) -> bool {
        let known = self.clips.iter().all(|clip| (clip.class as usize) < self.classes.len());
        let mut classes = self.classes.iter().enumerate();
        self.clips.len() <= self.room
            && known
            && classes.all(|(at, class)| self.kept(at) <= class.seen as usize)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(self.intake.fingerprint);
        let word = |file: &mut Vec<u8>, word: usize| file.extend((word as u32).to_le_bytes());
        word(&mut file, self.room);
        word(&mut file, self.intake.lengths.len());
        self.intake.lengths.iter().for_each(|length| word(&mut file, *length));
        word(&mut file, self.classes.len());
        for class in &self.classes {
            word(&mut file, class.seen as usize);
            word(&mut file, class.name.len());
            file.extend(class.name.bytes());
        }
        word(&mut file, self.clips.len());
        for Kept { class, feed } in &self.clips {
            let facts = [*class as usize, feed.runs.len(), feed.padding, usize::from(feed.is_clip)];
            facts.into_iter().for_each(|fact| word(&mut file, fact));
            feed.runs.iter().flatten().for_each(|input| file.extend(input));
        }
        file.extend(blake3(&file));
        file
    }
}

/// What is left of a file.
struct Rest<'f>(&'f [u8]);

impl<'f> Rest<'f> {
    fn take(&mut self, count: usize) -> Option<&'f [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// So many of what `read` reads; none is larger than what is left.
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.word()?;
        (0..count).map(|_| read(self)).collect()
    }
}

fn parse(file: &[u8]) -> Option<ReplayFile> {
    let (content, hash) = file.split_at_checked(file.len().checked_sub(HASH_BYTES)?)?;
    (blake3(content) == hash).then_some(())?;
    let mut rest = Rest(content.strip_prefix(MAGIC)?);
    let fingerprint = rest.take(HASH_BYTES)?.try_into().ok()?;
    let room = rest.word()? as usize;
    // What takes no bytes could be there any number of times.
    let lengths =
        rest.list(|rest| rest.word().filter(|length| *length != 0).map(|length| length as usize))?;
    (!lengths.is_empty()).then_some(())?;
    let classes = rest.list(|rest| {
        let (seen, length) = (rest.word()?, rest.word()? as usize);
        Some(Class { seen, name: String::from_utf8(rest.take(length)?.to_vec()).ok()? })
    })?;
    let clips = rest.list(|rest| {
        let (class, count) = (rest.word()?, rest.word()?);
        let (padding, is_clip) = (rest.word()? as usize, rest.word()? != 0);
        let mut run = |_| lengths.iter().map(|length| rest.take(*length).map(<[u8]>::to_vec)).collect();
        let runs = (0..count).map(&mut run).collect::<Option<_>>()?;
        Some(Kept { class, feed: Feed { runs, padding, is_clip } })
    })?;
    rest.0.is_empty().then_some(())?;
    let file = ReplayFile { intake: Intake { fingerprint, lengths }, room, classes, clips };
    file.is_possible().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(number: usize) -> Feed {
        // As many runs as its number says, of two inputs of 3 and 1 bytes.
        let runs = (0..number % 3 + 1).map(|run| vec![vec![number as u8, run as u8, 7], vec![9]]).collect();
        Feed { runs, padding: number % 2, is_clip: number.is_multiple_of(2) }
    }

    fn file(room: usize) -> ReplayFile {
        let intake = Intake { fingerprint: [5; HASH_BYTES], lengths: vec![3, 1] };
        ReplayFile { intake, room, classes: Vec::new(), clips: Vec::new() }
    }

    #[test]
    fn sessions_share_the_room_evenly_and_a_file_says_all_of_it() {
        let mut replay = file(6);
        let first = [replay.class("hum"), replay.class("hiss")];
        let stream: Vec<u32> = (0..40).map(|clip| first[clip % 2]).collect();
        replay.offer(&stream, 1, |clip| Ok(feed(clip))).unwrap();
        assert_eq!([0, 1].map(|class| replay.kept(class)), [3, 3]);
        assert_eq!(replay.class("hum"), 0);
        // Read again, it goes on as if it had never been put down.
        let mut read = parse(&replay.bytes()).unwrap();
        assert_eq!(read, replay);
        for replay in [&mut read, &mut replay] {
            let new = replay.class("beep");
            replay.offer(&[new; 50], 2, |clip| Ok(feed(100 + clip))).unwrap();
            assert_eq!([0, 1, 2].map(|class| replay.kept(class)), [2, 2, 2]);
            assert_eq!(replay.classes.iter().map(|class| class.seen).collect::<Vec<_>>(), [20, 20, 50]);
        }
        assert_eq!(read, replay);
        // A clip lies with the class it was offered as.
        for Kept { class, feed } in &replay.clips {
            let number = usize::from(feed.runs[0][0][0]);
            assert_eq!((*class == 2, feed), (number >= 100, &self::feed(number)));
            assert!(*class == 2 || *class == first[number % 2]);
        }
    }

    #[test]
    fn whatever_is_damaged_is_refused() {
        let mut replay = file(4);
        let class = replay.class("hum");
        replay.offer(&[class; 3], 1, |clip| Ok(feed(clip))).unwrap();
        let bytes = replay.bytes();
        assert!(parse(&bytes).is_some());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(parse(&damaged).is_none() && parse(&bytes[..at]).is_none(), "byte {at}");
        }
        // Whole, but saying what cannot be.
        let changes: [fn(&mut ReplayFile); 4] = [
            |file| file.room = 2,
            |file| file.clips[0].class = 1,
            |file| file.classes[0].seen = 2,
            |file| file.intake.lengths = vec![0, 4],
        ];
        for change in changes {
            let mut wrong = replay.clone();
            change(&mut wrong);
            assert!(parse(&wrong.bytes()).is_none());
        }
    }
}
