//! Adapters as safetensors and JSON: every file there is, and checkpoints of any method made by hand.
//!
//! `adapter.json` says what `adapter.safetensors` holds:
//!
//! | name in it | what |
//! |---|---|
//! | `method`, `method_version`, `settings` | the method and its hyper-parameters |
//! | `base_hash` | the base; may be left out in a file made by hand |
//! | `sites.SITE` | hyper-parameters that hold at this site alone |
//! | `terms.SITE[]` | the deployed terms, by kind; left out, they are computed by the method |
//! | `head`, `provenance` | as the adapter has them |
//! | `members[]` | of a stack: `name` and `frozen` of each |
//!
//! Tensors are called `SITE.NAME` for the method's own, `terms/SITE/KIND/PART` and `head/PART` for the rest; `members/NAME` is
//! the file of a member, byte by byte.

mod parts;

use std::collections::BTreeMap;

use ingraft_adapter::{Adapter, AdapterFacts, HeadSpec, Link, ParameterSpec, TermSource};
use ingraft_kernel::NO_SITE;
use ingraft_method::{METHODS, NamedTensor, TermFormat, build, evaluate};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::aligned::Aligned;
use crate::base::Base;
use crate::change::{Placed, write as write_terms};
use crate::json::Ordered;
use crate::tensors::{self, Tensor, Tensors};
use crate::{Fault, ImportError, Imported, ImportedSite};

/// Name of the file that says what the tensors are.
pub const JSON: &str = "adapter.json";
/// Name of the file that holds them.
pub const TENSORS: &str = "adapter.safetensors";

/// The two files of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// [`JSON`].
    pub json: String,
    /// [`TENSORS`].
    pub tensors: Vec<u8>,
}

/// Writes any adapter out; [`import_native`] reads it back to the same bytes.
///
/// # Errors
/// [`Fault::Adapter`] for a damaged file.
pub fn export_native(bytes: &[u8]) -> Result<Exported, ImportError> {
    let file = Aligned::copy_of(bytes);
    let adapter = Adapter::open(file.as_slice())?;
    let section = adapter.parameters()?;
    let mut tensors = Tensors::new();
    let mut sites: BTreeMap<usize, (String, Ordered)> = BTreeMap::new();
    for tensor in section.tensors() {
        let values = (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect();
        let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
        tensors.insert(format!("{}.{}", tensor.site_name, tensor.name), Tensor { dims, values });
        sites.entry(tensor.site).or_insert_with(|| (tensor.site_name.to_owned(), Ordered::default()));
    }
    for (site, name, lines) in section.site_settings() {
        sites.insert(site, (name.to_owned(), settings(lines)));
    }
    let mut terms = Ordered::default();
    for (_, name, held) in adapter.site_terms() {
        let parts = parts::of_terms(&held, &mut |part, tensor| {
            tensors.insert(format!("terms/{name}/{part}"), tensor);
        });
        terms.0.push((name.to_owned(), parts));
    }
    let head = adapter.head().map(|head| {
        let mut put = |part: &str, dims: Vec<usize>, values: &[f32]| {
            let values = values.iter().map(|v| f64::from(*v)).collect();
            tensors.insert(format!("head/{part}"), Tensor { dims, values });
        };
        put("weight", vec![head.classes, head.weight.len() / head.classes.max(1)], head.weight);
        put("bias", vec![head.classes], head.bias);
        let site = (head.site != NO_SITE).then_some(head.site);
        let labels: Vec<&str> =
            if head.labels.is_empty() { Vec::new() } else { head.labels.split('\n').collect() };
        json!({ "site": site, "pool": head.pool, "link": head.link as u32, "labels": labels })
    });
    let mut members = Vec::new();
    for member in section.members() {
        let values: Vec<f64> = member.bytes.iter().map(|byte| f64::from(*byte)).collect();
        tensors.insert(format!("members/{}", member.name), Tensor { dims: vec![values.len()], values });
        members.push(json!({ "name": member.name, "frozen": member.frozen }));
    }
    let sites: Vec<String> = sites
        .values()
        .map(|(name, own)| format!("{}:{}", Value::from(name.as_str()), own.to_json()))
        .collect();
    let line = |name: &str, value: String| format!("  \"{name}\": {value}");
    let text = |value: &str| Value::from(value).to_string();
    let mut lines = vec![
        line("method", text(adapter.method())),
        line("method_version", adapter.method_version().to_string()),
        line("settings", settings(adapter.hyper()).to_json()),
        line("base_hash", text(&hex(adapter.base_hash()))),
        line("provenance", text(adapter.provenance())),
        line("sites", format!("{{{}}}", sites.join(","))),
        line("terms", terms.to_json()),
        line("head", head.unwrap_or(Value::Null).to_string()),
    ];
    if !members.is_empty() {
        lines.push(line("members", Value::from(members).to_string()));
    }
    let json = format!("{{\n{}\n}}\n", lines.join(",\n"));
    Ok(Exported { json, tensors: tensors::write(&tensors, &parts::is_code)? })
}

/// Lines of `name=value` as an object of texts.
fn settings(lines: &str) -> Ordered {
    let entry = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.to_owned(), Value::from(value))
    };
    Ordered(lines.lines().map(entry).collect())
}

pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `adapter.json` holds.
struct Document {
    method: String,
    version: u32,
    settings: Vec<(String, String)>,
    provenance: Option<String>,
    sites: Vec<(String, Vec<(String, String)>)>,
    terms: Option<Ordered>,
    head: Option<Value>,
    members: Vec<(String, bool)>,
}

impl Document {
    fn parse(bytes: &[u8], base: &Base<'_>) -> Result<Self, ImportError> {
        let broken = |error: serde_json::Error| ImportError::at(JSON, Fault::Json(error.to_string()));
        let whole = Ordered::parse(bytes).map_err(broken)?;
        let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(broken)?;
        let known = [
            "method",
            "method_version",
            "settings",
            "base_hash",
            "provenance",
            "sites",
            "terms",
            "head",
            "members",
        ];
        if let Some((name, _)) = whole.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(ImportError::at(
                name,
                Fault::Unsupported("no name this version knows in adapter.json"),
            ));
        }
        let object = |name: &str| match raw.get(name).filter(|_| whole.get(name).is_some()) {
            Some(value) => Ordered::parse(value.get().as_bytes()).map(Some).map_err(broken),
            None => Ok(None),
        };
        let missing = |name: &str| ImportError::at(JSON, Fault::Missing(name.to_owned()));
        if let Some(wanted) = whole.get("base_hash").and_then(Value::as_str) {
            let found = hex(base.plan.hash());
            if wanted != found {
                return Err(Fault::WrongBase { wanted: wanted.to_owned(), found }.into());
            }
        }
        let mut sites = Vec::new();
        let named: BTreeMap<String, &RawValue> = raw
            .get("sites")
            .map(|raw| serde_json::from_str(raw.get()))
            .transpose()
            .map_err(broken)?
            .unwrap_or_default();
        for (site, _) in object("sites")?.ok_or_else(|| missing("sites"))?.0 {
            let own = named
                .get(&site)
                .map(|raw| Ordered::parse(raw.get().as_bytes()))
                .transpose()
                .map_err(broken)?;
            sites.push((site, plain(&own.unwrap_or_default())));
        }
        let text = |name: &str| whole.get(name).and_then(Value::as_str).map(str::to_owned);
        let version = whole
            .get("method_version")
            .map_or(Some(1), |value| value.as_u64().and_then(|v| v.try_into().ok()));
        let version = version
            .ok_or_else(|| ImportError::at("method_version", Fault::Setting("a whole number".into())))?;
        Ok(Self {
            method: text("method").ok_or_else(|| missing("method"))?,
            version,
            settings: plain(&object("settings")?.unwrap_or_default()),
            provenance: text("provenance"),
            sites,
            terms: object("terms")?,
            head: whole.get("head").cloned(),
            members: named_members(whole.get("members"))?,
        })
    }
}

/// Name and flag of every member.
fn named_members(list: Option<&Value>) -> Result<Vec<(String, bool)>, ImportError> {
    let wrong = || ImportError::at("members", Fault::Json("a list of name and frozen".to_owned()));
    let Some(list) = list else { return Ok(Vec::new()) };
    let member = |entry: &Value| {
        let name = entry.get("name").and_then(Value::as_str).ok_or_else(wrong)?;
        Ok((name.to_owned(), entry.get("frozen").and_then(Value::as_bool).ok_or_else(wrong)?))
    };
    list.as_array().ok_or_else(wrong)?.iter().map(member).collect()
}

/// Values as texts: `"8"` and `8` are the same setting.
pub(crate) fn plain(entries: &Ordered) -> Vec<(String, String)> {
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    entries.0.iter().map(|(name, held)| (name.clone(), value(held))).collect()
}

