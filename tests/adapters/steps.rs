//! Steps of weights' quantizers: one per channel whatever the file has, trained with their integers untouched.

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft::compile::{CompileOptions, Tensor, compile};
use ingraft::kernel::Host;
use ingraft::method::{ExportOptions, build as method, export};
use ingraft::plan::PlanView;
use ingraft::tensor::DType;
use ingraft::train::{Clip, FrozenSite, Trainer, Truth};

use crate::norms;
use crate::support::{AlignedBytes, Lcg, as_bytes, floats, infer};

const WIDE: usize = 9;
const CLASSES: usize = 3;
const INPUT: f32 = 1.0 / 32.0;
const STEP: f32 = 1.0 / 64.0;

/// Codes of the weight, `[in, out]`.
fn codes() -> Vec<i64> {
    let mut random = Lcg::new(8);
    (0..WIDE * CLASSES).map(|_| (random.real() * 200.0 - 100.0) as i64).collect()
}

/// A quantized layer whose weight has these steps: one for all of it, or one per channel.
fn net(steps: &[f32]) -> AlignedBytes {
    let constant =
        |name: &str, tensor: Option<Tensor>| TensorProto::new(name, &tensor.expect("as many values"));
    let axes: &[usize] = if steps.len() == 1 { &[] } else { &[CLASSES] };
    let dequantized = |inputs: &[&str], to: &str| NodeProto::new("DequantizeLinear", inputs, &[to]);
    let graph = GraphProto::new("steps")
        .with_input("x", DType::F32, &[1usize.into(), WIDE.into()])
        .with_constant(constant("x.scale", Tensor::from_f32(&[], &[INPUT])))
        .with_constant(constant("x.zero", Tensor::from_i64(DType::I8, &[], &[3])))
        .with_constant(constant("weight", Tensor::from_i64(DType::I8, &[WIDE, CLASSES], &codes())))
        .with_constant(constant("weight.scale", Tensor::from_f32(axes, steps)))
        .with_constant(constant("bias", Tensor::from_f32(&[CLASSES], &[0.5, -0.25, 0.125])))
        .with_node(NodeProto::new("QuantizeLinear", &["x", "x.scale", "x.zero"], &["codes"]))
        .with_node(dequantized(&["codes", "x.scale", "x.zero"], "real"))
        .with_node(dequantized(&["weight", "weight.scale"], "w").with_int("axis", 1))
        .with_node(NodeProto::new("MatMul", &["real", "w"], &["product"]))
        .with_node(NodeProto::new("Add", &["product", "bias"], &["logits"]))
        .with_output("logits", DType::F32);
    let options = CompileOptions { train_from: Some(TrainFrom::All), ..CompileOptions::default() };
    let compiled = compile(&ModelProto::new(13, graph).to_bytes(), &options).expect("it compiles");
    AlignedBytes::copy_of(&compiled.plan)
}

fn logits(plan: PlanView<'_>, clip: &[f32], source: &impl TermSource) -> Vec<f32> {
    floats(&infer(plan, &Host::SCALAR, &[as_bytes(clip)], source).remove(0))
}

#[test]
fn a_step_of_a_whole_tensor_is_one_per_channel_and_scales_the_output_before_the_bias() {
    let file = net(&[STEP]);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let frozen = FrozenSite::new(&plan, 0).expect("the layer");
    for channel in 0..CLASSES {
        assert!((frozen.weight_step(channel).expect("codes") / STEP - 1.0).abs() < 1e-6);
    }
    let peqa = method("peqa", &[]).expect("a method of the list");
    let setup = norms::setup(&*peqa, &[0]);
    let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("it can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, arena.as_mut()).expect("memory suffices");
    let clips = norms::clips();
    for _ in 0..20 {
        for (clip, class) in &clips {
            trainer.accumulate(Clip::Inputs(as_bytes(clip)), Truth::Class(*class)).expect("one clip");
        }
        trainer.step().expect("gradients are finite");
    }
    let moved = trainer.fetched().values().to_vec();
    assert_eq!(moved.len(), CLASSES);
    assert!(moved.iter().all(|delta| delta.abs() > 0.02) && moved[0] != moved[1], "{moved:?}");
    // What is written is a scale of the output and what keeps the bias: no integer of the weight is in it.
    let written = export(&mut trainer, &ExportOptions::default()).expect("finite");
    let bytes = AlignedBytes::copy_of(&written.bytes);
    let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
    let terms = adapter.terms(0);
    let affine = terms.affine.expect("a scale");
    assert!(terms.patched.is_none() && terms.sparse.is_none() && terms.two_factor.is_none());
    let bias = |channel: usize| frozen.real_bias(channel);
    for (channel, delta) in moved.iter().enumerate() {
        assert!((affine.scale[channel] - 1.0 - delta).abs() < 1e-6);
        assert!((affine.shift[channel] + bias(channel) * delta).abs() < 1e-6);
    }
    // The same integers under the trained steps, compiled: the same layer.
    let steps: Vec<f32> = moved.iter().map(|delta| STEP * (1.0 + delta)).collect();
    let trained = net(&steps);
    let trained = PlanView::new(trained.as_slice()).expect("a plan we wrote is valid");
    assert_eq!(FrozenSite::new(&trained, 0).and_then(|site| site.codes()), frozen.codes());
    for (clip, _) in &clips {
        let (base, with, wanted) =
            (logits(plan, clip, &Base), logits(plan, clip, &adapter), logits(trained, clip, &Base));
        for channel in 0..CLASSES {
            let scaled = (base[channel] - bias(channel)) * (1.0 + moved[channel]) + bias(channel);
            assert!((with[channel] - scaled).abs() < 1e-4, "{with:?} {scaled}");
            // Biases are codes too, of half a step's error.
            assert!((with[channel] - wanted[channel]).abs() < INPUT * STEP, "{with:?} {wanted:?}");
        }
    }
}
