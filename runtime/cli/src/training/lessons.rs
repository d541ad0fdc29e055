//! The clips to learn from.

use ingraft_method::DeltaFormat;

use crate::CliError;
use crate::input::Feed;

/// Gives the clips to learn from.
pub(crate) trait Clips {
    /// Version `view` of clip `clip`; version 0 is the clip as it is. What others have in them of another clip is of one in
    /// `learned`: what is kept aside stays unheard.
    fn view(&self, clip: usize, view: u32, learned: &[usize]) -> Result<Version, CliError>;
}

/// One version of a clip.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// What a plan is fed.
    pub(crate) feed: Feed,
    /// With which other clip's its label is mixed.
    pub(crate) mixed: Option<Mixed>,
}

/// The other clip in a version whose label is one of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mixed {
    pub(crate) partner: usize,
    /// The clip's own share; the rest is the partner's.
    pub(crate) own: f32,
}

impl From<Feed> for Version {
    fn from(feed: Feed) -> Self {
        Self { feed, mixed: None }
    }
}

/// The clips to learn from, and what is known of them.
pub(crate) struct Lessons<'l> {
    /// The classes of each clip: one, where they exclude each other.
    pub(crate) labels: &'l [Vec<usize>],
    /// What must stay on one side of a split, by clip.
    pub(crate) groups: &'l [usize],
    /// Class names.
    pub(crate) classes: &'l [String],
    /// The clips themselves.
    pub(crate) clips: &'l dyn Clips,
    /// What the adapter's provenance says.
    pub(crate) provenance: String,
    /// Whether the method's own tensors are written beside the terms.
    pub(crate) parameters: bool,
    /// How deltas of whole weights are written.
    pub(crate) deltas: DeltaFormat,
}
