//! What PEFT's file has beside, or otherwise than, the tensors trained here.

use std::collections::BTreeMap;

use ingraft_kernel::{SiteDesc, SiteKind, Sites};
use ingraft_method::in_kernel;
use ingraft_plan::PlanView;
use ingraft_train::FrozenSite;
use serde_json::Value;

use super::adapted::Adapted;
use super::layout::Layout;
use super::{factors, places, projection, tinylora};
use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

/// That PEFT's layout can say what `layout`'s method does at `site`.
pub(super) fn allowed(
    layout: Option<&Layout>,
    plan: &PlanView<'_>,
    site: &SiteDesc<'_>,
    index: usize,
) -> Result<(), ImportError> {
    let refuse = |why| Err(ImportError::at(site.name, Fault::Unsupported(why)));
    if layout.is_some_and(|layout| layout.linear) && site.kind != SiteKind::Linear {
        return refuse("PEFT has this method for linear layers alone; use --layout ingraft");
    }
    let pair = layout.is_some_and(|layout| layout.is_pair());
    let by_group = pair || layout.is_some_and(|layout| matches!(layout.method, "loha" | "lokr" | "ia3"));
    if site.groups > 1 && !site.kind.is_norm() && !by_group {
        return refuse("PEFT has this method for convolutions without groups alone; use --layout ingraft");
    }
    let (output, input) = plan.site_diagonals(index);
    let factors = [output, input].into_iter().flatten();
    if factors.clone().count() == 0 {
        return Ok(());
    }
    if !pair {
        return refuse(
            "batch norms or equalization are folded into this site, and the adapter was trained behind them",
        );
    }
    if factors.flatten().any(|factor| *factor == 0.0) {
        return refuse("a channel of this site was folded to nothing, and its delta with it");
    }
    Ok(())
}

/// Takes out of a factor what compilation folded into the weight: of `diag(o)·ΔW·diag(i) = B·A`, B gets 1/o and A 1/i.
pub(super) fn unfold(plan: &PlanView<'_>, site: &SiteDesc<'_>, index: usize, name: &str, held: &mut Tensor) {
    let columns = held.dims.last().copied().unwrap_or(1).max(1);
    let window = site.kernel.iter().product::<usize>().max(1);
    let factor = |factors: &[f32], at: usize| factors.get(at).map_or(1.0, |factor| f64::from(*factor));
    match (name, plan.site_diagonals(index)) {
        ("lora_B", (Some(output), _)) => {
            held.values.iter_mut().enumerate().for_each(|(i, v)| *v /= factor(output, i / columns));
        }
        ("lora_A", (_, Some(input))) => {
            held.values.iter_mut().enumerate().for_each(|(i, v)| *v /= factor(input, i % columns / window));
        }
        _ => {}
    }
}

