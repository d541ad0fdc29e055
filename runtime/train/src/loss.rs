//! Losses: value and gradient with respect to the logits.

mod contrastive;
#[cfg(test)]
mod tests;

use ingraft_adapter::Link;

/// What a clip's logits should say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth<'a> {
    /// This class and no other.
    Class(usize),
    /// One value per logit: class probabilities, the presence of each label, or the numbers themselves.
    Values(&'a [f32]),
    /// This class, and what a teacher says of the clip: the logits of the base, say, one per logit.
    Taught {
        /// The class.
        class: usize,
        /// The teacher's logits.
        teacher: &'a [f32],
    },
    /// What the logits, as a point, should be near to and far from.
    Keys {
        /// Points one behind the other, each with a value per logit.
        keys: &'a [f32],
        /// Which of them to be near to.
        positive: usize,
    },
}

/// How far logits are from the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Softmax cross-entropy over classes.
    CrossEntropy {
        /// Share of the truth spread evenly over all classes, in 0…1.
        smoothing: f32,
    },
    /// Sigmoid cross-entropy of each label, averaged over labels.
    BinaryCrossEntropy,
    /// Squared error, averaged over outputs.
    MeanSquaredError,
    /// (1 − share)·cross-entropy + share·T²·KL(teacher ‖ model), both softened by T (Hinton et al., 2015); of a
    /// [`Truth::Taught`] alone.
    Distillation {
        /// T, above 0.
        temperature: f32,
        /// Share of the teacher, in 0…1.
        share: f32,
    },
    /// −log of the softmax, over all keys, of the cosine with the positive one (InfoNCE, van den Oord et al., 2018; with
    /// class means as keys, prototypical networks); of [`Truth::Keys`] alone.
    Contrastive {
        /// What cosines are divided by, above 0.
        temperature: f32,
    },
}

impl Loss {
    /// The loss of `logits`; its gradient is written to `grad`.
    ///
    /// `None` when `truth` names no class of these logits, has another number of
    /// values, or `grad` has another length.
    ///
    /// # Numerics
    /// Exponentials are taken of non-positive numbers only, so finite logits give
    /// a finite loss. f32 with `libm`: the same bits on every target.
    pub fn evaluate(self, logits: &[f32], truth: Truth<'_>, grad: &mut [f32]) -> Option<f32> {
        let count = logits.len();
        let fits = match truth {
            Truth::Class(class) => class < count,
            Truth::Values(values) => values.len() == count,
            Truth::Taught { class, teacher } => class < count && teacher.len() == count,
            Truth::Keys { keys, positive } => {
                let rows = keys.len().checked_div(count).unwrap_or(0);
                positive < rows && rows.wrapping_mul(count) == keys.len()
            }
        };
        (fits && grad.len() == count && count != 0).then_some(())?;
        Some(match (self, truth) {
            (Self::Distillation { temperature, share }, Truth::Taught { class, teacher }) => {
                distillation(logits, (class, teacher), (temperature, share), grad)
            }
            (Self::Contrastive { temperature }, Truth::Keys { keys, positive }) => {
                contrastive::evaluate(logits, (keys, positive), temperature, grad)
            }
            (_, Truth::Taught { .. } | Truth::Keys { .. }) => return None,
            (Self::CrossEntropy { smoothing }, _) => cross_entropy(logits, truth, smoothing, grad),
            (Self::BinaryCrossEntropy, _) => mean_of(logits, truth, grad, binary),
            (Self::MeanSquaredError, _) => mean_of(logits, truth, grad, squared),
            (Self::Distillation { .. } | Self::Contrastive { .. }, _) => return None,
        })
    }

    /// What turns the logits of a model trained so into scores.
    pub fn link(self) -> Link {
        match self {
            Self::CrossEntropy { .. } | Self::Distillation { .. } => Link::Softmax,
            Self::BinaryCrossEntropy => Link::Sigmoid,
            Self::MeanSquaredError | Self::Contrastive { .. } => Link::Identity,
        }
    }
}

impl Truth<'_> {
    fn value(&self, index: usize) -> f32 {
        match self {
            Self::Class(class) => f32::from(u8::from(*class == index)),
            Self::Values(values) => values.get(index).copied().unwrap_or(0.0),
            Self::Taught { .. } | Self::Keys { .. } => 0.0,
        }
    }
}

fn cross_entropy(logits: &[f32], truth: Truth<'_>, smoothing: f32, grad: &mut [f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f32;
    for (g, logit) in grad.iter_mut().zip(logits) {
        *g = libm::expf(logit - largest);
        sum += *g;
    }
    let log_sum = libm::logf(sum);
    let even = smoothing / logits.len() as f32;
    let wanted = |index: usize| (1.0 - smoothing) * truth.value(index) + even;
    let mass = (0..logits.len()).map(wanted).sum::<f32>();
    let mut loss = 0.0f32;
    for (index, (g, logit)) in grad.iter_mut().zip(logits).enumerate() {
        let q = wanted(index);
        loss += q * (log_sum - (logit - largest));
        *g = mass * (*g / sum) - q;
    }
    loss
}

/// With p and q the softmax of logits and teacher over T: the gradient of T²·KL(q ‖ p) is T·(p − q).
fn distillation(
    logits: &[f32],
    (class, teacher): (usize, &[f32]),
    (temperature, share): (f32, f32),
    grad: &mut [f32],
) -> f32 {
    let hard = cross_entropy(logits, Truth::Class(class), 0.0, grad);
    let (ours, theirs) = (Softened::new(logits, temperature), Softened::new(teacher, temperature));
    let mut divergence = 0.0f32;
    for (g, (x, t)) in grad.iter_mut().zip(logits.iter().zip(teacher)) {
        let (p, q) = (ours.log(*x), theirs.log(*t));
        divergence += libm::expf(q) * (q - p);
        *g = (1.0 - share) * *g + share * temperature * (libm::expf(p) - libm::expf(q));
    }
    (1.0 - share) * hard + share * temperature * temperature * divergence
}

/// A softmax over logits divided by a temperature.
struct Softened {
    largest: f32,
    log_sum: f32,
    temperature: f32,
}

impl Softened {
    fn new(logits: &[f32], temperature: f32) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let terms = logits.iter().map(|logit| libm::expf((logit - largest) / temperature));
        Self { largest, log_sum: libm::logf(terms.sum()), temperature }
    }

    /// The logarithm of the probability of a class with this logit.
    fn log(&self, logit: f32) -> f32 {
        (logit - self.largest) / self.temperature - self.log_sum
    }
}

/// Averages the loss of each output on its own.
fn mean_of(logits: &[f32], truth: Truth<'_>, grad: &mut [f32], of: impl Fn(f32, f32) -> (f32, f32)) -> f32 {
    let count = logits.len() as f32;
    let mut loss = 0.0f32;
    for (index, (g, logit)) in grad.iter_mut().zip(logits).enumerate() {
        let (value, slope) = of(*logit, truth.value(index));
        loss += value;
        *g = slope / count;
    }
    loss / count
}

/// −t·log σ(x) − (1−t)·log(1−σ(x)) = max(x, 0) − x·t + log(1 + e^−|x|).
fn binary(x: f32, t: f32) -> (f32, f32) {
    let tail = libm::expf(-x.abs());
    let value = x.max(0.0) - x * t + libm::log1pf(tail);
    let sigmoid = if x >= 0.0 { 1.0 / (1.0 + tail) } else { tail / (1.0 + tail) };
    (value, sigmoid - t)
}

fn squared(x: f32, t: f32) -> (f32, f32) {
    let error = x - t;
    (error * error, 2.0 * error)
}
