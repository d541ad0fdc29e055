//! Terms that are computed from other tensors, and which of those were drawn.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Latent, LatentHolder, Method, TermLayout};

use super::{NamedTensor, OwnedTerms, TensorInfo, shape};
use crate::ValuesError;

/// Terms of a latent site.
///
/// A constant that was drawn may be left out only where the terms do not depend on it: where it but says how
/// parameters began.
pub(super) fn latent(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    layout: &TermLayout,
    tensors: &[NamedTensor<'_>],
) -> Result<OwnedTerms, ValuesError> {
    let (owned, missing, constants) = computed(method, site, layout, tensors, 0)?;
    if missing.is_empty() || owned == computed(method, site, layout, tensors, OTHER_SEED)?.0 {
        return Ok(owned);
    }
    let drawn = drawn_constants(method, site, &constants);
    let name = missing.into_iter().find(|name| drawn.contains(name));
    name.map_or(Ok(owned), |name| Err(ValuesError::Missing(name)))
}

/// The same with what is not there drawn from `seed`, the names of that, and all constants.
fn computed(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    layout: &TermLayout,
    tensors: &[NamedTensor<'_>],
    seed: u64,
) -> Result<(OwnedTerms, Vec<&'static str>, Vec<f64>), ValuesError> {
    let mut owned = OwnedTerms::for_layout(&site.desc, layout);
    method.initialize(site, &mut Rng::new(seed), &mut owned.values());
    let mut held = Held::new(layout);
    method.start(site, &mut Rng::new(seed), &mut held.lend());
    let absent = take(method, site, tensors, &mut held.lend())?;
    method.compute(site, &mut held.lend(), &mut owned.values());
    Ok((owned, absent, held.constants))
}

/// The constants of a latent site that holds `tensors`.
pub(super) fn constants(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    layout: &TermLayout,
    tensors: &[NamedTensor<'_>],
) -> Result<Vec<(TensorInfo, Vec<f64>)>, ValuesError> {
    let (_, _, held) = computed(method, site, layout, tensors, 0)?;
    let mut constants = Vec::new();
    method.tensors(&site.desc, &mut |tensor| {
        let values = held.get(tensor.first..tensor.first + tensor.rows * tensor.columns);
        if let Some(values) = values.filter(|_| tensor.holder == LatentHolder::Constants) {
            let dims = vec![tensor.rows, tensor.columns];
            constants.push((TensorInfo { name: tensor.name, dims, trained: false }, values.to_vec()));
        }
    });
    Ok(constants)
}

/// Writes `tensors` where the method keeps them; gives the names of constants that are not among them.
pub(super) fn take(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    tensors: &[NamedTensor<'_>],
    held: &mut Latent<'_>,
) -> Result<Vec<&'static str>, ValuesError> {
    let (mut failure, mut absent) = (None, Vec::new());
    method.tensors(&site.desc, &mut |tensor| {
        let len = tensor.rows * tensor.columns;
        let range = tensor.first..tensor.first + len;
        let given = tensors.iter().find(|given| given.name == tensor.name);
        match (given, tensor.holder) {
            (Some(given), _) if given.values.len() != len => {
                failure.get_or_insert(shape(given, &[tensor.rows, tensor.columns]));
            }
            (Some(given), LatentHolder::Decaying) => narrow(&mut held.decaying[range], given.values),
            (Some(given), LatentHolder::Steady) => narrow(&mut held.steady[range], given.values),
            (Some(given), LatentHolder::Constants) => held.constants[range].copy_from_slice(given.values),
            (None, LatentHolder::Constants) => absent.push(tensor.name),
            (None, _) => drop(failure.get_or_insert(ValuesError::Missing(tensor.name))),
        }
    });
    failure.map_or(Ok(absent), Err)
}

/// Memory of one latent site.
struct Held {
    decaying: Vec<f32>,
    steady: Vec<f32>,
    constants: Vec<f64>,
    workspace: Vec<f64>,
}

impl Held {
    fn new(layout: &TermLayout) -> Self {
        let latent = layout.latent;
        Self {
            decaying: vec![0.0; latent.decaying as usize],
            steady: vec![0.0; latent.steady as usize],
            constants: vec![0.0; latent.constants as usize],
            workspace: vec![0.0; latent.workspace as usize],
        }
    }

    fn lend(&mut self) -> Latent<'_> {
        Latent {
            decaying: &mut self.decaying,
            steady: &mut self.steady,
            constants: &mut self.constants,
            workspace: &mut self.workspace,
        }
    }
}

/// Names of the constants in `constants` that the method drew: those that another seed gives otherwise.
pub(crate) fn drawn_constants(
    method: &dyn Method,
    site: &FrozenSite<'_>,
    constants: &[f64],
) -> Vec<&'static str> {
    let Ok(layout) = method.layout(&site.desc) else { return Vec::new() };
    let mut held = Held::new(&layout);
    method.start(site, &mut Rng::new(OTHER_SEED), &mut held.lend());
    let mut drawn = Vec::new();
    method.tensors(&site.desc, &mut |tensor| {
        let range = tensor.first..tensor.first + tensor.rows * tensor.columns;
        let of = |values: &[f64]| values.get(range.clone()).map(<[f64]>::to_vec);
        if tensor.holder == LatentHolder::Constants && of(constants) != of(&held.constants) {
            drawn.push(tensor.name);
        }
    });
    drawn
}

fn narrow(to: &mut [f32], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
}

/// Not a seed that anyone is likely to train with.
const OTHER_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
