//! Gradients of every expression against finite differences, its start and its number of parameters.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::{DType, Rng};
use ingraft_train::{FrozenSite, Latent, LatentGradients, Setting, Unfit};

use super::super::word::Word;
use super::super::{Expression, Form};
use super::{Kind, Needs, Tape};
use crate::list::METHODS;
use crate::row::{MethodRow, Settings};

/// Sites of one, odd, non-square and grouped: out, inputs per group, kernel, groups.
const SITES: [(usize, usize, [usize; 2], usize); 9] = [
    (1, 1, [1, 1], 1),
    (1, 7, [1, 1], 1),
    (5, 1, [1, 1], 1),
    (5, 7, [1, 1], 1),
    (9, 4, [1, 1], 1),
    (8, 12, [1, 1], 1),
    (4, 2, [3, 3], 1),
    (6, 3, [1, 5], 2),
    (24, 30, [1, 1], 1),
];

/// Settings beside the defaults: small ranks, ranks that do not divide, other branches.
const VARIANTS: &[(&str, &[(&str, &str)])] = &[
    ("abba", &[("rank1", "2"), ("rank2", "3"), ("alpha1", "2")]),
    ("adalora", &[("rank", "3"), ("target_rank", "2"), ("alpha", "5")]),
    ("boft", &[("block", "2"), ("factors", "2")]),
    ("boft", &[("block", "3")]),
    ("bone", &[("rank", "1")]),
    ("bone", &[("rank", "2")]),
    ("bora", &[("rank", "3"), ("alpha", "5")]),
    ("c3a", &[("block", "2")]),
    ("context-peft", &[("rank", "3"), ("domains", "3"), ("domain", "1"), ("bias", "true")]),
    ("deft", &[("rank", "3")]),
    ("deft", &[("rank", "2"), ("decomposition", "relu")]),
    ("deft", &[("rank", "2"), ("para", "true")]),
    ("delora", &[("rank", "3"), ("lambda", "2")]),
    ("diablo", &[("blocks", "3")]),
    ("dora", &[("rank", "3"), ("alpha", "5")]),
    ("edora", &[("rank", "3")]),
    ("ether", &[("blocks", "1")]),
    ("ether+", &[("blocks", "2")]),
    ("flix", &[("features", "3"), ("active", "5"), ("rank", "2")]),
    ("fourierft", &[("frequencies", "5"), ("scale", "30")]),
    ("gralora", &[("grid", "1"), ("rank", "3")]),
    ("gralora", &[("grid", "2"), ("rank", "4"), ("hybrid_rank", "2"), ("alpha", "3")]),
    ("hd-pissa", &[("slices", "2"), ("rank", "3")]),
    ("hira", &[("rank", "3")]),
    ("hra", &[("rank", "2")]),
    ("hut", &[("form", "scale"), ("rank", "3"), ("alpha", "2")]),
    ("l4q", &[("rank", "3"), ("bits", "3"), ("group", "2")]),
    ("loha", &[("rank", "1")]),
    ("loha", &[("rank", "3"), ("alpha", "2")]),
    ("lokr", &[("rank", "1")]),
    ("lokr", &[("rank", "1"), ("decompose_both", "true")]),
    ("loretta", &[("rank", "3"), ("tensor_rank", "2")]),
    ("lorat", &[("rank", "3"), ("alpha", "2"), ("types", "4")]),
    ("map", &[("rank", "2")]),
    ("map", &[("delta", "loha")]),
    ("map", &[("delta", "kradapter")]),
    ("melora", &[("minis", "1"), ("rank", "3")]),
    ("mhr", &[("splits", "2"), ("skills", "3"), ("tasks", "2"), ("task", "1"), ("rank", "2")]),
    ("miss", &[("rank", "3")]),
    ("moka", &[("components", "3"), ("scale", "2")]),
    ("msplora", &[("global_rank", "3"), ("group_rank", "2"), ("layer_rank", "1"), ("group_alpha", "5")]),
    ("oft", &[("block", "3")]),
    ("oft", &[("block", "4"), ("neumann_terms", "2")]),
    ("oft", &[("block", "4"), ("neumann_terms", "5")]),
    ("peqa", &[("group", "2")]),
    ("pissa", &[("rank", "2"), ("alpha", "3")]),
    ("poly", &[("skills", "2"), ("rank", "3")]),
    ("psoft", &[("rank", "3")]),
    ("psoft", &[("rank", "3"), ("neumann_terms", "4")]),
    ("quantum-peft", &[("rank", "2"), ("layers", "2")]),
    ("qwha", &[("rank", "1"), ("scale", "3")]),
    ("randlora", &[("rank", "2"), ("alpha", "4")]),
    ("road", &[("variant", "2"), ("group", "4")]),
    ("road", &[("variant", "4"), ("group", "2")]),
    ("sketchtune", &[("bits", "1")]),
    ("sketchtune", &[("bits", "2"), ("group", "2")]),
    ("snell", &[("rank", "4"), ("mode", "hard")]),
    ("snell", &[("rank", "2"), ("tau", "0")]),
    ("snella", &[("rank", "4"), ("tau", "0.6")]),
    ("soka", &[("rank", "2")]),
    ("sora", &[("rank", "3"), ("alpha", "2")]),
    ("spectral-adapter", &[("rank", "2")]),
    ("spectral-adapter", &[("rank", "2"), ("slice", "1")]),
    ("spectral-adapter", &[("kind", "rotational"), ("rank", "3")]),
    ("sqft", &[("rank", "3"), ("quantized", "true")]),
    ("surm", &[("kind", "kronecker"), ("block", "2")]),
    ("surm", &[("kind", "symmetric-toeplitz")]),
    ("surm", &[("kind", "toeplitz"), ("scale", "2")]),
    ("ether", &[("side", "out")]),
    ("ether+", &[("side", "in")]),
    ("ether+", &[("side", "out")]),
    ("svft", &[("pattern", "plain")]),
    ("svft", &[("pattern", "top_k"), ("off_diagonals", "1")]),
    ("svft", &[("pattern", "random"), ("off_diagonals", "1")]),
    ("tinylora", &[("rank", "3"), ("coefficients", "5")]),
    ("tlora", &[("ring", "3"), ("residual_ring", "1")]),
    ("s2lora", &[("rank", "3"), ("sparsity", "0.5")]),
    ("unilora", &[("rank", "2"), ("theta_d_length", "5")]),
    ("vblora", &[("rank", "3"), ("vectors", "5"), ("vector_length", "1"), ("topk", "2")]),
    ("vblora", &[("rank", "2"), ("vectors", "4"), ("vector_length", "2"), ("topk", "3")]),
    ("vera", &[("rank", "3")]),
    ("wara", &[("rank", "3"), ("alpha", "2")]),
    ("waveft", &[("coefficients", "6")]),
];

