//! Stated sizes are exact, and wrong ones are refused with the figure that would do.

use ingraft_signal::{FrontEnd, Recipe, SignalError, Stream, preset};

use crate::clips::recipes;

#[test]
fn one_float_less_is_refused() {
    for (name, recipe) in recipes() {
        let (needed, stream_needed, patch) = (recipe.memory_len(), recipe.stream_len(), recipe.patch_len());
        let mut out = vec![0.0; recipe.out_len()];
        let mut memory = vec![0.0; stream_needed];
        let short = SignalError::Memory { given: needed - 1, needed };
        assert_eq!(FrontEnd::bind(&recipe, &mut memory[..needed - 1]).unwrap_err(), short, "{name}");
        let short = SignalError::Memory { given: stream_needed - 1, needed: stream_needed };
        assert_eq!(Stream::bind(&recipe, &mut memory[..stream_needed - 1]).unwrap_err(), short, "{name}");

        let mut front = FrontEnd::bind(&recipe, &mut memory[..needed]).unwrap();
        let long = front.patch(&vec![0.0; patch + 1], &mut out);
        assert_eq!(long, Err(SignalError::Samples { given: patch + 1, at_most: patch }), "{name}");
        let len = out.len();
        let wrong = Err(SignalError::Output { given: len - 1, needed: len });
        assert_eq!(front.patch(&[0.0], &mut out[1..]), wrong, "{name}");
        let mut stream = Stream::bind(&recipe, &mut memory).unwrap();
        assert_eq!(stream.push(&[0.0], &mut out[1..]).map(|_| ()), wrong, "{name}");
        assert_eq!(stream.finish(&mut out[1..]).map(|_| ()), wrong, "{name}");
    }
}

#[test]
fn patches_of_a_clip() {
    let yamnet = Recipe::preset("yamnet", &[96, 64]).unwrap();
    let counts = [(0, 1), (15_600, 1), (23_279, 1), (23_280, 2), (160_000, 19)];
    for (clip, patches) in counts {
        assert_eq!(yamnet.patches(clip), patches, "{clip} samples");
    }
    let clip = [0.0; 23_280];
    let starts: Vec<usize> = yamnet.cut(&clip).map(|patch| clip.len() - patch.len()).collect();
    assert_eq!(starts, [7_680; 2]);
    assert_eq!(yamnet.cut(&clip[..9]).map(<[f32]>::len).collect::<Vec<_>>(), [9]);
    assert_eq!(yamnet.with_hop(15_680).unwrap().patches(160_000), 10);
    let rule = yamnet.with_hop(15_600).unwrap_err();
    assert_eq!(rule.to_string(), "front end: `hop` must be a multiple of `stride` samples");
}

#[test]
fn images_and_tensors_take_no_samples() {
    for recipe in [Recipe::None, Recipe::preset("image", &[3, 8, 8]).unwrap()] {
        let refused = SignalError::NotAudio { kind: recipe.kind() };
        assert_eq!(recipe.patch(&[0.0], &mut [0.0; 9], &mut [0.0; 9]), Err(refused));
        assert_eq!(Stream::bind(&recipe, &mut [0.0; 9]).unwrap_err(), refused);
        assert_eq!(
            (recipe.patches(99), recipe.hop(), recipe.memory_len(), recipe.stream_len()),
            (1, 0, 0, 0)
        );
        assert_eq!(recipe.cut(&[1, 2, 3]).collect::<Vec<_>>(), [[1, 2, 3]]);
    }
}

#[test]
fn presets_fit_the_model_input() {
    let shape = |name: &str, input: &[usize]| Recipe::preset(name, input).map(|r| r.shape().dims().to_vec());
    assert_eq!(shape("yamnet", &[96, 64]).unwrap(), [96, 64]);
    assert_eq!(shape("yamnet", &[1, 96, 64]).unwrap(), [96, 64]);
    assert_eq!(shape("kws-mfcc", &[49, 10, 1]).unwrap(), [49, 10]);
    assert_eq!(shape("logmel-image", &[3, 224, 224]).unwrap(), [3, 224, 224]);
    assert_eq!(shape("logmel-image", &[80, 100]).unwrap(), [80, 100]);
    assert_eq!(shape("waveform", &[16_000]).unwrap(), [16_000]);
    assert_eq!(shape("image", &[3, 224, 192]).unwrap(), [3, 224, 192]);
    assert_eq!(shape("image", &[32, 48, 3]).unwrap(), [32, 48, 3]);
    assert_eq!(shape("image", &[28, 28]).unwrap(), [28, 28, 1]);
    assert_eq!(shape("none", &[7]).unwrap(), []);
    for (name, input) in [
        ("yamnet", &[64, 95][..]),
        ("kws-mfcc", &[49, 11]),
        ("logmel-image", &[96]),
        ("logmel-image", &[5, 64, 96]),
        ("logmel-image", &[0, 96]),
        ("logmel-image", &[64, 0]),
        ("logmel-image", &[64, usize::MAX]),
        ("waveform", &[0]),
        ("waveform", &[usize::MAX, usize::MAX]),
        ("image", &[4, 8, 8]),
        ("image", &[3, 0, 8]),
        ("image", &[3, usize::MAX, 8]),
        ("mel", &[96, 64]),
    ] {
        let refused = shape(name, input).unwrap_err();
        assert_eq!(name == "mel", refused == SignalError::UnknownPreset, "{name} {input:?}: {refused}");
    }
    let unknown = Recipe::preset("mel", &[]).unwrap_err().to_string();
    assert!(preset::NAMES.iter().all(|name| unknown.contains(name)), "{unknown}");
}
