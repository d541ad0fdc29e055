//! Cases of sparse methods.

use super::{Given, Place, at, but};
use crate::case::Case;

/// A value at a place of the weight.
fn delta(index: usize, factor: f64) -> Vec<Place> {
    vec![Place { tensor: "delta".to_string(), index, factor, offset: 0.0 }]
}

/// A value in the place of the weight's own.
fn instead(case: &Case, index: usize, factor: f64) -> Vec<Place> {
    vec![Place { tensor: "delta".to_string(), index, factor, offset: -case.weight.data[index] }]
}

/// The places that the case's values stand at, in their order.
fn expected(case: &Case) -> Vec<usize> {
    let whole = |values: Vec<f64>| values.into_iter().map(|place| place as usize).collect();
    match case.expected.get("supertuning_indices") {
        Some(array) => whole(array.data.clone()),
        None => whole(case.flat(&case.expected["indices"], case.row())),
    }
}

/// Values at the expected places.
pub(super) fn entries(case: &Case, _: &str, index: usize) -> Vec<Place> {
    delta(expected(case)[index], 1.0)
}

/// Values at the expected places, and factors.
pub(super) fn with_factors(case: &Case, tensor: &str, index: usize) -> Vec<Place> {
    let alpha = if case.method == "spt" { "lora_alpha" } else { "alpha" };
    match tensor {
        _ if tensor.ends_with("_A") => at("down", index),
        _ if tensor.ends_with("_B") => {
            let factor = case.number(alpha) / case.number("rank");
            vec![Place { tensor: "up".to_string(), index, factor, offset: 0.0 }]
        }
        _ => entries(case, tensor, index),
    }
}

/// Places drawn, not chosen by what both sides have.
pub(super) fn drawn(case: &Case) -> Option<Vec<usize>> {
    let random = ["mask", "score"].iter().any(|name| case.hyper.get(*name).is_some_and(|v| v == "random"));
    random.then(|| expected(case))
}

pub(super) fn shira(case: &Case) -> Given {
    let mask = case.text("mask");
    if mask == "structured" {
        return Err("rows and columns are drawn, in equal shares");
    }
    // As many as the record counts.
    let density = expected(case).len() as f64 / case.weight.data.len() as f64;
    Ok(vec![("mask".to_string(), mask), ("density".to_string(), density.to_string())])
}

pub(super) fn shira_places(case: &Case, _: &str, index: usize) -> Vec<Place> {
    delta(expected(case)[index], case.number("scale"))
}

pub(super) fn paca(case: &Case, _: &str, index: usize) -> Vec<Place> {
    let columns = &case.constants["paca_indices"].data;
    let place = index / columns.len() * case.row() + columns[index % columns.len()] as usize;
    instead(case, place, case.number("alpha") / case.number("rank"))
}

pub(super) fn paca_columns(case: &Case) -> Option<Vec<usize>> {
    let columns = &case.constants["paca_indices"].data;
    let rows = 0..case.site.out;
    Some(rows.flat_map(|o| columns.iter().map(move |c| o * case.row() + *c as usize)).collect())
}

pub(super) fn speft(case: &Case) -> Given {
    but(case, &[])
}

pub(super) fn spt(case: &Case) -> Given {
    but(case, &["selected", "structured"])
}

pub(super) fn smt(case: &Case) -> Given {
    let mut settings = but(case, &["scope", "tiles"])?;
    let network = case.text("scope") == "no_restriction";
    // The record's case of two matrices takes one more than its number of the first.
    let tiles = case.number("tiles") + if network { 1.0 } else { 0.0 };
    settings.push(("tiles".to_string(), tiles.to_string()));
    settings.push(("scope".to_string(), if network { "network" } else { "matrix" }.to_string()));
    Ok(settings)
}

pub(super) fn smt_places(case: &Case, _: &str, index: usize) -> Vec<Place> {
    let side = case.number("tile") as usize;
    let (tile, within) = (index / (side * side), index % (side * side));
    let tiles = &case.expected["tiles"];
    let corner = |axis: usize| tiles.data[axis * tiles.shape[1] + tile] as usize * side;
    instead(case, (corner(0) + within / side) * case.row() + corner(1) + within % side, 1.0)
}

pub(super) fn losia(case: &Case, _: &str, index: usize) -> Vec<Place> {
    let (rows, columns) = (&case.expected["rows"].data, &case.expected["columns"].data);
    let (row, column) = (rows[index / columns.len()], columns[index % columns.len()]);
    delta(row as usize * case.row() + column as usize, 1.0)
}

/// The channels of the trained slice.
fn channels(case: &Case) -> Vec<usize> {
    let (order, slice) = (&case.expected["order"].data, &case.expected["slice"].data);
    order[slice[0] as usize..slice[1] as usize].iter().map(|channel| *channel as usize).collect()
}

pub(super) fn s2ft(case: &Case) -> Given {
    let kind = case.text("kind");
    let all = if kind == "up" { case.site.out } else { case.row() };
    // The share is rounded down.
    let ratio = (channels(case).len() as f64 + 0.5) / all as f64;
    Ok(vec![("kind".to_string(), kind), ("ratio".to_string(), ratio.min(1.0).to_string())])
}

pub(super) fn s2ft_places(case: &Case, _: &str, index: usize) -> Vec<Place> {
    let (channels, row) = (channels(case), case.row());
    let place = match &*case.text("kind") {
        "up" => channels[index / row] * row + index % row,
        _ => index / channels.len() * row + channels[index % channels.len()],
    };
    delta(place, 1.0)
}

pub(super) fn s2ft_chosen(case: &Case) -> Option<Vec<usize>> {
    let values = case.tensors["s2ft_S"].data.len();
    Some((0..values).map(|index| s2ft_places(case, "s2ft_S", index)[0].index).collect())
}

/// Without its allocation, which is tested beside the method.
pub(super) fn snella(case: &Case) -> Given {
    but(case, &["layers", "init", "target", "progress"])
}

/// The places in the rotated matrix; both bases are found here from the same gradients.
pub(super) fn rotated(case: &Case, name: &str) -> Option<Vec<f64>> {
    (name == "indices").then(|| case.flat(&case.expected["indices"], case.row()))
}

/// Rows and biases in the place of the base's; here they are added to it. Biases of other rows are trained nowhere.
pub(super) fn replaced_rows(case: &Case, tensor: &str, index: usize) -> Vec<Place> {
    let rows = &case.expected["rows"].data;
    let bias = case.bias.as_ref().expect("the case has a bias");
    let (name, at, base) = match tensor {
        "active_weight" => {
            let at = rows[index / case.row()] as usize * case.row() + index % case.row();
            ("delta", at, case.weight.data[at])
        }
        _ => ("shift", rows[index] as usize, bias.data[rows[index] as usize]),
    };
    vec![Place { tensor: name.to_string(), index: at, factor: 1.0, offset: -base }]
}
