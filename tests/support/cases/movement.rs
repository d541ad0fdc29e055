//! Elements moved without computing on them, and the gradient of that.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{CopyAttrs, FillAttrs, GatherAttrs};
use ingraft::tensor::{DType, MAX_RANK};

use super::{Case, Random, Tensor};

const TYPES: &[DType] = &[DType::F32, DType::F16, DType::I8, DType::I16, DType::I32, DType::I64, DType::Bool];

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    match op {
        OpCode::Copy => TYPES.iter().flat_map(|dtype| copies(op, *dtype, random)).collect(),
        OpCode::CopyBackward => copies(op, DType::F32, random),
        OpCode::Fill => TYPES.iter().map(|dtype| fill(*dtype)).collect(),
        OpCode::GatherElements => TYPES.iter().flat_map(|dtype| elements(*dtype, random)).collect(),
        _ => TYPES.iter().flat_map(|dtype| gathers(*dtype, random)).collect(),
    }
}

/// `(name, elements in, elements out, attributes)`.
fn blocks() -> [(&'static str, usize, usize, CopyAttrs); 5] {
    let attrs = |extents: &[u32], in_strides: &[i32], out_strides: &[u32], in_offset, out_offset| {
        let mut attrs = CopyAttrs {
            rank: extents.len() as u32,
            extents: [1; MAX_RANK],
            in_strides: [0; MAX_RANK],
            out_strides: [0; MAX_RANK],
            in_offset,
            out_offset,
        };
        attrs.extents[..extents.len()].copy_from_slice(extents);
        attrs.in_strides[..extents.len()].copy_from_slice(in_strides);
        attrs.out_strides[..extents.len()].copy_from_slice(out_strides);
        attrs
    };
    [
        ("whole", 77, 77, attrs(&[77], &[1], &[1], 0, 0)),
        ("transpose", 60, 60, attrs(&[3, 4, 5], &[1, 15, 3], &[20, 5, 1], 0, 0)),
        ("slice into interior", 40, 70, attrs(&[3, 6], &[10, 1], &[10, 1], 12, 21)),
        ("broadcast", 6, 24, attrs(&[4, 6], &[0, 1], &[6, 1], 0, 0)),
        ("reverse", 20, 20, attrs(&[2, 10], &[10, -1], &[10, 1], 9, 0)),
    ]
}

fn copies(op: OpCode, dtype: DType, random: &mut Random) -> Vec<Case> {
    let case = |(name, input, output, attrs): (&str, usize, usize, CopyAttrs)| {
        let case = Case::new(op, format!("{op} {name} {dtype}"), &attrs);
        if op == OpCode::Copy {
            return vec![
                case.input(Tensor::random(dtype, &[input], random)).output(dtype, &[output]).exact(),
            ];
        }
        let dy = Tensor::random(dtype, &[output], random);
        let mut added = Case::new(op, format!("{op} {name} added"), &attrs).input(dy.clone());
        added.outputs.push(Tensor::random(dtype, &[input], random));
        added.accumulate = 1;
        vec![case.input(dy).output(dtype, &[input]), added]
    };
    blocks().into_iter().flat_map(case).collect()
}

fn fill(dtype: DType) -> Case {
    let attrs = FillAttrs { value: [0x0102_0301, 0x0506_0708] };
    Case::new(OpCode::Fill, format!("Fill {dtype}"), &attrs).output(dtype, &[3, 7]).exact()
}

/// Extents of data, axis, extents of indices, extents of the result.
type Picks = (&'static [usize], u32, &'static [usize], &'static [usize]);

fn gathers(dtype: DType, random: &mut Random) -> Vec<Case> {
    let shapes: [Picks; 3] =
        [(&[7], 0, &[4], &[4]), (&[3, 5, 2], 1, &[2, 2], &[3, 2, 2, 2]), (&[4, 6], 1, &[], &[4])];
    let case = |(data, axis, indices, out): Picks| {
        let extent = data[axis as usize] as i64;
        let picks: Vec<i64> =
            (0..indices.iter().product()).map(|_| random.int(-extent, extent - 1)).collect();
        let narrow: Vec<i32> = picks.iter().map(|i| *i as i32).collect();
        [Tensor::new(indices, &picks), Tensor::new(indices, &narrow)].map(|indices| {
            Case::new(OpCode::Gather, format!("Gather {data:?} axis {axis} {dtype}"), &GatherAttrs { axis })
                .input(Tensor::random(dtype, data, random))
                .input(indices)
                .output(dtype, out)
                .exact()
        })
    };
    shapes.into_iter().flat_map(case).collect()
}

fn elements(dtype: DType, random: &mut Random) -> Vec<Case> {
    let shapes: [(&[usize], u32, &[usize]); 3] =
        [(&[7], 0, &[9]), (&[3, 5, 2], 1, &[2, 6, 2]), (&[4, 6], 1, &[4, 1])];
    let case = |(data, axis, picked): (&[usize], u32, &[usize])| {
        let extent = data[axis as usize] as i64;
        let picks: Vec<i64> = (0..picked.iter().product()).map(|_| random.int(-extent, extent - 1)).collect();
        Case::new(
            OpCode::GatherElements,
            format!("GatherElements {data:?} axis {axis} {dtype}"),
            &GatherAttrs { axis },
        )
        .input(Tensor::random(dtype, data, random))
        .input(Tensor::new(picked, &picks))
        .output(dtype, picked)
        .exact()
    };
    shapes.into_iter().map(case).collect()
}
