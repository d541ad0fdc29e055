//! Cases of methods whose tensors are cut or named otherwise in the records.

use serde_json::Value;

use super::{Given, Place, at, but};
use crate::case::Case;

fn set(mut given: Vec<(String, String)>, name: &str, value: impl ToString) -> Given {
    given.push((name.to_string(), value.to_string()));
    Ok(given)
}

fn scaled(tensor: &str, index: usize, factor: f64) -> Vec<Place> {
    vec![Place { tensor: tensor.to_string(), index, factor, offset: 0.0 }]
}

/// Ranks never reallocated.
pub(super) fn adalora(case: &Case) -> Given {
    set(but(case, &[])?, "target_rank", case.text("rank"))
}

pub(super) fn bora(case: &Case) -> Given {
    if case.text("norms") == "exact" { Err("lengths count as constants") } else { but(case, &["norms"]) }
}

/// The ranks of named parts, in the order of their names, and the position of `part`.
fn parts(case: &Case) -> Vec<(String, f64)> {
    match &case.hyper["ranks"] {
        Value::Object(ranks) => ranks.iter().map(|(k, v)| (k.clone(), v.as_f64().expect("a rank"))).collect(),
        ranks => {
            let ranks = ranks.as_array().expect("ranks are a list or named").iter().enumerate();
            ranks.map(|(i, rank)| (i.to_string(), rank.as_f64().expect("a rank"))).collect()
        }
    }
}

fn largest(parts: &[(String, f64)]) -> f64 {
    parts.iter().fold(0.0, |most, (_, rank)| most.max(*rank))
}

/// One layer is the first of its shape, and of the first third; the pairs of the other thirds are zeros.
pub(super) fn msplora(case: &Case) -> Given {
    let levels = ["global", "group", "layer"].into_iter().enumerate();
    let given = levels.flat_map(|(i, level)| {
        ["rank", "alpha"]
            .map(|kind| (format!("{level}_{kind}"), case.hyper[&format!("{kind}s")][i].to_string()))
    });
    Ok(given.collect())
}

/// Parts of equal rank here: those of fewer are padded with zeros.
pub(super) fn context(case: &Case) -> Given {
    if !case.text("form").starts_with("lora") {
        return Err("domains have low-rank pairs, and biases");
    }
    let parts = parts(case);
    let domain = parts.iter().position(|(name, _)| *name == case.text("domain")).expect("a domain");
    let given = set(but(case, &["form", "ranks", "domain"])?, "rank", largest(&parts))?;
    let given = set(set(given, "domains", parts.len())?, "domain", domain)?;
    set(given, "bias", case.text("form") == "lora_bias")
}

pub(super) fn flix(case: &Case) -> Given {
    let parts = parts(case);
    let active = case.hyper["active"].as_array().expect("names");
    let bit = |(i, (name, _)): (usize, &(String, f64))| {
        if active.iter().any(|a| a.as_str() == Some(name)) { 1 << i } else { 0 }
    };
    let mask: u32 = parts.iter().enumerate().map(bit).sum();
    let given = set(but(case, &["ranks", "active"])?, "rank", largest(&parts))?;
    set(set(given, "features", parts.len())?, "active", mask)
}

pub(super) fn melora(case: &Case) -> Given {
    let parts = parts(case);
    let given = set(but(case, &["ranks", "alphas"])?, "rank", largest(&parts))?;
    // The scale of each mini goes into its B.
    set(set(given, "minis", parts.len())?, "alpha", largest(&parts))
}

/// `lora_A.NAME` and `lora_B.NAME`, one part after the other; B in the scale of its part.
pub(super) fn in_parts(case: &Case, tensor: &str, index: usize) -> Vec<Place> {
    let parts = parts(case);
    let (kind, name) = tensor.split_once('.').expect("a tensor of a part");
    let (part, own) =
        parts.iter().enumerate().find(|(_, (part, _))| part == name).map(|(i, p)| (i, p.1)).expect("a part");
    let (rank, out) = (largest(&parts) as usize, case.site.out);
    let (ours, length) = match &*case.method {
        "flix" => (["flix_A", "flix_B"], case.row()),
        "melora" => (["lora_A", "lora_B"], case.row() / parts.len()),
        _ => (["lora_A", "lora_B"], case.row()),
    };
    let scale = match &*case.method {
        "melora" => case.hyper["alphas"][part].as_f64().expect("an alpha") / own,
        _ => rank as f64 / own,
    };
    match kind {
        "lora_A" => at(ours[0], (part * rank + index / length) * length + index % length),
        "lora_B" => {
            let (row, k) = (index / own as usize, index % own as usize);
            let at = match &*case.method {
                "flix" => row * parts.len() * rank + part * rank + k,
                "melora" => (part * out / parts.len() + row) * rank + k,
                _ => (part * out + row) * rank + k,
            };
            scaled(ours[1], at, scale)
        }
        _ => at("context_bias", part * out + index),
    }
}

