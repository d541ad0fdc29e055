//! Pictures: 8-bit RGB at the size a model wants.

pub use decode::{from_jpeg, from_png, read_image};
pub use error::ImageError;
pub use resize::Filter;

mod decode;
mod error;
mod resize;

/// An 8-bit RGB picture, row-major, channels innermost (H, W, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Image {
    /// A picture of `rgb`; `None` unless that is `height` × `width` × 3 bytes, neither extent zero.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Option<Self> {
        let needed = width.checked_mul(height)?.checked_mul(3)?;
        (needed == rgb.len() && needed > 0).then_some(Self { width, height, rgb })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, (H, W, 3).
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The central `width` × `height` pixels, an odd remainder cut at the right and below.
    /// An extent larger than the picture's is reduced to it.
    pub fn center_crop(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.clamp(1, self.width), height.clamp(1, self.height));
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        let rows = self.rgb.chunks_exact(self.width * 3).skip(top).take(height);
        let rgb = rows.flat_map(|row| row.iter().skip(left * 3).take(width * 3)).copied().collect();
        Self { width, height, rgb }
    }

    /// Scales the picture, keeping its proportions, until it just covers `width` × `height`,
    /// then crops the center: what `torchvision` calls resize and center crop.
    pub fn fit(&self, width: usize, height: usize, filter: Filter) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let is_wider = self.width.saturating_mul(height) >= self.height.saturating_mul(width);
        let (covering_width, covering_height) = if is_wider {
            (self.width.saturating_mul(height) / self.height, height)
        } else {
            (width, self.height.saturating_mul(width) / self.width)
        };
        self.resize(covering_width, covering_height, filter).center_crop(width, height)
    }
}

/// File name extensions of pictures, lower case.
pub(crate) const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