/// An expression at a site, with memory of its own.
struct Subject {
    title: String,
    row: &'static MethodRow,
    expression: alloc::boxed::Box<dyn Expression>,
    site: SiteDesc<'static>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    needs: Needs,
    decaying: Vec<f32>,
    steady: Vec<f32>,
    constants: Vec<f64>,
    workspace: Vec<f64>,
}

fn site((out, inputs, kernel, groups): (usize, usize, [usize; 2], usize)) -> SiteDesc<'static> {
    let kind = if kernel == [1, 1] { SiteKind::Linear } else { SiteKind::Conv };
    SiteDesc { name: "site", kind, dtype: DType::F32, out, inputs, kernel, groups, transposed: false }
}

impl Subject {
    fn new(name: &str, given: &[(&str, &str)], site: SiteDesc<'static>) -> Result<Self, Unfit> {
        let row = METHODS.iter().find(|row| row.name == name).unwrap();
        let make = row.make.expression().unwrap_or_else(|| panic!("{name} is no expression"));
        let expression = make(&Settings { row, given, saliency: None }).unwrap();
        let tape = Tape::counting(site);
        let form = expression.express(&tape)?.at(&site);
        let needs = tape.needs().unwrap_or_else(|| panic!("{name} {given:?} {site:?}: shapes disagree"));
        form.layout(&site)?;
        let mut rng = Rng::new(3);
        let weight = (0..site.out * site.row()).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
        let bias = (0..site.out).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
        let mut subject = Self {
            title: alloc::format!("{name} {given:?} at {}x{}", site.out, site.row()),
            row,
            expression,
            site,
            weight,
            bias,
            needs,
            decaying: vec![0.0; needs.decaying],
            steady: vec![0.0; needs.steady],
            constants: vec![0.0; needs.constants],
            workspace: vec![f64::NAN; needs.values + needs.gradients],
        };
        subject.evaluate(Some(&mut Rng::new(5)), |_, _| ());
        Ok(subject)
    }

