//! Checkpoints of HF PEFT: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! Modules are bound by the names of tensors; the config gives scales and ranks, and is checked against them.
//! What the file does not determine is refused with the reason. Layout and mathematics are those of PEFT 0.21.2.

mod adamss;
mod block_diagonal;
mod cluster;
mod config;
mod export;
mod kinds;
mod low_rank;
mod merge;
mod module;
mod norm;
mod product;
mod psoft;
mod rotation;
mod sparse;
mod wavelet;
mod weighed;

use std::collections::BTreeMap;

use ingraft_adapter::{AdapterFacts, HeadSpec, Link, ParameterSpec};
use ingraft_kernel::{
    NO_SITE, Sites,
    head::{POOL_HEIGHT, POOL_WIDTH},
};

use crate::base::{Base, Place};
use crate::bind::{Matching, Sought, bind};
use crate::change::Change;
use crate::matrix::Matrix;
use crate::tensors::{self, Tensor, Tensors, is_weight};
use crate::{Fault, ImportError, Imported, ImportedSite};
pub(crate) use config::Config;
pub use export::export_peft;
use kinds::{KINDS, Kind, REFUSED};
pub(crate) use merge::lora_delta;
use module::Module;

/// The tensors of a checkpoint by module.
#[derive(Clone, Debug, Default)]
struct Checkpoint {
    /// By path, then by the end of the name.
    adapted: BTreeMap<String, BTreeMap<String, Tensor>>,
    /// Whole weights and biases in place of the base's, by path.
    replaced: BTreeMap<String, BTreeMap<String, Tensor>>,
    /// Of the adapter as a whole.
    shared: Tensors,
    /// Full names by path, for messages.
    names: BTreeMap<String, Vec<String>>,
}

/// Reads a PEFT checkpoint as an adapter of `base`.
///
/// # Errors
/// [`ImportError`]; nothing is imported in part.
pub fn import_peft(
    base: &Base<'_>,
    config: &[u8],
    model: &[u8],
    matching: &Matching,
    provenance: &str,
) -> Result<Imported, ImportError> {
    let config = Config::parse(config)?;
    let kind = kind(&config)?;
    config.check(kind.honoured)?;
    let checkpoint = Checkpoint::new(tensors::read(model)?, kind)?;
    Reading { base, config: &config, kind, checkpoint: &checkpoint }.run(matching, provenance)
}

fn kind(config: &Config) -> Result<&'static Kind, ImportError> {
    let name = config.peft_type();
    if let Some(kind) = KINDS.iter().find(|kind| kind.peft_type == name) {
        return Ok(kind);
    }
    let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
    let fault = refused.map_or(Fault::UnknownMethod, |(_, why)| Fault::Unsupported(why));
    Err(ImportError::at(&format!("peft_type {name}"), fault))
}

impl Checkpoint {
    fn new(tensors: Tensors, kind: &Kind) -> Result<Self, ImportError> {
        let mut checkpoint = Self::default();
        for (name, tensor) in tensors {
            let key = name.replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "");
            let key = key.strip_prefix("base_model.model.").unwrap_or(&key);
            if let Some(shared) = key.strip_prefix("base_model.").filter(|rest| is_shared(rest)) {
                checkpoint.shared.insert(shared.to_owned(), tensor);
                continue;
            }
            let (path, leaf, map) = match kind.leaves.iter().find_map(|leaf| split(key, leaf)) {
                Some((path, leaf)) => (path, leaf, &mut checkpoint.adapted),
                None => {
                    let split = key.rsplit_once('.').filter(|(_, leaf)| matches!(*leaf, "weight" | "bias"));
                    let known = split.filter(|(path, _)| !foreign(path));
                    let (path, leaf) = known.ok_or_else(|| {
                        let why = "no tensor of this method, nor a weight or bias in place of the base's";
                        ImportError::at(&name, Fault::Unsupported(why))
                    })?;
                    (path.strip_suffix(".base_layer").unwrap_or(path), leaf, &mut checkpoint.replaced)
                }
            };
            let path = path.to_owned();
            checkpoint.names.entry(path.clone()).or_default().push(name);
            map.entry(path).or_default().insert(leaf.to_owned(), tensor);
        }
        if checkpoint.adapted.is_empty() && checkpoint.replaced.is_empty() {
            return Err(Fault::Missing("of any adapted module".to_owned()).into());
        }
        // What modules share by category is of one that is there.
        let category =
            |name: &'_ str| name.strip_prefix("frod_")?.split_once('.').map(|(_, end)| end.to_owned());
        let used = |name: &&String| {
            let category = category(name);
            category.is_none_or(|category| {
                checkpoint.adapted.keys().any(|path| weighed::category(path) == category)
            })
        };
        if let Some(name) = checkpoint.shared.keys().find(|name| !used(name)) {
            let why = "it is shared by modules of this category, and there are none";
            return Err(ImportError::at(name, Fault::Unsupported(why)));
        }
        Ok(checkpoint)
    }
}

