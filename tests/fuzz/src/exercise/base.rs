//! The bases that files of adapters are read against: small, so that an execution takes microseconds.

use core::cell::RefCell;
use std::sync::OnceLock;

use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft_compile::{CalibrateOptions, CompileOptions, Tensor, compile, initializers};
use ingraft_import::{Aligned, Base, Tensors};
use ingraft_kernel::Host;
use ingraft_plan::PlanView;
use ingraft_tensor::{DType, Rng, bytes};

/// A plan of every kind of int8 layer that takes terms: convolution, one with groups, depthwise, pointwise, linear.
pub fn plan_file() -> &'static [u8] {
    static FILE: OnceLock<Aligned> = OnceLock::new();
    FILE.get_or_init(|| Aligned::copy_of(&compiled())).as_slice()
}

/// The reference, and the fastest target of this machine where the user of this module has one.
pub fn hosts() -> &'static [Host] {
    static HOSTS: OnceLock<Vec<Host>> = OnceLock::new();
    HOSTS.get_or_init(|| [Some(Host::SCALAR), crate::native()].into_iter().flatten().collect())
}

/// Calls `with` on `len` aligned bytes of no particular content; `None` for more than a device of 256 KiB has.
pub fn room<T>(len: usize, with: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
    thread_local! { static ROOM: RefCell<Vec<Vec<u128>>> = const { RefCell::new(Vec::new()) }; }
    if len > ROOM_BYTES {
        return None;
    }
    let words = ROOM.with_borrow_mut(Vec::pop);
    let mut words = words.unwrap_or_else(|| vec![0; ROOM_BYTES / 16]);
    let value = bytes::of_mut(&mut words).get_mut(..len).map(with);
    ROOM.with_borrow_mut(|rooms| rooms.push(words));
    value
}

/// The models that the importer's goldens are of.
pub const MODELS: [&[u8]; 8] = [
    include_bytes!("../../../golden/import/linear.onnx"),
    include_bytes!("../../../golden/import/conv.onnx"),
    include_bytes!("../../../golden/import/norm.onnx"),
    include_bytes!("../../../golden/import/batch.onnx"),
    include_bytes!("../../../golden/import/tokens.onnx"),
    include_bytes!("../../../golden/import/line.onnx"),
    include_bytes!("../../../golden/import/attention.onnx"),
    include_bytes!("../../../golden/import/groups.onnx"),
];

/// The one of whole numbers, which is not quantized.
const WHOLE: usize = 4;

/// The base of `model` of [`MODELS`], quantized or not, with float weights or without.
pub fn golden(model: usize, quantized: bool, weights: bool) -> Base<'static> {
    static BASES: [OnceLock<(Aligned, Tensors)>; 2 * MODELS.len()] =
        [const { OnceLock::new() }; 2 * MODELS.len()];
    let quantized = quantized && model != WHOLE;
    let cell = &BASES[2 * model + usize::from(quantized)];
    let (file, tensors) = cell.get_or_init(|| {
        let model = MODELS[model];
        let wide = |tensor: Tensor| ingraft_import::Tensor {
            dims: tensor.shape().to_vec(),
            values: tensor.to_f32().into_iter().map(f64::from).collect(),
        };
        let held = initializers(model).expect("a model").into_iter();
        let held = held.map(|(name, tensor)| (name, wide(tensor))).collect();
        let plain = compile(model, &CompileOptions { head_classes: 6, ..CompileOptions::default() });
        let plan = plain.expect("it compiles").plan;
        if !quantized {
            return (Aligned::copy_of(&plan), held);
        }
        let plan = Aligned::copy_of(&plan);
        let options = CompileOptions {
            calibrate: Some(calibration(&PlanView::new(plan.as_slice()).expect("we wrote it"))),
            head_classes: 6,
            ..CompileOptions::default()
        };
        (Aligned::copy_of(&compile(model, &options).expect("it compiles").plan), held)
    });
    let plan = PlanView::new(file.as_slice()).expect("we wrote it");
    Base { plan, initializers: if weights { tensors.clone() } else { Tensors::new() } }
}

/// Two samples of noise for every input of a float plan.
pub fn calibration(plan: &PlanView<'_>) -> CalibrateOptions {
    let mut random = Rng::new(1);
    let mut sample = || {
        let inputs = plan.inputs().filter_map(|io| Some((io.name.to_owned(), plan.tensor(io.tensor)?)));
        let noise = |random: &mut Rng, len: usize| -> Vec<u8> {
            (0..len).flat_map(|_| (random.uniform(-1.0, 1.0) as f32).to_le_bytes()).collect()
        };
        inputs.map(|(name, tensor)| (name, noise(&mut random, tensor.operand.shape.elements()))).collect()
    };
    CalibrateOptions { samples: vec![sample(), sample()], ..CalibrateOptions::default() }
}

/// Samples' shape is `[1, 2, 6, 5]`, classes 3.
pub fn model() -> ModelProto {
    let mut random = Rng::new(2);
    let mut weight = |name: &str, shape: &[usize]| {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| random.uniform(-0.7, 0.7) as f32).collect();
        TensorProto::new(name, &Tensor::from_f32(shape, &values).expect("as many values"))
    };
    let graph = GraphProto::new("small")
        .with_input("x", DType::F32, &[1.into(), 2.into(), 6.into(), 5.into()])
        .with_constant(weight("conv.weight", &[4, 2, 3, 3]))
        .with_constant(weight("conv.bias", &[4]))
        .with_constant(weight("groups.weight", &[4, 2, 1, 3]))
        .with_constant(weight("depthwise.weight", &[4, 1, 3, 3]))
        .with_constant(weight("depthwise.bias", &[4]))
        .with_constant(weight("point.weight", &[6, 4, 1, 1]))
        .with_constant(weight("linear.weight", &[3, 6]))
        .with_constant(weight("linear.bias", &[3]))
        .with_node(
            NodeProto::new("Conv", &["x", "conv.weight", "conv.bias"], &["a"]).with_ints("pads", &[1; 4]),
        )
        .with_node(NodeProto::new("Relu", &["a"], &["b"]))
        .with_node(
            NodeProto::new("Conv", &["b", "groups.weight"], &["c"])
                .with_int("group", 2)
                .with_ints("strides", &[2, 1]),
        )
        .with_node(
            NodeProto::new("Conv", &["c", "depthwise.weight", "depthwise.bias"], &["d"])
                .with_int("group", 4)
                .with_ints("pads", &[1; 4]),
        )
        .with_node(NodeProto::new("Relu", &["d"], &["e"]))
        .with_node(NodeProto::new("Conv", &["e", "point.weight"], &["f"]))
        .with_node(NodeProto::new("GlobalAveragePool", &["f"], &["g"]))
        .with_node(NodeProto::new("Flatten", &["g"], &["h"]))
        .with_node(
            NodeProto::new("Gemm", &["h", "linear.weight", "linear.bias"], &["y"]).with_int("transB", 1),
        )
        .with_output("y", DType::F32);
    ModelProto::new(13, graph)
}

fn compiled() -> Vec<u8> {
    let onnx = model().to_bytes();
    let options =
        CompileOptions { head_classes: 4, train_from: Some(TrainFrom::All), ..CompileOptions::default() };
    let float = Aligned::copy_of(&compile(&onnx, &options).expect("it compiles").plan);
    let calibrate = Some(calibration(&PlanView::new(float.as_slice()).expect("we wrote it")));
    compile(&onnx, &CompileOptions { calibrate, ..options }).expect("it compiles").plan
}

const ROOM_BYTES: usize = 256 << 10;
