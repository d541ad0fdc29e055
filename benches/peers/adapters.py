#!/usr/bin/env python3
"""What adapters cost beside HF PEFT and ONNX Runtime's LoraAdapter, in one run on one machine.

    python3 benches/peers/adapters.py [--rounds 5]

Makes a virtual environment of the pinned packages of `requirements-adapters.txt` under `target` and runs itself there.
Needs cargo and the development data (INGRAFT_DATA, or `../shared/data` beside the repository). One thread each.

*Overhead.* Ours is what `cargo bench --bench adapters` measures: rank 4 (DS-CNN) or 8 (EfficientNet-Lite0) on every 1x1
convolution of the int8 model. ONNX Runtime's is the time of the same model, re-exported so that every 1x1 convolution
has two factors beside it as inputs that a LoraAdapter fills, over the time of the model as it is; the latter is also
what merged weights cost it.

*Switching.* Ours is an overlay of 1 % of every dense weight of EfficientNet-Lite0: checking the file and writing it into
a patched copy, undo log included. PEFT's is `merge_adapter` of LoRA of rank 8 on layers of the same shapes in float32,
with `set_adapter` and `load_adapter` of the same.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# Model of the data, and the rank of its factors.
MODELS = {"mlperf_tiny_kws_dscnn_int8": 4, "efficientnet_lite0_int8_qdq": 8}
SWITCHED = "efficientnet_lite0_int8_qdq"
SECONDS = 0.5


def inside_environment():
    """Makes the virtual environment and runs this script again inside it, unless its packages are there."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers-adapters"
    try:
        import onnx, onnxruntime, peft, torch  # noqa: E401, F401

        return
    except ImportError:
        if pathlib.Path(sys.prefix).resolve() == folder.resolve():
            raise
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", HERE / "requirements-adapters.txt"], check=True)
    os.execv(python, [python, __file__, *sys.argv[1:]])


