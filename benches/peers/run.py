#!/usr/bin/env python3
"""Latency and memory of the development models beside ONNX Runtime, LiteRT and tract, in one run on one machine.

    cargo build --release -p ingraft-cli
    python3 benches/peers/run.py [--rounds 7] [--models REGEX] [--ingraft target/release/ingraft] [--without-tract] [--as-avx2]

Makes a virtual environment of the pinned packages of `requirements.txt` under `target` and runs itself there; builds
`tract` once, which takes ten minutes, and `peak`. Needs the development data (INGRAFT_DATA, or `../shared/data` beside
the repository). All run one sample on one thread, on the same kind of input: random values, on which the time of these
models does not depend. Rounds alternate between the contestants, so that a machine that slows down slows all; the
figure is the median of the rounds' medians, the spread their range. LiteRT (XNNPACK) is measured where the data has
the model in its format. Peak memory is that of a process of its own that loads the model and runs it; of the runtimes
hosted in Python only what is added after importing them counts. `--as-avx2` hides AVX-512, AVX-VNNI and AMX from all of
them (`as_avx2.c`; Linux on Intel, with a C compiler). Prints Markdown tables, with what is needed to repeat
them.
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


def without_avx512():
    """Runs this script again where `cpuid` shows no instructions beyond AVX2, unless it already does."""
    library = pathlib.Path(sys.prefix) / "as_avx2.so"
    if os.environ.get("LD_PRELOAD") != str(library):
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "as_avx2.c"], check=True)
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, __file__, *sys.argv[1:]])


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


class Tract:
    """Built beside this script; its own process measures for a second after a warm-up."""

    KINDS = {"float32": "f32", "int64": "i64", "int8": "i8"}

    def __init__(self, binary, model, folder, feeds):
        inputs = []
        for index, array in enumerate(feeds.values()):
            path = folder / f"{model.stem}.{index}.bin"
            path.write_bytes(array.tobytes())
            kind = self.KINDS[array.dtype.name]
            inputs.append(f"{kind}:{'x'.join(map(str, array.shape))}:{path}")
        self.command = [binary, model, str(SECONDS), *inputs]

    def median_us(self):
        return json.loads(subprocess.run(self.command, check=True, capture_output=True).stdout)["median_us"]


class Refused:
    """A contestant that does not run the model."""

    def median_us(self):
        return math.inf


def contestant(make):
    """What `make` gives after one measurement, or the mark that it refuses the model."""
    try:
        peer = make()
        peer.median_us()
        return peer
    except (subprocess.CalledProcessError, KeyError) as error:
        reason = getattr(error, "stderr", None) or str(error).encode()
        print(f"refused: {reason.decode(errors='replace').strip().splitlines()[-1:]}", file=sys.stderr)
        return Refused()


def build(package):
    """Builds one of the small packages beside this script and gives its program."""
    folder = HERE / package
    # The compiler handles faults itself, those of `as_avx2.c` too.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, env=environment, check=True)
    name = {"tract": "tract-peer"}.get(package, package)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", folder / "target")) / "release" / name


def peak(binary):
    """Multiply-accumulates per second out of registers, in units of a thousand million, by element type."""
    found = json.loads(subprocess.run([binary], check=True, capture_output=True).stdout)
    return {name: (value["gmacs"], value["instruction"]) for name, value in found.items()}


def resident_mb(process):
    """The most memory a process has had, in MB; None once it is gone."""
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 / 1e6 if found else None


def watched_mb(command):
    """The most memory that a command has had until it ended, in MB. What `wait` reports would count this process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        most = max(most, resident_mb(process.pid) or 0.0)
        time.sleep(0.02)
    return most if process.returncode == 0 else None


