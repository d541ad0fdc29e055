//! Images of bytes to normalized floats.

use crate::error::{SignalError, require};
use crate::scale::{is_factor, is_offset};
use crate::words::{WordReader, WordWriter, choice};

/// Most pixels on a side.
pub const MAX_SIDE: u32 = 1 << 12;

choice! {
    /// Order of an image's axes in the model's input, after the batch axis.
    pub enum Layout {
        /// `[channels, height, width]`.
        Nchw = 0 "nchw",
        /// `[height, width, channels]`.
        Nhwc = 1 "nhwc",
    }
}

/// `(value − mean)/std` for each byte of an image of the model's own size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageConfig {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: u32,
    /// Subtracted, by channel; a gray image uses the first.
    pub mean: [f32; 3],
    /// Divides, by channel; a gray image uses the first.
    pub std: [f32; 3],
    /// Order of the axes written.
    pub layout: Layout,
}

/// A checked [`ImageConfig`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Image {
    config: ImageConfig,
}

impl Image {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`SignalError::Config`] naming the field and its rule.
    pub fn new(config: ImageConfig) -> Result<Self, SignalError> {
        let side = |pixels: u32| (1..=MAX_SIDE).contains(&pixels);
        require(side(config.width), "width", "from 1 to 4096 pixels")?;
        require(side(config.height), "height", "from 1 to 4096 pixels")?;
        require(matches!(config.channels, 1 | 3), "channels", "1 (gray) or 3 (RGB)")?;
        require(config.mean.iter().all(|mean| is_offset(*mean)), "mean", "finite and within ±2^60")?;
        require(config.std.iter().all(|std| is_factor(*std)), "std", "from 2^-60 to 2^60")?;
        Ok(Self { config })
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Bytes of one image, and floats of one input.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.config.width as usize * self.config.height as usize * self.config.channels as usize
    }

    /// Always false: an image has at least one pixel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Normalizes `pixels`, `[height, width, channels]`, into `out`, in the configured layout.
    ///
    /// # Numerics
    /// One subtraction and one division in f32; the byte itself is exact.
    ///
    /// # Errors
    /// [`SignalError::Pixels`] and [`SignalError::Output`] unless both hold [`Image::len`] values.
    pub fn normalize(&self, pixels: &[u8], out: &mut [f32]) -> Result<(), SignalError> {
        let needed = self.len();
        if pixels.len() != needed {
            return Err(SignalError::Pixels { given: pixels.len(), needed });
        }
        if out.len() != needed {
            return Err(SignalError::Output { given: out.len(), needed });
        }
        let channels = (self.config.channels as usize).max(1);
        let plane = self.config.width as usize * self.config.height as usize;
        let (start_step, pixel_step) = match self.config.layout {
            Layout::Nchw => (plane, 1),
            Layout::Nhwc => (1, channels),
        };
        let scales = self.config.mean.iter().zip(&self.config.std);
        for (channel, (mean, std)) in scales.enumerate().take(channels) {
            let values = pixels.iter().skip(channel).step_by(channels);
            let slots = out.iter_mut().skip(channel * start_step).step_by(pixel_step);
            for (slot, value) in slots.zip(values) {
                *slot = (f32::from(*value) - mean) / std;
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, words: &mut WordWriter<'_>) {
        words.word(self.config.width);
        words.word(self.config.height);
        words.word(self.config.channels);
        for value in self.config.mean.iter().chain(&self.config.std) {
            words.float(*value);
        }
        words.word(self.config.layout as u32);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        let config = ImageConfig {
            width: words.word()?,
            height: words.word()?,
            channels: words.word()?,
            mean: [words.float()?, words.float()?, words.float()?],
            std: [words.float()?, words.float()?, words.float()?],
            layout: Layout::from_word(words.word()?)?,
        };
        Self::new(config).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Image, ImageConfig, Layout};
    use crate::error::SignalError;

    const RGB: ImageConfig = ImageConfig {
        width: 2,
        height: 2,
        channels: 3,
        mean: [127.0, 100.0, 0.0],
        std: [128.0, 50.0, 255.0],
        layout: Layout::Nchw,
    };
    const PIXELS: [u8; 12] = [0, 50, 255, 127, 100, 0, 255, 150, 51, 63, 200, 102];

    #[test]
    fn both_layouts() {
        let mut out = [f32::NAN; 12];
        Image::new(RGB).unwrap().normalize(&PIXELS, &mut out).unwrap();
        let red = [-127.0 / 128.0, 0.0, 1.0, -0.5];
        let green = [-1.0, 0.0, 1.0, 2.0];
        let blue = [1.0, 0.0, 51.0_f32 / 255.0, 102.0_f32 / 255.0];
        assert_eq!((&out[..4], &out[4..8], &out[8..]), (&red[..], &green[..], &blue[..]));
        let nhwc = Image::new(ImageConfig { layout: Layout::Nhwc, ..RGB }).unwrap();
        nhwc.normalize(&PIXELS, &mut out).unwrap();
        for (pixel, found) in out.chunks(3).enumerate() {
            assert_eq!(found, [red[pixel], green[pixel], blue[pixel]]);
        }
    }

    #[test]
    fn gray_uses_the_first_scale() {
        let gray = Image::new(ImageConfig { channels: 1, ..RGB }).unwrap();
        let mut out = [f32::NAN; 4];
        gray.normalize(&[0, 127, 255, 63], &mut out).unwrap();
        assert_eq!(out, [-127.0 / 128.0, 0.0, 1.0, -0.5]);
    }

    #[test]
    fn wrong_lengths_and_fields_are_refused() {
        let image = Image::new(RGB).unwrap();
        let mut out = [0.0; 12];
        let pixels = image.normalize(&PIXELS[1..], &mut out);
        assert_eq!(pixels, Err(SignalError::Pixels { given: 11, needed: 12 }));
        let output = image.normalize(&PIXELS, &mut out[1..]);
        assert_eq!(output, Err(SignalError::Output { given: 11, needed: 12 }));
        for bad in [
            ImageConfig { width: 0, ..RGB },
            ImageConfig { height: u32::MAX, ..RGB },
            ImageConfig { channels: 2, ..RGB },
            ImageConfig { mean: [f32::NAN; 3], ..RGB },
            ImageConfig { std: [1.0, 0.0, 1.0], ..RGB },
        ] {
            assert!(Image::new(bad).is_err(), "{bad:?}");
        }
    }
}
