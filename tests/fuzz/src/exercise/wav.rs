//! Recordings.

use ingraft_dataset::from_wav;

/// Whatever `bytes` are as a WAV file.
pub fn wav(bytes: &[u8]) {
    let Ok(clip) = from_wav(bytes) else { return };
    assert!(!clip.samples.is_empty() && clip.samples.iter().all(|sample| sample.is_finite()));
    // A byte is four samples at most, of codes narrower than it.
    assert!(clip.samples.len() <= 8 * bytes.len());
    // Rates of few filters, so that an execution stays short; others take the same code.
    if matches!(clip.rate, 8_000 | 32_000)
        && clip.samples.len() <= 64
        && let Ok(clip) = clip.at_rate(16_000)
    {
        assert!(clip.samples.iter().all(|sample| sample.is_finite()));
    }
}
