#!/usr/bin/env python3
"""Latency of the development models beside ONNX Runtime and LiteRT, in one run on one machine.

    cargo build --release -p ingraft-cli
    python3 benches/peers/run.py [--rounds 7] [--models REGEX] [--ingraft target/release/ingraft]

Makes a virtual environment of the pinned packages of `requirements.txt` under `target` and runs itself there. Needs
the development data (INGRAFT_DATA, or `../shared/data` beside the repository). All run one sample on one thread, on
the same kind of input: random values, on which the time of these models does not depend. Rounds alternate between the
contestants, so that a machine that slows down slows all; the figure is the median of the rounds' medians, the spread
their range. LiteRT (XNNPACK) is measured where the data has the model in its format. Prints a Markdown table, with
what is needed to repeat it.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# Model of the data, and its file for LiteRT.
MODELS = {
    "mlperf_tiny_kws_dscnn_int8": "kws_ref_model",
    "mlperf_tiny_ic_resnet8_int8": "pretrainedResnet_quant",
    "yamnet_audioset521_int8": None,
    "efficientnet_lite0_int8_qdq": None,
    "minilm_l6_int8_dynamic": None,
    "mlperf_tiny_kws_dscnn_weightonly_int8": "kws_ref_model_float32",  # The same arithmetic: int8 storage only.
    "mlperf_tiny_ic_resnet8_f32": "pretrainedResnet",
    "efficientnet_lite0_f32": None,
    "kwt1_12labels_f32": None,
    "ppocr_textline_cls_mobilenetv3_f32": None,
    "silero_vad_16k_sequence": None,
    "dnsmos_sig_bak_ovr_f32": None,
}
SECONDS = 1.0
WARM_UP_SECONDS = 0.1
MIN_RUNS = 10


def inside_environment():
    """Makes the virtual environment and runs this script again inside it, unless it already does."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers"
    if pathlib.Path(sys.prefix).resolve() == folder.resolve():
        return
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", HERE / "requirements.txt"], check=True)
    os.execv(python, [python, __file__, *sys.argv[1:]])


def timed(call):
    """The median microseconds of a call, after a warm-up."""
    times = []
    for seconds in (WARM_UP_SECONDS, SECONDS):
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < MIN_RUNS:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def inputs(shapes_and_types, recorded):
    """Random values of the recorded shapes; indices stay as they were recorded."""
    import numpy as np

    rng = np.random.default_rng(0)
    for name, shape, kind in shapes_and_types:
        old = recorded.get(name)
        shape = [d if isinstance(d, int) else 1 for d in shape] if old is None else old.shape
        yield name, rng.uniform(-1, 1, shape).astype(np.float32) if "float" in kind else old


class OnnxRuntime:
    """With all its graph optimizations."""

    def __init__(self, model, recorded):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        start = time.perf_counter()
        self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.load_us = 1e6 * (time.perf_counter() - start)
        wanted = [(i.name, i.shape, i.type) for i in self.session.get_inputs()]
        self.feeds = dict(inputs(wanted, recorded))

    def median_us(self):
        return timed(lambda: self.session.run(None, self.feeds))


class LiteRt:
    """With XNNPACK, its default on a CPU."""

    def __init__(self, model):
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(model), num_threads=1)
        self.interpreter.allocate_tensors()
        rng = np.random.default_rng(0)
        for detail in self.interpreter.get_input_details():
            values = rng.integers(-128, 128, detail["shape"]) if detail["dtype"] == np.int8 else rng.random(detail["shape"])
            self.interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))

    def median_us(self):
        return timed(self.interpreter.invoke)


class Ingraft:
    """This project, through its command: `bench --json` measures for a second after a warm-up."""

    def __init__(self, binary, model, folder, recorded):
        import numpy as np

        self.binary = binary
        self.plan = folder / f"{model.stem}.plan"
        shapes = folder / f"{model.stem}.npz"
        np.savez(shapes, **recorded)
        fixed = subprocess.run(self.command(model, "--dim", "N=1"), capture_output=True)
        if fixed.returncode != 0:
            subprocess.run(self.command(model, "--shapes", shapes), check=True, stdout=subprocess.DEVNULL)

    def command(self, model, *shapes):
        return [self.binary, "compile", model, "-o", self.plan, "--allow-float", *self.float_option(model), *shapes]

    @staticmethod
    def float_option(model):
        return ["--float"] if "_int8" not in model.stem or "dynamic" in model.stem or "weightonly" in model.stem else []

    def median_us(self):
        command = [self.binary, "bench", self.plan, "--threads", "1", "--json"]
        self.report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return self.report["median_us"]


def cell(rounds):
    return f"{statistics.median(rounds):.0f} ({min(rounds):.0f}–{max(rounds):.0f})"


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"


def commit():
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return described.stdout.strip() or "unknown"


def recording(data, stem):
    """The recorded inputs of a model, one sample of those whose first extent is open."""
    import numpy as np

    arrays = np.load(data / "models/golden" / f"{stem}.npz")
    return {key[len("in__") :]: arrays[key] for key in arrays.files if key.startswith("in__")}


def contest(arguments, data, folder, stem, lite):
    """Measures one model; gives the table's row and the ratio."""
    model = data / "models/onnx" / f"{stem}.onnx"
    recorded = recording(data, stem)
    ours = Ingraft(arguments.ingraft, model, folder, recorded)
    single = {name: a for name, a in recorded.items() if a.dtype.kind != "f" or stem.startswith(("silero", "ppocr"))}
    peers = [OnnxRuntime(model, single)]
    if lite is not None:
        peers.append(LiteRt(data / "models/tflite/mlperf_tiny" / f"{lite}.tflite"))
    rounds = [[ours.median_us(), *(peer.median_us() for peer in peers)] for _ in range(arguments.rounds)]
    mine, *theirs = zip(*rounds)
    ratio = min(statistics.median(t) for t in theirs) / statistics.median(mine)
    lite_cell = cell(theirs[1]) if lite is not None else "no model"
    report = ours.report
    loads = f"{report['bind_us'] / 1000:.1f} / {peers[0].load_us / 1000:.1f}"
    memory = f"{report['peak_bytes'] / 1e6:.2f} + {report['plan_bytes'] / 1e6:.2f}"
    row = [stem, cell(mine), cell(theirs[0]), lite_cell, f"{ratio:.2f}", loads, memory]
    return row, ratio, report["target"]


def main():
    inside_environment()
    import onnxruntime as ort

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default="", help="regular expression that names must contain")
    parser.add_argument("--ingraft", type=pathlib.Path, default=ROOT / "target/release/ingraft")
    arguments = parser.parse_args()
    data = pathlib.Path(os.environ.get("INGRAFT_DATA", ROOT / "../shared/data"))
    print(f"Machine: {processor()}  \nCommit: {commit()}  \nONNX Runtime {ort.__version__}, one thread each\n")
    print(
        "| model | ingraft µs | ONNX Runtime µs | LiteRT µs | fastest peer ÷ ingraft |"
        " bind / ONNX Runtime load ms | working memory + plan MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios, target = [], ""
    with tempfile.TemporaryDirectory() as folder:
        for stem, lite in MODELS.items():
            if re.search(arguments.models, stem):
                row, ratio, target = contest(arguments, data, pathlib.Path(folder), stem, lite)
                ratios.append(ratio)
                print("| " + " | ".join(row) + " |", flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"\nGeometric mean of {len(ratios)} ratios: {mean:.2f}; ingraft target: {target}")


if __name__ == "__main__":
    main()
