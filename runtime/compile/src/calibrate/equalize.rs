//! Cross-layer equalization: the channels between two convolutions brought to one range.
//!
//! A factor per channel moves through what lies between two convolutions: W₁ and b₁ are divided by it and W₂ is
//! multiplied by it. With a ReLU in between, or nothing, the network computes what it computed before. So it does
//! with a clamp at an upper bound, on the samples, as long as no channel is moved past that bound and those that
//! reach it are left alone.
//!
//! Source: M. Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, 2019, section
//! 4.1; there, the upper bound is dropped, and factors follow from the weights alone.

mod filters;
mod pair;

use ingraft_kernel::Host;

use self::filters::Filters;
use self::pair::Pair;
use super::CalibrateError;
use super::observe::{ChannelPeaks, Watch, observe};
use super::runs::Runs;
use crate::graph::{Diagonals, Graph};

/// An equalized graph and what was multiplied into its weights.
#[derive(Clone, Debug)]
pub(super) struct Equalized {
    pub(super) graph: Graph,
    pub(super) diagonals: Diagonals,
}

/// Equalizes every chain of convolutions in `graph`, whose weights carry `diagonals` already.
pub(super) fn equalize(
    graph: Graph,
    diagonals: Diagonals,
    runs: &Runs,
    target: &Host,
) -> Result<Equalized, CalibrateError> {
    let (mut filters, mut pairs) = pair::find(&graph);
    let mut peaks = vec![ChannelPeaks::default(); pairs.len()];
    let mut watched: Vec<Watch<'_>> = Vec::new();
    for (pair, peaks) in pairs.iter().zip(&mut peaks) {
        watched.push((pair.between, peaks));
    }
    observe(&graph, runs, target, &mut watched)?;
    for (pair, peaks) in pairs.iter_mut().zip(peaks) {
        pair.peaks = peaks.0.into_iter().map(f64::from).collect();
    }
    for _ in 0..ROUNDS_MAX {
        let moved = pairs.iter_mut().map(|pair| balance(pair, &mut filters)).fold(0.0, f64::max);
        if moved < SETTLED {
            break;
        }
    }
    let mut equalized = Equalized { graph, diagonals };
    for filters in &filters {
        filters.write(&mut equalized.graph, &mut equalized.diagonals);
    }
    Ok(equalized)
}

/// Moves the factors of one pair; gives the largest relative change.
fn balance(pair: &mut Pair, filters: &mut [Filters]) -> f64 {
    let (rows, columns) = (filters[pair.first].rows(), filters[pair.second].columns());
    // No channel grows past the largest there is: one range holds them all.
    let top = pair.bound.unwrap_or_else(|| pair.peaks.iter().copied().fold(0.0, f64::max));
    let factor = |((row, column), peak): ((&f64, &f64), &f64)| {
        let dead = *row == 0.0 || *column == 0.0;
        let bounded = pair.bound.is_some() && *peak >= top;
        if dead || bounded { 1.0 } else { (row / column).sqrt().max(peak / top.max(f64::MIN_POSITIVE)) }
    };
    let factors: Vec<f64> = rows.iter().zip(&columns).zip(&pair.peaks).map(factor).collect();
    filters[pair.first].divide_outputs(&factors);
    filters[pair.second].multiply_inputs(&factors);
    pair.peaks.iter_mut().zip(&factors).for_each(|(peak, factor)| *peak /= factor);
    factors.iter().map(|factor| (factor - 1.0).abs()).fold(0.0, f64::max)
}

/// Chains of three, whose middle layer belongs to two pairs, settle in about ten.
const ROUNDS_MAX: usize = 20;

/// The change below which another round is not worth it.
const SETTLED: f64 = 1e-3;

#[cfg(test)]
mod tests;
