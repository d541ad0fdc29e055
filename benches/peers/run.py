#!/usr/bin/env python3
"""Latency of the QDQ models beside ONNX Runtime, in one run on one machine.

    cargo build --release -p ingraft-cli
    python benches/peers/run.py [--rounds 7] [--ingraft target/release/ingraft]

Needs the pinned packages of `tests/golden/requirements.txt` and the development data (INGRAFT_DATA, or
`../shared/data` beside the repository). Both run one sample on one thread, on the same kind of input: random
values, on which the time of these models does not depend. Rounds alternate between the contestants, so that a
machine that slows down slows both; the figure is the median of the rounds' medians, the spread their range.
Prints a Markdown table, with what is needed to repeat it.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = [
    "mlperf_tiny_kws_dscnn_int8",
    "mlperf_tiny_ic_resnet8_int8",
    "yamnet_audioset521_int8",
    "efficientnet_lite0_int8_qdq",
]
SECONDS = 1.0
WARM_UP_SECONDS = 0.1
MIN_RUNS = 10


class OnnxRuntime:
    """The peer, with all its graph optimizations."""

    def __init__(self, model):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in self.session.get_inputs()}
        self.feeds = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}

    def median_us(self):
        times = []
        for seconds in (WARM_UP_SECONDS, SECONDS):
            times = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(times) < MIN_RUNS:
                start = time.perf_counter()
                self.session.run(None, self.feeds)
                times.append(time.perf_counter() - start)
        return 1e6 * statistics.median(times)


class Ingraft:
    """This project, through its command: `bench --json` measures for a second after a warm-up."""

    def __init__(self, binary, model, folder):
        self.binary = binary
        self.plan = folder / f"{model.stem}.plan"
        subprocess.run([binary, "compile", model, "-o", self.plan, "--dim", "N=1"], check=True, stdout=subprocess.DEVNULL)

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ingraft", type=pathlib.Path, default=ROOT / "target/release/ingraft")
    arguments = parser.parse_args()
    data = pathlib.Path(os.environ.get("INGRAFT_DATA", ROOT / "../shared/data"))
    print(f"Machine: {processor()}  \nCommit: {commit()}  \nONNX Runtime {ort.__version__}, one thread each\n")
    print("| model | ingraft µs | ONNX Runtime µs | ONNX Runtime ÷ ingraft | ingraft target | peak bytes |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for stem in MODELS:
            model = data / "models/onnx" / f"{stem}.onnx"
            ours = Ingraft(arguments.ingraft, model, pathlib.Path(folder))
            peer = OnnxRuntime(model)
            rounds = [(ours.median_us(), peer.median_us()) for _ in range(arguments.rounds)]
            mine, theirs = zip(*rounds)
            ratio = statistics.median(theirs) / statistics.median(mine)
            facts = f"{ours.report['target']} | {ours.report['peak_bytes']}"
            print(f"| {stem} | {cell(mine)} | {cell(theirs)} | {ratio:.2f} | {facts} |", flush=True)


if __name__ == "__main__":
    main()
