//! An electric motor heard from a few meters away.

use core::f32::consts::{FRAC_PI_2, TAU};

use super::noise::{Noise, Random};
use super::{Source, advance, sine};

/// Slot harmonics, airflow, the hiss every room has, and the fault.
pub(super) struct Motor {
    shaft: f32,
    shaft_phase: f32,
    drift: f32,
    drift_rate: f32,
    drift_phase: f32,
    /// Slots of the stator: the lowest tone is that many times the shaft.
    slots: f32,
    slot_phase: f32,
    partials: [f32; PARTIALS],
    /// Swell once per turn, of the whole sound.
    swell: f32,
    air: Noise,
    air_level: f32,
    hiss: Noise,
    hiss_level: f32,
    bearing: Bearing,
}

/// What can be wrong with a motor.
#[derive(PartialEq, Eq)]
pub(super) enum Fault {
    Imbalance,
    Bearing,
}

/// Ball impacts through a damped resonance.
struct Bearing {
    /// Impacts per turn; not whole, because balls roll slower than the shaft turns.
    per_turn: f32,
    phase: f32,
    level: f32,
    feedback: [f32; 2],
    state: [f32; 2],
}

impl Motor {
    pub(super) fn new(fault: Option<Fault>, random: &mut Random) -> Self {
        let tilt = random.uniform(0.55, 0.85);
        let mut amplitude = 1.0;
        let mut partials = [0.0; PARTIALS];
        for partial in &mut partials {
            *partial = amplitude * random.uniform(-1.0, 1.0);
            amplitude *= tilt;
        }
        let shaft = random.uniform(6.0, 14.0);
        let (calm, swaying) = (random.uniform(0.0, 0.2), random.uniform(0.4, 0.95));
        let (smooth, rattling) = (random.decibels(-40.0, -20.0), random.decibels(0.0, 14.0));
        Self {
            shaft,
            shaft_phase: random.uniform(0.0, 1.0),
            drift: random.uniform(0.0, 0.02),
            drift_rate: random.uniform(0.2, 1.0),
            drift_phase: random.uniform(0.0, 1.0),
            slots: libm::floorf(random.uniform(14.0, 30.0)),
            slot_phase: random.uniform(0.0, 1.0),
            partials,
            swell: if fault == Some(Fault::Imbalance) { swaying } else { calm },
            air: Noise::new(random.uniform(0.6, 0.95)),
            air_level: random.decibels(-14.0, 0.0),
            hiss: Noise::new(random.uniform(-0.8, 0.0)),
            hiss_level: random.decibels(-46.0, -26.0),
            bearing: Bearing::new(if fault == Some(Fault::Bearing) { rattling } else { smooth }, random),
        }
    }

    /// All partials from one sine and cosine: sin (k+1)x = 2 cos x · sin kx − sin (k−1)x.
    fn tones(&self) -> f32 {
        let (sin, cos) = libm::sincosf(TAU * self.slot_phase);
        let (mut before, mut now, mut sum) = (0.0, sin, 0.0);
        for partial in self.partials {
            sum += partial * now;
            (before, now) = (now, 2.0 * cos * now - before);
        }
        sum
    }
}

impl Source for Motor {
    fn next(&mut self, random: &mut Random) -> f32 {
        advance(&mut self.drift_phase, self.drift_rate);
        let shaft = self.shaft * (1.0 + self.drift * sine(self.drift_phase));
        advance(&mut self.shaft_phase, shaft);
        advance(&mut self.slot_phase, shaft * self.slots);
        let turn = sine(self.shaft_phase);
        let body = self.tones() + self.air_level * self.air.next(random);
        let impacts = self.bearing.next(shaft, 1.0 + 0.5 * turn, random);
        body * (1.0 + self.swell * turn) + impacts + self.hiss_level * self.hiss.next(random)
    }
}

impl Bearing {
    fn new(level: f32, random: &mut Random) -> Self {
        let angle = TAU * random.uniform(1800.0, 4200.0) * super::TICK;
        let radius = random.uniform(0.96, 0.985);
        Self {
            per_turn: random.uniform(3.2, 6.4),
            phase: random.uniform(0.0, 1.0),
            level,
            feedback: [2.0 * radius * libm::sinf(FRAC_PI_2 - angle), -radius * radius],
            state: [0.0; 2],
        }
    }

    /// An impact starts where the phase wraps, a little early or late, heavier in the loaded part of the turn.
    fn next(&mut self, shaft: f32, load: f32, random: &mut Random) -> f32 {
        let slip = random.uniform(0.9, 1.1);
        let hit = if advance(&mut self.phase, shaft * self.per_turn * slip) { load } else { 0.0 };
        let now = hit + self.feedback[0] * self.state[0] + self.feedback[1] * self.state[1];
        self.state = [now, self.state[0]];
        now * self.level
    }
}

const PARTIALS: usize = 14;
