//! Training that mixes clips of earlier sessions with the new ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ingraft_dataset::Dataset;
use ingraft_plan::PlanView;
use ingraft_tensor::hash::{HASH_BYTES, blake3};
use serde::Serialize;

use super::lessons::Source;
use crate::classes::ClassMap;
use crate::input::Feed;
use crate::replay_file::ReplayFile;
use crate::training::{Clips, Version};
use crate::{CliError, Console};

/// What is kept of earlier sessions.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Keep a sample of the clips in this file, even over classes, and learn from those of earlier sessions that are in it
    /// along with the new ones; it is made where there is none.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// The most clips it keeps; 100 by default. Decided when it is made.
    #[arg(long, value_name = "N", requires = "replay", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    replay_clips: Option<u32>,
}

/// The clips of earlier sessions, and where they are kept.
pub(super) struct Replay<'a> {
    path: &'a Path,
    file: ReplayFile,
}

/// What became of them: a part of `train --json`.
#[derive(Debug, Serialize)]
pub(super) struct ReplayReport {
    /// Clips of earlier sessions that were learned from.
    clips: usize,
    /// Clips in the file now.
    kept: usize,
    /// The most there may be.
    room: usize,
    /// Bytes of the file.
    file_bytes: usize,
    /// Every class that was learned so far.
    per_class: Vec<ClassReplay>,
}

/// One class.
#[derive(Debug, Serialize)]
struct ClassReplay {
    /// Its name.
    class: String,
    /// Clips of it in the file.
    kept: usize,
    /// Clips of it that were learned from in all sessions.
    seen: u32,
}

impl ReplayArgs {
    /// What an adapter's record says of it.
    pub(super) fn describe(&self) -> String {
        self.replay.as_ref().map_or(String::new(), |path| format!(" --replay {}", path.display()))
    }

    /// What earlier sessions left; nothing yet where there is no file. `None` without `--replay`.
    ///
    /// # Errors
    /// Those of [`ReplayFile::read`]; [`CliError::Setting`] for clips of several labels, or another number than the file's.
    pub(super) fn open(&self, plan: &PlanView<'_>, several: bool) -> Result<Option<Replay<'_>>, CliError> {
        let Some(path) = self.replay.as_deref() else { return Ok(None) };
        let refused = |option, value: String, expected: &str| {
            Err(CliError::Setting { option, value, expected: expected.to_owned() })
        };
        if several {
            let value = path.display().to_string();
            return refused(
                "--replay",
                value,
                "keeps clips of one class each: --loss cross-entropy or distill",
            );
        }
        if !path.exists() {
            let room = self.replay_clips.unwrap_or(ROOM) as usize;
            return Ok(Some(Replay { path, file: ReplayFile::new(plan, room) }));
        }
        let file = ReplayFile::read(path, plan)?;
        match self.replay_clips {
            Some(room) if room as usize != file.room => {
                let expected = format!("{}, as the file was made for; leave it out", file.room);
                refused("--replay-clips", room.to_string(), &expected)
            }
            _ => Ok(Some(Replay { path, file })),
        }
    }
}

impl Replay<'_> {
    /// The classes of its clips.
    pub(super) fn classes(&self) -> impl Iterator<Item = &str> {
        self.file.classes.iter().map(|class| class.name.as_str())
    }
}

/// New clips, and behind them those of earlier sessions that are not among them.
pub(super) struct Mixture<'m, 's> {
    source: &'m Source<'s>,
    /// Hashes of the new clips; empty where none are kept.
    fresh: Vec<[u8; HASH_BYTES]>,
    replay: Option<Replay<'m>>,
    /// The clips of `replay` that are learned from.
    old: Vec<usize>,
}

impl<'m, 's> Mixture<'m, 's> {
    /// The clips of `source` with those of `replay`.
    ///
    /// # Errors
    /// Those of reading clips.
    pub(super) fn new(
        source: &'m Source<'s>,
        clips: usize,
        replay: Option<Replay<'m>>,
        console: &mut Console<'_>,
    ) -> Result<Self, CliError> {
        let Some(replay) = replay else {
            return Ok(Self { source, fresh: Vec::new(), replay, old: Vec::new() });
        };
        let fresh = |clip| Ok(hash(&source.view(clip, 0, &[])?.feed));
        let fresh = (0..clips).map(fresh).collect::<Result<Vec<_>, CliError>>()?;
        let known: BTreeSet<_> = fresh.iter().collect();
        let old = replay.file.clips.iter().enumerate();
        let old: Vec<usize> =
            old.filter(|(_, clip)| !known.contains(&hash(&clip.feed))).map(|(at, _)| at).collect();
        if !old.is_empty() {
            console.note(format_args!(
                "{} clips of earlier sessions from {}",
                old.len(),
                replay.path.display()
            ));
        }
        Ok(Self { source, fresh, replay: Some(replay), old })
    }

