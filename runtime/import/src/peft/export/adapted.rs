//! The sites of an adapter that is written, and what the method holds there.

use std::collections::BTreeMap;

use ingraft_adapter::ParameterSection;
use ingraft_kernel::{SiteDesc, Sites};
use ingraft_method::{NamedTensor, TensorInfo, build, constants};
use ingraft_plan::PlanView;
use ingraft_train::{FrozenSite, Method, Setting};
use serde_json::Value;

use crate::json::Ordered;
use crate::matrix::Matrix;
use crate::native::plain;
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

/// The adapted sites with the modules that they are called by.
pub(super) struct Adapted<'a> {
    pub(super) method: &'a str,
    pub(super) plan: &'a PlanView<'a>,
    pub(super) hyper: &'a Ordered,
    pub(super) section: &'a ParameterSection<'a>,
    pub(super) modules: &'a BTreeMap<usize, &'a str>,
    /// In the order of the plan.
    pub(super) sites: Vec<usize>,
}

/// The path of the module of site `index`: the one it was imported from, or after the name of its weight.
pub(super) fn module<'m>(modules: &BTreeMap<usize, &'m str>, index: usize, site: &SiteDesc<'m>) -> &'m str {
    let own = site.name.strip_suffix(".weight").unwrap_or(site.name);
    modules.get(&index).copied().unwrap_or(own)
}

impl Adapted<'_> {
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, SiteDesc<'_>)> {
        self.sites.iter().filter_map(|index| Some((*index, self.plan.site(*index)?)))
    }

    pub(super) fn module(&self, index: usize) -> String {
        self.plan.site(index).map_or("", |site| module(self.modules, index, &site)).to_owned()
    }

    /// Name of a tensor of site `index` in PEFT's file.
    pub(super) fn key(&self, index: usize, name: &str) -> String {
        format!("base_model.model.{}.{name}", self.module(index))
    }

    /// A whole number among the settings; 0 where there is none.
    pub(super) fn count(&self, name: &str) -> usize {
        self.hyper.get(name).and_then(Value::as_u64).unwrap_or(0) as usize
    }

    /// The method as its settings make it.
    pub(super) fn built(&self) -> Result<Box<dyn Method>> {
        let all = plain(self.hyper);
        let pairs: Vec<(&str, &str)> =
            all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        build(self.method, &pairs).map_err(|error| ImportError::at(self.method, Fault::Method(error)))
    }

    /// What the method holds at site `index` beside what it trains.
    pub(super) fn constants(&self, method: &dyn Method, index: usize) -> Result<Constants> {
        let name = self.plan.site(index).map_or("?", |site| site.name);
        let about = |fault| ImportError::at(name, fault);
        let frozen = FrozenSite::new(self.plan, index).ok_or_else(|| about(Fault::NotFinite))?;
        let held: Vec<(&str, Vec<usize>, Vec<f64>)> = self
            .section
            .site(index)
            .map(|tensor| {
                let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
                (tensor.name, dims, (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect())
            })
            .collect();
        let named: Vec<NamedTensor<'_>> =
            held.iter().map(|(name, dims, values)| NamedTensor { name, dims, values }).collect();
        constants(method, &frozen, &named).map(Constants).map_err(|error| about(Fault::Values(error)))
    }

    /// Tensor `name` of site `index` as a matrix of as many rows as its first extent.
    pub(super) fn matrix(&self, index: usize, name: &str) -> Result<Matrix> {
        let held = self.section.site(index).find(|tensor| tensor.name == name);
        let held =
            held.ok_or_else(|| ImportError::at(&self.module(index), Fault::Missing(name.to_owned())))?;
        let rows = held.dims.first().map_or(1, |rows| *rows as usize);
        let data: Vec<f64> = (0..held.values.len()).filter_map(|i| held.values.get(i)).collect();
        Ok(Matrix::new(rows, data.len().checked_div(rows).unwrap_or(0), data))
    }
}

/// A setting of `method` as a number; 0 where it has none.
pub(super) fn setting(method: &dyn Method, name: &str) -> f64 {
    let mut found = 0.0;
    method.settings(&mut |own, value| match value {
        Setting::Count(value) if own == name => found = f64::from(value),
        Setting::Real(value) if own == name => found = value,
        Setting::Single(value) if own == name => found = f64::from(value),
        Setting::Flag(value) if own == name => found = f64::from(u8::from(value)),
        _ => {}
    });
    found
}

/// Constants of one site.
pub(super) struct Constants(Vec<(TensorInfo, Vec<f64>)>);

impl Constants {
    /// The one called `name`.
    pub(super) fn matrix(&self, name: &str) -> Result<Matrix> {
        let held = self.0.iter().find(|(info, _)| info.name == name);
        let (info, values) = held.ok_or_else(|| ImportError::new(Fault::Missing(name.to_owned())))?;
        let rows = info.dims.first().copied().unwrap_or(1);
        Ok(Matrix::new(rows, values.len().checked_div(rows).unwrap_or(0), values.clone()))
    }
}
