"""ONNX files of the demo network: float with batch norms folded, and static int8 QDQ.

Both files use the same names: weight `block3.pw.weight`, its layer's output `block3.pw` (after ReLU6 where there is
one), inputs `patch`, outputs `logits` and `embedding`. In the int8 file the initializer `block3.pw.weight` is int8.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8


def session(model: bytes) -> onnxruntime.InferenceSession:
    """One thread, graph optimizations off: the arithmetic the file states, and nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Graph:
    """Nodes and initializers under construction."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.known: set[str] = set()

    def constant(self, name: str, value: np.ndarray) -> str:
        if name not in self.known:
            self.known.add(name)
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, name: str | None = None, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=name or output, **attributes))
        return output

    def finish(self, name: str, inputs: list, outputs: list) -> bytes:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "ingraft-demo"
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def folded(conv, norm) -> tuple[np.ndarray, np.ndarray]:
    """Convolution weight and bias with the batch norm that follows multiplied in, in float64."""
    weight = conv.weight.detach().double().numpy()
    factor = (norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()).numpy()
    bias = norm.bias.detach().double().numpy() - norm.running_mean.double().numpy() * factor
    return (weight * factor[:, None, None, None]).astype(np.float32), bias.astype(np.float32)


def float_model(network) -> bytes:
    """The trained torch `Network` as an f32 ONNX file, dynamic batch `N`."""
    graph = Graph()

    def conv(source: str, name: str, layer, norm, relu6: bool) -> str:
        weight, bias = folded(layer, norm)
        inputs = [source, graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]
        k, p, s, g = layer.kernel_size[0], layer.padding[0], layer.stride[0], layer.groups
        shape = dict(kernel_shape=[k, k], pads=[p] * 4, strides=[s, s], dilations=[1, 1], group=g)
        if not relu6:
            return graph.node("Conv", inputs, name, **shape)
        linear = graph.node("Conv", inputs, f"{name}.conv", **shape)
        bounds = [graph.constant("relu6.min", np.float32(0)), graph.constant("relu6.max", np.float32(6))]
        return graph.node("Clip", [linear, *bounds], name, f"{name}.relu6")

    x = conv("patch", "stem", network.stem, network.stem_norm, True)
    for index, block in enumerate(network.blocks, start=1):
        y = conv(x, f"block{index}.dw", block.dw, block.dw_norm, True)
        y = conv(y, f"block{index}.pw", block.pw, block.pw_norm, not block.residual)
        x = graph.node("Add", [x, y], f"block{index}.add") if block.residual else y
    pooled = graph.node("GlobalAveragePool", [x], "pooled")
    graph.node("Flatten", [pooled], "embedding", "flatten", axis=1)
    weight = graph.constant("classifier.weight", network.classifier.weight.detach().numpy())
    bias = graph.constant("classifier.bias", network.classifier.bias.detach().numpy())
    graph.node("Gemm", ["embedding", weight, bias], "logits", "classifier", transB=1)
    value = helper.make_tensor_value_info
    classes, width = network.classifier.weight.shape
    outputs = [value("logits", TensorProto.FLOAT, ["N", classes]), value("embedding", TensorProto.FLOAT, ["N", width])]
    return graph.finish("demo_base", [value("patch", TensorProto.FLOAT, ["N", 1, 96, 64])], outputs)


def ranges(model: bytes, names: list[str], batches: np.ndarray) -> dict[str, tuple[float, float]]:
    """Range of each named tensor over the calibration patches: 0.01 and 99.99 percentile, widened to hold zero."""
    proto = onnx.load_from_string(model)
    present = {o.name for o in proto.graph.output} | {i.name for i in proto.graph.input}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    observed = [n for n in names if n != "patch"]
    values: dict[str, list[np.ndarray]] = {n: [] for n in observed}
    run = session(proto.SerializeToString())
    for start in range(0, len(batches), 64):
        for name, value in zip(observed, run.run(observed, {"patch": batches[start : start + 64]})):
            values[name].append(value.ravel())
    result = {}
    for name in names:
        samples = batches.ravel() if name == "patch" else np.concatenate(values[name])
        low, high = np.percentile(samples, [0.01, 99.99])
        result[name] = (min(float(low), 0.0), max(float(high), 0.0))
    return result


def asymmetric(low: float, high: float) -> tuple[np.float32, np.int8]:
    scale = np.float32((high - low) / 255.0)
    return scale, np.int8(np.clip(round(-128 - low / scale), -128, 127))


def quantized_tensors(graph: onnx.GraphProto) -> list[str]:
    """Tensors that get a Q/DQ pair: the input, and every output except one that only a Clip reads (the pair goes
    after the Clip) and one that only moves its input's codes (Flatten)."""
    clipped = {n.input[0] for n in graph.node if n.op_type == "Clip"}
    names = [n.output[0] for n in graph.node if n.op_type != "Flatten"]
    return ["patch"] + [n for n in names if n not in clipped]


def int8_model(model: bytes, batches: np.ndarray) -> bytes:
    """Static QDQ: int8 asymmetric activations, int8 symmetric per-channel weights, int32 bias of scale f32(sx*sw)."""
    source = onnx.load_from_string(model).graph
    float_values = {i.name: numpy_helper.to_array(i) for i in source.initializer}
    names = quantized_tensors(source)
    qparams = {n: asymmetric(*r) for n, r in ranges(model, names, batches).items()}
    graph, current, results = Graph(), {}, {o.name for o in source.output}

    def pair(name: str, linear: str, output: str) -> None:
        scale, zero_point = qparams[name]
        ends = [graph.constant(f"{name}.scale", scale), graph.constant(f"{name}.zero_point", zero_point)]
        code = graph.node("QuantizeLinear", [linear, *ends], f"{name}.q", f"{name}.quantize")
        current[name] = graph.node("DequantizeLinear", [code, *ends], output, f"{name}.dequantize")

    def dequantized(name: str, code: np.ndarray, scale: np.ndarray) -> str:
        named = {name: code, f"{name}.scale": scale, f"{name}.zero_point": np.zeros(scale.shape, code.dtype)}
        inputs = [graph.constant(key, value) for key, value in named.items()]
        return graph.node("DequantizeLinear", inputs, f"{name}.dq", f"{name}.dequantize", axis=0)

    def operands(node) -> list[str]:
        weight, bias = (float_values[n] for n in node.input[1:])
        peak = np.abs(weight).reshape(len(weight), -1).max(1)
        scale = (np.maximum(peak, 2.0**-20) / 127.0).astype(np.float32)
        code = np.clip(np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))), -127, 127).astype(np.int8)
        bias_scale = qparams[origin[node.input[0]]][0] * scale
        bias_code = np.clip(np.rint(bias.astype(np.float64) / bias_scale), -(2**31), 2**31 - 1).astype(np.int32)
        return [dequantized(node.input[1], code, scale), dequantized(node.input[2], bias_code, bias_scale)]

    origin = {n: n for n in names} | {"embedding": "pooled"}
    pair("patch", "patch", "patch.dq")
    for node in source.node:
        name = node.output[0]
        inputs = [current.get(i, i) for i in node.input]
        if node.op_type in ("Conv", "Gemm"):
            inputs[1:] = operands(node)
        for bound in inputs[1:] if node.op_type == "Clip" else []:
            graph.constant(bound, float_values[bound])
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        if name in qparams:
            copy.output[0] = f"{name}.f"
        graph.nodes.append(copy)
        if name in qparams:
            pair(name, f"{name}.f", name if name in results else f"{name}.dq")
    return graph.finish(f"{source.name}_int8", list(source.input), list(source.output))
