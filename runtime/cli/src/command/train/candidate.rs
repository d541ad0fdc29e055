//! A method that is to be trained: found in a plan, and given what it chooses by.

use ingraft_adapter::Adapter;
use ingraft_import::{Base, Tensors};
use ingraft_kernel::{Host, Sites};
use ingraft_method::{ContinueError, Head, Score, build, build_on, score_for};
use ingraft_plan::PlanView;
use ingraft_tensor::DType;
use ingraft_train::{Method, Optimizer, Readout};

use super::options::{CourseArgs, PlaceArgs};
use crate::training::{self, Course, Lessons, Private, SiteChoice, Stacked};
use crate::{CliError, Console};

/// A method by name, with settings over its defaults.
#[derive(Clone, Debug)]
pub(in crate::command) struct Candidate<'a> {
    pub(in crate::command) name: &'a str,
    pub(in crate::command) settings: Vec<(&'a str, &'a str)>,
}

/// A method with the sites it is offered.
#[derive(Debug)]
pub(in crate::command) struct Trainee {
    pub(in crate::command) method: Box<dyn Method>,
    pub(in crate::command) sites: Vec<u32>,
    /// How clips become logits.
    pub(in crate::command) readout: Readout,
}

/// What a run is about beside the method.
#[derive(Clone, Copy)]
pub(in crate::command) struct Terms<'t> {
    pub(in crate::command) plan: PlanView<'t>,
    /// Float initializers of the model it was compiled from, where they are at hand.
    pub(in crate::command) floats: &'t Tensors,
    pub(in crate::command) target: &'t Host,
    pub(in crate::command) place: &'t PlaceArgs,
    pub(in crate::command) readout: Readout,
    pub(in crate::command) course: &'t CourseArgs,
    /// The optimizer asked for.
    pub(in crate::command) optimizer: Option<&'t dyn Optimizer>,
    /// Versions of each clip.
    pub(in crate::command) views: u32,
    /// Seed of everything that is drawn.
    pub(in crate::command) seed: u64,
    /// The adapter that training goes on from.
    pub(in crate::command) from: Option<&'t Adapter<'t>>,
    /// The stack that what is trained is a member of.
    pub(in crate::command) on: Option<&'t Stacked<'t>>,
    /// How it is trained privately.
    pub(in crate::command) private: Option<&'t Private>,
    /// Most bytes a trainer may take.
    pub(in crate::command) memory: Option<usize>,
}

impl Candidate<'_> {
    /// Whether the method chooses what it trains by the training clips.
    ///
    /// # Errors
    /// [`CliError::Method`].
    pub(super) fn chooses_by_data(&self) -> Result<bool, CliError> {
        Ok(score_for(self.name, &self.settings)?.is_some())
    }

    /// Finds the method's sites. Where it chooses weights by gradients, they are measured on `lessons` first, in the
    /// memory that `full` takes; so are sites that are chosen by their use, within the memory there is. Gives the bytes of
    /// measuring weights too, 0 without. Measuring asks for clips several times: `lessons` keep them.
    ///
    /// # Errors
    /// [`CliError::Method`], [`CliError::NoSites`], [`CliError::TrainerMemory`], [`CliError::Train`]; [`CliError::Setting`]
    /// for useful sites without a budget.
    pub(in crate::command) fn prepare(
        &self,
        terms: &Terms<'_>,
        lessons: &Lessons<'_>,
        console: &Console<'_>,
    ) -> Result<(Trainee, usize), CliError> {
        let (trainee, measured) = self.offered(terms, lessons, console)?;
        let Some(SiteChoice::Useful) = terms.place.sites() else { return Ok((trainee, measured)) };
        let budget = terms.memory.ok_or_else(|| CliError::Setting {
            option: "--sites",
            value: "useful".to_owned(),
            expected: "--memory BYTES beside it, within which sites are chosen".to_owned(),
        })?;
        let course = terms.course_of(&trainee);
        let sites = course.useful(terms.plan, terms.target, lessons, budget, console)?;
        Ok((Trainee { sites, ..trainee }, measured))
    }

    /// The same, of all sites that are asked for or chosen from.
    fn offered(
        &self,
        terms: &Terms<'_>,
        lessons: &Lessons<'_>,
        console: &Console<'_>,
    ) -> Result<(Trainee, usize), CliError> {
        let method = build(self.name, &self.settings)?;
        let readout = terms.readout;
        let sites = match (terms.from, terms.place.sites()) {
            (Some(adapter), None) => trained_sites(adapter)?,
            (_, choice) => training::sites(&terms.plan, readout, &*method, choice)?,
        };
        let trainee = Trainee { method, sites, readout };
        let Some(score) = score_for(self.name, &self.settings)? else { return Ok((trainee, 0)) };
        let course = terms.course_of(&trainee);
        let needed = match score.passes() {
            0 => 0,
            _ => course.measuring_memory(&terms.plan, terms.target)?.total(),
        };
        terms.check(needed)?;
        let floats = terms.floats_for(score)?;
        let saliency = course.measure(terms.plan, terms.target, lessons, (score, &floats), console)?;
        let method = build_on(self.name, &self.settings, &saliency)?;
        // What was chosen may lie at other sites than those offered.
        let sites = training::sites(&terms.plan, readout, &*method, terms.place.sites())?;
        Ok((Trainee { method, sites, readout }, needed))
    }
}