/// Adds the tensors that PEFT's file has and ours not, and gives the settings that follow from the tensors.
pub(super) fn complete(
    adapted: &Adapted<'_>,
    tensors: &mut Tensors,
) -> Result<Vec<(String, Value)>, ImportError> {
    let Adapted { method, plan, hyper, section, sites, .. } = adapted;
    let module = |site: usize| adapted.module(site);
    let key = |site: usize, name: &str| adapted.key(site, name);
    let dims = |tensors: &Tensors, name: &str| -> Vec<(String, Vec<usize>)> {
        let held = |site: &usize| Some((module(*site), tensors.get(&key(*site, name))?.dims.clone()));
        sites.iter().filter_map(held).collect()
    };
    match *method {
        "lora" | "rslora" | "pissa" | "psoft" => factors::write(adapted, tensors),
        "tinylora" => tinylora::write(adapted, tensors),
        "supertuning" => supertuning(adapted, &dims(tensors, "supertuning_values")),
        "delora" => {
            for site in sites.iter().copied() {
                let Some(frozen) = FrozenSite::new(plan, site) else { continue };
                tensors.insert(key(site, "delora_w_norm"), column_lengths(&frozen));
            }
            Ok(Vec::new())
        }
        "oft" => {
            // b(b − 1)/2 columns.
            let size = |columns: usize| (1..=columns + 1).find(|b| b * (b - 1) / 2 == columns).unwrap_or(0);
            block_size(method, "oft_block_size", &dims(tensors, "oft_R.weight"), &size)
        }
        "boft" => block_size(method, "boft_block_size", &dims(tensors, "boft_R"), &|size| size),
        // At most as many as there are outputs.
        "deft" => one_size(method, "r", &last(&dims(tensors, "deft_P"))),
        "road" => {
            let most = adapted.count("group");
            let outs = sites.iter().filter_map(|site| Some((module(*site), plan.site(*site)?.out)));
            // As the method chooses it.
            let group = |out: usize| {
                let fits = |g: &usize| g.is_multiple_of(2) && out.is_multiple_of(*g);
                (2..=most.min(out)).rev().find(fits).unwrap_or(0)
            };
            let groups: Vec<(String, usize)> = outs.map(|(module, out)| (module, group(out))).collect();
            let mut own = one_size(method, "group_size", &groups)?;
            own.push(("variant".to_owned(), Value::from(format!("road_{}", adapted.count("variant")))));
            Ok(own)
        }
        "c3a" => by_module("block_size", "block_size_pattern", &numbers(last(&dims(tensors, "c3a_kernel")))),
        "fourierft" | "waveft" => {
            places::drawn(method, plan, hyper, section, sites)?;
            let counts = last(&dims(tensors, &format!("{method}_spectrum")));
            by_module("n_frequency", "n_frequency_pattern", &numbers(counts))
        }
        "adalora" => {
            // PEFT wants a step between both ends, which a short training may not have had.
            let step = |name: &str| adapted.count(name);
            let total = step("steps").max(step("warm_up") + step("final") + 1);
            Ok(vec![("total_step".to_owned(), Value::from(total))])
        }
        "vera" => projection::vera(section, sites, &key, tensors),
        "randlora" => projection::randlora(plan, adapted.count("rank"), section, sites, &key, tensors),
        "shira" => shira(plan, sites, &key, tensors),
        _ => Ok(Vec::new()),
    }
}

/// The last extent of every module's tensor.
fn last(dims: &[(String, Vec<usize>)]) -> Vec<(String, usize)> {
    dims.iter().map(|(module, dims)| (module.clone(), dims.last().copied().unwrap_or(0))).collect()
}

fn numbers(counts: Vec<(String, usize)>) -> Vec<(String, Value)> {
    counts.into_iter().map(|(module, count)| (module, Value::from(count))).collect()
}

/// The one size of all blocks, `size` of the last extent.
fn block_size(
    method: &str,
    setting: &str,
    dims: &[(String, Vec<usize>)],
    size: &dyn Fn(usize) -> usize,
) -> Result<Vec<(String, Value)>, ImportError> {
    let sizes: Vec<(String, usize)> =
        last(dims).into_iter().map(|(module, columns)| (module, size(columns))).collect();
    one_size(method, setting, &sizes)
}

/// The number that all modules have in common.
///
/// # Errors
/// [`Fault::Unsupported`] where they have none.
fn one_size(
    method: &str,
    setting: &str,
    sizes: &[(String, usize)],
) -> Result<Vec<(String, Value)>, ImportError> {
    let first = sizes.first().map_or(0, |(_, size)| *size);
    if sizes.iter().any(|(_, size)| *size != first) {
        let why = "blocks of different sizes, of which PEFT's file has one; use --layout ingraft";
        return Err(ImportError::at(method, Fault::Unsupported(why)));
    }
    Ok(vec![(setting.to_owned(), Value::from(first))])
}

/// A number of every module: the first one's for all, and what differs by path.
///
/// # Errors
/// [`Fault::Unsupported`] where PEFT would take one module for another: it goes by how paths end.
pub(super) fn by_module(
    setting: &str,
    patterns: &str,
    values: &[(String, Value)],
) -> Result<Vec<(String, Value)>, ImportError> {
    let first = values.first().map_or(Value::from(0), |(_, value)| value.clone());
    let others: Vec<&(String, Value)> = values.iter().filter(|(_, value)| *value != first).collect();
    let taken = |(path, value): &(String, Value)| {
        let end = |(other, own): &&(String, Value)| own != value && path.ends_with(&format!(".{other}"));
        others.iter().copied().any(|other| end(&other))
    };
    if let Some((path, _)) = values.iter().find(|module| taken(module)) {
        let why = "its path ends in that of another module, whose number PEFT would take for it; use --layout ingraft";
        return Err(ImportError::at(path, Fault::Unsupported(why)));
    }
    let others: serde_json::Map<String, Value> =
        others.into_iter().map(|(path, value)| (path.clone(), value.clone())).collect();
    Ok(vec![(setting.to_owned(), first), (patterns.to_owned(), Value::from(others))])
}

