//! Sampling-rate conversion by a polyphase windowed sinc.
//!
//! ```text
//! y[m] = Σ_k x[⌊t⌋ + k] · h(t − ⌊t⌋ − k),  t = m · from / to
//! h(t) = c · sinc(c·t) · kaiser(t · min(1, to/from) / 64),  c = 0.9476 · min(1, to/from)
//! ```
//!
//! 64 zero crossings a side and a Kaiser window of β = 14.77, the parameters of
//! `resampy`'s best filter (B. McFee, 2016; after J. O. Smith, "Digital Audio Resampling"):
//! flat to 86 % of the lower Nyquist frequency, images and aliases below −100 dB.
//!
//! The filter is evaluated with `libm` and applied in one fixed order of
//! additions, so the samples are the same bits on every platform. Resamplers
//! that choose SSE, AVX or NEON at run time do not have that property.

use core::f64::consts::PI;

use super::AudioError;

/// A converter from one sampling rate to another.
#[derive(Clone, Debug)]
pub struct Resampler {
    /// `to / from` in lowest terms.
    up: usize,
    down: usize,
    /// Input samples reached on either side of an output sample.
    reach: usize,
    /// `up` filters of `taps` coefficients, one per fractional position.
    phases: Vec<f32>,
    taps: usize,
}

impl Resampler {
    /// The converter from rate `from` to rate `to`, in Hz.
    ///
    /// # Errors
    /// [`AudioError::Rate`] outside 1 kHz to 768 kHz; [`AudioError::Ratio`] when the
    /// lowest terms are so large that the filters would pass 32 MiB.
    pub fn new(from: u32, to: u32) -> Result<Self, AudioError> {
        for rate in [from, to] {
            if !(1_000..=768_000).contains(&rate) {
                return Err(AudioError::Rate(rate));
            }
        }
        Self::with_ratio(to, from).ok_or(AudioError::Ratio { from, to })
    }

    /// The converter that yields `up` samples for every `down`; `None` when a
    /// term is zero or the filters would be too large.
    pub(crate) fn with_ratio(up: u32, down: u32) -> Option<Self> {
        let divisor = gcd(up, down);
        let (up, down) = (up.checked_div(divisor)? as usize, down.checked_div(divisor)? as usize);
        if up == 0 || down == 0 {
            return None;
        }
        let bandwidth = (up as f64 / down as f64).min(1.0);
        let reach = libm::ceil(ZERO_CROSSINGS / bandwidth) as usize;
        let taps = (2 * reach).next_multiple_of(LANES);
        if up.checked_mul(taps)? > MAX_COEFFICIENTS {
            return None;
        }
        let phases =
            (0..up).flat_map(|phase| filter(phase as f64 / up as f64, reach, taps, bandwidth)).collect();
        Some(Self { up, down, reach, phases, taps })
    }

    /// Number of samples that `length` samples become.
    pub fn output_len(&self, length: usize) -> usize {
        let scaled = (length as u64).saturating_mul(self.up as u64);
        usize::try_from(scaled.div_ceil(self.down as u64)).unwrap_or(usize::MAX)
    }

    /// `samples` at the new rate, beginning at the same instant; silence is assumed on both sides.
    pub fn apply(&self, samples: &[f32]) -> Vec<f32> {
        if self.up == self.down {
            return samples.to_vec();
        }
        // Output m reads input ⌊t⌋ − reach + 1 onwards, which lies at ⌊t⌋ once `reach − 1` zeros go before.
        let before = self.reach - 1;
        let mut padded = vec![0.0; before + samples.len() + self.taps];
        padded.iter_mut().skip(before).zip(samples).for_each(|(to, &from)| *to = from);

        let (mut whole, mut phase) = (0, 0);
        let mut output = Vec::with_capacity(self.output_len(samples.len()));
        for _ in 0..self.output_len(samples.len()) {
            let filter = self.phases.get(phase * self.taps..).unwrap_or_default();
            let window = padded.get(whole..).unwrap_or_default();
            output.push(dot(filter.get(..self.taps).unwrap_or_default(), window));
            phase += self.down;
            whole += phase / self.up;
            phase %= self.up;
        }
        output
    }
}

/// The coefficients at fractional position `fraction`, for inputs −reach+1 … reach, then zeros.
fn filter(fraction: f64, reach: usize, taps: usize, bandwidth: f64) -> Vec<f32> {
    let cutoff = ROLLOFF * bandwidth;
    let mut coefficients = vec![0.0f64; 2 * reach];
    for (index, coefficient) in coefficients.iter_mut().enumerate() {
        let t = fraction + reach as f64 - 1.0 - index as f64;
        *coefficient = sinc(cutoff * t) * kaiser(t * bandwidth / ZERO_CROSSINGS);
    }
    // A constant stays exactly that constant at every phase.
    let sum: f64 = coefficients.iter().sum();
    let padding = core::iter::repeat_n(0.0, taps - coefficients.len());
    coefficients.into_iter().map(|c| (c / sum) as f32).chain(padding).collect()
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { libm::sin(PI * x) / (PI * x) }
}

