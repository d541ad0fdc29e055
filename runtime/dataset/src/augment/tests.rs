use core::f64::consts::TAU;

use super::*;

const RATE: u32 = 16_000;

fn tone(frequency: f64, length: usize) -> Vec<f32> {
    (0..length).map(|i| 0.5 * libm::sin(TAU * frequency * i as f64 / f64::from(RATE)) as f32).collect()
}

/// The frequency of a tone, from the rising zero crossings of its middle half.
fn frequency(samples: &[f32]) -> f64 {
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    let crossing = |(at, pair): (usize, &[f32])| {
        (pair[0] < 0.0 && pair[1] >= 0.0).then(|| at as f64 + f64::from(pair[0] / (pair[0] - pair[1])))
    };
    let crossings: Vec<f64> = middle.windows(2).enumerate().filter_map(crossing).collect();
    let periods = crossings.len() - 1;
    f64::from(RATE) * periods as f64 / (crossings[periods] - crossings[0])
}

#[test]
fn everything_depends_on_the_seed_alone() {
    let clip = tone(440.0, 4000);
    let texts = [
        "gain=-6..6",
        "rotate=0.5",
        "shift=0.2",
        "noise=10..20",
        "mix=5..9",
        "mixup=0.4",
        "speed=0.8..1.2",
        "pitch=-3..3",
    ];
    let mut steps: Vec<Augmentation> = texts.iter().map(|text| text.parse().unwrap()).collect();
    steps.push(Augmentation::Crop(0.1));
    for step in &steps {
        let recipe = Recipe::new(vec![step.clone()], Meaning::PitchIsFree).unwrap();
        let run = |seed| recipe.apply(&clip, RATE, &clip[..1000], seed);
        assert_eq!(run(1), run(1), "{step}");
        assert_ne!(run(1), run(2), "{step}");
        assert!(run(3).iter().all(|sample| sample.is_finite()), "{step}");
        assert!(recipe.apply(&[], RATE, &[], 1).iter().all(|sample| *sample == 0.0), "{step} of nothing");
    }
    let whole = Recipe::new(steps, Meaning::PitchIsFree).unwrap();
    assert_eq!(whole.apply(&clip, RATE, &[], 5).len(), 1600);
}

#[test]
fn gain_is_within_its_range() {
    for seed in 0..50 {
        let louder = gain(&[1.0], &(-6.0..=6.0), seed)[0];
        assert!((0.501..=1.996).contains(&louder), "{louder}");
    }
    assert!((gain(&[0.5], &(6.0..=6.0), 0)[0] - 0.5 * 1.995_262_3).abs() < 1e-6);
}

#[test]
fn shifts_keep_the_samples() {
    let ramp: Vec<f32> = (1..=100).map(|v| v as f32).collect();
    let mut leftmost = usize::MAX;
    for seed in 0..200 {
        let rotated = rotate(&ramp, 20, seed);
        let start = rotated.iter().position(|&v| v == 1.0).unwrap();
        assert!(start <= 20 || start >= 80, "{start}");
        assert!((0..100).all(|i| rotated[(start + i) % 100] == ramp[i]));

        let shifted = shift(&ramp, 20, seed);
        let kept = shifted.iter().filter(|&&v| v != 0.0).count();
        assert!((80..=100).contains(&kept));
        let kept: Vec<f32> = shifted.iter().copied().filter(|&v| v != 0.0).collect();
        assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1.0));
        leftmost = leftmost.min(start);
    }
    assert_eq!(leftmost, 0);
}

#[test]
fn noise_has_the_ratio_asked_for() {
    let clip = tone(300.0, 16_000);
    let background: Vec<f32> = tone(1234.0, 700);
    for decibels in [0.0, 10.0, 30.0] {
        let range = decibels..=decibels;
        for noisy in [noise(&clip, &range, 4), mix(&clip, &background, &range, 4)] {
            let added: Vec<f32> = noisy.iter().zip(&clip).map(|(a, b)| a - b).collect();
            let measured = 10.0 * libm::log10(power(&clip) / power(&added));
            assert!((measured - decibels).abs() < 0.01, "{measured} for {decibels} dB");
        }
    }
    assert_eq!(mix(&clip, &[], &(0.0..=0.0), 1), clip);
    assert_eq!(mix(&clip, &[0.0; 9], &(0.0..=0.0), 1), clip);
    assert_eq!(noise(&[0.0; 8], &(0.0..=0.0), 1), [0.0; 8]);
}

#[test]
fn labels_are_mixed_in_the_shares_of_the_recordings() {
    let recipe = |steps: &[&str]| {
        let steps = steps.iter().map(|step| step.parse().unwrap()).collect();
        Recipe::new(steps, Meaning::PitchIsLabel)
    };
    // The clip is silent, so what is heard is its partner, in the rest of the share.
    let mixed = recipe(&["gain=0", "mixup=0.4"]).unwrap();
    let shares: Vec<f32> = (0..20)
        .map(|seed| {
            let heard = mixed.apply(&[0.0; 8], RATE, &[1.0; 3], seed);
            let share = mixed.own_share(seed);
            assert!(heard.iter().all(|sample| *sample == 1.0 - share), "{heard:?} beside {share}");
            assert_eq!(share + (1.0 - share), 1.0);
            share
        })
        .collect();
    assert!(shares.iter().any(|share| *share != shares[0]) && shares.iter().all(|share| *share >= 0.5));
    assert_eq!(mixed.mixes(), mixed.mixes_labels());
    let background = recipe(&["mix=5..9"]).unwrap();
    assert!(background.mixes().is_some() && background.mixes_labels().is_none());
    assert_eq!((background.own_share(3), recipe(&["gain=1"]).unwrap().mixes()), (1.0, None));
    assert_eq!(recipe(&["mixup=0.4", "mixup=1"]), Err(RecipeError::Twice(Augmentation::Mixup(1.0))));
    assert!(
        ["mixup=0", "mixup=nan", "mixup=0.1..1"].iter().all(|step| step.parse::<Augmentation>().is_err())
    );
}

