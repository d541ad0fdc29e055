//! Randomness that nobody can repeat.

/// A source of bytes that nobody can tell beforehand or afterwards: the operating system's or the hardware's generator.
///
/// Noise is worth nothing to whoever can draw it again, so no seeded generator of this workspace is one outside tests.
pub trait Entropy {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`NoEntropy`]: the generator gives none. Nothing may be released then.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The generator gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl core::fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the random generator gives no bytes; nothing was released")
    }
}

impl core::error::Error for NoEntropy {}

/// A number in `[0, 1)`, a multiple of 2⁻⁵³.
///
/// # Errors
/// [`NoEntropy`].
pub fn uniform(entropy: &mut (impl Entropy + ?Sized)) -> Result<f64, NoEntropy> {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes)?;
    Ok((u64::from_le_bytes(bytes) >> 11) as f64 * f64::EPSILON / 2.0)
}

/// A number from the standard normal distribution.
///
/// # Numerics
/// Half the sum of four numbers of two Box–Muller pairs, in f64. A single one takes values from a set that tells what it was added
/// to (Mironov 2012); to undo a sum of four takes a search that is out of reach (Holohan, Braghin 2021, "Secure Random
/// Sampling in Differential Privacy").
///
/// # Errors
/// [`NoEntropy`].
pub fn gaussian(entropy: &mut (impl Entropy + ?Sized)) -> Result<f64, NoEntropy> {
    let mut sum = 0.0;
    for _ in 0..2 {
        // 1 − u lies in (0, 1], so its logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(entropy)?));
        let (sine, cosine) = libm::sincos(2.0 * core::f64::consts::PI * uniform(entropy)?);
        sum += radius * (sine + cosine);
    }
    Ok(sum / 2.0)
}
