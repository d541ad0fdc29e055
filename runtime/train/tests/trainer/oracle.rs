//! Comparing the trainer's gradients with finite differences of the float surrogate.

use ingraft_adapter::TermSource;
use ingraft_kernel::{Host, Sites};
use ingraft_plan::PlanView;
use ingraft_tensor::Rng;
use ingraft_train::{Clip, LatentLayout, Method, Readout, TermLayout, Trainer, Truth};

use crate::setup::setup;
use crate::surrogate::{Roundings, Tensors, Terms};
use crate::tiny::{self, Aligned, MIX, MIXED, Net};

const CLASS: usize = 1;

/// The features a readout takes from one patch.
fn features(readout: Readout, tensors: &Tensors) -> Vec<f64> {
    let [h, w, c] = MIXED;
    match readout {
        Readout::Logits => tensors.logits.clone(),
        Readout::Head { site: MIX, .. } => {
            (0..w * c).map(|i| (0..h).map(|y| tensors.mix[y * w * c + i]).sum::<f64>() / h as f64).collect()
        }
        Readout::Head { .. } => tensors.pool.clone(),
    }
}

/// Cross-entropy with label smoothing 0.1.
fn loss(logits: &[f64]) -> f64 {
    let log_sum = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
    let wanted = |i: usize| 0.1 / logits.len() as f64 + if i == CLASS { 0.9 } else { 0.0 };
    logits.iter().enumerate().map(|(i, z)| wanted(i) * (log_sum - z)).sum()
}

/// The oracle: everything the loss depends on, in f64.
struct Oracle<'o> {
    net: &'o Net,
    readout: Readout,
    patches: &'o [Vec<u8>],
    /// Head weight, bias, mean and 1/std.
    head: [Vec<f64>; 4],
    terms: [Terms; 5],
    trained: &'o [(u32, TermLayout)],
}

impl Oracle<'_> {
    fn loss(&self, per_patch: impl Fn(usize, &[u8]) -> Tensors) -> f64 {
        let all: Vec<Vec<f64>> = self
            .patches
            .iter()
            .enumerate()
            .map(|(i, patch)| features(self.readout, &per_patch(i, patch)))
            .collect();
        let count = all[0].len();
        let pooled: Vec<f64> =
            (0..count).map(|i| all.iter().map(|f| f[i]).sum::<f64>() / all.len() as f64).collect();
        if self.readout == Readout::Logits {
            return loss(&pooled);
        }
        let [weight, bias, mean, inverse_std] = &self.head;
        let z: Vec<f64> = (0..count).map(|i| (pooled[i] - mean[i]) * inverse_std[i]).collect();
        let row =
            |class: usize| weight[class * count..][..count].iter().zip(&z).map(|(w, z)| w * z).sum::<f64>();
        loss(&bias.iter().enumerate().map(|(class, b)| b + row(class)).collect::<Vec<_>>())
    }

    /// Calls `visit(value)` with every parameter in the order of the trainer's vector.
    fn for_each_parameter(&mut self, mut visit: impl FnMut(&mut f64)) {
        let [weight, bias, ..] = &mut self.head;
        weight.iter_mut().chain(bias).for_each(&mut visit);
        // Where terms are computed, they are no parameters themselves.
        for (site, layout) in self.trained.iter().filter(|(_, layout)| layout.latent == LatentLayout::NONE) {
            let Terms { down, up, sparse, dense, scale, shift, .. } = &mut self.terms[*site as usize];
            let sparse = sparse.iter_mut().map(|s| &mut s.2);
            let scale = scale.iter_mut().filter(|_| layout.scale);
            let shift = shift.iter_mut().filter(|_| layout.shift);
            let deltas = down.iter_mut().chain(up).chain(sparse).chain(dense);
            deltas.chain(scale).chain(shift).for_each(&mut visit);
        }
    }
}

