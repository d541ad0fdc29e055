//! Records from a hostile file: refused, or a recipe that keeps its word.

use ingraft_signal::{Recipe, Stream};

use crate::clips::{Random, recipes};

fn valid() -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = recipes().into_iter().map(|(_, recipe)| recipe).collect();
    recipes.push(Recipe::None);
    recipes.push(Recipe::preset("image", &[32, 20, 3]).unwrap());
    recipes
}

#[test]
fn records_return_the_recipe() {
    for recipe in valid() {
        let words = recipe.to_words();
        assert_eq!(Recipe::from_words(&words), Some(recipe));
        assert_eq!(Recipe::from_words(&words[1..]), None);
        assert_eq!(Recipe::from_words(&[&words[..], &[0]].concat()), None);
        let mut spare = words;
        spare[words.len() - 1] = 1;
        assert_eq!(Recipe::from_words(&spare), None, "a spare word is not zero");
    }
}

/// Uses a recipe that a record gave, within what a test can afford.
fn exercise(recipe: &Recipe) {
    assert_eq!(recipe.out_len() == 0, *recipe == Recipe::None);
    assert!(recipe.patches(usize::MAX) >= 1);
    let work = recipe.out_len() + recipe.stream_len();
    if work > 100_000 {
        return;
    }
    let mut out = vec![0.0; recipe.out_len()];
    if let Recipe::Image(image) = recipe {
        image.normalize(&vec![200; image.len()], &mut out).unwrap();
        assert!(out.iter().all(|value| !value.is_nan()));
    } else if recipe.sample_rate().is_some() {
        let mut memory = vec![0.0; recipe.stream_len()];
        for sample in [0.5, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0] {
            recipe.patch(&[sample], &mut memory, &mut out).unwrap();
        }
        let mut stream = Stream::bind(recipe, &mut memory).unwrap();
        stream.push(&[i16::MIN; 4], &mut out).unwrap();
        stream.finish(&mut out).unwrap();
    }
}

#[test]
fn mutated_records_are_refused_or_work() {
    let interesting = [
        0,
        1,
        2,
        63,
        64,
        2_048,
        1 << 14,
        1 << 24,
        u32::MAX,
        f32::NAN.to_bits(),
        f32::INFINITY.to_bits(),
        (-1.0_f32).to_bits(),
        1e-40_f32.to_bits(),
        1e30_f32.to_bits(),
    ];
    let mut accepted = 0;
    for recipe in valid() {
        for position in 0..recipe.to_words().len() {
            for value in interesting {
                let mut words = recipe.to_words();
                words[position] = value;
                if let Some(recipe) = Recipe::from_words(&words) {
                    assert_eq!(recipe.to_words(), words, "one recipe, one record");
                    exercise(&recipe);
                    accepted += 1;
                }
            }
        }
    }
    assert!(accepted > 100, "only {accepted} mutations were valid: the test reaches nothing");
}

#[test]
fn random_records_are_refused_or_work() {
    let mut random = Random(3);
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut words = [0; 24];
        words[0] = random.next() >> 29;
        for word in words.iter_mut().skip(1).take(random.below(24)) {
            let bits = random.next();
            *word = bits >> (random.next() >> 27);
        }
        if let Some(recipe) = Recipe::from_words(&words) {
            exercise(&recipe);
            accepted += 1;
        }
    }
    assert!(accepted > 0);
}
