//! Adapters as HF PEFT saves them, for methods that it has.

use std::collections::BTreeMap;

use ingraft_adapter::{Adapter, ParameterSection, TermSource};
use ingraft_kernel::{SiteDesc, Sites};
use ingraft_plan::PlanView;
use serde_json::Value;

use crate::aligned::Aligned;
use crate::json::Ordered;
use crate::native::Exported;
use crate::peft::SHARED;
use crate::tensors::{self, Tensor, Tensors};
use crate::{Fault, ImportError};

/// How a method trained here is called there.
struct Layout {
    method: &'static str,
    peft_type: &'static str,
    /// Settings by our name, and theirs.
    settings: &'static [(&'static str, &'static str)],
    /// Settings it always has.
    fixed: &'static [(&'static str, &'static str)],
    /// Tensors by our name, and theirs with the form they have there.
    tensors: &'static [(&'static str, &'static str, Form)],
}

/// The shape of a tensor in PEFT's file.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As it is here.
    Same,
    /// Rows of a weight: `[rows, in, kh, kw]` on convolutions.
    Rows,
    /// Columns per rank: `[out, r, 1, 1]` on convolutions.
    Columns,
    /// `[out]`, or `[1, out, 1, 1]` on convolutions.
    Magnitude,
    /// `[out, 1]`, or `[1, out, 1, 1]` on convolutions.
    Scale,
    /// Rows of a weight without its first extent's channels: `[o, i, kh, kw]` on convolutions.
    Window,
    /// `[tiles, r, r]`.
    Tiles,
}

const LAYOUTS: &[Layout] = &[
    Layout {
        method: "lora",
        peft_type: "LORA",
        settings: &[("rank", "r"), ("alpha", "lora_alpha"), ("rslora", "use_rslora")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("lora_A", "lora_A.weight", Form::Rows), ("lora_B", "lora_B.weight", Form::Columns)],
    },
    Layout {
        method: "rslora",
        peft_type: "LORA",
        settings: &[("rank", "r"), ("alpha", "lora_alpha")],
        fixed: &[("bias", "\"none\""), ("use_rslora", "true")],
        tensors: &[("lora_A", "lora_A.weight", Form::Rows), ("lora_B", "lora_B.weight", Form::Columns)],
    },
    Layout {
        method: "dora",
        peft_type: "LORA",
        settings: &[("rank", "r"), ("alpha", "lora_alpha")],
        fixed: &[("bias", "\"none\""), ("use_dora", "true")],
        tensors: &[
            ("lora_A", "lora_A.weight", Form::Rows),
            ("lora_B", "lora_B.weight", Form::Columns),
            ("lora_magnitude_vector", "lora_magnitude_vector", Form::Magnitude),
        ],
    },
    Layout {
        method: "loha",
        peft_type: "LOHA",
        settings: &[("rank", "r"), ("alpha", "alpha")],
        fixed: &[],
        tensors: &[
            ("hada_w1_a", "hada_w1_a", Form::Same),
            ("hada_w1_b", "hada_w1_b", Form::Same),
            ("hada_w2_a", "hada_w2_a", Form::Same),
            ("hada_w2_b", "hada_w2_b", Form::Same),
        ],
    },
    Layout {
        method: "lokr",
        peft_type: "LOKR",
        settings: &[("rank", "r"), ("alpha", "alpha"), ("decompose_both", "decompose_both")],
        fixed: &[],
        tensors: &[
            ("lokr_w1", "lokr_w1", Form::Same),
            ("lokr_w1_a", "lokr_w1_a", Form::Same),
            ("lokr_w1_b", "lokr_w1_b", Form::Same),
            ("lokr_w2", "lokr_w2", Form::Window),
            ("lokr_w2_a", "lokr_w2_a", Form::Same),
            ("lokr_w2_b", "lokr_w2_b", Form::Same),
        ],
    },
    Layout {
        method: "hira",
        peft_type: "HIRA",
        settings: &[("rank", "r")],
        fixed: &[],
        tensors: &[("hira_A", "hira_A", Form::Rows), ("hira_B", "hira_B", Form::Columns)],
    },
    Layout {
        method: "hra",
        peft_type: "HRA",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("hra_u", "hra_u", Form::Same)],
    },
    Layout {
        method: "miss",
        peft_type: "MISS",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\"")],
        tensors: &[("miss_block", "miss_block", Form::Same)],
    },
    Layout {
        method: "ia3",
        peft_type: "IA3",
        settings: &[],
        fixed: &[("feedforward_modules", "[]")],
        tensors: &[("scale", "ia3_l", Form::Scale)],
    },
    Layout {
        method: "bone",
        peft_type: "MISS",
        settings: &[("rank", "r")],
        fixed: &[("bias", "\"none\""), ("init_weights", "\"bat\"")],
        tensors: &[("miss_block", "miss_block", Form::Tiles)],
    },
];