#[test]
fn speed_changes_length_and_pitch_together() {
    let clip = tone(500.0, 16_000);
    let faster = speed(&clip, &(1.25..=1.25), 0);
    assert_eq!(faster.len(), 12_800);
    assert!((frequency(&faster) - 625.0).abs() < 0.5, "{}", frequency(&faster));
}

#[test]
fn pitch_changes_pitch_alone() {
    let clip = tone(500.0, 16_000);
    for semitones in [-4.0, -1.0, 2.0, 5.0] {
        let shifted = pitch(&clip, RATE, &(semitones..=semitones), 0);
        assert_eq!(shifted.len(), clip.len());
        let wanted = 500.0 * libm::round(100.0 * libm::exp2(semitones / 12.0)) / 100.0;
        assert!((frequency(&shifted) - wanted).abs() < 0.01 * wanted, "{} for {wanted}", frequency(&shifted));
        let middle = &shifted[4000..12_000];
        let level = power(middle) / power(&clip[4000..12_000]);
        assert!((level - 1.0).abs() < 0.05, "level {level} at {semitones} semitones");
    }
}

#[test]
fn crops_have_the_length_asked_for() {
    let ramp: Vec<f32> = (1..=100).map(|v| v as f32).collect();
    for seed in 0..50 {
        let part = crop(&ramp, 30, seed);
        assert!(part.len() == 30 && part.windows(2).all(|pair| pair[1] == pair[0] + 1.0));
        let placed = crop(&ramp, 140, seed);
        assert_eq!(placed.len(), 140);
        assert_eq!(placed.iter().copied().filter(|&v| v != 0.0).collect::<Vec<_>>(), ramp);
    }
    assert_eq!(crop(&ramp, 100, 3), ramp);
}

#[test]
fn a_recipe_respects_what_labels_mean() {
    for text in ["speed=0.9..1.1", "pitch=1"] {
        let step: Augmentation = text.parse().unwrap();
        assert_eq!(step.to_string(), text);
        let refused = Recipe::new(vec![step.clone()], Meaning::PitchIsLabel);
        assert_eq!(refused, Err(RecipeError::ChangesLabel(step.clone())));
        assert!(Recipe::new(vec![step], Meaning::PitchIsFree).is_ok());
    }
    for text in
        ["gain", "loud=3", "gain=a..b", "gain=6..-6", "shift=0", "speed=0..1", "crop=inf", "noise=nan"]
    {
        assert!(text.parse::<Augmentation>().is_err(), "{text}");
    }
}

#[test]
fn every_step_changes_what_it_is_of_and_nothing_else() {
    let texts = ["gain=3", "time-mask=0.9", "frequency-mask=0.9", "flip", "window=0.5..0.7", "colour=0.3"];
    let image = crate::Image::new(8, 6, (0..8 * 6 * 3).map(|i| i as u8).collect()).unwrap();
    let (clip, patch) = (tone(440.0, 400), tone(300.0, 20 * 16));
    for text in texts {
        let step: Augmentation = text.parse().unwrap();
        assert_eq!(step.to_string().parse(), Ok(step.clone()));
        let recipe = Recipe::new(vec![step.clone()], Meaning::PitchIsLabel).unwrap();
        assert!(recipe.other_than(&[step.of()]).is_none());
        assert_eq!(recipe.other_than(&[]), Some(&step));
        let changes = |of: Of| {
            (0..40).any(|seed| match of {
                Of::Recording => recipe.apply(&clip, RATE, &[], seed) != clip,
                Of::Picture => recipe.apply_to_image(&image, seed) != image,
                Of::Spectrogram => {
                    let mut changed = patch.clone();
                    recipe.apply_to_patch(&mut changed, 16, false, seed);
                    changed != patch
                }
            })
        };
        for of in [Of::Recording, Of::Spectrogram, Of::Picture] {
            assert_eq!(changes(of), step.of() == of, "{text} on {of:?}");
        }
    }
    // Time along rows: the same stretch, of the other axis.
    let recipe = Recipe::new(vec![Augmentation::TimeMask(0.5)], Meaning::PitchIsLabel).unwrap();
    for seed in 0..20 {
        let (mut outer, mut inner) = (patch.clone(), transposed(&patch, 16));
        recipe.apply_to_patch(&mut outer, 16, false, seed);
        recipe.apply_to_patch(&mut inner, 20, true, seed);
        assert_eq!(transposed(&outer, 16).len(), inner.len());
        let masked = |of: &[f32], from: &[f32]| of.iter().zip(from).filter(|(a, b)| a != b).count();
        assert_eq!(masked(&outer, &patch), masked(&inner, &transposed(&patch, 16)));
    }
    for text in ["flip=1", "window=0.5..1.5", "colour=0", "time-mask=2"] {
        assert!(text.parse::<Augmentation>().is_err(), "{text}");
    }
}

fn transposed(patch: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| patch.iter().skip(column).step_by(columns).copied()).collect()
}
