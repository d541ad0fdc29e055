//! Rewrites that keep what a graph computes and leave less of it.

mod activation;
mod affine;
pub(crate) mod batch_norm;
mod layer_norm;
pub(super) mod merge;
pub(super) mod noop;
mod power;
mod weights;

use std::collections::BTreeMap;

use super::Graph;

/// A graph in its simplest form.
///
/// No identities, no batch normalization behind a convolution that nothing else reads, no transposes in a row; activations
/// and layer normalizations that the exporter wrote out are one node.
#[derive(Clone, Debug)]
pub struct Simplified {
    /// The graph.
    pub graph: Graph,
    /// Per constant weight of a convolution (by value name), the factors o that were multiplied into its output
    /// channels: W = diag(o)·W_file. Absent where there were none.
    pub output_factors: Factors,
}

/// Factors per output channel, by the name of the weight.
pub type Factors = BTreeMap<String, Vec<f32>>;

/// Simplifies a graph.
///
/// # Numerics
/// Results agree to about 1e-6 relative: factors are folded into weights in
/// binary64 and rounded once, and a recognized function is computed more
/// exactly than the chain it replaces. Quantized parts are not touched.
pub fn simplify(mut graph: Graph) -> Simplified {
    let mut output_factors = Factors::new();
    for _ in 0..ROUNDS_MAX {
        let mut edits = noop::run(&mut graph) + merge::run(&mut graph) + weights::run(&mut graph);
        edits +=
            affine::run(&mut graph, &mut output_factors) + batch_norm::run(&mut graph, &mut output_factors);
        edits += activation::run(&mut graph) + layer_norm::run(&mut graph);
        if edits == 0 {
            break;
        }
    }
    power::run(&mut graph);
    Simplified { graph, output_factors }
}

/// A bound on the rounds. Every edit but the last few removes a node, and each pass goes through all nodes, so real
/// models settle in three or four.
const ROUNDS_MAX: usize = 16;
