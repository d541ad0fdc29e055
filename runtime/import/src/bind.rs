//! From the modules of a checkpoint to the sites of a base.

use std::collections::{BTreeMap, BTreeSet};

use ingraft_kernel::SiteDesc;

use crate::base::Base;
use crate::{Fault, ImportError};

/// How names are matched beyond what follows from them.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// Site names by module path; these come first.
    pub map: BTreeMap<String, String>,
    /// Whether what shape and order propose is taken.
    pub accept_proposal: bool,
}

impl Matching {
    /// Reads lines of `MODULE SITE`; empty ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`Fault::Setting`] for a line of another form, or a module that comes twice.
    pub fn parse(text: &str) -> Result<BTreeMap<String, String>, ImportError> {
        let mut map = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(module), Some(site), None) = (words.next(), words.next(), words.next()) else {
                return Err(ImportError::at(line, Fault::Setting("`MODULE SITE`".to_owned())));
            };
            if map.insert(module.to_owned(), site.to_owned()).is_some() {
                return Err(ImportError::at(module, Fault::Setting("there once".to_owned())));
            }
        }
        Ok(map)
    }
}

/// A module with what its tensors say of its weight's shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    pub(crate) path: String,
    pub(crate) out: Option<usize>,
    pub(crate) row: Option<usize>,
    /// Names of its tensors, for messages.
    pub(crate) tensors: Vec<String>,
}

/// The site of every module, in the order of `sought`.
///
/// # Errors
/// [`Fault::Unmatched`], [`Fault::Ambiguous`].
pub(crate) fn bind(
    base: &Base<'_>,
    sought: &[Sought],
    matching: &Matching,
) -> Result<Vec<usize>, ImportError> {
    let names = Names::new(base);
    bind_by(base, sought, matching, &|path| names.find(path))
}

/// The same for paths whose dots were written as underscores, behind one of `prefixes`.
pub(crate) fn bind_flattened(
    base: &Base<'_>,
    sought: &[Sought],
    prefixes: &[&str],
    matching: &Matching,
) -> Result<Vec<usize>, ImportError> {
    let mut names = Names::new(base);
    for (name, _) in names.stems.iter_mut().chain(&mut names.nodes) {
        // Dots stay the marks at which a name may end in another.
        *name = name.replace('_', ".");
    }
    bind_by(base, sought, matching, &|path| {
        let bare = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path);
        names.find(&bare.replace('_', "."))
    })
}

fn bind_by(
    base: &Base<'_>,
    sought: &[Sought],
    matching: &Matching,
    find: &dyn Fn(&str) -> Result<Option<usize>, ImportError>,
) -> Result<Vec<usize>, ImportError> {
    let mut bound: Vec<Option<usize>> = Vec::new();
    for module in sought {
        bound.push(match matching.map.get(&module.path) {
            Some(site) => Some(base.site(site).ok_or_else(|| {
                let why = Fault::Setting(format!("a site of this base, and {site:?} is none"));
                ImportError::at(&module.path, why)
            })?),
            None => find(&module.path)?,
        });
    }
    propose(base, sought, &mut bound, matching.accept_proposal)?;
    let mut taken: BTreeMap<usize, &str> = BTreeMap::new();
    let mut sites = Vec::new();
    for (site, module) in bound.into_iter().flatten().zip(sought) {
        if let Some(other) = taken.insert(site, &module.path) {
            let both = vec![other.to_owned(), module.path.clone()];
            let name = base.sites().nth(site).map_or("?", |(_, site)| site.name);
            return Err(ImportError::at(name, Fault::Ambiguous(both)));
        }
        sites.push(site);
    }
    Ok(sites)
}

/// What sites are called, in the model file and after the nodes that use them.
struct Names {
    /// By initializer.
    stems: Vec<(String, usize)>,
    /// By the path of the node: an exporter that renamed the weight kept that.
    nodes: Vec<(String, usize)>,
}

impl Names {
    fn new(base: &Base<'_>) -> Self {
        let stem = |name: &str| {
            let name = name.strip_suffix("_quantized").unwrap_or(name);
            // PyTorch's attention holds the weight of its three projections itself.
            let stem = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".in_proj_weight"));
            stem.unwrap_or(name).replace('/', ".")
        };
        let node = |index: usize| {
            let path = base.node(index).trim_start_matches('/');
            path.rsplit_once('/').map(|(path, _)| path.replace('/', "."))
        };
        Self {
            stems: base.sites().map(|(index, site)| (stem(site.name), index)).collect(),
            nodes: base.sites().filter_map(|(index, _)| Some((node(index)?, index))).collect(),
        }
    }

    /// The one site called like `path`: the same name, or one that ends in the other at a dot.
    fn find(&self, path: &str) -> Result<Option<usize>, ImportError> {
        let ends = |long: &str, short: &str| long.ends_with(&format!(".{short}"));
        let same = |name: &str| name == path;
        let suffix = |name: &str| ends(name, path) || ends(path, name);
        for (names, fits) in [
            (&self.stems, &same as &dyn Fn(&str) -> bool),
            (&self.nodes, &same),
            (&self.stems, &suffix),
            (&self.nodes, &suffix),
        ] {
            let found: BTreeSet<usize> =
                names.iter().filter(|(name, _)| fits(name)).map(|(_, index)| *index).collect();
            match found.len() {
                0 => {}
                1 => return Ok(found.into_iter().next()),
                _ => {
                    let name = |index: &usize| {
                        self.stems.iter().find(|(_, i)| i == index).map(|(name, _)| name.clone())
                    };
                    return Err(ImportError::at(
                        path,
                        Fault::Ambiguous(found.iter().filter_map(name).collect()),
                    ));
                }
            }
        }
        Ok(None)
    }
}

/// Fills what no name led to by shape and order, where that is accepted.
fn propose(
    base: &Base<'_>,
    sought: &[Sought],
    bound: &mut [Option<usize>],
    accept: bool,
) -> Result<(), ImportError> {
    if bound.iter().all(Option::is_some) {
        return Ok(());
    }
    let mut free: Vec<(usize, SiteDesc<'_>)> =
        base.sites().filter(|(index, _)| !bound.contains(&Some(*index))).collect();
    let unmatched = free.iter().map(|(_, site)| site.name.to_owned()).collect();
    let (mut proposal, mut lost) = (Vec::new(), Vec::new());
    let mut rest: Vec<usize> = (0..sought.len()).filter(|at| bound[*at].is_none()).collect();
    rest.sort_by_key(|at| natural(&sought[*at].path));
    for at in rest {
        let module = &sought[at];
        lost.extend(module.tensors.iter().cloned());
        let fits = |(_, site): &(usize, SiteDesc<'_>)| {
            let known = module.out.is_some() && module.row.is_some();
            known && module.out == Some(site.out) && module.row == Some(site.row())
        };
        if let Some(found) = free.iter().position(fits) {
            let (index, site) = free.remove(found);
            proposal.push((module.path.clone(), site.name.to_owned()));
            bound[at] = Some(index);
        }
    }
    if accept && bound.iter().all(Option::is_some) {
        return Ok(());
    }
    Err(ImportError::new(Fault::Unmatched { tensors: lost, sites: unmatched, proposal }))
}

/// A path with its numbers as numbers, so that layer 10 comes after layer 9.
fn natural(path: &str) -> Vec<(u64, String)> {
    path.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned())).collect()
}
