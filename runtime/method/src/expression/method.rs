//! From an expression to a method that trains.

use alloc::boxed::Box;
use core::fmt::Debug;

use ingraft_kernel::{SiteDesc, SiteGrads, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{
    FrozenSite, Latent, LatentGradients, LatentLayout, LatentSites, LatentTensor, Method, Part, PartRate,
    Revision, Setting, SiteValues, TermLayout, Unfit,
};

use super::tape::Needs;
use super::{Form, Revised, Tape};
use crate::place::in_kernel;

/// A method written as an expression.
pub(crate) trait Expression: Debug {
    /// Its name, as in `--method NAME`.
    fn name(&self) -> &'static str;

    /// Calls `visit` with the name and value of every setting.
    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting));

    /// Whether it adapts sites of this kind. Depthwise sites have too few weights per
    /// channel for most methods to save any.
    fn adapts(&self, kind: SiteKind) -> bool {
        matches!(kind, SiteKind::Linear | SiteKind::Conv)
    }

    /// Whether weight decay applies to steady parameters too. They are a second set that may be shared otherwise than those
    /// that decay.
    fn steady_decays(&self) -> bool {
        false
    }

    /// The parts of what it says that count as constants on the way back, as published; none by default.
    fn detached(&self) -> &'static [&'static str] {
        &[]
    }

    /// Says on `tape` what becomes of its site. Must say the same for the same site.
    ///
    /// # Errors
    /// [`Unfit`] when the method is not defined there.
    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit>;

    /// Sets constants that depend on several sites, once, after all have started.
    fn settle(&self, sites: &mut Revised<'_, '_>) {
        let _ = sites;
    }

    /// What it does to its tensors between the optimizer's step and the next, beside following gradients.
    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let _ = (sites, at);
    }
}

/// An expression as a [`Method`].
#[derive(Debug)]
pub(crate) struct Expressed(pub(crate) Box<dyn Expression>);

impl Expressed {
    /// The terms at a site and what computing them needs.
    fn measure(&self, site: &SiteDesc<'_>) -> Result<(TermLayout, Needs), Unfit> {
        let tape = Tape::counting(*site);
        let form = self.0.express(&tape)?.at(site);
        let needs = tape.needs().ok_or(Unfit::Expression { out: site.out, row: site.row() })?;
        Ok((form.layout(site)?, needs))
    }

    /// A second name for memory that outlives one evaluation.
    fn lend<'l>(latent: &'l mut Latent<'_>) -> Latent<'l> {
        Latent {
            decaying: latent.decaying,
            steady: latent.steady,
            constants: latent.constants,
            workspace: latent.workspace,
        }
    }
}

impl Method for Expressed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.0.settings(visit);
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        if !self.0.adapts(site.kind) {
            return Ok(TermLayout::NONE);
        }
        let (terms, needs) = self.measure(site)?;
        let narrow =
            |n: usize| u32::try_from(n).map_err(|_| Unfit::Expression { out: site.out, row: site.row() });
        let latent = LatentLayout {
            decaying: narrow(needs.decaying)?,
            steady: narrow(needs.steady)?,
            constants: narrow(needs.constants)?,
            workspace: narrow(needs.values.saturating_add(needs.gradients))?,
            shared: needs.shared,
        };
        Ok(TermLayout { latent, ..terms })
    }

    fn rate(&self, part: Part) -> PartRate {
        let decays = part == Part::Decaying || (part == Part::Steady && self.0.steady_decays());
        PartRate { scale: 1.0, decays }
    }

    fn tensors(&self, site: &SiteDesc<'_>, visit: &mut dyn FnMut(LatentTensor)) {
        let tape = Tape::counting(*site);
        // A refusal is the layout's to report; what was declared before it is no use.
        if self.0.express(&tape).is_ok() {
            tape.tensors(visit);
        }
    }

    fn start(&self, site: &FrozenSite<'_>, rng: &mut Rng, latent: &mut Latent<'_>) {
        let Ok((_, needs)) = self.measure(&site.desc) else { return };
        if let Some(tape) = Tape::evaluating(*site, Self::lend(latent), needs, Some(rng)) {
            // Saying it sets what it declares; the layout vouched for it.
            let _ = self.0.express(&tape);
        }
    }

    fn compute(&self, site: &FrozenSite<'_>, latent: &mut Latent<'_>, terms: &mut SiteValues<'_>) {
        let Ok((_, needs)) = self.measure(&site.desc) else { return };
        let Some(tape) = Tape::evaluating(*site, Self::lend(latent), needs, None) else { return };
        let Ok(form) = self.0.express(&tape) else { return };
        let (out, row) = (site.desc.out, site.desc.row());
        let SiteValues { down, up, dense, scale, shift, .. } = terms;
        let parts = [&mut **down, &mut **up, &mut **dense, &mut **scale, &mut **shift];
        let outputs = form.at(&site.desc).outputs(out, row);
        for (which, (part, output)) in parts.into_iter().zip(outputs).enumerate() {
            let Some((node, shape)) = output else { continue };
            // The factor that reads the input is written once for every group.
            for copy in part.chunks_exact_mut(shape.len().max(1)) {
                tape.read(node, |i, value| copy[kernel_index(site, which, i)] = value as f32);
            }
        }
    }

    fn pull_back(
        &self,
        site: &FrozenSite<'_>,
        latent: &mut Latent<'_>,
        terms: &SiteGrads<'_>,
        gradients: &mut LatentGradients<'_>,
    ) {
        let Ok((_, needs)) = self.measure(&site.desc) else { return };
        let tape = Tape::evaluating(*site, Self::lend(latent), needs, None).map(Tape::going_back);
        let Some(tape) = tape else { return };
        let Ok(form) = self.0.express(&tape) else { return };
        let form = form.at(&site.desc);
        tape.clear();
        let parts = [&terms.down, &terms.up, &terms.dense, &terms.scale, &terms.shift];
        let outputs = form.outputs(site.desc.out, site.desc.row());
        for (which, (part, output)) in parts.into_iter().zip(outputs).enumerate() {
            let (Some(part), Some((node, shape))) = (part, output) else { continue };
            for copy in part.chunks_exact(shape.len().max(1)) {
                tape.seed(node, |i| f64::from(copy[kernel_index(site, which, i)]));
            }
        }
        tape.backward(gradients);
    }

    fn settle(&self, sites: &mut LatentSites<'_>) {
        self.0.settle(&mut Revised::new(&*self.0, sites));
    }

    fn revise(&self, sites: &mut LatentSites<'_>, at: &Revision) {
        self.0.revise(&mut Revised::new(&*self.0, sites), at);
    }
}

/// Where element `i` of output `which` stands in its term: rows of the first (down) are in a
/// kernel's order there, the third (delta) is in the layout of the base's weight.
fn kernel_index(site: &FrozenSite<'_>, which: usize, i: usize) -> usize {
    let row = site.desc.row().max(1);
    match which {
        0 => i / row * row + in_kernel(&site.desc, i % row),
        2 => site.offset(i / row, in_kernel(&site.desc, i % row)),
        _ => i,
    }
}
