//! Training in the gaps of a stream of inferences, on one processor.
//!
//! Training is cut into pieces: one step of the plan, or of the optimizer ([`crate::Trainer::advance`],
//! [`crate::Trainer::advance_step`] with a budget of one). Before each, the caller asks [`CoServe::turn`] what to do; a
//! piece starts only if an inference that comes meanwhile would still be done in time. There is no clock in here: the
//! caller tells the time, in whatever unit it counts, and how long pieces and inferences took.

/// Decides between training and inference, piece by piece.
///
/// What a piece takes is learned from what it took, by piece: an average that rises by a quarter of what it was
/// exceeded by and falls by a thirty-second of what it was undercut by, so that it lies near the upper end of what is
/// usual, and one interruption of the whole process does not shut a piece out.
#[derive(Debug)]
pub struct CoServe<'m> {
    target: u32,
    inference: u32,
    pieces: &'m mut [u32],
    /// The piece last held back, and whether any ran since the last inference.
    held: Option<usize>,
    ran: bool,
}

/// When the next inference is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It waits.
    Waiting,
    /// Then, by the clock of [`CoServe::turn`]: a sensor's window is full at a known time.
    At(u64),
    /// At any time.
    Unknown,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Run the inference, then call [`CoServe::served`].
    Serve,
    /// Train one piece, then call [`CoServe::trained`].
    Train,
    /// Nothing, until an inference is wanted: the next piece would make it late.
    Wait,
}

impl<'m> CoServe<'m> {
    /// Keeps the time from the arrival of an inference to its end within `target`, where inferences themselves allow
    /// it. `pieces` has one entry for each of [`crate::Trainer::piece_count`]; what is in it, from an earlier run on the
    /// same machine, is gone on with; 0 stands for unknown, and such a piece is tried.
    pub fn new(target: u32, pieces: &'m mut [u32]) -> Self {
        Self { target, inference: 0, pieces, held: None, ran: false }
    }

    /// What to do at time `now`, when the next inference is wanted at `arrival` and training would go on with `piece`
    /// ([`crate::Trainer::next_piece`]).
    ///
    /// A piece that never fits would never run, and training would stand still: after an inference before which it was
    /// all that was held back, its estimate falls, until it is tried again. Then, rarely, an inference is late.
    pub fn turn(&mut self, now: u64, arrival: Arrival, piece: usize) -> Turn {
        let takes = self.takes(piece);
        let fits = match arrival {
            Arrival::Waiting => return Turn::Serve,
            Arrival::At(due) => {
                now.saturating_add(u64::from(takes)) <= due.saturating_add(u64::from(self.slack()))
            }
            Arrival::Unknown => takes <= self.slack(),
        };
        if fits {
            self.ran = true;
            return Turn::Train;
        }
        self.held = Some(piece);
        Turn::Wait
    }

    /// Says how long `piece` took.
    pub fn trained(&mut self, piece: usize, took: u32) {
        if let Some(estimate) = self.pieces.get_mut(piece) {
            *estimate = learned(*estimate, took);
        }
    }

    /// Says how long an inference took, its wait not counted.
    pub fn served(&mut self, took: u32) {
        self.inference = learned(self.inference, took);
        let waited = self.held.filter(|_| !self.ran);
        if let Some(estimate) = waited.and_then(|piece| self.pieces.get_mut(piece)) {
            *estimate = estimate.saturating_sub(estimate.div_ceil(16));
        }
        (self.held, self.ran) = (None, false);
    }

    /// How long an inference may wait.
    pub fn slack(&self) -> u32 {
        self.target.saturating_sub(self.inference)
    }

    /// How long `piece` is thought to take; 0 where it was never run.
    pub fn takes(&self, piece: usize) -> u32 {
        self.pieces.get(piece).copied().unwrap_or(0)
    }
}

/// An estimate after one more observation.
fn learned(estimate: u32, took: u32) -> u32 {
    match took.checked_sub(estimate) {
        Some(_) if estimate == 0 => took,
        Some(above) => estimate.saturating_add(above.div_ceil(4)),
        None => estimate.saturating_sub(estimate.saturating_sub(took) / 32),
    }
}
