//! A stretch of time with inferences, training, or both.

use core::time::Duration;
use std::time::Instant;

use ingraft::adapter::Base;
use ingraft::exec::Session;
use ingraft::kernel::Host;
use ingraft::train::{Arrival, Clip, CoServe, Trainer, Truth, Turn};

/// A patch with its class.
#[derive(Debug)]
pub(crate) struct Lesson {
    pub(crate) patch: Vec<u8>,
    pub(crate) class: usize,
}

/// Nanoseconds from arrival to result.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest that this share of all does not exceed; 0 of none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map_or(0.0, |value| *value as f64)
    }
}

/// What a window came to.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) latencies: Latencies,
    /// Seconds spent in inferences.
    pub(crate) serving: f64,
    /// Clips trained on.
    pub(crate) clips: f64,
    pub(crate) seconds: f64,
}

/// A training run that goes over the lessons again and again, piece by piece.
#[derive(Debug)]
pub(crate) struct Pupil<'a, 'm, 'l> {
    pub(crate) trainer: Trainer<'a, 'm>,
    lessons: &'l [Lesson],
    batch: u64,
    clips: u64,
    stepping: bool,
}

impl<'a, 'm, 'l> Pupil<'a, 'm, 'l> {
    pub(crate) fn new(trainer: Trainer<'a, 'm>, lessons: &'l [Lesson], batch: u64) -> Self {
        Self { trainer, lessons, batch, clips: 0, stepping: false }
    }

    /// Clips done so far.
    pub(crate) fn clips(&self) -> u64 {
        self.clips
    }

    /// One piece of work.
    pub(crate) fn piece(&mut self) {
        if self.stepping {
            self.stepping = self.trainer.advance_step(1).expect("gradients are finite").is_none();
            return;
        }
        let lesson = &self.lessons[self.clips as usize % self.lessons.len()];
        let (clip, truth) = (Clip::Inputs(&lesson.patch), Truth::Class(lesson.class));
        if self.trainer.advance(clip, truth, 1).expect("a clip of this plan").is_some() {
            self.clips += 1;
            self.stepping = self.clips.is_multiple_of(self.batch);
        }
    }

    /// Goes on until no step is in progress.
    pub(crate) fn finish_step(&mut self) {
        while self.stepping {
            self.piece();
        }
    }

    /// Training alone.
    pub(crate) fn run(&mut self, seconds: f64) -> Window {
        let (start, before) = (Instant::now(), self.clips);
        while start.elapsed().as_secs_f64() < seconds {
            self.piece();
        }
        Window {
            clips: (self.clips - before) as f64,
            seconds: start.elapsed().as_secs_f64(),
            ..Window::default()
        }
    }
}

/// Inferences that arrive at a steady rate.
#[derive(Debug)]
pub(crate) struct Stream<'a, 'm, 'l> {
    session: Session<'a, 'm, Host>,
    lessons: &'l [Lesson],
    period: u64,
    next: usize,
}

impl<'a, 'm, 'l> Stream<'a, 'm, 'l> {
    pub(crate) fn new(session: Session<'a, 'm, Host>, lessons: &'l [Lesson], rate: f64) -> Self {
        Self { session, lessons, period: (1e9 / rate) as u64, next: 0 }
    }

    /// Inferences alone.
    pub(crate) fn alone(&mut self, seconds: f64) -> Window {
        self.window(seconds, |_, _| Turn::Wait, |_| {})
    }

    /// Inferences, and training in the gaps as `scheduler` says.
    pub(crate) fn shared(
        &mut self,
        seconds: f64,
        pupil: &mut Pupil<'_, '_, '_>,
        scheduler: &mut CoServe<'_>,
    ) -> Window {
        let before = pupil.clips;
        let scheduler = core::cell::RefCell::new(scheduler);
        let window = self.window(
            seconds,
            |clock, arrival| {
                let piece = pupil.trainer.next_piece();
                let start = nanoseconds(clock);
                let turn = scheduler.borrow_mut().turn(start, arrival, piece);
                if turn == Turn::Train {
                    pupil.piece();
                    scheduler.borrow_mut().trained(piece, (nanoseconds(clock) - start) as u32);
                }
                turn
            },
            |took| scheduler.borrow_mut().served(took as u32),
        );
        Window { clips: (pupil.clips - before) as f64, ..window }
    }

    /// Serves inferences for `seconds`; asks `between` what to do while none waits.
    fn window(
        &mut self,
        seconds: f64,
        mut between: impl FnMut(&Instant, Arrival) -> Turn,
        mut served: impl FnMut(u64),
    ) -> Window {
        let (clock, end) = (Instant::now(), (seconds * 1e9) as u64);
        let mut window = Window::default();
        let mut due = self.period;
        while due <= end {
            let now = nanoseconds(&clock);
            if now < due {
                if between(&clock, Arrival::At(due)) == Turn::Wait {
                    wait(&clock, due);
                }
                continue;
            }
            self.infer();
            let done = nanoseconds(&clock);
            served(done - now);
            window.latencies.0.push(done - due);
            window.serving += (done - now) as f64 / 1e9;
            due += self.period;
        }
        Window { seconds: clock.elapsed().as_secs_f64(), ..window }
    }

    fn infer(&mut self) {
        let lesson = &self.lessons[self.next % self.lessons.len()];
        self.next += 1;
        self.session.write_input(0, &lesson.patch).expect("one patch");
        self.session.run(&Base).expect("bound steps run");
        core::hint::black_box(self.session.output(0));
    }
}

/// Sleeps until shortly before `due`, then looks at the clock: a sleeper is woken late.
fn wait(clock: &Instant, due: u64) {
    let left = due.saturating_sub(nanoseconds(clock));
    if left > WAKE {
        std::thread::sleep(Duration::from_nanos(left - WAKE));
    }
    while nanoseconds(clock) < due {
        core::hint::spin_loop();
    }
}

fn nanoseconds(clock: &Instant) -> u64 {
    clock.elapsed().as_nanos() as u64
}

/// Nanoseconds by which a sleeper may be woken late.
const WAKE: u64 = 300_000;
