//! Selection by index and by position.

use ingraft_kernel::attrs::GatherAttrs;
use ingraft_kernel::{OpCode, SiteKind};
use ingraft_tensor::{DType, Shape};

use crate::graph::Node;
use crate::lower::linear::{add_site, weight_name};
use crate::lower::qops::NoAttrs;
use crate::lower::select::Selector;
use crate::lower::{LowerError, ProgSite, ProgTensor, Storage, boundary};

pub(super) fn gather(selector: &mut Selector<'_>, node: &Node, axis: usize) -> Result<(), LowerError> {
    pick(selector, node, OpCode::Gather, axis)?;
    if axis == 0 {
        table(selector, node);
    }
    Ok(())
}

/// The site of the last step, where it looks up rows of a constant table of reals.
fn table(selector: &mut Selector<'_>, node: &Node) {
    let step = selector.program.steps.len() - 1;
    let held = selector.program.tensor(selector.program.steps[step].inputs[0]);
    let constant = held.dtype == DType::F32 && matches!(held.storage, Storage::Constant(_));
    let (Some(value), [rows, columns]) = (node.input(0), held.shape.dims()) else { return };
    let (out, inputs) = (*rows as usize, *columns as usize);
    if !constant || inputs > usize::from(u16::MAX) {
        return;
    }
    let site = ProgSite {
        name: weight_name(selector, value),
        kind: SiteKind::Embedding,
        dtype: DType::F32,
        out,
        inputs,
        kernel: [1, 1],
        groups: 1,
        transposed: false,
        step,
        stride: 1,
    };
    add_site(selector, site);
}

pub(super) fn gather_elements(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
) -> Result<(), LowerError> {
    pick(selector, node, OpCode::GatherElements, axis)
}

/// What is picked keeps its quantization.
fn pick(selector: &mut Selector<'_>, node: &Node, op: OpCode, axis: usize) -> Result<(), LowerError> {
    let inputs = vec![selector.operand(node, 0)?, selector.operand(node, 1)?];
    let q = selector.program.tensor(inputs[0]).qparams;
    let output = selector.push_result(node, op, &GatherAttrs { axis: axis as u32 }, inputs)?;
    selector.program.tensors[output.0].qparams = q;
    Ok(())
}

/// `Trilu`, as a choice by a constant mask.
pub(super) fn triangle(
    selector: &mut Selector<'_>,
    node: &Node,
    upper: bool,
    diagonal: i64,
) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let (dtype, shape) = (selector.graph[value].dtype, selector.graph[value].shape.clone());
    let [.., rows, columns] = *shape.as_slice() else {
        return Err(selector.unsupported(node, "needs a matrix"));
    };
    let kept = |row: usize, column: usize| {
        let distance = column as i64 - row as i64;
        if upper { distance >= diagonal } else { distance <= diagonal }
    };
    let mask: Vec<u8> = (0..rows).flat_map(|r| (0..columns).map(move |c| u8::from(kept(r, c)))).collect();
    let mask = selector.constant_of(node, &[rows, columns], &mask)?;
    selector.program.tensors[mask.0].dtype = DType::Bool;
    // Zero as the plan stores it: uint8 is stored minus 128.
    let byte = if dtype == DType::U8 { 0x80 } else { 0 };
    let stored = boundary::stored(dtype);
    let zero = selector.program.add(ProgTensor {
        name: node.name.clone(),
        dtype: stored,
        shape: Shape::SCALAR,
        qparams: None,
        storage: Storage::Constant(vec![byte; stored.size()]),
    });
    let x = selector.operand(node, 0)?;
    selector.push_result(node, OpCode::Where, &NoAttrs {}, vec![mask, x, zero])?;
    Ok(())
}
