//! PNG and JPEG files.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use png::{ColorType, Decoder, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Image, ImageError};
use crate::error::DatasetError;

/// Reads a picture; the format follows from the file name's extension.
///
/// Palettes and gray become RGB, 16 bits become 8, transparency and EXIF orientation are ignored.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::Image`].
pub fn read_image(path: &Path) -> Result<Image, DatasetError> {
    let bytes = fs::read(path).map_err(|source| DatasetError::io(path, source))?;
    let extension =
        path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let image = match extension.as_str() {
        "png" => from_png(&bytes),
        "jpg" | "jpeg" => from_jpeg(&bytes),
        _ => Err(ImageError::Extension(extension)),
    };
    image.map_err(|reason| DatasetError::image(path, reason))
}

/// Decodes a PNG file.
///
/// # Errors
/// [`ImageError::Broken`] and [`ImageError::TooLarge`].
pub fn from_png(bytes: &[u8]) -> Result<Image, ImageError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| broken(&error))?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let length = reader.output_buffer_size().ok_or(ImageError::TooLarge { width, height })?;
    let mut pixels = vec![0; length];
    let frame = reader.next_frame(&mut pixels).map_err(|error| broken(&error))?;
    let (channels, gray) = match frame.color_type {
        ColorType::Grayscale => (1, true),
        ColorType::GrayscaleAlpha => (2, true),
        ColorType::Rgba => (4, false),
        ColorType::Rgb | ColorType::Indexed => (3, false),
    };
    let colors = pixels.chunks_exact(channels);
    let rgb = if gray {
        colors.filter_map(|pixel| pixel.first()).flat_map(|&value| [value; 3]).collect()
    } else {
        colors.flat_map(|pixel| pixel.iter().take(3)).copied().collect()
    };
    Image::new(width, height, rgb)
        .ok_or_else(|| ImageError::Broken("the pixels do not fill the frame".to_owned()))
}

/// Decodes a JPEG file, baseline or progressive.
///
/// # Numerics
/// The decoder's portable integer path, so the pixels are the same on every platform.
///
/// # Errors
/// [`ImageError::Broken`] and [`ImageError::TooLarge`].
pub fn from_jpeg(bytes: &[u8]) -> Result<Image, ImageError> {
    let options = DecoderOptions::new_safe()
        .set_use_unsafe(false)
        .set_strict_mode(true)
        .set_max_width(MAX_PIXELS)
        .set_max_height(MAX_PIXELS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| broken(&error))?;
    let info = decoder.info().ok_or_else(|| ImageError::Broken("no frame".to_owned()))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width, height)?;
    let rgb = decoder.decode().map_err(|error| broken(&error))?;
    Image::new(width, height, rgb)
        .ok_or_else(|| ImageError::Broken("the pixels do not fill the frame".to_owned()))
}

fn check_size(width: usize, height: usize) -> Result<(), ImageError> {
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(ImageError::TooLarge { width, height }),
    }
}

fn broken(error: &dyn core::fmt::Display) -> ImageError {
    ImageError::Broken(error.to_string())
}

const MAX_PIXELS: usize = 1 << 26;
