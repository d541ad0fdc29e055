//! Real FFT on 64-bit fixed point, and the magnitudes or powers of its bins.
//!
//! A frame of `N` real values is transformed as `N/2` complex ones (even samples real, odd imaginary),
//! decimated in frequency and in place. The result stays in bit-reversed order; reading it undoes both the
//! order and the packing.

use core::f64::consts::FRAC_PI_2;
use ingraft_tensor::arrays::arrays_mut;

use crate::fixed::{Block, factor, signal_from_memory, signal_to_memory, times};
use crate::words::choice;

/// Smallest transform.
const MIN_SIZE: u32 = 64;
/// Largest transform.
const MAX_SIZE: u32 = 2048;
/// Table steps in a quarter turn of the largest transform.
const QUARTER: usize = MAX_SIZE as usize / 4;

/// Sine of a quarter turn, both ends included.
static SINE: [i32; QUARTER + 1] = sines();

choice! {
    /// What is taken of a complex bin.
    pub enum Spectrum {
        /// `√(re² + im²)`.
        Magnitude = 0 "magnitude",
        /// `re² + im²`.
        Power = 1 "power",
    }
}

impl Spectrum {
    fn of(self, block: Block, bin: Complex) -> f32 {
        let (re, im) = (block.float(bin.re), block.float(bin.im));
        let power = re * re + im * im;
        match self {
            Self::Magnitude => libm::sqrtf(power),
            Self::Power => power,
        }
    }
}

/// Whether there is a transform of this size.
pub(crate) const fn is_size(size: u32) -> bool {
    size.is_power_of_two() && size >= MIN_SIZE && size <= MAX_SIZE
}

/// Floats of memory for a transform.
pub(crate) const fn memory_len(size: u32) -> usize {
    2 * size as usize
}

/// A transform in the caller's memory: one cell a complex value.
#[derive(Debug)]
pub(crate) struct Fft<'m> {
    cells: &'m mut [[f32; 4]],
    /// Table steps from one bin to the next.
    step: usize,
    spectrum: Spectrum,
}

impl<'m> Fft<'m> {
    /// A transform of a size that [`is_size`] accepts, in [`memory_len`] floats.
    pub(crate) fn new(size: u32, spectrum: Spectrum, memory: &'m mut [f32]) -> Self {
        let (cells, _) = arrays_mut(memory);
        Self { cells, step: (MAX_SIZE / size.max(1)) as usize, spectrum }
    }

    /// Transforms a frame; missing values are zero, values past the size are left out.
    pub(crate) fn transform(&mut self, frame: impl Iterator<Item = i64>) {
        let mut frame = frame.fuse();
        for cell in &mut *self.cells {
            let re = frame.next().unwrap_or(0);
            let im = frame.next().unwrap_or(0);
            *cell = Complex { re, im }.to_cell();
        }
        let mut half = self.cells.len() / 2;
        let mut step = 2 * self.step;
        while half > 0 {
            for block in self.cells.chunks_exact_mut(2 * half) {
                butterflies(block, half, step);
            }
            half /= 2;
            step *= 2;
        }
    }

    /// Bins 1 to `N/2 − 1` of the last frame, a frame of `block`, unnormalized. DC and Nyquist carry no mel
    /// weight.
    ///
    /// # Numerics
    /// Exact to 1e-9 of the largest bin, then rounded to f32.
    pub(crate) fn bins(&self, block: Block) -> impl Iterator<Item = f32> {
        (1..self.cells.len()).map(move |k| self.spectrum.of(block, self.bin(k)))
    }

    /// `X[k] = (Z[k] + Z*[−k])/2 − i·e^(−2πik/N)·(Z[k] − Z*[−k])/2` of the packed transform `Z`.
    fn bin(&self, k: usize) -> Complex {
        let (ahead, behind) = (self.packed(k), self.packed(self.cells.len() - k));
        let even = Complex { re: ahead.re + behind.re, im: ahead.im - behind.im };
        let odd = Complex { re: ahead.im + behind.im, im: behind.re - ahead.re };
        let odd = odd.turned(k * self.step);
        Complex { re: (even.re + odd.re) / 2, im: (even.im + odd.im) / 2 }
    }

    /// `Z[k]`, from its bit-reversed place.
    fn packed(&self, k: usize) -> Complex {
        let unused = self.cells.len().leading_zeros() + 1;
        let place = k.reverse_bits().wrapping_shr(unused);
        self.cells.get(place).map_or(Complex { re: 0, im: 0 }, Complex::from_cell)
    }
}

/// Sums into the first half of a block, differences turned by `j` table steps of `step` into the second.
fn butterflies(block: &mut [[f32; 4]], half: usize, step: usize) {
    let Some((first, second)) = block.split_at_mut_checked(half) else { return };
    for (j, (upper, lower)) in first.iter_mut().zip(second).enumerate() {
        let (a, b) = (Complex::from_cell(upper), Complex::from_cell(lower));
        *upper = Complex { re: a.re + b.re, im: a.im + b.im }.to_cell();
        *lower = Complex { re: a.re - b.re, im: a.im - b.im }.turned(j * step).to_cell();
    }
}

/// A complex signal.
#[derive(Clone, Copy)]
struct Complex {
    re: i64,
    im: i64,
}

impl Complex {
    fn from_cell(cell: &[f32; 4]) -> Self {
        let [re_low, re_high, im_low, im_high] = *cell;
        Self { re: signal_from_memory(re_low, re_high), im: signal_from_memory(im_low, im_high) }
    }