/// A rank and a scale that come to the same.
pub(super) fn psoft(case: &Case) -> Given {
    if case.text("init") == "pissa" {
        Err("singular values stand at the left factor")
    } else {
        but(case, &["alpha", "init"])
    }
}

pub(super) fn deft(case: &Case) -> Given {
    but(case, &["alpha"])
}

pub(super) fn deft_places(case: &Case, tensor: &str, index: usize) -> Vec<Place> {
    scaled(tensor, index, if tensor == "deft_R" { case.number("alpha") / case.number("rank") } else { 1.0 })
}

pub(super) fn hd_pissa(_: &Case) -> Given {
    Err("the case is a procedure over steps")
}

pub(super) fn hut(case: &Case) -> Given {
    let form = case.text("form");
    let alpha = if form == "H1" { case.text("alpha") } else { case.text("rank") };
    let given = set(but(case, &["form", "alpha"])?, "alpha", alpha)?;
    set(given, "form", if form == "H1" { "scale" } else { "scale-shift" })
}

pub(super) fn whole_rows(case: &Case, mut given: Vec<(String, String)>, group: usize) -> Given {
    given.push(("group".to_string(), if group == case.row() { 0 } else { group }.to_string()));
    Ok(given)
}

pub(super) fn l4q(case: &Case) -> Given {
    whole_rows(case, but(case, &["group"])?, case.number("group") as usize)
}

pub(super) fn peqa(case: &Case) -> Given {
    whole_rows(case, Vec::new(), case.number("group") as usize)
}

/// Ours is relative to the scale.
pub(super) fn peqa_places(case: &Case, _: &str, index: usize) -> Vec<Place> {
    scaled("peqa_delta", index, 1.0 / case.constants["scale"].data[index])
}

pub(super) fn sketchtune(case: &Case) -> Given {
    whole_rows(case, but(case, &["groups"])?, case.row() / case.number("groups") as usize)
}

/// Codes as places in the whole codebook.
pub(super) fn codes(case: &Case, name: &str) -> Option<Vec<f64>> {
    let (size, count) = (case.row() / case.number("groups") as usize, 1usize << case.number("bits") as usize);
    let codes = case.constants["codes"].data.iter().enumerate();
    (name == "codes").then(|| codes.map(|(i, code)| (i / size * count) as f64 + code).collect())
}

pub(super) fn loretta(case: &Case) -> Given {
    let descends = |name: &str| {
        case.hyper[name].as_array().expect("modes").is_sorted_by_key(|m| -m.as_i64().expect("a mode"))
    };
    if !(descends("modes_A") && descends("modes_B")) {
        return Err("modes are as even as primes allow, the largest first");
    }
    but(case, &["modes_A", "modes_B"])
}

pub(super) fn moka(case: &Case) -> Given {
    let splits = case.hyper["splits"].as_array().expect("splits");
    if splits.len() == 3 || case.site.kind == "conv" {
        return Err("components split the sides by their own factors");
    }
    set(but(case, &["splits"])?, "components", splits.len())
}

pub(super) fn soka(case: &Case) -> Given {
    let middle = |n: usize| (1..=n).take_while(|m| m * m <= n).filter(|m| n.is_multiple_of(*m)).last();
    let split: Vec<_> = [case.site.out, case.row()].map(middle).into_iter().flatten().collect();
    if case.hyper["split"] != serde_json::json!(split) {
        return Err("sides are split into their nearest factors");
    }
    but(case, &["split", "energy"])
}

pub(super) fn poly(case: &Case) -> Given {
    but(case, if case.method == "poly" { &["splits"] } else { &[] })
}

pub(super) fn qwha(case: &Case) -> Given {
    if case.hyper.contains_key("start") {
        return but(case, &["alpha"]);
    }
    let rank = case.number("coefficients") / (case.site.out + case.row()) as f64;
    set(but(case, &["coefficients"])?, "rank", rank)
}

pub(super) fn walsh(case: &Case, name: &str) -> Option<Vec<f64>> {
    (name == "indices").then(|| case.flat(&case.constants["qhft_indices"], case.row().next_power_of_two()))
}

pub(super) fn randlora(case: &Case) -> Given {
    if case.text("layout") == "paper" {
        Err("bases are laid out as in HF PEFT")
    } else {
        but(case, &["layout"])
    }
}

pub(super) fn sqft(case: &Case) -> Given {
    if case.hyper.contains_key("bits") {
        Err("the base's own int8 quantizer is kept")
    } else {
        but(case, &[])
    }
}

pub(super) fn surm(case: &Case) -> Given {
    but(case, &[])
}

pub(super) fn tlora(case: &Case) -> Given {
    let lists = ["modes_out", "modes_in"].map(|name| case.hyper[name].as_array().expect("modes"));
    if lists.iter().any(|modes| modes.len() != 2 || modes[0].as_u64() > modes[1].as_u64()) {
        return Err("every side is split into its two nearest factors");
    }
    but(case, &["modes_in", "modes_out"])
}

pub(super) fn vectorfit(_: &Case) -> Given {
    Ok(Vec::new())
}