/// Writes an adapter of a method that PEFT has as PEFT does, with the tensors the adapter was trained as.
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
    if adapter.head().is_some() {
        let why = "PEFT's layout has no place for a head; use --layout ingraft";
        return Err(ImportError::at(adapter.method(), Fault::Unsupported(why)));
    }
    let modules: BTreeMap<usize, &str> = section
        .site_settings()
        .filter_map(|(site, _, lines)| {
            Some((site, lines.lines().find_map(|line| line.strip_prefix("module="))?))
        })
        .collect();
    let imported = adapter.hyper().lines().any(|line| line.starts_with("peft_type="));
    let layout = LAYOUTS.iter().find(|layout| layout.method == adapter.method());
    let mut tensors = Tensors::new();
    let mut targets: Vec<String> = Vec::new();
    for tensor in section.tensors() {
        let desc =
            plan.site(tensor.site).ok_or_else(|| ImportError::at(tensor.site_name, Fault::NotFinite))?;
        if plan.site_diagonals(tensor.site) != (None, None) && !imported {
            let why = "batch norms or equalization are folded into this site, and the adapter was trained behind them";
            return Err(ImportError::at(tensor.site_name, Fault::Unsupported(why)));
        }
        let stem = desc.name.strip_suffix(".weight").unwrap_or(desc.name);
        let module = modules.get(&tensor.site).copied().unwrap_or(stem);
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
                // Nothing but where training began, or a shift that IA³ does not have.
                let rest = [("hra", "start"), ("ia3", "shift")];
                if rest.contains(&(adapter.method(), tensor.name)) {
                    continue;
                }
                let (_, theirs, form) = found.ok_or_else(|| {
                    let why = "PEFT has no such method, or draws of it what we drew otherwise; use --layout ingraft";
                    ImportError::at(adapter.method(), Fault::Unsupported(why))
                })?;
                held.dims = shaped(*form, &held.dims, &desc);
                // Theirs are f32.
                held.values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
                format!("base_model.model.{module}.{theirs}")
            }
        };
        tensors.insert(name, held);
        if targets.last().is_none_or(|last| last != module) && !targets.iter().any(|target| target == module)
        {
            targets.push(module.to_owned());
        }
    }
    let json = match imported {
        true => lines(adapter.hyper()).to_json(),
        false => config(layout, &lines(adapter.hyper()), &targets)?.to_json(),
    };
    Ok(Exported {
        json: format!("{json}\n"),
        tensors: tensors::write(&tensors, &|name| name.ends_with("_indices"))?,
    })
}

/// Whether a site has tensors of the method, not just a weight or bias in place of the base's.
fn wraps(section: &ParameterSection<'_>, site: usize) -> bool {
    section
        .site(site)
        .any(|tensor| !matches!(tensor.name, "weight" | "bias") && !tensor.name.starts_with(SHARED))
}

fn lines(hyper: &str) -> Ordered {
    let entry = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)))
    };
    Ordered(hyper.lines().map(entry).collect())
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
            None if matches!(name.as_str(), "depthwise") => {}
            None if name == "mini_rank" && *value == 0 => {}
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

fn shaped(form: Form, dims: &[usize], site: &SiteDesc<'_>) -> Vec<usize> {
    let [kh, kw] = site.kernel;
    let conv = site.kind != ingraft_kernel::SiteKind::Linear;
    let (first, last) = (dims.first().copied().unwrap_or(1), dims.last().copied().unwrap_or(1));
    match form {
        Form::Rows if conv => vec![first, site.inputs, kh, kw],
        Form::Columns if conv => vec![first, last, 1, 1],
        Form::Magnitude if conv => vec![1, first, 1, 1],
        Form::Scale if conv => vec![1, first, 1, 1],
        Form::Window if conv => vec![first, last / (kh * kw).max(1), kh, kw],
        Form::Scale => vec![first, 1],
        Form::Magnitude => vec![dims.iter().product()],
        Form::Tiles => {
            let count: usize = dims.iter().product();
            vec![count / (last * last).max(1), last, last]
        }
        _ => dims.to_vec(),
    }
}