    /// Evaluates the expression and hands tape and form to `then`.
    fn evaluate<T>(
        &mut self,
        rng: Option<&mut Rng>,
        then: impl for<'t> FnOnce(&'t Tape<'t>, Form<'t>) -> T,
    ) -> T {
        let latent = Latent {
            decaying: &mut self.decaying,
            steady: &mut self.steady,
            constants: &mut self.constants,
            workspace: &mut self.workspace,
        };
        let frozen = FrozenSite::of_layer(self.site, &self.weight, &self.bias).unwrap();
        let tape = Tape::evaluating(frozen, latent, self.needs, rng).unwrap();
        let form = self.expression.express(&tape).unwrap().at(&self.site);
        then(&tape, form)
    }

    /// Moves every parameter to a number near it that stays exact when it is moved by a [`STEP`],
    /// and away from zero, where directions have no slope.
    fn stir(&mut self) {
        let mut rng = Rng::new(7);
        for value in self.decaying.iter_mut().chain(&mut self.steady) {
            let moved = f64::from(*value) + rng.uniform(-0.4, 0.4);
            let apart = moved.signum() * moved.abs().max(0.125);
            *value = (apart * 4096.0).round() as f32 / 4096.0;
        }
    }

    /// The inner product of the outputs with fixed numbers; detached values are those in `held`.
    fn objective(&mut self, held: &[f64]) -> f64 {
        let site = self.site;
        self.evaluate(None, |tape, form| {
            hold(tape, held);
            let outputs = form.outputs(site.out, site.row());
            let mut sum = 0.0;
            for (which, (node, _)) in outputs.into_iter().enumerate().filter_map(|(i, o)| Some((i, o?))) {
                tape.read(node, |i, value| sum += value * direction(which, i));
            }
            sum
        })
    }

    fn gradient(&mut self) -> Vec<f32> {
        let (mut decaying, mut steady) = (vec![0.0; self.needs.decaying], vec![0.0; self.needs.steady]);
        let site = self.site;
        self.evaluate(None, |tape, form| {
            tape.clear();
            for (which, output) in form.outputs(site.out, site.row()).into_iter().enumerate() {
                if let Some((node, _)) = output {
                    tape.seed(node, |i| direction(which, i));
                }
            }
            tape.backward(&mut LatentGradients { decaying: &mut decaying, steady: &mut steady });
        });
        decaying.extend(steady);
        decaying
    }

    /// The slope of the objective along parameter `index`: five points, exact to the fourth power of the step.
    fn slope(&mut self, index: usize, held: &[f64], step: f32) -> f64 {
        let mut at = |steps: f32| {
            let split = self.decaying.len();
            let vector = if index < split { &mut self.decaying } else { &mut self.steady };
            let place = if index < split { index } else { index - split };
            let kept = vector[place];
            vector[place] = kept + steps * step;
            let value = self.objective(held);
            let vector = if index < split { &mut self.decaying } else { &mut self.steady };
            vector[place] = kept;
            value
        };
        let rise = 8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0));
        rise / (12.0 * f64::from(step))
    }

    /// The values of detached nodes, in order.
    fn detached(&mut self) -> Vec<f64> {
        self.evaluate(None, |tape, _| {
            let state = tape.state.borrow();
            let detached = (0..state.entries.len).filter(|index| detaches(&state.entry(*index).kind));
            detached.flat_map(|index| state.value(index).data.to_vec()).collect()
        })
    }

    /// Whether it is not listed, or known, to start as the base: what rounds a float base does not, nor what
    /// takes a subspace out.
    fn starts_elsewhere(&self) -> bool {
        let mut rounds = false;
        self.expression.settings(&mut |name, value| {
            rounds |= matches!(name, "quantized" | "para") && value == Setting::Flag(true);
        });
        rounds || !self.row.starts_as_base
    }

    /// The delta of the weight, the scale of the output less one, and its shift.
    fn delta(&mut self) -> Vec<f64> {
        let site = self.site;
        self.evaluate(None, |tape, form| {
            let outputs = form.outputs(site.out, site.row());
            let (rank, row) = (outputs[0].map_or(0, |(_, shape)| shape.rows), site.row());
            let [down, up, mut delta, scale, shift] = outputs.map(|output| {
                let mut values = Vec::new();
                if let Some((node, _)) = output {
                    tape.read(node, |_, value| values.push(value));
                }
                values
            });
            if delta.is_empty() {
                let entry =
                    |i: usize| (0..rank).map(|k| up[i / row * rank + k] * down[k * row + i % row]).sum();
                delta = (0..site.out * row).map(entry).collect();
            }
            delta.into_iter().chain(scale.iter().map(|c| c - 1.0)).chain(shift).collect()
        })
    }
}