impl<'t> Terms<'t> {
    /// The course of training `trainee`.
    pub(in crate::command) fn course_of(&self, trainee: &'t Trainee) -> Course<'t> {
        let course = self.course.course(trainee, (self.optimizer, self.private), self.views, self.seed);
        Course { from: self.from, on: self.on, ..course }
    }

    /// The float weights of the plan's sites, where `score` is of their rounding; none where nothing but they count and
    /// nothing was rounded: the plan has them.
    ///
    /// # Errors
    /// [`CliError::Setting`] where there are none.
    fn floats_for(&self, score: Score) -> Result<Vec<(u32, Vec<f64>)>, CliError> {
        if !score.is_of_rounding() {
            return Ok(Vec::new());
        }
        let base = Base { plan: self.plan, initializers: self.floats.clone() };
        let sites = || 0..self.plan.site_count();
        let floats: Vec<_> =
            sites().filter_map(|site| Some((site as u32, base.float_weight(site)?))).collect();
        let codes = |site| self.plan.site(site).is_some_and(|site| site.dtype == DType::I8);
        if floats.is_empty() && (score != Score::Unrounded || sites().any(codes)) {
            return Err(CliError::Setting {
                option: "--set",
                value: if score == Score::Rounding { "start=error" } else { "weights=float" }.to_owned(),
                expected: "the float model beside it, as --onnx MODEL.onnx with the names of the plan"
                    .to_owned(),
            });
        }
        Ok(floats)
    }

    /// Refuses a trainer of so many bytes where they are more than there may be.
    pub(in crate::command) fn check(&self, needed: usize) -> Result<(), CliError> {
        match self.memory {
            Some(budget) if needed > budget => Err(CliError::TrainerMemory { needed, budget }),
            _ => Ok(()),
        }
    }
}

/// The sites whose parameters `adapter` holds.
fn trained_sites(adapter: &Adapter<'_>) -> Result<Vec<u32>, CliError> {
    let section = adapter.parameters().map_err(ContinueError::from)?;
    let mut sites: Vec<u32> = section.tensors().map(|tensor| tensor.site as u32).collect();
    sites.dedup();
    // A head alone is trained at none; terms without them were written so.
    if sites.is_empty() && adapter.method() != Head.name() {
        return Err(ContinueError::NoParameters.into());
    }
    Ok(sites)
}

impl Trainee {
    /// Number of sites offered to the method.
    pub(super) fn sites(&self) -> usize {
        self.sites.len()
    }
}