/// The rank beside the entries, and a share of them that PEFT counts as many of as there are.
///
/// # Errors
/// [`Fault::Unsupported`] where no share gives every module its number.
fn supertuning(
    adapted: &Adapted<'_>,
    counts: &[(String, Vec<usize>)],
) -> Result<Vec<(String, Value)>, ImportError> {
    let sizes = || adapted.all().map(|(_, site)| site.out * site.row());
    let counts: Vec<usize> = last(counts).into_iter().map(|(_, count)| count).collect();
    // As Python counts: at least one, or it refuses.
    let gives = |sparsity: f64| {
        sizes()
            .zip(&counts)
            .all(|(size, count)| (size as f64 * (1.0 - sparsity)) as usize == *count && *count > 0)
    };
    let stated = adapted.hyper.get("sparsity").and_then(Value::as_f64);
    let middle =
        sizes().zip(&counts).next().map(|(size, count)| 1.0 - (*count as f64 + 0.5) / size.max(1) as f64);
    let Some(sparsity) =
        [stated, middle].into_iter().flatten().find(|sparsity| *sparsity >= 0.0 && gives(*sparsity))
    else {
        let why = "PEFT counts entries by one sparsity, and there is none that gives every module its number; use --layout ingraft";
        return Err(ImportError::at("supertuning", Fault::Unsupported(why)));
    };
    let mut own = vec![("sparsity".to_owned(), Value::from(sparsity))];
    if adapted.count("rank") > 0 {
        own.push(("r".to_owned(), Value::from(adapted.count("rank"))));
        own.extend(adapted.hyper.get("alpha").map(|alpha| ("lora_alpha".to_owned(), alpha.clone())));
    }
    Ok(own)
}

/// ‖·‖ of the columns of the frozen weight.
fn column_lengths(site: &FrozenSite<'_>) -> Tensor {
    let (out, row) = (site.desc.out, site.desc.row());
    let length = |position: usize| {
        let weight = |channel| f64::from(site.weight(channel, in_kernel(&site.desc, position)));
        let squares: f64 = (0..out).map(|channel| weight(channel) * weight(channel)).sum();
        f64::from(squares.sqrt() as f32)
    };
    Tensor { dims: vec![row], values: (0..row).map(length).collect() }
}

/// Pads entries with zeros to the r·(out + in) that PEFT counts, and splits their places into rows and columns.
fn shira(
    plan: &PlanView<'_>,
    sites: &[usize],
    key: &dyn Fn(usize, &str) -> String,
    tensors: &mut Tensors,
) -> Result<Vec<(String, Value)>, ImportError> {
    let shape = |site: usize| plan.site(site).map_or((1, 1), |desc| (desc.out, desc.row().max(1)));
    let entries = |tensors: &Tensors, site: usize| {
        tensors.get(&key(site, "shira_weight")).map_or(0, |tensor| tensor.values.len())
    };
    let ranks = sites.iter().map(|site| {
        let (out, row) = shape(*site);
        entries(tensors, *site).div_ceil(out + row)
    });
    let rank = ranks.max().unwrap_or(0);
    for site in sites.iter().copied() {
        let (out, row) = shape(site);
        let (weight, places) = (key(site, "shira_weight"), key(site, "shira_indices"));
        let (Some(values), Some(held)) = (tensors.get(&weight), tensors.get(&places)) else { continue };
        let mut all: BTreeMap<usize, f64> =
            held.values.iter().map(|at| *at as usize).zip(values.values.iter().copied()).collect();
        let count = rank * (out + row);
        if count > out * row {
            let why = "PEFT counts entries in multiples of out + in, and the next is more than there are weights; \
                       use --layout ingraft";
            return Err(ImportError::at("shira", Fault::Unsupported(why)));
        }
        let free: Vec<usize> = (0..out * row).filter(|at| !all.contains_key(at)).collect();
        let missing = count.saturating_sub(all.len());
        all.extend(free.into_iter().take(missing).map(|at| (at, 0.0)));
        let rows = all.keys().map(|at| (at / row) as f64);
        let indices = rows.chain(all.keys().map(|at| (at % row) as f64)).collect();
        tensors.insert(places, Tensor { dims: vec![2, all.len()], values: indices });
        tensors.insert(weight, Tensor { dims: vec![all.len()], values: all.into_values().collect() });
    }
    Ok(vec![("r".to_owned(), Value::from(rank))])
}
