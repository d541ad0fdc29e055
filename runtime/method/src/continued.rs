//! Training that goes on from an adapter.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ingraft_adapter::{Adapter, AdapterError, SiteName};
use ingraft_kernel::{Sites, Target};
use ingraft_train::{Method, TrainError, Trainer};

use crate::ValuesError;
use crate::values::{NamedTensor, fill};

/// Why training cannot go on from an adapter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ContinueError {
    /// The file holds the terms alone.
    NoParameters,
    /// It is of another method, or of another version of it.
    Method {
        /// Name and version in the file.
        held: String,
        /// Those of the trainer.
        wanted: String,
    },
    /// Its settings are not the trainer's, or it was not trained here.
    Settings {
        /// As the file has them.
        held: String,
        /// As the trainer does.
        wanted: String,
    },
    /// One of the two trains this site, and the other does not.
    Site(SiteName),
    /// The method chose what it trains by data that is not at hand.
    Chosen(String),
    /// It was imported or combined of others: its tensors and settings are not those that this method trains.
    Foreign(String),
    /// A site's tensors are not those that the method trains there.
    Values {
        /// The site.
        site: SiteName,
        /// What is wrong with them.
        error: Box<ValuesError>,
    },
    /// The file is damaged.
    Adapter(AdapterError),
    /// The trainer is in the middle of something.
    Train(TrainError),
}

impl core::fmt::Display for ContinueError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoParameters => f.write_str(
                "the adapter holds its terms alone, not what they are trained as; train it without --terms-only",
            ),
            Self::Method { held, wanted } => {
                write!(f, "the adapter was trained by {held}, and this is {wanted}; leave --method out")
            }
            Self::Settings { held, wanted } => {
                write!(f, "the adapter was trained with [{held}], and this has [{wanted}]; leave --set out")
            }
            Self::Site(site) => write!(
                f,
                "site {}: trained in one of the adapter and this run, and not in the other; leave --sites out",
                site.as_str()
            ),
            Self::Chosen(method) => write!(
                f,
                "{method} chose what it trains by its training data, which an adapter does not hold; train it anew"
            ),
            Self::Foreign(method) => write!(
                f,
                "the adapter ({method}) was imported, or combined of others; only what `ingraft train` wrote goes on"
            ),
            Self::Values { site, error } => write!(f, "site {}: {error}", site.as_str()),
            Self::Adapter(error) => error.fmt(f),
            Self::Train(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ContinueError {}

impl From<AdapterError> for ContinueError {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(error)
    }
}

impl From<TrainError> for ContinueError {
    fn from(error: TrainError) -> Self {
        Self::Train(error)
    }
}

/// Starts `trainer` at what `adapter`, of the same method, settings and sites, was trained to.
///
/// Parameters and drawn constants are the file's, whatever the trainer's seed; the optimizer's state is new, and so is the
/// head, whose features the trainer standardizes anew ([`Trainer::start_head`]).
///
/// # Errors
/// [`ContinueError`]; after [`ContinueError::Values`] the trainer is to be bound anew.
pub fn continue_from<T: Target>(
    trainer: &mut Trainer<'_, '_, T>,
    adapter: &Adapter<'_>,
) -> Result<(), ContinueError> {
    let method = trainer.setup().method;
    let named = |name: &str, version: u32| format!("{name} (version {version})");
    let wanted = named(method.name(), method.version());
    let held = named(adapter.method(), adapter.method_version());
    if held != wanted {
        return Err(ContinueError::Method { held, wanted });
    }
    let section = adapter.parameters()?;
    let (held, wanted) = (adapter.hyper().replace('\n', ", "), settings(method));
    let own = section.site_settings().next();
    if held != wanted || own.is_some() {
        let own = own.map_or(String::new(), |(_, site, lines)| format!("; {site}: {lines}"));
        return Err(ContinueError::Settings { held: held + &own, wanted });
    }
    let mut sites: Vec<(usize, &str)> = section.tensors().map(|t| (t.site, t.site_name)).collect();
    sites.dedup();
    let trained: Vec<usize> = trainer.sites().map(|site| site as usize).collect();
    if sites.is_empty() && !trained.is_empty() {
        return Err(ContinueError::NoParameters);
    }
    if let Some((_, name)) = sites.iter().find(|(site, _)| !trained.contains(site)) {
        return Err(ContinueError::Site(SiteName::new(name)));
    }
    let missing = trained.iter().find(|site| !sites.iter().any(|(held, _)| held == *site));
    if let Some(name) =
        missing.and_then(|site| trainer.plan().site(*site)).map(|site| SiteName::new(site.name))
    {
        return Err(ContinueError::Site(name));
    }
    for (site, name) in sites {
        let held: Vec<(&str, Vec<usize>, Vec<f64>)> = section
            .site(site)
            .map(|tensor| {
                let values = (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect();
                (tensor.name, tensor.dims.iter().map(|dim| *dim as usize).collect(), values)
            })
            .collect();
        let tensors: Vec<NamedTensor<'_>> =
            held.iter().map(|(name, dims, values)| NamedTensor { name, dims, values }).collect();
        let filled = trainer
            .fill(site, |frozen, latent, values| fill(method, frozen, &tensors, latent, values))?
            .unwrap_or(Err(ValuesError::NothingHere));
        let about = |error| ContinueError::Values { site: SiteName::new(name), error: Box::new(error) };
        filled.map_err(about)?;
    }
    Ok(())
}

/// The settings of `method` as an adapter records them, in a row.
fn settings(method: &dyn Method) -> String {
    let mut pairs = Vec::new();
    method.settings(&mut |name, value| pairs.push(format!("{name}={value}")));
    pairs.join(", ")
}
