//! Agreement with `golden.py`.

use ingraft_signal::Recipe;

use crate::clips::chirp;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn patch(recipe: &Recipe, samples: &[i16]) -> Vec<f32> {
    let mut memory = vec![f32::NAN; recipe.memory_len()];
    let mut out = vec![f32::NAN; recipe.out_len()];
    recipe.patch(samples, &mut memory, &mut out).unwrap();
    out
}

fn assert_close(name: &str, found: impl IntoIterator<Item = f32>, golden: &[u8], bound: f32) {
    let (found, golden): (Vec<f32>, Vec<f32>) = (found.into_iter().collect(), floats(golden));
    assert_eq!(found.len(), golden.len(), "{name}");
    let worst = found.iter().zip(&golden).map(|(found, golden)| (found - golden).abs()).fold(0.0, f32::max);
    println!("{name}: max |error| {worst:e} over {} values", golden.len());
    assert!(worst <= bound, "{name}: max |error| {worst:e}, bound {bound:e}");
}

#[test]
fn yamnet() {
    let recipe = Recipe::preset("yamnet", &[96, 64]).unwrap();
    let out = patch(&recipe, &chirp(15_600));
    let every_eighth = out.chunks(64).step_by(8).flatten().copied();
    assert_close("yamnet", every_eighth, include_bytes!("../golden/yamnet.f32"), 1e-4);
}

#[test]
fn kws_mfcc() {
    let recipe = Recipe::preset("kws-mfcc", &[49, 10, 1]).unwrap();
    let out = patch(&recipe, &chirp(16_000));
    assert_close("kws-mfcc", out, include_bytes!("../golden/kws_mfcc.f32"), 1e-4);
}

#[test]
fn logmel_image() {
    let recipe = Recipe::preset("logmel-image", &[2, 24, 20]).unwrap();
    let out = patch(&recipe, &chirp(recipe.patch_len()));
    let (first, second) = out.split_at(480);
    assert_eq!(first, second, "planes");
    assert_close("logmel-image", first.iter().copied(), include_bytes!("../golden/logmel_image.f32"), 1e-4);
}

/// FNV-1a over the bits of a patch.
fn fingerprint(patch: &[f32]) -> u64 {
    patch
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Written down on one target and checked on all.
#[test]
fn the_bits_are_the_same_on_every_target() {
    let clip = chirp(16_000);
    for (name, input, bits) in [
        ("yamnet", vec![96, 64], 0x7539_d551_67cc_8551),
        ("kws-mfcc", vec![49, 10], 0x1544_8b00_0eb0_bb67),
        ("logmel-image", vec![24, 20], 0x0484_303d_a413_6324),
        ("waveform", vec![500], 0xd5bb_2211_fa36_697b),
    ] {
        let recipe = Recipe::preset(name, &input).unwrap();
        let found = fingerprint(&patch(&recipe, &clip[..recipe.patch_len()]));
        assert_eq!(found, bits, "{name}: {found:#018x}");
    }
}