    /// The classes of the clips of earlier sessions.
    pub(super) fn classes(&self) -> impl Iterator<Item = &str> {
        self.replay.iter().flat_map(Replay::classes)
    }

    /// Adds the scores that each old clip trains, and a group of its own, to those of the new ones.
    pub(super) fn label(&self, map: &ClassMap, labels: &mut Vec<Vec<usize>>, groups: &mut Vec<usize>) {
        let free = groups.iter().max().map_or(0, |most| most + 1);
        let clips = self.replay.as_ref().map_or(&[][..], |replay| &replay.file.clips);
        for (number, clip) in self.old.iter().filter_map(|at| clips.get(*at)).enumerate() {
            labels.push(map.score(clip.class as usize).into_iter().collect());
            groups.push(free + number);
        }
    }

    /// Offers the new clips, the items `learned` of `dataset`, and writes the file; `None` without one.
    ///
    /// # Errors
    /// [`CliError::Io`], and those of reading clips.
    pub(super) fn keep(
        self,
        dataset: &Dataset,
        learned: &[usize],
        seed: u64,
    ) -> Result<Option<ReplayReport>, CliError> {
        let Some(Replay { path, mut file }) = self.replay else { return Ok(None) };
        let clips = self.old.len();
        let kept: BTreeSet<_> = file.clips.iter().map(|clip| hash(&clip.feed)).collect();
        let (labels, mut new, mut classes) = (dataset.labels()?, Vec::new(), Vec::new());
        for (clip, item) in learned.iter().enumerate() {
            // One that is kept was offered before.
            let label = labels.get(*item).and_then(|label| dataset.classes().get(*label));
            if let (Some(name), false) = (label, self.fresh.get(clip).is_some_and(|hash| kept.contains(hash)))
            {
                new.push(clip);
                classes.push(file.class(name));
            }
        }
        file.offer(&classes, seed, |number| {
            Ok(self.source.view(new.get(number).copied().unwrap_or(usize::MAX), 0, &[])?.feed)
        })?;
        let file_bytes = file.write(path)?;
        let per_class = file.classes.iter().enumerate().map(|(index, class)| ClassReplay {
            class: class.name.clone(),
            kept: file.kept(index),
            seen: class.seen,
        });
        let per_class = per_class.collect();
        Ok(Some(ReplayReport { clips, kept: file.clips.len(), room: file.room, file_bytes, per_class }))
    }
}

impl Clips for Mixture<'_, '_> {
    fn view(&self, clip: usize, view: u32, learned: &[usize]) -> Result<Version, CliError> {
        let Some(replay) = &self.replay else { return self.source.view(clip, view, learned) };
        let old = clip.checked_sub(self.fresh.len()).and_then(|number| self.old.get(number));
        if let Some(kept) = old.and_then(|at| replay.file.clips.get(*at)) {
            // Only its input is left of it, so that it is what it was in every version.
            return Ok(kept.feed.clone().into());
        }
        let partners: Vec<usize> = learned.iter().copied().filter(|clip| *clip < self.fresh.len()).collect();
        self.source.view(clip, view, &partners)
    }
}

impl ReplayReport {
    /// All of it in a sentence.
    pub(super) fn summary(&self) -> String {
        let Self { clips, kept, room, file_bytes, per_class } = self;
        let classes = per_class.len();
        let size = crate::report::bytes(*file_bytes);
        format!(
            "{clips} clips learned again; {kept} of {classes} classes kept now, of {room} at most; {size}"
        )
    }
}

/// The classes of earlier sessions, in order, and behind them those of `data` that are not among them.
pub(super) fn joined(replay: Option<&Replay<'_>>, data: &[String]) -> Vec<String> {
    let mut all: Vec<String> = replay.into_iter().flat_map(Replay::classes).map(str::to_owned).collect();
    let new: Vec<_> = data.iter().filter(|class| !all.contains(class)).cloned().collect();
    all.extend(new);
    all
}

fn hash(feed: &Feed) -> [u8; HASH_BYTES] {
    blake3(&feed.runs.iter().flatten().flatten().copied().collect::<Vec<u8>>())
}

/// Default of `--replay-clips`.
const ROOM: u32 = 100;