    fn to_cell(self) -> [f32; 4] {
        let [re_low, re_high] = signal_to_memory(self.re);
        let [im_low, im_high] = signal_to_memory(self.im);
        [re_low, re_high, im_low, im_high]
    }

    /// Times `e^(−iφ)`, φ in table steps of at most half a turn.
    fn turned(self, steps: usize) -> Self {
        let sine = |steps: usize| SINE.get(steps).copied().unwrap_or(0);
        let (cos, sin) = match steps.checked_sub(QUARTER) {
            None | Some(0) => (sine(QUARTER - steps.min(QUARTER)), sine(steps)),
            Some(past) => (-sine(past), sine(QUARTER.saturating_sub(past))),
        };
        Self { re: times(self.re, cos) + times(self.im, sin), im: times(self.im, cos) - times(self.re, sin) }
    }
}

/// Twelve terms of the sine's series: below 1e-17 at a quarter turn.
const fn sines() -> [i32; QUARTER + 1] {
    let mut table = [0; QUARTER + 1];
    let mut step = 0;
    while step <= QUARTER {
        let angle = FRAC_PI_2 * step as f64 / QUARTER as f64;
        let (mut sum, mut term, mut n) = (0.0, angle, 1.0);
        while n < 24.0 {
            sum += term;
            term *= -angle * angle / ((n + 1.0) * (n + 2.0));
            n += 2.0;
        }
        table[step] = factor(sum);
        step += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::f64::consts::{FRAC_PI_2, TAU};
    use std::vec;
    use std::vec::Vec;

    use super::{Fft, MAX_SIZE, MIN_SIZE, QUARTER, SINE, Spectrum, is_size, memory_len};
    use crate::fixed::{Block, factor};

    #[test]
    fn the_table_is_the_sine() {
        for (step, sine) in SINE.iter().enumerate() {
            assert_eq!(*sine, factor(libm::sin(FRAC_PI_2 * step as f64 / QUARTER as f64)), "{step}");
        }
    }

    fn naive_power(frame: &[f32]) -> Vec<f64> {
        let n = frame.len();
        (1..n / 2)
            .map(|k| {
                let (re, im) = frame.iter().enumerate().fold((0.0, 0.0), |(re, im), (t, value)| {
                    let (sin, cos) = (TAU * ((k * t) % n) as f64 / n as f64).sin_cos();
                    (re + f64::from(*value) * cos, im - f64::from(*value) * sin)
                });
                re * re + im * im
            })
            .collect()
    }

    /// Uniform noise; a loud tone between two bins over faint noise; the coherent sums that bound the
    /// integers.
    fn frames(size: usize) -> [Vec<f32>; 4] {
        let mut state = 1_u32;
        let noise: Vec<f32> = (0..size)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as f32 / 32_768.0 - 1.0
            })
            .collect();
        let tone =
            |(t, noise): (usize, &f32)| (10.3 * TAU * t as f64 / size as f64).sin() as f32 + noise * 1e-4;
        let tone = noise.iter().enumerate().map(tone).collect();
        let largest = f32::from_bits(0x3fff_ffff);
        let square = (0..size).map(|t| if t % 4 < 2 { largest } else { -largest }).collect();
        [noise, tone, vec![largest; size], square]
    }

    #[test]
    fn every_size_agrees_with_a_naive_dft() {
        let mut size = MIN_SIZE;
        while size <= MAX_SIZE {
            assert!(is_size(size));
            for frame in frames(size as usize) {
                let power = naive_power(&frame);
                let coherent: f64 = frame.iter().map(|sample| f64::from(sample.abs())).sum();
                let mut memory = vec![f32::NAN; memory_len(size)];
                let mut fft = Fft::new(size, Spectrum::Magnitude, &mut memory);
                let block = Block::of(frame.iter().fold(0.0, |peak, sample| peak.max(sample.abs())));
                fft.transform(frame.iter().map(|sample| block.signal(*sample)));
                let found: Vec<f32> = fft.bins(block).collect();
                assert_eq!(found.len(), power.len());
                for (k, (found, power)) in found.iter().zip(&power).enumerate() {
                    let error = (f64::from(*found) - power.sqrt()).abs();
                    // Of the fixed point, relative to the loudest bin there could be, and of the conversion
                    // to f32.
                    let bound = 1e-9 * coherent + 3e-7 * power.sqrt();
                    assert!(error < bound, "size {size} bin {k}: error {error:e}, bound {bound:e}");
                }
                fft.spectrum = Spectrum::Power;
                for (magnitude, power) in found.iter().zip(fft.bins(block)) {
                    assert_eq!(*magnitude, libm::sqrtf(power));
                }
            }
            size *= 2;
        }
    }

    #[test]
    fn short_frames_end_in_zeros() {
        let mut memory = vec![f32::NAN; memory_len(64)];
        let mut fft = Fft::new(64, Spectrum::Power, &mut memory);
        let block = Block::of(1.0);
        fft.transform([block.signal(1.0)].into_iter());
        assert_eq!(fft.bins(block).collect::<Vec<_>>(), [1.0; 31]);
    }

    #[test]
    fn other_sizes_are_none() {
        for size in [0, 1, 32, 63, 65, 500, 4096, u32::MAX] {
            assert!(!is_size(size), "{size}");
        }
    }
}
