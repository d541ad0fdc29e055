#!/usr/bin/env python3
"""Every quantized tensor of the QDQ models, as ONNX Runtime computes it node by node.

    INGRAFT_ORT_NODES=FOLDER python tests/golden/ort_nodes.py

Needs the pinned packages of `requirements.txt` beside this file, and the development data (INGRAFT_DATA, or
`../shared/data` beside the repository). Writes `FOLDER/MODEL.npz` for each model; one entry along the first axis
of every array is one sample, run alone.

    in__NAME           an input, as fed
    out__NAME          an output with graph optimizations off
    optimized__NAME    the same output with all graph optimizations on
    node__NAME         the codes a QuantizeLinear produced, with graph optimizations off

With optimizations off, ONNX Runtime dequantizes, computes in float and rounds, as the standard defines the graph.
Optimized, it fuses integer kernels; how far the two differ on an output is printed, in real units and in steps
of that output.

Samples are the recorded inputs. Where there are fewer than four, mirror images of them follow: real data for
the first layers, and no second copy of a recording in the repository.
"""

import os
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort

MODELS = [
    "mlperf_tiny_kws_dscnn_int8",
    "mlperf_tiny_ic_resnet8_int8",
    "yamnet_audioset521_int8",
    "efficientnet_lite0_int8_qdq",
]
MIN_SAMPLES = 4
PINNED = {"onnx": "1.23.2", "onnxruntime": "1.32.0"}


def check_versions():
    """Recorded values are a property of these versions: another one is refused, not tolerated."""
    found = {"onnx": onnx.__version__, "onnxruntime": ort.__version__}
    if found != PINNED:
        sys.exit(f"needs {PINNED}, found {found}: install tests/golden/requirements.txt")


def data_folder():
    default = pathlib.Path(__file__).resolve().parents[2] / "../shared/data"
    return pathlib.Path(os.environ.get("INGRAFT_DATA", default))


def session(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_codes_as_outputs(model):
    """A copy of `model` that also gives what every QuantizeLinear produced, and the names of those values."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for name in names:
        exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None))
    return exposed, names


def samples(recorded, inputs):
    """The recorded inputs, then mirror images, each `[1, ...]`."""
    count = len(recorded[f"in__{inputs[0]}"])
    rows = [{name: recorded[f"in__{name}"][i : i + 1] for name in inputs} for i in range(count)]
    # Time or height first, then width.
    for nth in (0, 1):
        if len(rows) < MIN_SAMPLES:
            rows += [{name: mirrored(row[name], nth) for name in row} for row in rows]
    return rows


def mirrored(array, nth):
    """`array` reversed along the `nth` axis that is longer than a pixel has channels."""
    axes = [axis for axis in range(1, array.ndim) if array.shape[axis] > 3]
    return np.ascontiguousarray(np.flip(array, axes[nth]))


def step_of(model, output):
    """The scale of the codes an output was dequantized from, through nodes that only move or rename values."""
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    name = output
    while producers[name].op_type in ("Identity", "Flatten", "Reshape"):
        name = producers[name].input[0]
    node = producers[name]
    if node.op_type != "DequantizeLinear":
        sys.exit(f"{output} is not dequantized from codes")
    return float(constants[node.input[1]])


def record(stem, data, folder):
    model = onnx.load(data / "models/onnx" / f"{stem}.onnx")
    recorded = np.load(data / "models/golden" / f"{stem}.npz")
    exposed, codes = with_codes_as_outputs(model)
    plain = session(exposed, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    optimized = session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    rows = samples(recorded, inputs)
    arrays = {f"in__{name}": np.concatenate([row[name] for row in rows]) for name in inputs}

    def gather(prefix, names, runner):
        results = [runner.run(names, row) for row in rows]
        for i, name in enumerate(names):
            arrays[f"{prefix}__{name}"] = np.concatenate([result[i] for result in results])

    gather("node", codes, plain)
    gather("out", outputs, plain)
    gather("optimized", outputs, optimized)
    np.savez(folder / f"{stem}.npz", **arrays)
    count = len(recorded[f"in__{inputs[0]}"])
    print(f"{stem}: {len(codes)} quantized tensors, {len(rows)} samples, {count} of them recorded")
    for name in outputs:
        plain_rows, optimized_rows = arrays[f"out__{name}"], arrays[f"optimized__{name}"]
        step = step_of(model, name)
        report_drift(f"{name}, recorded inputs", plain_rows[:count], optimized_rows[:count], step)
        report_drift(f"{name}, all samples", plain_rows, optimized_rows, step)


def report_drift(name, plain, optimized, step):
    worst = float(np.abs(plain - optimized).max())
    same = plain.argmax(axis=-1) == optimized.argmax(axis=-1)
    print(
        f"  {name}: ONNX Runtime's drift {worst:.6g} = {worst / step:.2f} steps of {step:.6g}, "
        f"largest value at the same index on {same.sum()} of {same.size}"
    )


def main():
    if "INGRAFT_ORT_NODES" not in os.environ:
        sys.exit("set INGRAFT_ORT_NODES to the folder to write")
    check_versions()
    folder = pathlib.Path(os.environ["INGRAFT_ORT_NODES"])
    folder.mkdir(parents=True, exist_ok=True)
    for stem in MODELS:
        record(stem, data_folder(), folder)


if __name__ == "__main__":
    main()