/// The module of tensor `key`, and the end that `leaf` names, in which `#` stands for a number.
fn split<'k>(key: &'k str, leaf: &str) -> Option<(&'k str, &'k str)> {
    let (head, tail) = leaf.split_once('#').unwrap_or((leaf, ""));
    let mut before = key.strip_suffix(tail)?;
    if leaf.contains('#') {
        let stem = before.trim_end_matches(|digit: char| digit.is_ascii_digit());
        before = Some(stem).filter(|stem| stem.len() < before.len())?;
    }
    let path = before.strip_suffix(head)?.strip_suffix('.')?;
    Some((path, &key[path.len() + 1..]))
}

/// The path of the module that a site was bound to, as the site's settings in the adapter file say.
fn module_path(settings: &str) -> Option<&str> {
    settings.lines().find_map(|line| line.strip_prefix("module="))
}

/// Tensors that belong to the whole adapter stand right under the wrapper.
fn is_shared(rest: &str) -> bool {
    ["vera_", "pvera_", "randlora_", "vblora_vector_bank", "unilora_theta_d", "tinylora_v", "frod_"]
        .iter()
        .any(|p| rest.starts_with(p))
}

/// Whether a path ends in a part of some adapter: a tensor of another method, or of an unknown one.
fn foreign(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or("");
    let adapter = [
        "lora_",
        "hada_",
        "lokr_",
        "ia3_",
        "oft_",
        "boft_",
        "hra_",
        "vera_",
        "token_adapter",
        "trainable_tokens",
    ];
    adapter.iter().any(|prefix| last.starts_with(prefix))
}

struct Reading<'r> {
    base: &'r Base<'r>,
    config: &'r Config,
    kind: &'static Kind,
    checkpoint: &'r Checkpoint,
}

