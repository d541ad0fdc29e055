//! Agreement with the naive reference: every recipe on a chirp, the presets on real clips.

use ingraft_signal::{FrontEnd, Recipe};

use crate::clips::{chirp, recipes, recordings};
use crate::naive;

fn worst_error(recipe: &Recipe, front: &mut FrontEnd<'_>, samples: &[i16]) -> f64 {
    let mut out = vec![f32::NAN; recipe.out_len()];
    front.patch(samples, &mut out).unwrap();
    let wanted = naive::patch(recipe, samples);
    assert_eq!(out.len(), wanted.len());
    let errors = out.iter().zip(&wanted).map(|(found, wanted)| (f64::from(*found) - wanted).abs());
    errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

#[test]
fn every_recipe_follows_its_definition() {
    let clip = chirp(20_000);
    for (name, recipe) in recipes() {
        let mut memory = vec![f32::NAN; recipe.memory_len()];
        let mut front = FrontEnd::bind(&recipe, &mut memory).unwrap();
        // A whole patch, then one that ends in silence.
        for len in [recipe.patch_len(), recipe.patch_len() * 2 / 3] {
            let start = clip.len() - recipe.patch_len();
            let error = worst_error(&recipe, &mut front, &clip[start..start + len]);
            println!("{name}, {len} samples: max |error| {error:e}");
            // The naive reference carries samples at the level; a gain of 32768 scales the bound with it.
            let bound = if recipe.kind() == "waveform" { 1e-2 } else { 1e-4 };
            assert!(error < bound, "{name}: {error:e}");
        }
    }
}

#[test]
fn presets_on_recordings() {
    // A nearly silent patch deviates by little more than the floor of 1e-3 and so magnifies its rounding a
    // thousandfold.
    let presets = [
        ("yamnet", vec![96, 64], 1e-5),
        ("kws-mfcc", vec![49, 10], 1e-4),
        ("logmel-image", vec![64, 96], 1e-3),
    ];
    let clips = recordings(23);
    for (name, input, bound) in presets {
        let recipe = Recipe::preset(name, &input).unwrap();
        let mut memory = vec![f32::NAN; recipe.memory_len()];
        let mut front = FrontEnd::bind(&recipe, &mut memory).unwrap();
        let (mut worst, mut patches) = (0.0, 0);
        for (file, clip) in &clips {
            for samples in recipe.cut(clip).step_by(4) {
                let error = worst_error(&recipe, &mut front, samples);
                assert!(error < bound, "{name} on {file}: {error:e}, bound {bound:e}");
                worst = f64::max(worst, error);
                patches += 1;
            }
        }
        println!("{name}: max |error| {worst:e} over {patches} patches of {} recordings", clips.len());
    }
}
