//! The frozen base of a task, compiled in memory.

use std::path::Path;

use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, SiteKind, Sites};
use ingraft::plan::PlanView;

use crate::Failure;
use crate::support::AlignedBytes;

/// Plan bytes in aligned memory.
#[derive(Debug)]
pub(crate) struct Base {
    file: AlignedBytes,
}

impl Base {
    /// Compiles the model at `path` for one sample, trainable from site `train_from` on.
    pub(crate) fn compile(path: &Path, train_from: Option<&str>, head_classes: u32) -> Result<Self, Failure> {
        Self::from(path, train_from.map(|site| TrainFrom::Site(site.to_owned())), head_classes)
    }

    /// Compiles the model at `path` for one sample, trainable everywhere, for its own classes.
    pub(crate) fn compile_all(path: &Path) -> Result<Self, Failure> {
        Self::from(path, Some(TrainFrom::All), 0)
    }

    fn from(path: &Path, train_from: Option<TrainFrom>, head_classes: u32) -> Result<Self, Failure> {
        let model = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut options = CompileOptions { train_from, head_classes, ..CompileOptions::default() };
        options.import.dims.insert("N".to_owned(), 1);
        Ok(Self { file: AlignedBytes::copy_of(&compile(&model, &options)?.plan) })
    }

    /// The plan.
    pub(crate) fn plan(&self) -> Result<PlanView<'_>, Failure> {
        Ok(PlanView::new(self.file.as_slice())?)
    }

    /// The pointwise convolutions in order, one per block, with their names.
    pub(crate) fn pointwise(&self) -> Result<Vec<(u32, String)>, Failure> {
        let plan = self.plan()?;
        let site = |index: u32| {
            let site = plan.site(index as usize)?;
            let pointwise = site.kind == SiteKind::Conv && site.kernel == [1, 1];
            pointwise.then(|| (index, site.name.to_owned()))
        };
        Ok((0..plan.site_count() as u32).filter_map(site).collect())
    }
}

/// The fastest target of this machine.
pub(crate) fn target() -> &'static Host {
    use std::sync::LazyLock;
    static TARGET: LazyLock<Host> = LazyLock::new(detect);
    &TARGET
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Host {
    ingraft::x86_64::available().next().unwrap_or(Host::SCALAR)
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Host {
    Host::SCALAR
}