/// The Kaiser window at `x` in −1..1, not normalized; zero outside.
fn kaiser(x: f64) -> f64 {
    if x.abs() >= 1.0 { 0.0 } else { bessel_i0(KAISER_BETA * libm::sqrt(1.0 - x * x)) }
}

/// The modified Bessel function of order 0 by its power series, for |x| up to β.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..=BESSEL_TERMS {
        term *= quarter / (k * k) as f64;
        sum += term;
    }
    sum
}

/// The dot product over the length of `filter`, a multiple of [`LANES`], in fixed order.
fn dot(filter: &[f32], window: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (coefficients, samples) in filter.chunks_exact(LANES).zip(window.chunks_exact(LANES)) {
        for ((lane, &coefficient), &sample) in lanes.iter_mut().zip(coefficients).zip(samples) {
            *lane += coefficient * sample;
        }
    }
    lanes.iter().sum()
}

fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

const ZERO_CROSSINGS: f64 = 64.0;
const ROLLOFF: f64 = 0.947_593_716_739_959_6;
const KAISER_BETA: f64 = 14.769_656_459_379_492;
/// The term (β/2)²ᵏ/k!² is below 2⁻⁵³ of the sum from here on.
const BESSEL_TERMS: usize = 40;
const LANES: usize = 8;
const MAX_COEFFICIENTS: usize = 1 << 23;

#[cfg(test)]
mod tests {
    use core::f64::consts::TAU;

    use super::*;

    fn tone(rate: u32, frequency: f64, length: usize) -> Vec<f32> {
        (0..length).map(|i| libm::sin(TAU * frequency * i as f64 / f64::from(rate)) as f32).collect()
    }

    fn decibels(values: impl Iterator<Item = f64>) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        values.for_each(|v| (sum, count) = (sum + v * v, count + 1.0));
        10.0 * libm::log10(sum / count / 0.5)
    }

    /// Level of `actual − expected` relative to a full-scale sine, away from the edges.
    fn residual(actual: &[f32], expected: &[f32]) -> f64 {
        let inner = 1000..actual.len().min(expected.len()) - 1000;
        decibels(inner.map(|i| f64::from(actual[i]) - f64::from(expected[i])))
    }

    const RATES: [(u32, u32); 8] = [
        (8_000, 16_000),
        (11_025, 16_000),
        (22_050, 16_000),
        (44_100, 16_000),
        (48_000, 16_000),
        (96_000, 16_000),
        (16_000, 8_000),
        (16_000, 44_100),
    ];

    #[test]
    fn a_sine_stays_a_sine() {
        for (from, to) in RATES {
            let resampler = Resampler::new(from, to).unwrap();
            for share in [0.01, 0.3, 0.77, 0.86] {
                let frequency = share * f64::from(from.min(to)) / 2.0;
                let output = resampler.apply(&tone(from, frequency, from as usize));
                assert_eq!(output.len(), to as usize);
                let level = residual(&output, &tone(to, frequency, to as usize));
                assert!(level < -100.0, "{from} to {to} Hz, {frequency} Hz: {level} dB");
            }
        }
    }

    #[test]
    fn what_the_new_rate_cannot_hold_is_gone() {
        for (from, to) in RATES.into_iter().filter(|(from, to)| from > to) {
            let resampler = Resampler::new(from, to).unwrap();
            for share in [1.0, 1.1, 1.3, 1.9] {
                let frequency = share * f64::from(to) / 2.0;
                if frequency < f64::from(from) / 2.0 {
                    let output = resampler.apply(&tone(from, frequency, from as usize));
                    let level = residual(&output, &vec![0.0; output.len()]);
                    assert!(level < -100.0, "{from} to {to} Hz, {frequency} Hz: {level} dB");
                }
            }
        }
    }

    #[test]
    fn a_constant_stays_and_equal_rates_copy() {
        let output = Resampler::new(44_100, 16_000).unwrap().apply(&[0.25; 4000]);
        assert!(output[300..1000].iter().all(|v| (v - 0.25).abs() < 1e-6));
        let samples = tone(16_000, 440.0, 100);
        assert_eq!(Resampler::new(16_000, 16_000).unwrap().apply(&samples), samples);
        assert!(Resampler::new(8_000, 16_000).unwrap().apply(&[]).is_empty());
        assert_eq!(Resampler::new(48_000, 16_000).unwrap().apply(&[1.0; 2]).len(), 1);
    }

    #[test]
    fn refuses_rates_that_no_recording_has() {
        assert_eq!(Resampler::new(0, 16_000).unwrap_err(), AudioError::Rate(0));
        assert_eq!(Resampler::new(16_000, u32::MAX).unwrap_err(), AudioError::Rate(u32::MAX));
        let (from, to) = (767_999, 16_001);
        assert_eq!(Resampler::new(from, to).unwrap_err(), AudioError::Ratio { from, to });
        assert!(Resampler::new(44_099, 16_000).is_ok());
    }
}