impl Reading<'_> {
    fn run(&self, matching: &Matching, provenance: &str) -> Result<Imported, ImportError> {
        let paths: Vec<&String> = self.checkpoint.names.keys().collect();
        let sought: Vec<Sought> = paths.iter().map(|path| self.sought(path)).collect();
        for (path, tensors) in &self.checkpoint.adapted {
            // Tables with rows of their own are named apart from the modules with factors, an output projection with its attention.
            if !tensors.contains_key(low_rank::TOKENS) {
                self.config.check_target(path.split(WRAPPED).next().unwrap_or(path))?;
            }
        }
        let tokens = self.checkpoint.adapted.values().any(|tensors| tensors.contains_key(low_rank::TOKENS));
        if self.config.is_on("trainable_token_indices") && !tokens {
            let fault = Fault::Missing(low_rank::TOKENS.to_owned());
            return Err(ImportError::at("trainable_token_indices", fault));
        }
        let sites = bind(self.base, &sought, matching)?;
        let places = sites.iter().map(|site| self.base.place(*site)).collect::<Result<Vec<_>, _>>()?;
        let widest =
            places.iter().map(Place::shape).fold((0, 0), |(o, r), (out, row)| (o.max(out), r.max(row)));
        // Of those with tensors of the method.
        let adapted = |path: &&String| self.checkpoint.adapted.contains_key(*path);
        let mut placed: Vec<usize> =
            paths.iter().zip(&sites).filter(|(path, _)| adapted(path)).map(|(_, site)| *site).collect();
        placed.sort_unstable();
        let mut builder = self.base.builder();
        let mut imported = Vec::new();
        let mut shared = Some(&self.checkpoint.shared);
        for (path, place) in paths.iter().zip(&places) {
            let adapted = self.checkpoint.adapted.get(*path);
            let mut change = match adapted {
                Some(_) if place.desc().kind.is_norm() && self.kind.method != "ln" => {
                    return Err(ImportError::at(path, Fault::Unsupported(NORM)));
                }
                Some(tensors) => {
                    let (config, shared) = (self.config, &self.checkpoint.shared);
                    let number = placed.iter().position(|site| *site == place.index);
                    let order = number.filter(|_| matching.accept_proposal).map(|at| (at, placed.len()));
                    (self.kind.change)(&Module { path, tensors, shared, config, place, widest, order })?
                }
                None => Change::default(),
            };
            if let Some(replaced) = self.checkpoint.replaced.get(*path) {
                if let Some(head) = self.head(place, replaced) {
                    builder.head(head);
                    builder.site_settings(place.index, place.desc().name, &[module(path)]);
                    continue;
                }
                replace(path, place, replaced, &mut change)?;
            }
            let placed = change.place(place).map_err(|error| error.or_about(path))?;
            let desc = place.desc();
            placed.terms.into_iter().for_each(|term| builder.term(place.index, desc, term));
            for parameter in parameters(adapted, self.checkpoint.replaced.get(*path), shared.take()) {
                builder.parameter(place.index, desc.name, parameter);
            }
            builder.site_settings(place.index, desc.name, &[module(path)]);
            imported.push(ImportedSite {
                name: desc.name.to_owned(),
                module: (*path).clone(),
                error: placed.error,
            });
        }
        let facts = AdapterFacts {
            method: self.method().to_owned(),
            method_version: 1,
            hyper: self.config.lines(),
            provenance: provenance.to_owned(),
            privacy: None,
        };
        Imported::new(self.base, builder.finish(&facts), imported)
    }

    fn method(&self) -> &'static str {
        let on = |name| self.config.flag(name, false).unwrap_or(false);
        match self.kind.method {
            "lora" if on("use_dora") => "dora",
            "lora" if on("use_rslora") => "rslora",
            "miss" if self.config.text("init_weights") == "bat" => "bone",
            method => method,
        }
    }

    /// What the tensors say of a module's shape.
    fn sought(&self, path: &str) -> Sought {
        let mut sought = Sought { path: path.replace(WRAPPED, "."), ..Sought::default() };
        let tensors =
            |map: &BTreeMap<String, BTreeMap<String, Tensor>>| map.get(path).cloned().unwrap_or_default();
        for (leaf, tensor) in tensors(&self.checkpoint.adapted) {
            let rest = tensor.dims.iter().skip(1).product();
            match leaf.trim_end_matches(".weight").rsplit('_').next() {
                // Of a table, the other way round.
                Some("A") if leaf.contains("embedding") => sought.out = Some(rest),
                Some("B") if leaf.contains("embedding") => sought.row = tensor.dims.first().copied(),
                Some("A") => sought.row = Some(rest),
                Some("B") => sought.out = tensor.dims.first().copied(),
                // A normalization's own parameters.
                Some("layers" | "layers.bias") => {
                    (sought.out, sought.row) = (tensor.dims.first().copied(), Some(1));
                }
                _ => {}
            }
        }
        if let Some(weight) = tensors(&self.checkpoint.replaced).get("weight") {
            (sought.out, sought.row) =
                (weight.dims.first().copied(), Some(weight.dims.iter().skip(1).product()));
        }
        sought.tensors = self.checkpoint.names.get(path).cloned().unwrap_or_default();
        sought
    }

    /// A replaced last linear layer with other classes than the base's is a head.
    fn head(&self, place: &Place<'_>, replaced: &BTreeMap<String, Tensor>) -> Option<HeadSpec> {
        let weight = replaced.get("weight").map(Tensor::matrix)?;
        let features = self.base.plan.head_features(NO_SITE, POOL_ALL)?;
        (weight.rows != place.desc().out && weight.columns == features).then_some(())?;
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
        let bias = replaced.get("bias").map_or_else(|| vec![0.0; weight.rows], |bias| narrow(&bias.values));
        // It reads the plan's features, which equalization divided by these factors.
        let weight =
            Matrix::from_fn(weight.rows, features, |row, at| weight.at(row, at) * place.input_factor(at));
        let weight = narrow(&weight.data);
        Some(HeadSpec { site: None, pool: POOL_ALL, weight, bias, labels: Vec::new(), link: Link::Softmax })
    }
}

