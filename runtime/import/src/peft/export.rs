//! Adapters as HF PEFT saves them, for methods that it has.

mod adapted;
mod factors;
mod head;
mod layout;
mod parts;
mod places;
mod projection;
mod tinylora;

use std::collections::BTreeMap;

use ingraft_adapter::{Adapter, ParameterSection, TermSource};
use ingraft_kernel::Sites;
use ingraft_plan::PlanView;
use serde_json::Value;

use self::adapted::Adapted;
use self::layout::{LAYOUTS, Layout, shaped};
use crate::aligned::Aligned;
use crate::json::Ordered;
use crate::native::Exported;
use crate::peft::{SHARED, module_path};
use crate::tensors::{self, Tensor, Tensors};
use crate::{Fault, ImportError};

/// Writes an adapter of a method that PEFT has as PEFT does, with the tensors the adapter was trained as.
///
/// A head becomes the base's last linear layer among `modules_to_save`, which PEFT loads into a model made for as many
/// classes. Its labels and its link have no place there.
///
/// # Errors
/// [`Fault::Unsupported`] for a method that PEFT has not, or whose file would not say all of it;
/// [`Fault::Missing`] for an adapter written without its parameters.
pub fn export_peft(bytes: &[u8], plan: &PlanView<'_>) -> Result<Exported, ImportError> {
    let file = Aligned::copy_of(bytes);
    let adapter = Adapter::attach(file.as_slice(), plan)?;
    let section = adapter.parameters()?;
    if section.is_empty() {
        let why = "of the method, which the file was written without; train without --terms-only";
        return Err(ImportError::at(adapter.method(), Fault::Missing(why.to_owned())));
    }
    let modules: BTreeMap<usize, &str> = section
        .site_settings()
        .filter_map(|(site, _, settings)| Some((site, module_path(settings)?)))
        .collect();
    let imported = adapter.hyper().lines().any(|line| line.starts_with("peft_type="));
    let layout = LAYOUTS.iter().find(|layout| layout.method == adapter.method());
    let hyper = Ordered::of_lines(adapter.hyper());
    let setting = |name: &str| hyper.get(name).and_then(Value::as_u64).unwrap_or(0) as usize;
    let own =
        section.site_settings().find(|(_, _, lines)| lines.lines().any(|line| !line.starts_with("module=")));
    if let Some((_, site, _)) = own.filter(|_| !imported) {
        let why = "it has settings of its own, and PEFT's file has one for all modules; use --layout ingraft";
        return Err(ImportError::at(site, Fault::Unsupported(why)));
    }
    let mut tensors = Tensors::new();
    let mut targets: Vec<String> = Vec::new();
    for tensor in section.tensors() {
        let desc =
            plan.site(tensor.site).ok_or_else(|| ImportError::at(tensor.site_name, Fault::NotFinite))?;
        if !imported {
            parts::allowed(layout, plan, &desc, tensor.site)?;
        }
        let module = adapted::module(&modules, tensor.site, &desc);
        if !targets.iter().any(|target| target == module) {
            targets.push(module.to_owned());
        }
        let mut held = Tensor {
            dims: tensor.dims.iter().map(|dim| *dim as usize).collect(),
            values: (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect(),
        };
        let name = match tensor.name.strip_prefix(SHARED) {
            Some(shared) => format!("base_model.{shared}"),
            // A replaced bias stands on the layer that PEFT wrapped, where it wrapped it.
            None if imported && wraps(&section, tensor.site) && tensor.name == "bias" => {
                format!("base_model.model.{module}.base_layer.bias")
            }
            None if imported => format!("base_model.model.{module}.{}", tensor.name),
            None => {
                let found = layout.and_then(|l| l.tensors.iter().find(|(ours, ..)| *ours == tensor.name));
                if layout.is_some_and(|layout| layout.dropped.contains(&tensor.name)) {
                    continue;
                }
                let (_, theirs, form) = found.ok_or_else(|| {
                    let why = "PEFT has no such method, or draws of it what we drew otherwise; use --layout ingraft";
                    ImportError::at(adapter.method(), Fault::Unsupported(why))
                })?;
                held.dims = shaped(*form, &held.dims, &desc, &setting);
                // Theirs are f32.
                held.values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
                match theirs.starts_with("base_model.") {
                    true => (*theirs).to_owned(),
                    false => format!("base_model.model.{module}.{theirs}"),
                }
            }
        };
        tensors.insert(name, held);
    }
    let head = adapter.head().map(|head| head::module(plan, &head, &modules, &mut tensors)).transpose()?;
    let json = match imported {
        true => hyper.to_json(),
        false => {
            let mut sites: Vec<usize> = section.tensors().map(|tensor| tensor.site).collect();
            sites.dedup();
            let (method, hyper, section, modules) = (adapter.method(), &hyper, &section, &modules);
            let adapted = Adapted { method, plan, hyper, section, modules, sites };
            let own = parts::complete(&adapted, &mut tensors)?;
            let Ordered(mut entries) = config(layout, hyper, &targets)?;
            entries.extend(head.map(|module| ("modules_to_save".to_owned(), Value::from(vec![module]))));
            entries.extend(own);
            Ordered(entries).to_json()
        }
    };
    Ok(Exported {
        json: format!("{json}\n"),
        tensors: tensors::write(&tensors, &|name| name.contains("_indices") || name.contains("frod_s_size"))?,
    })
}

/// Whether a site has tensors of the method, not just a weight or bias in place of the base's.
fn wraps(section: &ParameterSection<'_>, site: usize) -> bool {
    section
        .site(site)
        .any(|tensor| !matches!(tensor.name, "weight" | "bias") && !tensor.name.starts_with(SHARED))
}

fn config(layout: Option<&Layout>, hyper: &Ordered, targets: &[String]) -> Result<Ordered, ImportError> {
    let layout = layout.ok_or_else(|| ImportError::new(Fault::UnknownMethod))?;
    let mut entries = vec![
        ("peft_type".to_owned(), Value::from(layout.peft_type)),
        ("peft_version".to_owned(), Value::from("0.21.2")),
        ("inference_mode".to_owned(), Value::from(true)),
        ("target_modules".to_owned(), Value::from(targets.to_vec())),
    ];
    for (name, value) in &hyper.0 {
        match layout.settings.iter().find(|(ours, _)| ours == name) {
            Some((_, theirs)) => entries.push(((*theirs).to_owned(), value.clone())),
            // What else there is must not change what the tensors mean.
            None if matches!(name.as_str(), "depthwise" | "slices" | "slice_steps") => {}
            None if name == "mini_rank" && *value == 0 => {}
            None if layout.derived.contains(&name.as_str()) => {}
            None if layout.method == "oft" && name == "neumann_terms" => {
                entries.push(("use_cayley_neumann".to_owned(), Value::from(*value != 0)));
                if *value != 0 {
                    entries.push(("num_cayley_neumann_terms".to_owned(), value.clone()));
                }
            }
            None => {
                let why = "PEFT has no such setting; use --layout ingraft";
                return Err(ImportError::at(name, Fault::Unsupported(why)));
            }
        }
    }
    for (name, value) in layout.fixed {
        entries.push(((*name).to_owned(), serde_json::from_str(value).unwrap_or(Value::Null)));
    }
    Ok(Ordered(entries))
}
