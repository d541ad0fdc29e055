//! A stream gives the bits of the whole clip, whatever the pieces.

use ingraft_signal::{FrontEnd, Recipe, Sample, Stream};

use crate::clips::{Random, chirp, recipes, recordings};

fn bits(patch: &[f32]) -> Vec<u32> {
    patch.iter().map(|value| value.to_bits()).collect()
}

fn whole<S: Sample>(recipe: &Recipe, clip: &[S]) -> Vec<Vec<u32>> {
    let mut memory = vec![f32::NAN; recipe.memory_len()];
    let mut front = FrontEnd::bind(recipe, &mut memory).unwrap();
    let mut out = vec![f32::NAN; recipe.out_len()];
    let patches = recipe.cut(clip);
    assert_eq!(patches.len(), recipe.patches(clip.len()));
    let patch = |samples: &[S]| {
        front.patch(samples, &mut out).unwrap();
        bits(&out)
    };
    patches.map(patch).collect()
}

/// The clip in random pieces through a stream that was bound, and perhaps used, before.
fn streamed<S: Sample>(stream: &mut Stream<'_>, recipe: &Recipe, clip: &[S], seed: u32) -> Vec<Vec<u32>> {
    let mut random = Random(seed);
    let mut out = vec![f32::NAN; recipe.out_len()];
    let mut patches = Vec::new();
    let mut left = clip;
    while !left.is_empty() {
        let longest = [1, 7, 160, 5_000, 100_000][random.below(5)];
        let (mut piece, after) = left.split_at(random.below(longest + 1).min(left.len()));
        left = after;
        while let Some(rest) = stream.push(piece, &mut out).unwrap() {
            patches.push(bits(&out));
            piece = rest;
        }
    }
    if stream.finish(&mut out).unwrap() {
        patches.push(bits(&out));
    }
    patches
}

#[test]
fn pieces_give_the_bits_of_the_whole() {
    let clip = chirp(50_000);
    for (name, recipe) in recipes() {
        let mut memory = vec![f32::NAN; recipe.stream_len()];
        let mut stream = Stream::bind(&recipe, &mut memory).unwrap();
        let patch = recipe.patch_len();
        // Clips of every kind of length, one after another through the same stream.
        let lengths = [0, 1, patch - 1, patch, patch + 1, patch + recipe.hop(), 3 * patch + 5, clip.len()];
        for (seed, len) in (1..).zip(lengths) {
            let clip = &clip[..len.min(clip.len())];
            let wanted = whole(&recipe, clip);
            let found = streamed(&mut stream, &recipe, clip, seed);
            assert_eq!(found.len(), wanted.len(), "{name}: {len} samples");
            assert!(found == wanted, "{name}: {len} samples: bits differ");
        }
    }
}

#[test]
fn recordings_give_the_bits_of_the_whole() {
    for (seed, (file, clip)) in (1..).zip(recordings(40)) {
        for (name, recipe) in recipes() {
            let mut memory = vec![f32::NAN; recipe.stream_len()];
            let mut stream = Stream::bind(&recipe, &mut memory).unwrap();
            let found = streamed(&mut stream, &recipe, &clip, seed);
            assert!(found == whole(&recipe, &clip), "{name} on {file}: bits differ");
        }
    }
}

#[test]
fn integers_and_floats_give_the_same_bits() {
    let clip = chirp(40_000);
    let floats: Vec<f32> = clip.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    for (name, recipe) in recipes() {
        assert!(whole(&recipe, &clip) == whole(&recipe, &floats), "{name}");
    }
}

#[test]
fn reset_forgets_the_clip() {
    let clip = chirp(30_000);
    for (name, recipe) in recipes() {
        let mut memory = vec![f32::NAN; recipe.stream_len()];
        let mut stream = Stream::bind(&recipe, &mut memory).unwrap();
        let mut out = vec![f32::NAN; recipe.out_len()];
        stream.push(&clip[..clip.len() / 3], &mut out).unwrap();
        stream.reset();
        assert!(streamed(&mut stream, &recipe, &clip, 9) == whole(&recipe, &clip), "{name}");
    }
}
