//! SketchTune: fine-tunable sketches (Zhang et al., 2025).

use alloc::vec;
use alloc::vec::Vec;

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::melora::divides;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains the codebook of every row, its codes frozen: `W'[p, j] = q[p, code[p, j]]`, 2^bits values for `group` elements.
///
/// The sketch is the clustering of the group's weights with the least squared error that Lloyd's rule finds from evenly
/// ranked values; how the paper weighs errors is not known. The start is the sketch, not the base. Tensors: `sketch_codebook`
/// `[out·row/group, 2^bits]`; constant `codes` `[out, row]`, places in it. Parameters: `out·row/group·2^bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SketchTune {
    bits: u32,
    group: u32,
}

impl SketchTune {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            bits: settings.number("bits", |bits| (1..=4).contains(bits))?,
            group: settings.number("group", |_| true)?,
        })
    }
}

/// The index of the value of `book` nearest to `x`, the first of equals.
fn nearest(book: &[f64], x: f64) -> usize {
    let distance = |v: &f64| libm::fabs(v - x);
    let closer = |best: usize, (i, v): (usize, &f64)| match book.get(best) {
        Some(held) if distance(held) <= distance(v) => best,
        _ => i,
    };
    book.iter().enumerate().fold(0, closer)
}

/// `count` values that the elements of `row` cluster around (Lloyd, 1982), ascending.
fn sketch(row: &[f64], count: usize) -> Vec<f64> {
    let mut sorted = row.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ranked = |k: usize| sorted.get((2 * k + 1) * sorted.len() / (2 * count)).copied().unwrap_or(0.0);
    let mut book: Vec<f64> = (0..count).map(ranked).collect();
    for _ in 0..ROUNDS {
        let (mut sums, mut counts) = (vec![0.0; count], vec![0.0; count]);
        for value in row {
            let at = nearest(&book, *value);
            sums[at] += value;
            counts[at] += 1.0;
        }
        let means = book.iter_mut().zip(sums.iter().zip(&counts));
        means.filter(|(_, (_, n))| **n > 0.0).for_each(|(v, (sum, n))| *v = sum / n);
    }
    book
}

impl Expression for SketchTune {
    fn name(&self) -> &'static str {
        "sketchtune"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("bits", Setting::Count(self.bits));
        visit("group", Setting::Count(self.group));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let (out, row, count) = (w.rows(), w.columns(), 1usize << self.bits);
        let size = if self.group == 0 { row } else { self.group as usize };
        let groups = out * divides("group", size, row)?;
        let parts = w.reshape(groups, size);
        let books = tape.derived("", parts, groups, count, |x, values| {
            x.rows()
                .zip(values.chunks_exact_mut(count))
                .for_each(|(row, to)| to.copy_from_slice(&sketch(row, count)));
        });
        let codes = tape.derived("codes", parts, out, row, |x, values| {
            for (group, (row, to)) in x.rows().zip(values.chunks_exact_mut(size)).enumerate() {
                let book = sketch(row, count);
                to.iter_mut().zip(row).for_each(|(to, v)| *to = (group * count + nearest(&book, *v)) as f64);
            }
        });
        let book = tape.steady_parameter("sketch_codebook", groups, count, Start::Value(books));
        Ok(Form::weight(book.gather(codes)))
    }
}

/// Rounds of Lloyd's rule.
const ROUNDS: usize = 30;

/// `sketchtune` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "sketchtune",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "bits", default: "4", expected: "a whole number in 1..=4" },
        SettingRow { name: "group", default: "0", expected: "0 for whole rows, or a divisor of the row" },
    ],
    deploy: FUSED,
    source: "Sketch to Adapt: Fine-Tunable Sketches for Efficient LLM Adaptation (2025)",
    definition: Definition::Inferred,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(SketchTune::new(s))),
};

#[cfg(test)]
mod tests {
    use super::{nearest, sketch};

    #[test]
    fn clusters_are_found_and_ties_go_to_the_first() {
        let row = [0.0, 0.1, -0.1, 5.0, 5.2, 9.0, 9.0, 8.8];
        let book = sketch(&row, 3);
        for (value, want) in book.iter().zip([0.0, 5.1, 8.933333333333334]) {
            assert!((value - want).abs() < 1e-12, "{book:?}");
        }
        assert_eq!(
            [nearest(&book, 7.0), nearest(&[1.0, 3.0, 3.0], 2.0), nearest(&[1.0, 3.0, 3.0], 4.0)],
            [1, 0, 1]
        );
    }
}
