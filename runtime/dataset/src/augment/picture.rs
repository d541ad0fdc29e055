//! Changes of a picture that keep what it shows.

use core::ops::RangeInclusive;

use crate::{Image, Rng};

/// Mirrors left and right, half of the time.
pub fn flip(image: &Image, seed: u64) -> Image {
    if Rng::new(seed).below(2) == 0 {
        return image.clone();
    }
    let rows = image.rgb().chunks_exact(image.width() * 3);
    let rgb = rows.flat_map(|row| row.as_chunks::<3>().0.iter().rev().flatten()).copied().collect();
    same_or(image, image.width(), image.height(), rgb)
}

/// Cuts out a window at a random place, with sides that are a share of the picture's drawn from `shares`.
pub fn window(image: &Image, shares: &RangeInclusive<f64>, seed: u64) -> Image {
    let mut rng = Rng::new(seed);
    let share = rng.uniform(*shares.start(), *shares.end());
    let side = |whole: usize| ((whole as f64 * share) as usize).clamp(1, whole);
    let (width, height) = (side(image.width()), side(image.height()));
    let (left, top) = (rng.below(image.width() - width + 1), rng.below(image.height() - height + 1));
    let rows = image.rgb().chunks_exact(image.width() * 3).skip(top).take(height);
    let rgb = rows.flat_map(|row| row.iter().skip(left * 3).take(width * 3)).copied().collect();
    same_or(image, width, height, rgb)
}

/// Multiplies brightness, contrast and saturation each by a factor of up to `amount` from 1 either way, in this order,
/// as `torchvision`'s functions of these names do: contrast about the mean gray, saturation about each pixel's.
pub fn colour(image: &Image, amount: f64, seed: u64) -> Image {
    let mut rng = Rng::new(seed);
    let [brightness, contrast, saturation] =
        core::array::from_fn(|_| rng.uniform(1.0 - amount, 1.0 + amount).max(0.0));
    let pixels = image.rgb().as_chunks::<3>().0;
    let bright: Vec<[u8; 3]> =
        pixels.iter().map(|pixel| pixel.map(|value| blend(value, 0.0, brightness))).collect();
    let mean = bright.iter().map(gray).sum::<f64>() / bright.len().max(1) as f64;
    let rgb = bright.iter().flat_map(|pixel| {
        let even = pixel.map(|value| blend(value, mean, contrast));
        even.map(|value| blend(value, gray(&even), saturation))
    });
    same_or(image, image.width(), image.height(), rgb.collect())
}

/// `value` as far from `center` as `factor` says, rounded and clipped.
fn blend(value: u8, center: f64, factor: f64) -> u8 {
    (center + (f64::from(value) - center) * factor).round().clamp(0.0, 255.0) as u8
}

/// ITU-R 601 luma.
fn gray(pixel: &[u8; 3]) -> f64 {
    let [r, g, b] = pixel.map(f64::from);
    0.299 * r + 0.587 * g + 0.114 * b
}

/// A picture of `rgb`, which has the bytes of these extents.
fn same_or(image: &Image, width: usize, height: usize, rgb: Vec<u8>) -> Image {
    Image::new(width, height, rgb).unwrap_or_else(|| image.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Image {
        let rgb = (0..5 * 4 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Image::new(5, 4, rgb).unwrap()
    }

    fn pixel(image: &Image, x: usize, y: usize) -> &[u8] {
        &image.rgb()[(y * image.width() + x) * 3..][..3]
    }

    #[test]
    fn flips_mirror_half_of_the_time() {
        let image = picture();
        let mut mirrored = 0;
        for seed in 0..200 {
            let flipped = flip(&image, seed);
            let is_mirror = flipped != image;
            mirrored += usize::from(is_mirror);
            for (x, y) in (0..5).flat_map(|x| (0..4).map(move |y| (x, y))) {
                let from = if is_mirror { 4 - x } else { x };
                assert_eq!(pixel(&flipped, x, y), pixel(&image, from, y));
            }
        }
        assert!((70..130).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn windows_are_parts_of_the_picture() {
        let image = picture();
        let mut places = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let part = window(&image, &(0.5..=0.8), seed);
            assert!((2..=4).contains(&part.width()) && (2..=3).contains(&part.height()));
            let fits = |left: usize, top: usize| {
                (0..part.width()).all(|x| {
                    (0..part.height()).all(|y| pixel(&part, x, y) == pixel(&image, left + x, top + y))
                })
            };
            let found = (0..=5 - part.width())
                .flat_map(|left| (0..=4 - part.height()).map(move |top| (left, top)))
                .find(|(left, top)| fits(*left, *top));
            places.insert(found.expect("it is a part of the picture"));
        }
        assert!(places.len() > 6, "{places:?}");
        assert_eq!(window(&image, &(1.0..=1.0), 3), image);
    }

    #[test]
    fn colours_keep_gray_gray_and_nothing_changes_by_nothing() {
        let image = picture();
        assert_eq!(colour(&image, 0.0, 5), image);
        let gray = Image::new(5, 4, (0..20).flat_map(|i| [i * 12; 3]).collect()).unwrap();
        for seed in 0..50 {
            let changed = colour(&gray, 0.4, seed);
            assert!(changed.rgb().as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
            assert_eq!(changed, colour(&gray, 0.4, seed));
            assert_ne!(colour(&image, 0.4, seed), colour(&image, 0.4, seed + 1));
        }
    }
}
