//! Layers that the file quantizes at run time.

use super::*;
use crate::graph::{Builder, ValueId};
use crate::op::{Binary, Conv, Layout, Op, Unary, Window};

/// A product of dynamically quantized rows with these weights, as a quantizer writes it.
struct Written {
    builder: Builder,
    /// The product of both scales.
    scale: ValueId,
    y: ValueId,
}

fn written(weights: DType, weight_zero: i64, scales: &[usize], bias: bool) -> Written {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![2, 3, 8]).unwrap();
    let quantized = b.push("quantize", Op::DynamicQuantizeLinear, &[Some(x)]).unwrap();
    let [codes, scale, zero] = quantized[..] else { panic!("three results") };
    let w = b.constant("w_quantized", values(weights, &[8, 5], 11));
    let wz = b.constant("w_zero", Tensor::from_i64(weights, &[], &[weight_zero]).unwrap());
    let positive =
        reference::noise(scales, 12).to_f32().iter().map(|v| 0.01 + v.abs() / 100.0).collect::<Vec<_>>();
    let ws = b.constant("w_scale", Tensor::from_f32(scales, &positive).unwrap());
    let scale = b.add("scales", Op::Binary(Binary::Mul), &[scale, ws]).unwrap();
    let sums = b.add("sums", Op::MatMulInteger, &[codes, w, zero, wz]).unwrap();
    let real = b.add("real", Op::Cast { to: DType::F32 }, &[sums]).unwrap();
    let mut y = b.add("scaled", Op::Binary(Binary::Mul), &[real, scale]).unwrap();
    if bias {
        let bias = b.constant("bias", reference::noise(&[5], 13));
        y = b.add("biased", Op::Binary(Binary::Add), &[bias, y]).unwrap();
    }
    let y = b.add("y", Op::Unary(Unary::Relu), &[y]).unwrap();
    Written { builder: b, scale, y }
}

#[test]
fn one_step_computes_what_the_quantizer_wrote_as_six_nodes() {
    for (weights, zero) in [(DType::I8, 0), (DType::U8, 128), (DType::U8, 50)] {
        for (scales, bias) in [(&[][..], true), (&[5], true), (&[1], false)] {
            let Written { builder, y, .. } = written(weights, zero, scales, bias);
            let program = assert_agrees(&builder.finish(&[y]), 1e-5);
            let steps = BTreeMap::from([(OpCode::DynamicQuantize, 1), (OpCode::DynamicConv, 1)]);
            assert_eq!(census(&program), steps);
            let site = &program.sites[0];
            assert_eq!(
                (site.name.as_str(), site.out, site.inputs, site.transposed),
                ("w_quantized", 5, 8, true)
            );
            assert!(program.notes.float_nodes.is_empty(), "{:?}", program.notes.float_nodes);
        }
    }
}

#[test]
fn a_scale_that_others_read_is_still_computed() {
    let Written { builder, scale, y } = written(DType::I8, 0, &[], true);
    let program = assert_agrees(&builder.finish(&[y, scale]), 1e-5);
    assert_eq!((census(&program)[&OpCode::DynamicConv], census(&program)[&OpCode::Binary]), (1, 1));
}

#[test]
fn weights_of_nine_bits_keep_their_own_steps() {
    // 0 to 100 less 255 leaves int8.
    let Written { builder, y, .. } = written(DType::U8, 255, &[], true);
    let program = assert_agrees(&builder.finish(&[y]), 1e-4);
    assert_eq!(census(&program)[&OpCode::MatMulInteger], 1);
}

/// `ConvInteger` has no form in the interpreter: the convolution of the dequantized operands stands for it.
#[test]
fn convolutions_of_codes_are_one_step_too() {
    let window = Window {
        kernel: vec![3, 2],
        strides: vec![2, 1],
        dilations: vec![1, 1],
        pads_begin: vec![1, 0],
        pads_end: vec![1, 1],
    };
    let conv = Conv { window, groups: 1, layout: Layout::ChannelsFirst };
    let graph = |integer: bool| {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2, 3, 6, 5]).unwrap();
        let quantized = b.push("quantize", Op::DynamicQuantizeLinear, &[Some(x)]).unwrap();
        let [codes, scale, zero] = quantized[..] else { panic!("three results") };
        let w = b.constant("w", values(DType::U8, &[4, 3, 3, 2], 11));
        let wz = b.constant("wz", Tensor::from_i64(DType::U8, &[], &[50]).unwrap());
        let ws = b.constant("ws", Tensor::scalar_f32(0.02));
        let bias = b.constant("bias", reference::noise(&[1, 4, 1, 1], 13));
        let y = if integer {
            let sums = b.add("sums", Op::ConvInteger(conv.clone()), &[codes, w, zero, wz]).unwrap();
            let real = b.add("real", Op::Cast { to: DType::F32 }, &[sums]).unwrap();
            let scale = b.add("scales", Op::Binary(Binary::Mul), &[scale, ws]).unwrap();
            b.add("scaled", Op::Binary(Binary::Mul), &[real, scale]).unwrap()
        } else {
            let x = b.add("dx", Op::DequantizeLinear { axis: 0 }, &[codes, scale, zero]).unwrap();
            let w = b.add("dw", Op::DequantizeLinear { axis: 0 }, &[w, ws, wz]).unwrap();
            b.add("conv", Op::Conv(conv.clone()), &[x, w]).unwrap()
        };
        let y = b.add("y", Op::Binary(Binary::Add), &[y, bias]).unwrap();
        b.finish(&[y])
    };
    let inputs = BTreeMap::from([("x".to_owned(), reference::noise(&[2, 3, 6, 5], 1))]);
    let want = &reference::run(&graph(false), &inputs)["y"];
    let program = lowered(&graph(true)).unwrap();
    reference::assert_close("y", want, &run(&program, &inputs)["y"], 1e-5);
    assert_eq!(census(&program)[&OpCode::DynamicConv], 1);
    assert_eq!((program.sites[0].kernel, program.sites[0].stride), ([3, 2], 2));
    assert!(!census(&program).contains_key(&OpCode::Binary));
}
