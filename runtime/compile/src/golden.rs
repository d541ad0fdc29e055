//! The recorded models: what they import to, and that they still compute what ONNX Runtime recorded.

mod npz;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::graph::{Graph, Tensor, channels_last, simplify};
use crate::op::{Layout, Op};
use crate::reference::{assert_close, run};
use crate::{ImportError, ImportOptions, import};

/// The folder of recorded models. Where it is absent the test is skipped, except under CI.
fn data(path: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let root = std::env::var_os("INGRAFT_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let file = root.join(path);
    if file.exists() {
        return Some(file);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing", file.display());
    eprintln!("skipped: {} is missing", file.display());
    None
}

fn model(name: &str) -> Option<Vec<u8>> {
    Some(std::fs::read(data(&format!("models/onnx/{name}.onnx"))?).unwrap())
}

/// Recorded inputs and outputs by name; the recorder wrote `_` for some characters of tensor names.
fn recorded(name: &str) -> Option<BTreeMap<String, Tensor>> {
    Some(npz::read(&std::fs::read(data(&format!("models/golden/{name}.npz"))?).unwrap()))
}

fn recorded_name(prefix: &str, name: &str) -> String {
    format!("{prefix}__{}", name.replace(['.', ':', '/'], "_"))
}

/// The graph of a model with the shapes of its recorded inputs.
fn imported(name: &str) -> Option<(Graph, BTreeMap<String, Tensor>)> {
    let (bytes, arrays) = (model(name)?, recorded(name)?);
    // Input names hold none of the characters that were replaced.
    let shapes =
        arrays.iter().filter_map(|(key, a)| Some((key.strip_prefix("in__")?.to_owned(), a.shape().to_vec())));
    let options = ImportOptions { shapes: shapes.collect(), ..ImportOptions::default() };
    Some((import(&bytes, &options).unwrap_or_else(|e| panic!("{name}: {e}")), arrays))
}

fn transposes(graph: &Graph) -> Vec<&str> {
    let moves = |node: &&crate::Node| matches!(node.op, Op::Transpose { .. });
    graph.nodes.iter().filter(moves).map(|node| node.name.as_str()).collect()
}

fn count(graph: &Graph, name: &str) -> usize {
    graph.census().get(name).copied().unwrap_or(0)
}

/// Name, tolerance relative to the largest output. The int8 ones may differ by a step of their output.
const RUNNABLE: [(&str, f32); 11] = [
    ("efficientnet_lite0_f32", 1e-4),
    ("efficientnet_lite0_int8_qdq", 0.03),
    ("kwt1_12labels_f32", 1e-3),
    ("minilm_l6_int8_dynamic", 2e-2),
    ("mlperf_tiny_ic_resnet8_f32", 1e-4),
    ("mlperf_tiny_ic_resnet8_int8", 1e-2),
    ("mlperf_tiny_kws_dscnn_int8", 1e-2),
    ("mlperf_tiny_kws_dscnn_weightonly_int8", 1e-4),
    ("ppocr_textline_cls_mobilenetv3_f32", 1e-4),
    ("silero_vad_16k_sequence", 1e-4),
    ("yamnet_audioset521_int8", 1e-2),
];

/// Too slow for the interpreter; only its shapes are checked.
const DNSMOS: &str = "dnsmos_sig_bak_ovr_f32";

#[test]
fn shapes_and_types_are_the_recorded_ones() {
    for name in RUNNABLE.iter().map(|(name, _)| *name).chain([DNSMOS]) {
        let Some((graph, arrays)) = imported(name) else { return };
        for (prefix, ids) in [("in", &graph.inputs), ("out", &graph.outputs)] {
            for &id in ids {
                let array = &arrays[&recorded_name(prefix, &graph[id].name)];
                let found = (graph[id].shape.as_slice(), graph[id].dtype);
                assert_eq!(found, (array.shape(), array.dtype()), "{name}: {}", graph[id].name);
            }
        }
        assert!(graph.frozen.is_empty());
    }
}

/// The whole of this crate's graph work against ONNX Runtime, on one network of each kind.
#[test]
fn simplified_channels_last_graphs_compute_what_was_recorded() {
    for (name, tolerance) in RUNNABLE {
        let Some((graph, arrays)) = imported(name) else { return };
        let graph = channels_last(simplify(graph).graph).into_graph();
        let inputs = graph.inputs.iter().map(|&id| {
            let name = &graph[id].name;
            (name.clone(), arrays[&recorded_name("in", name)].clone())
        });
        for (output, got) in run(&graph, &inputs.collect()) {
            assert_close(
                &format!("{name}: {output}"),
                &arrays[&recorded_name("out", &output)],
                &got,
                tolerance,
            );
        }
    }
}

#[test]
fn no_transpose_is_left_inside_the_convolutional_networks() {
    // The names of those that remain: inputs and outputs whose order in the file is another.
    let cases: [(&str, &[&str]); 8] = [
        ("mlperf_tiny_kws_dscnn_int8", &[]),
        ("mlperf_tiny_kws_dscnn_weightonly_int8", &[]),
        ("mlperf_tiny_ic_resnet8_int8", &[]),
        ("mlperf_tiny_ic_resnet8_f32", &[]),
        ("yamnet_audioset521_int8", &[]),
        ("efficientnet_lite0_int8_qdq", &["image"]),
        ("ppocr_textline_cls_mobilenetv3_f32", &["x"]),
        (DNSMOS, &[]),
    ];
    for (name, left) in cases {
        let Some((graph, _)) = imported(name) else { return };
        let graph = channels_last(simplify(graph).graph).into_graph();
        assert_eq!(transposes(&graph), left, "{name}");
        let first = |node: &crate::Node| matches!(&node.op, Op::Conv(c) if c.layout != Layout::ChannelsLast);
        assert!(!graph.nodes.iter().any(first), "{name}");
    }
}

#[test]
fn written_out_functions_are_recognized() {
    let cases = [
        ("ppocr_textline_cls_mobilenetv3_f32", [("HardSwish", 18), ("BatchNormalization", 0), ("Conv", 53)]),
        ("minilm_l6_int8_dynamic", [("LayerNormalization", 13), ("Gelu", 6), ("Erf", 0)]),
        ("kwt1_12labels_f32", [("LayerNormalization", 24), ("Gelu", 12), ("Tanh", 0)]),
    ];
    for (name, counts) in cases {
        let Some((graph, _)) = imported(name) else { return };
        let simplified = simplify(graph);
        for (op, want) in counts {
            assert_eq!(count(&simplified.graph, op), want, "{name}: {op}");
        }
    }
}

#[test]
fn quantized_weights_stay_in_their_stored_type() {
    let Some((graph, _)) = imported("efficientnet_lite0_int8_qdq") else { return };
    let graph = simplify(graph).graph;
    let uses = graph.uses();
    for id in graph.node_ids() {
        if matches!(graph[id].op, Op::Conv(_) | Op::Gemm { .. }) {
            let (weights, dequantize) = graph.stored(graph[id].input(1).unwrap(), &uses).unwrap();
            assert_eq!(graph[weights].dtype, ingraft_tensor::DType::I8);
            assert!(dequantize.is_some());
        }
    }
}

#[test]
fn open_dimensions_are_asked_for_by_name() {
    let Some(bytes) = model("minilm_l6_int8_dynamic") else { return };
    let mut options = ImportOptions { dims: [("B".to_owned(), 2)].into(), ..ImportOptions::default() };
    let error = import(&bytes, &options).unwrap_err();
    let want = ImportError::UnknownDim { input: "input_ids".to_owned(), axis: 1, dim: "L".to_owned() };
    assert_eq!(error, want);
    assert!(error.to_string().contains("--dim L="));
    options.dims.insert("L".to_owned(), 5);
    let graph = import(&bytes, &options).unwrap();
    assert_eq!(graph[graph.outputs[0]].shape, [2, 5, 384]);
}

#[test]
fn cut_files_are_refused() {
    let Some(bytes) = model("mlperf_tiny_kws_dscnn_weightonly_int8") else { return };
    let options = ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() };
    assert!(import(&bytes, &options).is_ok());
    for len in (0..bytes.len()).step_by(97) {
        assert!(import(&bytes[..len], &options).is_err(), "{len}");
    }
}

/// Damage anywhere gives a graph or an error, never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let Some(bytes) = model("mlperf_tiny_kws_dscnn_weightonly_int8") else { return };
    let options = ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() };
    let mut state = 1u32;
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Most of the file is weights, where damage changes nothing; the structure is near its end.
            let reach = if state & 1 == 0 { damaged.len() } else { 6000 };
            let at = damaged.len() - 1 - (state >> 8) as usize % reach;
            damaged[at] ^= 1 << (state >> 2 & 7);
        }
        if let Ok(graph) = import(&damaged, &options) {
            channels_last(simplify(graph).graph);
        }
    }
}