def memory_of(kind, model, feeds):
    """Prints what loading and running a model adds to this process; run in a process of its own."""
    import numpy as np

    if kind == "litert":
        from ai_edge_litert.interpreter import Interpreter

        before = resident_mb("self")
        interpreter = Interpreter(str(model), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.invoke()
    else:
        import onnxruntime as ort

        before = resident_mb("self")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        with np.load(feeds) as arrays:
            session.run(None, {name: arrays[name] for name in arrays.files})
    print(resident_mb("self") - before)


def added_mb(kind, model, feeds):
    """What loading and running a model adds to a process of its own, in MB."""
    command = [sys.executable, __file__, "--memory-of", kind, str(model), str(feeds)]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def cell(rounds):
    if math.isinf(min(rounds)):
        return "refused"
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


def megabytes(value):
    return "–" if value is None else f"{value:.1f}"


def contest(arguments, data, folder, stem, lite, tools):
    """Measures one model; gives a row of each table and the ratio."""
    import numpy as np

    model = data / "models/onnx" / f"{stem}.onnx"
    lite_model = data / "models/tflite/mlperf_tiny" / f"{lite}.tflite"
    recorded = recording(data, stem)
    ours = Ingraft(arguments.ingraft, model, folder, recorded)
    single = {name: a for name, a in recorded.items() if a.dtype.kind != "f" or stem.startswith(("silero", "ppocr"))}
    ort = OnnxRuntime(model, single)
    feeds = folder / f"{stem}.feeds.npz"
    np.savez(feeds, **ort.feeds)
    peers = [ort]
    if lite is not None:
        peers.append(LiteRt(lite_model))
    if tools["tract"] is not None:
        peers.append(contestant(lambda: Tract(tools["tract"], model, folder, ort.feeds)))
    rounds = [[ours.median_us(), *(peer.median_us() for peer in peers)] for _ in range(arguments.rounds)]
    mine, *theirs = zip(*rounds)
    median = statistics.median(mine)
    ratio = min(statistics.median(t) for t in theirs) / median
    lite_cell = cell(theirs[1]) if lite is not None else "no model"
    tract_cell = cell(theirs[-1]) if tools["tract"] is not None else "–"
    inspected = subprocess.run([arguments.ingraft, "inspect", ours.plan, "--json"], check=True, capture_output=True)
    rate = json.loads(inspected.stdout)["macs"] / median / 1e3
    kind = "f32" if ours.float_option(model) and "dynamic" not in stem else "int8"
    limit = tools["peak"].get(kind, (math.nan,))[0]
    latency = [stem, cell(mine), cell(theirs[0]), lite_cell, tract_cell, f"{ratio:.2f}", f"{rate:.1f}", f"{rate / limit:.0%} of {kind}"]
    bind, load = ours.report["bind_us"] / 1000, ort.load_us / 1000
    memory = [
        stem,
        f"{bind:.1f}",
        f"{load:.1f}",
        f"{bind / load:.2f}",
        f"{ours.report['peak_bytes'] / 1e6:.2f} + {ours.report['plan_bytes'] / 1e6:.2f}",
        megabytes(watched_mb([arguments.ingraft, "bench", ours.plan, "--threads", "1", "--json"])),
        megabytes(added_mb("onnxruntime", model, feeds)),
        megabytes(added_mb("litert", lite_model, feeds) if lite is not None else None),
        megabytes(watched_mb(peers[-1].command) if isinstance(peers[-1], Tract) else None),
    ]
    return latency, memory, ratio, ours.report["target"]


LATENCY = (
    "| model | ingraft µs | ONNX Runtime µs | LiteRT µs | tract µs | fastest peer ÷ ingraft | GMAC/s | share of peak |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
MEMORY = (
    "| model | bind ms | ONNX Runtime load ms | bind ÷ load | working memory + plan MB | ingraft process MB |"
    " ONNX Runtime adds MB | LiteRT adds MB | tract process MB |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def print_row(row):
    print("| " + " | ".join(row) + " |", flush=True)


def geometric_mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def main():
    inside_environment()
    if sys.argv[1:2] == ["--memory-of"]:
        memory_of(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default="", help="regular expression that names must contain")
    parser.add_argument("--ingraft", type=pathlib.Path, default=ROOT / "target/release/ingraft")
    parser.add_argument("--without-tract", action="store_true", help="spare the build of tract")
    parser.add_argument("--as-avx2", action="store_true", help="hide AVX-512, AVX-VNNI and AMX from all")
    arguments = parser.parse_args()
    if arguments.as_avx2:
        without_avx512()
    import onnxruntime as ort

    data = pathlib.Path(os.environ.get("INGRAFT_DATA", ROOT / "../shared/data"))
    tools = {"tract": None if arguments.without_tract else build("tract"), "peak": peak(build("peak"))}
    limits = ", ".join(f"{name} {gmacs} GMAC/s (`{how}`)" for name, (gmacs, how) in tools["peak"].items())
    print(f"Machine: {processor()}  \nRegister-only peak: {limits}  \nCommit: {commit()}  ")
    hidden = ", AVX-512, AVX-VNNI and AMX hidden" if arguments.as_avx2 else ""
    print(f"ONNX Runtime {ort.__version__}, tract 0.23.9, one thread each{hidden}\n")
    print("\n".join(LATENCY))
    medians, memory, target = {}, [], ""
    with tempfile.TemporaryDirectory() as folder:
        for stem, lite in MODELS.items():
            if re.search(arguments.models, stem):
                row, bytes_row, medians[stem], target = contest(
                    arguments, data, pathlib.Path(folder), stem, lite, tools
                )
                memory.append(bytes_row)
                print_row(row)
    int8 = [ratio for stem, ratio in medians.items() if "_int8" in stem and "weightonly" not in stem]
    print(f"\nGeometric mean of {len(medians)} ratios: {geometric_mean(list(medians.values())):.2f}", end="")
    print(f"; of {len(int8)} int8 models: {geometric_mean(int8):.2f}; ingraft target: {target}\n")
    print("\n".join(MEMORY))
    for row in memory:
        print_row(row)


if __name__ == "__main__":
    main()
