//! How a trainer lays itself out in memory, in the order in which [`crate::TrainMemory`] counts it.

use ingraft_exec::Session;
use ingraft_kernel::Target;
use ingraft_plan::PlanView;
use ingraft_tensor::Rng;

use super::{Apart, Stage, Trainer, update};
use crate::head::Standardization;
use crate::memory::{Carver, Sizes, for_each_slot};
use crate::optim::Rate;
use crate::parameters::{Ends, Parameters, Slot};
use crate::route::Route;
use crate::{FrozenSite, LatentSites, Setup, prefix};

/// What the sites with latent parameters need beside them.
#[derive(Debug)]
pub(super) struct LatentMemory<'m> {
    /// Gradients of the computed terms, in the order of [`Parameters::computed`].
    pub(super) gradients: &'m mut [f32],
    pub(super) constants: &'m mut [f64],
    pub(super) workspace: &'m mut [f64],
}

impl<'m> LatentMemory<'m> {
    fn carve(carver: &mut Carver<'m>, ends: &Ends) -> Option<Self> {
        let gradients = carver.take(ends.computed)?;
        Some(Self {
            gradients,
            constants: carver.take(ends.constants)?,
            workspace: carver.take(ends.workspace)?,
        })
    }
}

/// What the loss sees of a clip, and the gradients of it.
#[derive(Debug)]
pub(super) struct Readings<'m> {
    /// Features, the mean over patches.
    pub(super) pooled: &'m mut [f32],
    pub(super) pooled_grad: &'m mut [f32],
    pub(super) logits: &'m mut [f32],
    pub(super) logit_grad: &'m mut [f32],
}

impl<'m> Readings<'m> {
    fn carve(carver: &mut Carver<'m>, sizes: &Sizes) -> Option<Self> {
        let (pooled, pooled_grad) = (carver.take(sizes.features)?, carver.take(sizes.features)?);
        let (logits, logit_grad) = (carver.take(sizes.logits)?, carver.take(sizes.logits)?);
        Some(Self { pooled, pooled_grad, logits, logit_grad })
    }
}

impl<'a, 'm, T: Target> Trainer<'a, 'm, T> {
    /// Lays everything beside the session out, in the order in which [`crate::TrainMemory`] counts it.
    pub(super) fn carve(
        session: Session<'a, 'm, T>,
        setup: Setup<'a>,
        sizes: &Sizes,
        carver: &mut Carver<'m>,
    ) -> Option<Self> {
        let plan = *session.plan();
        let count = sizes.ends.parameters;
        let values = carver.take(count)?;
        let gradients = carver.take(count)?;
        let state = carver.take(sizes.state)?;
        let workspace = carver.take(sizes.working)?;
        let statistics = Standardization::carve(carver, if sizes.head == 0 { 0 } else { sizes.features })?;
        let readings = Readings::carve(carver, sizes)?;
        let mut latent = LatentMemory::carve(carver, &sizes.ends)?;
        let parameters = Self::carve_parameters(&plan, &setup, sizes, values, &mut latent, carver)?;
        let apart = Self::apart(&session, &setup, sizes);
        let route = Route::new(&plan, &sizes.tap, parameters.slots, carver.bytes(sizes.backward)?);
        let cached = carve_cached(&plan, sizes, carver)?;
        let staged = carver.take(sizes.staged)?;
        Some(Self {
            session,
            setup,
            tap: sizes.tap,
            cut: sizes.cut,
            patch_bytes: sizes.patch_bytes,
            cached_bytes: sizes.cached_bytes,
            parameters,
            head_len: sizes.head,
            gradients,
            latent,
            state,
            workspace,
            statistics,
            readings,
            route,
            cached,
            staged,
            stale: true,
            owed: false,
            apart,
            shares: false,
            stage: Stage::Idle,
            loss: 0.0,
            temperature: 1.0,
            clips: 0,
            steps: 0,
        })
    }

    /// What moves on the target, where anything does.
    fn apart(session: &Session<'a, 'm, T>, setup: &Setup<'_>, sizes: &Sizes) -> Option<Apart> {
        let rate = Rate { learning_rate: 1.0, weight_decay: 0.0, scale: 1.0, gradient: 1.0, step: 1 };
        let terms_alone = sizes.slots != 0 && sizes.ends.computed == 0;
        let fits = session.target().descends() && terms_alone && setup.method.is_unconstrained();
        let moves = fits && setup.optimizer.moves(&rate).is_some();
        moves.then_some(Apart { state: sizes.head_state, ahead: false, held: false })
    }

    /// The tables around the parameters, and their start values.
    fn carve_parameters(
        plan: &PlanView<'_>,
        setup: &Setup<'_>,
        sizes: &Sizes,
        values: &'m mut [f32],
        latent: &mut LatentMemory<'m>,
        carver: &mut Carver<'m>,
    ) -> Option<Parameters<'m>> {
        let computed: &mut [f32] = carver.take(sizes.ends.computed)?;
        let indptr = carver.take(sizes.ends.indptr)?;
        let indices = carver.take(sizes.ends.indices)?;
        let ones: &mut [f32] = carver.take(sizes.ones)?;
        ones.fill(1.0);
        let zeros = carver.take(sizes.zeros)?;
        let slots = fill_slots(plan, setup, sizes.head, carver.take(sizes.slots)?)?;
        for slot in slots {
            let site = FrozenSite::new(plan, slot.site as usize)?;
            let mut rng = Rng::stream(setup.seed, u64::from(slot.site));
            // Memory arrives zeroed, so scales alone are not yet the identity.
            let held: &mut [f32] = if slot.is_latent() { computed } else { values };
            let mut terms = slot.values(held, indptr, indices);
            terms.scale.fill(1.0);
            setup.method.initialize(&site, &mut rng, &mut terms);
            if slot.is_latent() {
                let mut latent = slot.latent(values, latent.constants, latent.workspace);
                setup.method.start(&site, &mut rng, &mut latent);
            }
        }
        setup.method.settle(&mut LatentSites {
            plan,
            slots,
            values,
            gradients: &mut [],
            constants: latent.constants,
            workspace: latent.workspace,
        });
        let mut parameters =
            Parameters { values, computed, slots, indptr, indices, ones, zeros, frozen: None };
        update::compute(plan, setup.method, slots, &mut parameters, latent);
        Some(parameters)
    }
}

/// The tensors that the frozen prefix leaves to the rest.
fn carve_cached<'m>(plan: &PlanView<'_>, sizes: &Sizes, carver: &mut Carver<'m>) -> Option<&'m [u32]> {
    let cached: &mut [u32] = carver.take(sizes.cached)?;
    let behind = prefix::tensors(plan, sizes.phase, sizes.cut, &sizes.tap);
    cached.iter_mut().zip(behind).for_each(|(c, t)| *c = t);
    Some(cached)
}

/// Writes the table of trained sites; `None` when it has another length.
fn fill_slots<'m>(
    plan: &PlanView<'_>,
    setup: &Setup<'_>,
    head: usize,
    table: &'m mut [Slot],
) -> Option<&'m [Slot]> {
    let mut rows = table.iter_mut();
    let mut complete = true;
    let start = Ends { parameters: head, ..Ends::default() };
    let filled = for_each_slot(plan, setup, start, |slot, _, _| match rows.next() {
        Some(row) => *row = slot,
        None => complete = false,
    });
    (filled.is_ok() && complete && rows.next().is_none()).then_some(table)
}
