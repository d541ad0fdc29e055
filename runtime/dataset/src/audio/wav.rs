//! WAV files of 8 to 32-bit integers or 32-bit floats, any number of channels.

use std::io::Read;

use hound::{SampleFormat, WavReader};

use super::{AudioError, Clip};

/// Reads a WAV file, averaging its channels.
///
/// # Numerics
/// Integers of `bits` bits are divided by 2^(`bits` − 1), exactly up to 24 bits.
///
/// # Errors
/// [`AudioError`]. Memory grows with the samples read, never with the length a header claims.
pub fn from_wav(reader: impl Read) -> Result<Clip, AudioError> {
    let mut reader = WavReader::new(reader)?;
    let spec = reader.spec();
    let interleaved = match spec.sample_format {
        SampleFormat::Float => collect(reader.samples::<f32>())?,
        SampleFormat::Int => {
            let full_scale = (1u64 << spec.bits_per_sample.clamp(1, 32) >> 1) as f32;
            collect(reader.samples::<i32>().map(|sample| sample.map(|sample| sample as f32 / full_scale)))?
        }
    };
    Clip::from_interleaved(spec.sample_rate, usize::from(spec.channels), &interleaved)
}

fn collect(samples: impl Iterator<Item = hound::Result<f32>>) -> Result<Vec<f32>, AudioError> {
    let mut collected = Vec::new();
    for sample in samples {
        collected.push(sample?);
    }
    Ok(collected)
}

impl From<hound::Error> for AudioError {
    fn from(error: hound::Error) -> Self {
        match error {
            hound::Error::IoError(error) => Self::Read(error.kind()),
            hound::Error::FormatError(reason) => Self::Broken(reason),
            _ => Self::Unsupported,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use hound::{WavSpec, WavWriter};

    use super::*;

    fn wav(spec: WavSpec, write: impl FnOnce(&mut WavWriter<&mut Cursor<Vec<u8>>>)) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec).unwrap();
        write(&mut writer);
        writer.finalize().unwrap();
        file.into_inner()
    }

    fn spec(channels: u16, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec { channels, sample_rate: 16_000, bits_per_sample, sample_format }
    }

    #[test]
    fn every_integer_width_has_full_scale_one() {
        for bits in [8, 16, 24, 32] {
            let lowest = (-1i64 << (bits - 1)) as i32;
            let bytes = wav(spec(1, bits, SampleFormat::Int), |w| {
                [lowest, 0, lowest / 2, -(lowest / 4)].iter().for_each(|&s| w.write_sample(s).unwrap());
            });
            let clip = from_wav(&bytes[..]).unwrap();
            assert_eq!(clip.samples, [-1.0, 0.0, -0.5, 0.25], "{bits} bits");
        }
    }

    #[test]
    fn channels_are_averaged() {
        let bytes = wav(spec(2, 32, SampleFormat::Float), |w| {
            [0.5f32, -0.25, 1.0, 0.0].iter().for_each(|&s| w.write_sample(s).unwrap());
        });
        assert_eq!(from_wav(&bytes[..]).unwrap().samples, [0.125, 0.5]);
    }

    #[test]
    fn refuses_what_is_not_a_number_and_what_is_empty() {
        let float = spec(2, 32, SampleFormat::Float);
        let bytes =
            wav(float, |w| [0.0f32, 0.0, 0.0, f32::NAN].iter().for_each(|&s| w.write_sample(s).unwrap()));
        assert_eq!(from_wav(&bytes[..]), Err(AudioError::NotFinite { frame: 1 }));
        // Found by fuzzing: the sum over channels, and that of the resampler, leave f32.
        let huge = [0.0, 0.0, f32::MAX, f32::MAX];
        let bytes = wav(float, |w| huge.iter().for_each(|&s| w.write_sample(s).unwrap()));
        assert_eq!(from_wav(&bytes[..]), Err(AudioError::NotFinite { frame: 1 }));
        let bytes = wav(spec(1, 32, SampleFormat::Float), |w| {
            [f32::MAX, f32::MAX, f32::MIN, f32::MIN].iter().for_each(|&s| w.write_sample(s).unwrap());
        });
        let clip = from_wav(&bytes[..]).unwrap();
        assert!(matches!(clip.at_rate(32_000), Err(AudioError::NotFinite { .. })));
        assert_eq!(from_wav(&wav(float, |_| {})[..]), Err(AudioError::Empty));
    }

    #[test]
    fn truncation_and_corruption_at_every_byte_never_panic() {
        for (bits, format) in [(8, SampleFormat::Int), (24, SampleFormat::Int), (32, SampleFormat::Float)] {
            let bytes = wav(spec(2, bits, format), |w| match format {
                SampleFormat::Int => (0..8).for_each(|s| w.write_sample(s).unwrap()),
                SampleFormat::Float => (0..8).for_each(|s| w.write_sample(s as f32).unwrap()),
            });
            assert!(from_wav(&bytes[..]).is_ok());
            for cut in 0..bytes.len() {
                assert!(from_wav(&bytes[..cut]).is_err(), "{bits} bits cut at {cut}");
            }
            for at in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut broken = bytes.clone();
                    broken[at] = value;
                    // Any answer will do, as long as there is one.
                    let _ = from_wav(&broken[..]);
                }
            }
        }
    }
}
