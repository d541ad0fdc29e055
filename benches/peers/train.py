#!/usr/bin/env python3
"""A training step beside PyTorch, in one run on one machine.

    cargo build --release --example train_step
    python3 benches/peers/train.py [--rounds 5] [--models REGEX] [--cases REGEX] [--batches 1,16]

Makes a virtual environment of the pinned packages of `requirements-train.txt` under `target` and runs itself there. Needs
the development data (INGRAFT_DATA, or `../shared/data` beside the repository). A step is forward, backward and AdamW over
a batch, with a head of ten classes on the model's features, on one thread each. Ours trains on the int8 model, PyTorch
(eager, fused AdamW, in the memory format that is faster) on its float weights; both train the same layers. Rounds alternate
between the two, each a process that lives through all rounds; a round's figure is the mean processor time of a step over about
a second, which a busy machine distorts less than elapsed time; shown are the median of the rounds and their range. `cached` is our step on what the frozen layers left of the batch, kept from an earlier epoch. Memory is
our arena with the plan in place, and the growth of PyTorch's resident memory from before the model was made to after its first steps.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

from run import HERE, ROOT, cell, commit, processor

# Model of the data: input of one sample, and the output that holds the features.
MODELS = {
    "yamnet_audioset521_int8": ((96, 64), "embedding"),
    "efficientnet_lite0_int8_qdq": ((3, 224, 224), "embedding"),
}
CASES = [("head", "late"), ("lora", "late"), ("lora", "all"), ("full", "late"), ("full", "all")]
CLASSES, RANK, SECONDS = 10, 8, 1.0
# So slow that a batch seen a thousand times is not learned: gradients would become subnormal, and time theirs.
RATE = 1e-9


def inside_environment():
    """Makes the virtual environment and runs this script again inside it, unless it already does."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers-train"
    if pathlib.Path(sys.prefix).resolve() == folder.resolve():
        return
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", HERE / "requirements-train.txt"], check=True)
    os.execv(python, [python, __file__, *sys.argv[1:]])


class Contestant:
    """A process that says what it is, then measures for every line it is sent."""

    def __init__(self, *command):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(c) for c in command], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.facts = json.loads(self.process.stdout.readline())

    def mean_us(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(model, features, shape, method, sites, batch):
    """The PyTorch side: prints its facts, then the mean of a round for every line on standard input."""
    import torch
    from network import Network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = resident()
    network = Network(model, features, CLASSES)
    layers = [layer for layer in network.layers.values() if method == "full" or layer.groups == 1]
    for layer in layers[len(layers) - sites :]:
        layer.add_factors(RANK) if method == "lora" else layer.train_all()
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01, fused=True)
    inputs, classes = torch.rand(batch, *shape) * 2 - 1, torch.arange(batch) % CLASSES

    def step(x):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), classes).backward()
        optimizer.step()

    def seconds(x):
        start = time.process_time()
        step(x)
        return time.process_time() - start

    choices = [inputs]
    plain = min(seconds(inputs) for _ in range(4))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if inputs.ndim == 4:
        network.to(memory_format=torch.channels_last)
        choices.append(inputs.to(memory_format=torch.channels_last))
    elif any(layer.weight.ndim == 4 for layer in network.layers.values()):
        network.to(memory_format=torch.channels_last)
    best = choices[-1]
    if min(seconds(best) for _ in range(4)) > plain:
        network.to(memory_format=torch.contiguous_format)
        best = inputs
    print(json.dumps({"trained": sum(p.numel() for p in trained), "peak_bytes": peak}), flush=True)
    for _ in sys.stdin:
        times, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times) < 3:
            times.append(seconds(best))
        print(1e6 * statistics.mean(times), flush=True)


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def contest(arguments, data, stem, method, part, batch):
    model, (shape, features) = data / "models/onnx" / f"{stem}.onnx", MODELS[stem]
    binary = [arguments.step, model, method, part, batch]
    ours = Contestant(*binary, "inputs")
    torch = Contestant(
        sys.executable, __file__, "--serve", json.dumps([str(model), features, shape, method, ours.facts["sites"], batch])
    )
    # Where the first layer is trained, nothing frozen is before it.
    contestants = [ours, torch, *([Contestant(*binary, "cached")] if part == "late" else [])]
    rounds = [[c.mean_us() for c in contestants] for _ in range(arguments.rounds)]
    for contestant in contestants:
        contestant.close()
    mine, theirs, *kept = zip(*rounds)
    ratio = statistics.median(theirs) / statistics.median(mine)
    memory = f"{ours.facts['arena_bytes'] / 1e6:.1f} + {ours.facts['plan_bytes'] / 1e6:.1f}"
    name = f"{stem}, {method}" + ("" if method == "head" else f" {part}")
    trained = f"{ours.facts['trained']} / {torch.facts['trained']}"
    return [
        name, str(batch), trained, cell(mine), cell(theirs), f"{ratio:.2f}", cell(kept[0]) if kept else "nothing frozen", memory,
        f"{torch.facts['peak_bytes'] / 1e6:.1f}",
    ], ours.facts["target"]


def main():
    inside_environment()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="", help="regular expression that names must contain")
    parser.add_argument("--cases", default="", help="regular expression that `method part` must contain")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--step", type=pathlib.Path, default=ROOT / "target/release/examples/train_step")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(*json.loads(arguments.serve))
    import torch

    data = pathlib.Path(os.environ.get("INGRAFT_DATA", ROOT / "../shared/data"))
    print(f"Machine: {processor()}  \nCommit: {commit()}  \nPyTorch {torch.__version__}, one thread each\n")
    print("| step | batch | parameters | ingraft µs | PyTorch µs | PyTorch ÷ ingraft | ingraft µs, cached | arena + plan MB | PyTorch MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    target = ""
    for stem in filter(lambda stem: re.search(arguments.models, stem), MODELS):
        for method, part in filter(lambda case: re.search(arguments.cases, " ".join(case)), CASES):
            for batch in map(int, arguments.batches.split(",")):
                row, target = contest(arguments, data, stem, method, part, batch)
                print("| " + " | ".join(row) + " |", flush=True)
    print(f"\ningraft target: {target}")


if __name__ == "__main__":
    main()