/// Checks every parameter that `method` trains at `sites`, and the head's, on a
/// clip of `patches` patches. Start values are moved by random amounts: zeros
/// would hide the gradients of what they multiply.
pub(crate) fn check(method: &dyn Method, readout: Readout, sites: &[u32], patches: usize) {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(method, sites, readout);
    let needed = Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total();
    let mut memory = Aligned::zeroed(needed);
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let mut rng = Rng::new(3);
    let patches: Vec<Vec<u8>> = (0..patches).map(|_| tiny::patch(&mut rng)).collect();
    for _ in 0..9 {
        trainer.observe(Clip::Inputs(&tiny::patch(&mut rng))).unwrap();
    }
    trainer.standardize();
    let mut values = trainer.parameters().values().to_vec();
    let head = trainer.head().map_or(0, |head| head.weight.len() + head.bias.len());
    values[..head].iter_mut().for_each(|v| *v = rng.uniform(-0.5, 0.5) as f32);
    values[head..].iter_mut().for_each(|v| {
        *v = ((f64::from(*v) + rng.uniform(-0.1, 0.1)) * 65536.0).round() as f32 / 65536.0;
    });
    trainer.restore(&values).unwrap();
    let clip = patches.concat();
    let got = trainer.accumulate(Clip::Inputs(&clip), Truth::Class(CLASS)).unwrap();

    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let first = head;
    let head = trainer
        .head()
        .map_or_else(Default::default, |h| [wide(h.weight), wide(h.bias), wide(h.mean), wide(h.inverse_std)]);
    let terms = core::array::from_fn(|site| Terms::new(&trainer.parameters().terms(site)));
    let layout = |site: &u32| (*site, method.layout(&plan.site(*site as usize).unwrap()).unwrap());
    let trained: Vec<_> = sites.iter().map(layout).collect();
    let mut oracle = Oracle { net: &net, readout, patches: &patches, head, terms, trained: &trained };
    let recorded: Vec<(Tensors, Roundings)> = patches.iter().map(|p| net.record(p, &oracle.terms)).collect();
    let replayed =
        |oracle: &Oracle<'_>| oracle.loss(|i, patch| oracle.net.replay(patch, &oracle.terms, &recorded[i].1));
    assert!((f64::from(got) - replayed(&oracle)).abs() < 1e-4, "{got} {}", replayed(&oracle));

    let largest = trainer.gradients().iter().fold(0.0f32, |m, g| m.max(g.abs()));
    assert!(largest > 1e-3, "gradients vanish");
    let latent = latent(&trained, first, &oracle.terms);
    assert_eq!(latent.len(), values.len());
    for index in 0..values.len() {
        // Terms that are computed from f32 parameters are only as smooth as f32 is.
        let (difference, floor) = if !latent[index] {
            let index = latent[..index].iter().filter(|latent| !**latent).count();
            let mut at = |offset: f64| {
                let mut position = 0;
                oracle.for_each_parameter(|value| {
                    *value += if position == index { offset } else { 0.0 };
                    position += 1;
                });
                replayed(&oracle)
            };
            let step = 1e-4;
            let (above, below) = (at(step), at(-2.0 * step));
            at(step);
            ((above - below) / (2.0 * step), 1e-5)
        } else {
            let mut at = |steps: f32| {
                let mut moved = values.clone();
                moved[index] += steps * LATENT_STEP;
                trainer.restore(&moved).unwrap();
                oracle.terms = core::array::from_fn(|site| Terms::new(&trainer.parameters().terms(site)));
                replayed(&oracle)
            };
            let rise = 8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0));
            at(0.0);
            (rise / (12.0 * f64::from(LATENT_STEP)), 1e-3)
        };
        let slope = f64::from(trainer.gradients()[index]);
        let tolerance = floor * f64::from(largest) + 2e-4 * difference.abs();
        assert!(
            (slope - difference).abs() < tolerance,
            "{} {readout:?} parameter {index}: {slope} {difference}",
            method.name()
        );
    }
}

/// For every parameter, whether terms are computed from it; those of the head come first, then site by site.
fn latent(trained: &[(u32, TermLayout)], head: usize, terms: &[Terms]) -> Vec<bool> {
    let (mut latent, mut shared) = (vec![false; head], Vec::new());
    for (site, layout) in trained {
        let Terms { down, up, sparse, dense, scale, shift, .. } = &terms[*site as usize];
        let optional = |wanted: bool, values: &[f64]| if wanted { values.len() } else { 0 };
        if layout.latent == LatentLayout::NONE {
            let count = down.len() + up.len() + sparse.len() + dense.len();
            let count = count + optional(layout.scale, scale) + optional(layout.shift, shift);
            latent.extend(core::iter::repeat_n(false, count));
        } else {
            let lengths = [layout.latent.decaying, layout.latent.steady];
            for (part, (len, number)) in lengths.into_iter().zip(layout.latent.shared).enumerate() {
                // What sites share stands where the first of them has it.
                if number == 0 || !shared.contains(&(part, number)) {
                    latent.extend(core::iter::repeat_n(true, len as usize));
                }
                shared.push((part, number));
            }
        }
    }
    latent
}

/// How far latent parameters are moved, exactly.
const LATENT_STEP: f32 = 1.0 / 256.0;