def shortest_us(call):
    """The shortest call in half a second, in microseconds, as the bench of the adapters measures."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best


def ours():
    """The reports of `cargo bench --bench adapters`, the fastest target last."""
    command = ["cargo", "bench", "--quiet", "--package", "ingraft", "--bench", "adapters", "--", "--json"]
    reports = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return {report["model"]: report for report in reports}


def pointwise(graph):
    """The 1x1 convolutions of a QDQ graph over more than one pixel, with input and output channels."""
    import onnx

    producers = {output: node for node in graph.node for output in node.output}
    sizes = {value.name: list(value.dims) for value in graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight = producers.get(node.input[1])
        dims = sizes.get(weight.input[0] if weight else node.input[1])
        groups = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == "group"]
        pixels = shapes.get(node.output[0], [0, 0, 2, 2])[2:]
        if dims and dims[2:] == [1, 1] and groups in ([], [1]) and pixels != [1, 1]:
            yield node, dims[1], dims[0]


def with_factors(path, rank, folder):
    """The model with factors beside its 1x1 convolutions, and an adapter file that fills them."""
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph, rng, parameters = model.graph, np.random.default_rng(0), {}
    for index, (node, inputs, outputs) in enumerate(list(pointwise(graph))):
        names = [f"lora_{part}_{index}" for part in ("A", "B")]
        strides = [a for a in node.attribute if a.name == "strides"]
        for name, shape in zip(names, [(rank, inputs, 1, 1), (outputs, rank, 1, 1)]):
            zeros = np.zeros(shape, np.float32)
            graph.initializer.append(numpy_helper.from_array(zeros, name))
            graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
            parameters[name] = rng.normal(0, 0.01, shape).astype(np.float32)
        result, base = node.output[0], f"base_{index}"
        node.output[0] = base
        down = helper.make_node("Conv", [node.input[0], names[0]], [f"down_{index}"])
        down.attribute.extend(strides)
        up = helper.make_node("Conv", [f"down_{index}", names[1]], [f"up_{index}"])
        total = helper.make_node("Add", [base, f"up_{index}"], [result])
        at = list(graph.node).index(node)
        for offset, new in enumerate([down, up, total]):
            graph.node.insert(at + 1 + offset, new)
    adapted, adapter = folder / f"{path.stem}_lora.onnx", folder / f"{path.stem}.onnx_adapter"
    onnx.save(model, adapted)
    file = ort.AdapterFormat()
    file.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in parameters.items()})
    file.export_adapter(str(adapter))
    return adapted, adapter


class Runtime:
    """A session of ONNX Runtime on one thread, with an adapter or without."""

    def __init__(self, model, adapter=None):
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.options = ort.RunOptions()
        if adapter is not None:
            self.adapter = ort.LoraAdapter()
            self.adapter.Load(str(adapter))
            self.options.add_active_adapter(self.adapter)
        first = self.session.get_inputs()[0]
        shape = [d if isinstance(d, int) else 1 for d in first.shape]
        self.feeds = {first.name: np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)}

    def us(self):
        return shortest_us(lambda: self.session.run(None, self.feeds, self.options))


def overhead(data, folder, rank, stem, report, rounds):
    path = data / "models/onnx" / f"{stem}.onnx"
    adapted, adapter = with_factors(path, rank, folder)
    plain, lora = Runtime(path), Runtime(adapted, adapter)
    times = [(plain.us(), lora.us()) for _ in range(rounds)]
    base, active = (statistics.median(column) for column in zip(*times))
    own = [report[f"{name}_us"] / report["base_us"] for name in ("low_rank_resident", "fused_resident")]
    cells = [stem, rank, f"{report['base_us']:.0f}", *(f"{r:.2f}" for r in own), f"{base:.0f}", f"{active / base:.2f}"]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def layers(path):
    """Rows and columns of every dense weight of a QDQ model."""
    import onnx

    graph = onnx.load(path).graph
    producers = {output: node for node in graph.node for output in node.output}
    sizes = {value.name: list(value.dims) for value in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            weight = producers.get(node.input[1])
            dims = sizes.get(weight.input[0] if weight else node.input[1])
            groups = [a.i for a in node.attribute if a.name == "group"]
            if dims and groups in ([], [1]):
                yield dims


class Peft:
    """LoRA by HF PEFT on layers of these shapes."""

    def __init__(self, shapes, folder):
        import peft
        import torch

        torch.set_num_threads(1)

        def layer(dims):
            if len(dims) == 4:
                return torch.nn.Conv2d(dims[1], dims[0], dims[2:], bias=False)
            return torch.nn.Linear(dims[1], dims[0], bias=False)

        class Stack(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleList(layer(dims) for dims in shapes)

        names = [f"layers.{i}" for i in range(len(shapes))]
        config = peft.LoraConfig(r=8, target_modules=names, init_lora_weights=False)
        self.model = peft.get_peft_model(Stack(), config, adapter_name="first").eval()
        self.model.add_adapter("second", config)
        self.model.save_pretrained(folder, selected_adapters=["second"])
        self.file, self.loaded = folder / "second", 0

    def once(self):
        """Microseconds of merge, unmerge, set_adapter, load_adapter."""
        import torch

        def timed(call):
            start = time.perf_counter()
            call()
            return 1e6 * (time.perf_counter() - start)

        def load():
            self.loaded += 1
            self.model.load_adapter(str(self.file), f"loaded{self.loaded}")

        with torch.no_grad():
            merge, unmerge = timed(self.model.merge_adapter), timed(self.model.unmerge_adapter)
            times = [merge, unmerge, timed(lambda: self.model.set_adapter("second")), timed(load)]
        self.model.set_adapter("first")
        self.model.delete_adapter(f"loaded{self.loaded}")
        return times


def main():
    inside_environment()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    import onnxruntime as ort
    import peft
    import torch

    data = pathlib.Path(os.environ.get("INGRAFT_DATA", ROOT / "../shared/data"))
    reports = ours()
    print(f"Target {reports[SWITCHED]['target']}; ONNX Runtime {ort.__version__}, PEFT {peft.__version__}, torch {torch.__version__}\n")
    print("| int8 model | rank | ingraft base us | factors / base | fused / base | ONNX Runtime base us | LoraAdapter / base |")
    print("|" + " --- |" * 7)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for stem, rank in MODELS.items():
            overhead(data, folder, rank, stem, reports[stem], arguments.rounds)
        peer = Peft(list(layers(data / "models/onnx" / f"{SWITCHED}.onnx")), folder)
        merge, unmerge, chosen, loaded = (min(t) for t in zip(*(peer.once() for _ in range(3 * arguments.rounds))))
    report = reports[SWITCHED]
    attach = report["check_us"] + report["patch_us"]
    print(f"\nSwitching on the shapes of EfficientNet-Lite0, us, shortest: {report['entries']} entries of 1 %,")
    print(f"check {report['check_us']:.0f} + write {report['patch_us']:.0f} = {attach:.0f}, take out {report['unpatch_us']:.0f};")
    print(f"PEFT LoRA merge {merge:.0f}, unmerge {unmerge:.0f}, set_adapter {chosen:.0f}, load_adapter {loaded:.0f}.")
    print(f"Merge / attach: {merge / attach:.1f}; merge / write: {merge / report['patch_us']:.1f}")


if __name__ == "__main__":
    main()
