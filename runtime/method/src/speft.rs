//! SPEFT: sparse fine-tuning by salience (Liu et al., 2025).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SCOPE, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `speft` as the list has it: `W' = W + S`, S zero but at the places that a salience score chose before training.
///
/// A budget of at most 1 is a share of the weights, a larger one their number, of each matrix or of all together. Of the
/// paper's nine scores `synflow` follows the magnitudes of the weights through a plan of sums and activations, and `grasp` looks
/// at every clip twice, for how the gradient changes along itself; both know the weights of an int8 base by the reals
/// that its codes stand for. Starts as the base. Parameters: the budget.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "speft",
    family: Family::Selective,
    settings: &[
        SettingRow {
            name: "score",
            default: "gradient",
            expected: "random, magnitude, gradient, snip, skeletonization, taylor, fisher, synflow or grasp",
        },
        SettingRow { name: "budget", default: "0.02", expected: "a share at most 1, or a number of weights" },
        SCOPE,
    ],
    deploy: OVERLAY,
    source: "Refining Salience-Aware Sparse Fine-Tuning Strategies for Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    let scores = [
        Score::Random,
        Score::Magnitude,
        Score::Gradient,
        Score::Snip,
        Score::Skeletonization,
        Score::Taylor,
        Score::Fisher,
        Score::SynFlow,
        Score::Grasp,
    ];
    settings.value("score", |text| scores.into_iter().find(|score| score.name() == text))
}

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (score, (network, scope)) = (score(settings)?, settings.scope()?);
    let budget: f64 = settings.positive("budget")?;
    // What is drawn or read from the weights is chosen site by site, without a pass over all.
    let network = network && score.needs_data();
    let sparse = Sparse { network, ..Sparse::new("speft", score, Pattern::Entries, Budget::of(budget)) };
    let sparse = sparse.with("score", Setting::Name(score.name())).with("budget", Setting::Real(budget));
    sparse.with("scope", Setting::Name(scope)).boxed(settings)
}
