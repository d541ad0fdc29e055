//! Handles of a tape's values.

use super::tape::Tape;
use super::word::{Shape, Word};

/// A value on a tape. Words are its methods, each in the word's own file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'t> {
    tape: &'t Tape<'t>,
    pub(super) index: usize,
}

impl<'t> Node<'t> {
    /// The tape it is on.
    pub(crate) fn tape(self) -> &'t Tape<'t> {
        self.tape
    }

    /// Rows.
    pub(crate) fn rows(self) -> usize {
        self.shape().rows
    }

    /// Columns.
    pub(crate) fn columns(self) -> usize {
        self.shape().columns
    }

    /// The value `index` of `tape`.
    pub(super) fn new(tape: &'t Tape<'t>, index: usize) -> Self {
        Self { tape, index }
    }

    pub(super) fn shape(self) -> Shape {
        self.tape.shape(self.index)
    }

    pub(super) fn unary(self, word: impl Into<Word>) -> Self {
        self.tape.say(word.into(), self, None)
    }

    pub(super) fn binary(self, word: impl Into<Word>, other: Self) -> Self {
        self.tape.say(word.into(), self, Some(other))
    }
}