fn detaches(kind: &Kind) -> bool {
    matches!(kind, Kind::Word { word: Word::Detach(_), .. })
}

/// Puts `held` into the detached nodes and computes everything said after them again.
fn hold(tape: &Tape<'_>, held: &[f64]) {
    let mut state = tape.state.borrow_mut();
    let mut held = held.iter();
    for index in 0..state.entries.len {
        let entry = state.entry(index);
        if !detaches(&entry.kind) {
            state.evaluate(index);
        } else if let Some(memory) = &mut state.memory {
            let values = &mut memory.latent.workspace[entry.first..entry.first + entry.shape.len()];
            values.iter_mut().zip(&mut held).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Fixed numbers without a pattern.
fn direction(which: usize, i: usize) -> f64 {
    libm::sin((1 + i * 7 + which * 1000) as f64)
}

/// Every expression with its defaults and its variants, at every site where it is defined.
fn subjects() -> Vec<Subject> {
    let expressions = METHODS.iter().filter(|row| row.make.expression().is_some());
    let defaults = expressions.map(|row| (row.name, &[][..]));
    let cases: Vec<_> = defaults.chain(VARIANTS.iter().copied()).collect();
    cases
        .iter()
        .flat_map(|(name, given)| SITES.map(|s| Subject::new(name, given, site(s))))
        .flatten()
        .collect()
}

#[test]
fn gradients_are_slopes_of_the_surrogate() {
    for mut subject in subjects() {
        subject.stir();
        let (gradient, held) = (subject.gradient(), subject.detached());
        let largest = gradient.iter().fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
        // Of many parameters some, spread over all.
        let stride = gradient.len().div_ceil(96).max(1);
        for (index, found) in gradient.iter().enumerate().step_by(stride) {
            // A clamp has a kink, which a shorter step does not reach over.
            let close = |slope: &f64| (f64::from(*found) - slope).abs() <= 1e-5 * largest.max(1e-3);
            let (title, mut slope) = (subject.title.clone(), |step| subject.slope(index, &held, step));
            let whole = slope(STEP);
            assert!(
                close(&whole) || close(&slope(STEP / 64.0)),
                "{title}: parameter {index}: {found} is not {whole}"
            );
        }
    }
}

#[test]
fn starts_are_the_base_where_the_list_says_so() {
    let mut elsewhere = alloc::collections::BTreeMap::new();
    for mut subject in subjects() {
        let (delta, base) = (subject.delta(), subject.row.starts_as_base);
        let furthest = delta.iter().fold(0.0f64, |m, d| m.max(d.abs()));
        if subject.starts_elsewhere() {
            let most: &mut f64 = elsewhere.entry(subject.row.name).or_default();
            *most = most.max(furthest);
            continue;
        }
        // Start values are f32.
        assert!(base && furthest < 2e-6, "{}: the start is {furthest:e} from the base", subject.title);
    }
    // A quantizer may find a small weight exactly; none finds all.
    for row in METHODS.iter().filter(|row| row.make.expression().is_some() && !row.starts_as_base) {
        // These start at products of two small numbers.
        let least = if ["unilora", "vblora"].contains(&row.name) { 1e-4 } else { 1e-3 };
        assert!(elsewhere[row.name] > least, "{} starts as the base: {elsewhere:?}", row.name);
    }
}

#[test]
fn parameter_counts_are_the_published_formulas() {
    for subject in subjects() {
        let set = |wanted: &str| {
            let mut found = String::new();
            subject.expression.settings(&mut |name, value| {
                if name == wanted {
                    found = value.to_string();
                }
            });
            found
        };
        let Some(want) = super::counts::published(subject.row.name, &set, &subject.site) else { continue };
        assert_eq!(subject.needs.decaying + subject.needs.steady, want, "{}", subject.title);
    }
}

/// How far finite differences move a parameter.
const STEP: f32 = 1.0 / 1024.0;