/// Reads what [`export_native`] wrote, or a checkpoint of any method made by hand.
///
/// # Errors
/// [`ImportError`]; nothing is imported in part.
pub fn import_native(
    base: &Base<'_>,
    json: &[u8],
    model: &[u8],
    provenance: &str,
) -> Result<Imported, ImportError> {
    let document = Document::parse(json, base)?;
    let mut tensors = tensors::read(model)?;
    let mut builder = base.builder();
    let mut imported = Vec::new();
    let mut terms = document.terms.clone().map(|terms| terms.0.into_iter().collect::<BTreeMap<_, _>>());
    let mut hyper = document.settings.clone();
    if document.terms.is_none() {
        hyper = merged(&document.method, &document.settings)?;
    }
    let mut names: Vec<&str> = document.sites.iter().map(|(site, _)| site.as_str()).collect();
    names.extend(
        terms
            .iter()
            .flatten()
            .map(|(site, _)| site.as_str())
            .filter(|site| !document.sites.iter().any(|(s, _)| s == site))
            .collect::<Vec<_>>(),
    );
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    for name in &names {
        let index = base.site(name).ok_or_else(|| {
            let fault = Fault::Unmatched {
                tensors: vec![name.clone()],
                sites: every_site(base),
                proposal: Vec::new(),
            };
            ImportError::new(fault)
        })?;
        let place = base.place(index)?;
        let own = take_own(&mut tensors, name, &names);
        let settings = document
            .sites
            .iter()
            .find(|(site, _)| site == name)
            .map(|(_, own)| own.clone())
            .unwrap_or_default();
        let placed = match &mut terms {
            Some(terms) => match terms.remove(name) {
                Some(kinds) => Placed { terms: parts::to_terms(name, &kinds, &mut tensors)?, error: 0.0 },
                None => Placed::default(),
            },
            None => {
                let placed = computed(&document.method, &document.settings, &settings, &place, &own);
                placed.map_err(|error| error.or_about(name))?
            }
        };
        placed.terms.into_iter().for_each(|term| builder.term(index, place.desc(), term));
        for (leaf, tensor) in own {
            builder.parameter(
                index,
                name,
                ParameterSpec { name: leaf, dims: tensor.dims, values: tensor.values },
            );
        }
        if !settings.is_empty() {
            builder.site_settings(index, name, &settings);
        }
        imported.push(ImportedSite { name: name.clone(), module: name.clone(), error: placed.error });
    }
    if let Some(head) = &document.head {
        builder.head(head_spec(head, &mut tensors)?);
    }
    for (name, frozen) in &document.members {
        let key = format!("members/{name}");
        let tensor = tensors.remove(&key).ok_or_else(|| ImportError::new(Fault::Missing(key)))?;
        builder.member(name, *frozen, tensor.values.iter().map(|byte| *byte as u8).collect());
    }
    if !tensors.is_empty() {
        let tensors = tensors.into_keys().collect();
        return Err(Fault::Unmatched { tensors, sites: every_site(base), proposal: Vec::new() }.into());
    }
    let facts = AdapterFacts {
        method: document.method,
        method_version: document.version,
        hyper,
        provenance: document.provenance.unwrap_or_else(|| provenance.to_owned()),
        // What others could have written is no guarantee.
        privacy: None,
    };
    Imported::new(base, builder.finish(&facts), imported)
}

fn every_site(base: &Base<'_>) -> Vec<String> {
    base.sites().map(|(_, site)| site.name.to_owned()).collect()
}

/// The method's defaults with `given` over them.
fn merged(method: &str, given: &[(String, String)]) -> Result<Vec<(String, String)>, ImportError> {
    let row = METHODS.iter().find(|row| row.name == method);
    let row = row.ok_or_else(|| ImportError::at(method, Fault::UnknownMethod))?;
    let value = |name: &str, default: &str| {
        given
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map_or_else(|| default.to_owned(), |(_, value)| value.clone())
    };
    Ok(row.settings.iter().map(|s| (s.name.to_owned(), value(s.name, s.default))).collect())
}

/// The terms that the method computes from a site's tensors, on the weight as the plan has it.
fn computed(
    method: &str,
    settings: &[(String, String)],
    own: &[(String, String)],
    place: &crate::base::Place<'_>,
    tensors: &Tensors,
) -> Result<Placed, ImportError> {
    let all: Vec<(&str, &str)> = settings.iter().chain(own).map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let method = build(method, &all).map_err(Fault::Method)?;
    let named: Vec<NamedTensor<'_>> = tensors
        .iter()
        .map(|(name, tensor)| NamedTensor { name, dims: &tensor.dims, values: &tensor.values })
        .collect();
    let owned = evaluate(&*method, &place.frozen, &named).map_err(Fault::Values)?;
    write_terms(place, owned, None, TermFormat::default())
}

/// The tensors called `SITE.NAME`, where no longer site's name is a prefix too.
fn take_own(tensors: &mut Tensors, site: &str, sites: &[String]) -> Tensors {
    let prefix = |site: &str| format!("{site}.");
    let longer =
        |name: &str| sites.iter().any(|other| other.len() > site.len() && name.starts_with(&prefix(other)));
    let own: Vec<String> =
        tensors.keys().filter(|name| name.starts_with(&prefix(site)) && !longer(name)).cloned().collect();
    own.into_iter()
        .filter_map(|name| Some((name[site.len() + 1..].to_owned(), tensors.remove(&name)?)))
        .collect()
}

fn head_spec(head: &Value, tensors: &mut Tensors) -> Result<HeadSpec, ImportError> {
    let number = |name: &str| head.get(name).and_then(Value::as_u64).and_then(|v| u32::try_from(v).ok());
    let mut take = |name: &str| -> Result<Vec<f32>, ImportError> {
        let tensor = tensors.remove(name).ok_or_else(|| ImportError::new(Fault::Missing(name.to_owned())))?;
        Ok(tensor.values.iter().map(|v| *v as f32).collect())
    };
    let labels = head.get("labels").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(HeadSpec {
        site: number("site"),
        pool: number("pool").unwrap_or(3),
        weight: take("head/weight")?,
        bias: take("head/bias")?,
        labels: labels.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        link: number("link").and_then(Link::from_code).unwrap_or(Link::Softmax),
    })
}
