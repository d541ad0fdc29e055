//! Sounds made at run time: two small classification tasks for adapters, with no recording to ship.
//!
//! [`Task::Motor`] is a machine room: an electric motor running well, out of balance, or with a worn bearing.
//! [`Task::Alarm`] is a street corner: a siren, a two-tone horn, a beeper. Speed, load, pitch, timing, color and level
//! of the background are drawn per clip from its seed, with ranges that overlap between classes. The base was trained
//! on none of the six: a head on its embedding gets about four clips in five right (`CARD.md`), which leaves an
//! adapter something to gain.
//!
//! # Numerics
//!
//! f32 arithmetic and `libm` only: the same seed gives the same bits on every machine, device included.
//!
//! # Examples
//!
//! ```
//! use ingraft_models::demo::synth::Task;
//!
//! let mut samples = [0.0; 16_000];
//! for sound in Task::Motor.sounds() {
//!     sound.clip(7, &mut samples);
//!     assert!(samples.iter().all(|sample| sample.abs() < 1.0), "{}", sound.name());
//! }
//! ```

mod alarm;
mod motor;
mod noise;
#[cfg(test)]
mod tests;

use self::alarm::{Alarm, Pattern};
use self::motor::{Fault, Motor};
use self::noise::Random;

/// One site with its own three classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Condition of an electric motor, by ear.
    Motor,
    /// Kind of warning signal in street noise.
    Alarm,
}

/// One class of sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// Motor in good order: slot harmonics over airflow noise.
    Normal,
    /// Motor out of balance: everything swells and fades once per turn.
    Imbalance,
    /// Motor with a worn bearing: ball impacts ring a resonance of the housing.
    Bearing,
    /// Tone gliding up and down.
    Siren,
    /// Tone jumping between two pitches.
    TwoTone,
    /// Tone switched on and off.
    Beeper,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 2] = [Self::Motor, Self::Alarm];

    /// Name for files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Motor => "motor",
            Self::Alarm => "alarm",
        }
    }

    /// The classes, in label order.
    pub const fn sounds(self) -> [Sound; 3] {
        match self {
            Self::Motor => [Sound::Normal, Sound::Imbalance, Sound::Bearing],
            Self::Alarm => [Sound::Siren, Sound::TwoTone, Sound::Beeper],
        }
    }
}

impl Sound {
    /// Label for files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Imbalance => "imbalance",
            Self::Bearing => "bearing",
            Self::Siren => "siren",
            Self::TwoTone => "two_tone",
            Self::Beeper => "beeper",
        }
    }

    /// Fills `out` with 16 kHz samples, strictly inside ±1. Two seconds tell the classes apart; any length works.
    ///
    /// The clip is a function of class and seed alone; a longer clip of the same seed is the same machine heard
    /// longer, at another level.
    pub fn clip(self, seed: u64, out: &mut [f32]) {
        let mut random = Random::new(seed, self as u64);
        let level = random.decibels(-30.0, -14.0);
        match self {
            Self::Normal => fill(out, Motor::new(None, &mut random), random),
            Self::Imbalance => fill(out, Motor::new(Some(Fault::Imbalance), &mut random), random),
            Self::Bearing => fill(out, Motor::new(Some(Fault::Bearing), &mut random), random),
            Self::Siren => fill(out, Alarm::new(Pattern::Glide, &mut random), random),
            Self::TwoTone => fill(out, Alarm::new(Pattern::Jump, &mut random), random),
            Self::Beeper => fill(out, Alarm::new(Pattern::Gate, &mut random), random),
        }
        set_level(out, level);
    }
}

/// What is heard, one sample at a time.
trait Source {
    fn next(&mut self, random: &mut Random) -> f32;
}

fn fill(out: &mut [f32], mut source: impl Source, mut random: Random) {
    out.fill_with(|| source.next(&mut random));
}

/// Scales to the wanted root mean square; peaks bend smoothly below 1.
fn set_level(samples: &mut [f32], level: f32) {
    let power = samples.iter().map(|x| x * x).sum::<f32>() / samples.len().max(1) as f32;
    let gain = level / libm::sqrtf(power.max(1e-12));
    for sample in samples {
        let loud = *sample * gain;
        *sample = loud / libm::sqrtf(1.0 + loud * loud);
    }
}

/// Seconds per sample.
const TICK: f32 = 1.0 / super::SAMPLE_RATE as f32;

/// Advances a phase, in turns, by one sample of `hertz`; answers whether it wrapped.
fn advance(phase: &mut f32, hertz: f32) -> bool {
    *phase += hertz * TICK;
    let wrapped = *phase >= 1.0;
    if wrapped {
        *phase -= 1.0;
    }
    wrapped
}

/// Sine of a phase in turns.
fn sine(phase: f32) -> f32 {
    libm::sinf(core::f32::consts::TAU * phase)
}
