//! Front ends on any recipe.

use ingraft_signal::{FrontEnd, Image, Recipe, Sample, SignalError, Stream};
use ingraft_tensor::bytes;

use super::{Untrusted, keep};

/// Patch after patch of a clip, of integers and of reals, and an image.
pub(super) fn patches(untrusted: &Untrusted<'_>, memory: &mut [u8]) {
    let Some(recipe) = recipe(untrusted) else { return };
    keep((recipe.kind(), recipe.sample_rate(), recipe.hop(), recipe.shape(), recipe.to_words()));
    if let Some(samples) = bytes::cast::<i16>(untrusted.bytes) {
        keep(clip(&recipe, samples, untrusted.number, memory));
    }
    if let Some(samples) = bytes::cast::<f32>(untrusted.bytes) {
        keep(clip(&recipe, samples, untrusted.number, memory));
    }
    if let (Recipe::Image(image), Some(out)) = (recipe, bytes::cast_mut(memory)) {
        keep(pixels(&image, untrusted, out));
    }
}

/// The same clip in pieces.
pub(super) fn stream(untrusted: &Untrusted<'_>, memory: &mut [u8]) {
    let Some(recipe) = recipe(untrusted) else { return };
    let Some(samples) = bytes::cast::<i16>(untrusted.bytes) else { return };
    keep(pieces(&recipe, samples, untrusted.number, memory));
}

/// A recipe as it stands in a plan, or one by name.
fn recipe(untrusted: &Untrusted<'_>) -> Option<Recipe> {
    let name = core::str::from_utf8(untrusted.adapter).ok()?;
    let dims = [untrusted.number; 3];
    let stored = bytes::cast(untrusted.plan).and_then(Recipe::from_words);
    let recipe = stored.or_else(|| Recipe::preset(name, dims.get(..untrusted.number)?).ok())?;
    recipe.with_hop(untrusted.number as u32).ok()
}

fn clip<S: Sample>(
    recipe: &Recipe,
    samples: &[S],
    number: usize,
    memory: &mut [u8],
) -> Result<(), SignalError> {
    let Some((tables, out)) = halves(memory, number) else { return Ok(()) };
    for piece in recipe.cut(samples) {
        recipe.patch(piece, tables, out)?;
    }
    let mut front_end = FrontEnd::bind(recipe, tables)?;
    front_end.patch(samples, out)
}

fn pieces<S: Sample>(
    recipe: &Recipe,
    samples: &[S],
    number: usize,
    memory: &mut [u8],
) -> Result<(), SignalError> {
    let Some((tables, out)) = halves(memory, number) else { return Ok(()) };
    let mut stream = Stream::bind(recipe, tables)?;
    let mut rest = samples;
    while let Some(left) = stream.push(rest, out)? {
        rest = left;
    }
    keep(stream.finish(out)?);
    stream.reset();
    Ok(())
}

fn pixels(image: &Image, untrusted: &Untrusted<'_>, out: &mut [f32]) -> Result<(), SignalError> {
    image.normalize(untrusted.bytes, out.get_mut(..untrusted.number).unwrap_or_default())
}

fn halves(memory: &mut [u8], number: usize) -> Option<(&mut [f32], &mut [f32])> {
    bytes::cast_mut(memory)?.split_at_mut_checked(number)
}