/// The path a site is called by, as a setting of the site.
fn module(path: &str) -> (String, String) {
    ("module".to_owned(), path.to_owned())
}

/// A whole weight or bias in place of the base's, as a change of it.
fn replace(
    path: &str,
    place: &Place<'_>,
    replaced: &BTreeMap<String, Tensor>,
    change: &mut Change,
) -> Result<(), ImportError> {
    let (out, row) = place.shape();
    if let Some(weight) = replaced.get("weight") {
        if !is_weight(&weight.dims, place.desc()) {
            let fault = Fault::Shape { given: weight.dims.clone(), wanted: format!("[{out}, {row}]") };
            return Err(ImportError::at(&format!("{path}.weight"), fault));
        }
        let moved = weight.matrix().minus(&place.weight);
        change.dense = Some(change.dense.take().map_or(moved.clone(), |dense| dense.plus(&moved)));
    }
    if let Some(bias) = replaced.get("bias") {
        let why = "a trained bias before a folded batch norm needs the bias of the layer";
        let base = place.bias.as_ref().ok_or_else(|| ImportError::at(path, Fault::NeedsWeights(why)))?;
        if bias.values.len() != out {
            let fault = Fault::Shape { given: bias.dims.clone(), wanted: format!("[{out}]") };
            return Err(ImportError::at(&format!("{path}.bias"), fault));
        }
        let shift = change.shift.get_or_insert_with(|| vec![0.0; out]);
        let scale = change.scale.clone().unwrap_or_else(|| vec![1.0; out]);
        for (((shift, bias), base), scale) in shift.iter_mut().zip(&bias.values).zip(base).zip(scale) {
            *shift += scale * (bias - base);
        }
    }
    Ok(())
}

/// A module's tensors as the file had them.
fn parameters<'t>(
    adapted: Option<&'t BTreeMap<String, Tensor>>,
    replaced: Option<&'t BTreeMap<String, Tensor>>,
    shared: Option<&'t Tensors>,
) -> impl Iterator<Item = ParameterSpec> + 't {
    let spec = |name: String, tensor: &Tensor| ParameterSpec {
        name,
        dims: tensor.dims.clone(),
        values: tensor.values.clone(),
    };
    let own =
        adapted.into_iter().chain(replaced).flatten().map(move |(leaf, tensor)| spec(leaf.clone(), tensor));
    own.chain(shared.into_iter().flatten().map(move |(name, tensor)| spec(format!("{SHARED}{name}"), tensor)))
}

/// Why deltas of a weight cannot act on a normalization.
pub(crate) const NORM: &str = "a normalization takes a scale and a shift in place of its own, nothing else";

/// What stands in the path of a module that another adapted one holds: the output projection of PyTorch's attention.
pub(crate) const WRAPPED: &str = ".base_layer.";

/// A head that reads the mean over all positions.
const POOL_ALL: u32 = POOL_HEIGHT | POOL_WIDTH;

/// What the names of tensors that all modules share begin with in an adapter file.
pub(crate) const SHARED: &str = "shared/";
