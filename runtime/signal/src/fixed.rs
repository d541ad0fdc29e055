//! Fixed-point numbers wider than f32, and their place in f32 memory.
//!
//! An f32 transform leaves noise near 1e-7 of the loudest bin in every other bin. Under a whistle that is as
//! much as a quiet mel band holds, and its logarithm is off by up to 1e-3. A 64-bit integer keeps seven
//! digits more, is the same on every target by nature, and takes a few instructions on a Cortex-M where an
//! f64 takes a call.

/// Fraction bits of a factor: window weights, sines.
pub(crate) const FACTOR_BITS: u32 = 30;

/// Bits of the loudest value of a block. A transform of 2048 points adds eleven and still fits an i64.
const BLOCK_BITS: i32 = 50;

/// A factor within ±1, rounded to nearest.
pub(crate) const fn factor(value: f64) -> i32 {
    let scaled = value * (1_i64 << FACTOR_BITS) as f64;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// The power of two that makes signals of a block of samples, and its reciprocal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    to_signal: f32,
    to_float: f32,
}

impl Block {
    /// The block of samples whose largest magnitude is `peak`.
    pub(crate) const fn of(peak: f32) -> Self {
        // The exponent of the peak; an infinite one saturates, a subnormal one keeps fewer bits.
        let exponent = (peak.to_bits() >> 23) as i32 - 127;
        let shift = BLOCK_BITS - 1 - exponent;
        let shift = if shift > 126 { 126 } else { shift };
        Self { to_signal: power_of_two(shift), to_float: power_of_two(-shift) }
    }

    /// A sample as a signal: exact, except that NaN is zero.
    pub(crate) fn signal(self, sample: f32) -> i64 {
        const MAX: i64 = 1 << BLOCK_BITS;
        ((sample * self.to_signal) as i64).clamp(-MAX, MAX)
    }

    /// A signal as a float, rounded to nearest.
    pub(crate) fn float(self, signal: i64) -> f32 {
        signal as f32 * self.to_float
    }
}

/// For an exponent within ±126.
const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// `⌊signal·factor⌋` in two 32-bit multiplications, exact before the floor.
pub(crate) const fn times(signal: i64, factor: i32) -> i64 {
    let high = (signal >> 32) * factor as i64;
    let low = (signal & 0xffff_ffff) * factor as i64;
    (high << (32 - FACTOR_BITS)) + (low >> FACTOR_BITS)
}

/// A factor as the bits of a float: moving a float moves its bits, whatever they mean.
pub(crate) const fn factor_to_memory(factor: i32) -> f32 {
    f32::from_bits(factor.cast_unsigned())
}

pub(crate) const fn factor_from_memory(slot: f32) -> i32 {
    slot.to_bits().cast_signed()
}

/// A signal as the bits of two floats, low half first.
pub(crate) const fn signal_to_memory(signal: i64) -> [f32; 2] {
    [f32::from_bits(signal as u32), f32::from_bits((signal >> 32) as u32)]
}

pub(crate) const fn signal_from_memory(low: f32, high: f32) -> i64 {
    ((high.to_bits() as i64) << 32) | low.to_bits() as i64
}

#[cfg(test)]
mod tests {
    use super::{
        Block, factor, factor_from_memory, factor_to_memory, signal_from_memory, signal_to_memory, times,
    };

    #[test]
    fn products_are_floors() {
        let signals = [0, 1, -1, 0xffff_ffff, 1 << 32, -(1 << 40) + 12_345, (1 << 61) - 1, -(1 << 61)];
        let factors = [0, 1, -1, 1 << 30, -(1 << 30), 759_250_125, -759_250_125];
        for signal in signals {
            for factor in factors {
                let exact = (i128::from(signal) * i128::from(factor)) >> 30;
                assert_eq!(i128::from(times(signal, factor)), exact, "{signal} × {factor}");
            }
        }
    }

    #[test]
    fn conversions() {
        assert_eq!([factor(1.0), factor(-1.0), factor(0.0)], [1 << 30, -(1 << 30), 0]);
    }

    #[test]
    fn blocks_keep_their_samples() {
        for peak in [1e-20, 1.0 / 32_768.0, 0.3, 1.0, 65_536.0, f32::MAX] {
            let block = Block::of(peak);
            let loudest = block.signal(peak);
            assert!((1_i64 << 49..1 << 50).contains(&loudest), "{peak}: {loudest}");
            for sample in [0.0, peak, -peak, peak / 3.0, peak / 100_000.0] {
                assert_eq!(block.float(block.signal(sample)), sample);
            }
            assert_eq!(block.signal(f32::NAN), 0);
            assert_eq!([block.signal(f32::INFINITY), block.signal(f32::NEG_INFINITY)], [1 << 50, -(1 << 50)]);
        }
        let silence = Block::of(0.0);
        assert_eq!((silence.signal(0.0), silence.float(0)), (0, 0.0));
        let infinite = Block::of(f32::INFINITY);
        assert_eq!(infinite.signal(f32::INFINITY), 1 << 50);
    }

    #[test]
    fn memory_keeps_every_bit() {
        // Among them the patterns of quiet and signaling NaN, infinity and subnormals.
        let words = [0, 1, 0x7fc0_0000, 0x7f80_0001, 0xff80_0001, 0x7f80_0000, 0x8000_0000, 0xffff_ffff_u32];
        for low in words {
            assert_eq!(factor_from_memory(factor_to_memory(low.cast_signed())), low.cast_signed());
            for high in words {
                let value = (i64::from(high) << 32) | i64::from(low);
                let [low, high] = signal_to_memory(value);
                assert_eq!(signal_from_memory(low, high), value);
            }
        }
    }
}
