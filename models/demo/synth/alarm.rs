//! Warning signals in the noise of a street.

use super::noise::{Noise, Random};
use super::{Source, advance, sine};

/// A tone with two overtones, its pattern in time, and traffic behind it.
pub(super) struct Alarm {
    pattern: Pattern,
    low: f32,
    /// Interval between the lowest and the highest pitch, in octaves.
    interval: f32,
    /// Repetitions per second.
    rate: f32,
    turn: f32,
    /// Part of the repetition spent on the first pitch, or sounding.
    duty: f32,
    phase: f32,
    overtones: [f32; 2],
    loudness: f32,
    traffic: Noise,
    traffic_level: f32,
    swell_rate: f32,
    swell: f32,
    hiss: Noise,
    hiss_level: f32,
}

/// What the tone does over one repetition.
pub(super) enum Pattern {
    /// Up and down between two pitches.
    Glide,
    /// One pitch, then the other.
    Jump,
    /// Sounding, then silent.
    Gate,
}

impl Alarm {
    pub(super) fn new(pattern: Pattern, random: &mut Random) -> Self {
        let (slowest, widest) = match pattern {
            Pattern::Glide => (0.8, 1.2),
            Pattern::Jump => (1.6, 0.7),
            Pattern::Gate => (2.4, 0.0),
        };
        Self {
            pattern,
            low: 420.0 * libm::exp2f(random.uniform(0.0, 1.6)),
            interval: random.uniform(0.6, 1.1) * widest,
            rate: random.uniform(slowest, slowest * 2.5),
            turn: random.uniform(0.0, 1.0),
            duty: random.uniform(0.4, 0.6),
            phase: 0.0,
            overtones: [random.uniform(0.0, 0.5), random.uniform(0.0, 0.4)],
            loudness: 0.0,
            traffic: Noise::new(random.uniform(0.7, 0.97)),
            traffic_level: random.decibels(-30.0, -12.0),
            swell_rate: random.uniform(0.3, 1.5),
            swell: random.uniform(0.0, 1.0),
            hiss: Noise::new(random.uniform(-0.3, 0.6)),
            hiss_level: random.decibels(-46.0, -20.0),
        }
    }

    /// Octaves above the lowest pitch, and loudness, at this point of the repetition.
    fn state(&self) -> (f32, f32) {
        let first = self.turn < self.duty;
        match self.pattern {
            Pattern::Glide => (self.interval * (1.0 - (2.0 * self.turn - 1.0).abs()), 1.0),
            Pattern::Jump => (if first { 0.0 } else { self.interval }, 1.0),
            Pattern::Gate => (0.0, if first { 1.0 } else { 0.0 }),
        }
    }
}

impl Source for Alarm {
    fn next(&mut self, random: &mut Random) -> f32 {
        advance(&mut self.turn, self.rate);
        advance(&mut self.swell, self.swell_rate);
        let (octaves, sounding) = self.state();
        advance(&mut self.phase, self.low * libm::exp2f(octaves));
        // About 4 ms to rise and fall, so that a gated tone does not click.
        self.loudness += (sounding - self.loudness) * 0.015;
        let [second, third] = self.overtones;
        let tone = sine(self.phase) + second * sine(2.0 * self.phase) + third * sine(3.0 * self.phase);
        let traffic = self.traffic_level * self.traffic.next(random) * (1.0 + 0.4 * sine(self.swell));
        self.loudness * tone + traffic + self.hiss_level * self.hiss.next(random)
    }
}
