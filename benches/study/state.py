#!/usr/bin/env python3
"""Optimizer state in 16 and 8 bits against f32, on int8 YAMNet and the four audio tasks.

    cargo build --release -p ingraft-cli
    python3 benches/study/state.py OUT [--seeds 5] [--sets uav_detect] [--states f32,int8] [--jobs 16]

Needs the development data (INGRAFT_DATA, or `../shared/data` beside the repository). A run of one state has a twin of the
other: the same fold, seed, order and start values. Prints accuracy over all judgments and, in points, the mean difference of
twins with its standard error, over folds and seeds; beside it the same between two seeds of f32, which is what chance alone
gives. What is in OUT already is not run again.
"""

import argparse
import concurrent.futures
import itertools
import json
import math
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Epochs, clips of a step, and samples from one patch to the next: a clip of `uav_detect` has 3 patches, one of `esc10_cc0` 2.
SETS = {
    "uav_motor_prop": (20, 8, 15520),
    "uav_detect": (12, 4, 62080),
    "esc10_cc0": (12, 8, 62080),
    "spoken_digits": (20, 8, 15520),
}
OPTIMIZERS = {"f32": "adamw", "bf16": "adamw-bf16", "int8": "adamw-int8"}


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        plan(args, SETS[name][2])
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        studies = itertools.product(range(args.seeds), args.sets, args.states)
        list(pool.map(lambda study_of: study(args, *study_of), studies))
    print("\n".join(table(args)))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT")
    listed = lambda allowed: lambda text: [item for item in text.split(",") if item in allowed]
    parser.add_argument("--sets", type=listed(SETS), default=list(SETS), help=",".join(SETS))
    parser.add_argument("--states", type=listed(OPTIMIZERS), default=list(OPTIMIZERS), help=",".join(OPTIMIZERS))
    parser.add_argument("--methods", default="head,lora")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="studies side by side")
    parser.add_argument("--ingraft", type=pathlib.Path, default=ROOT / "target/release/ingraft")
    data = os.environ.get("INGRAFT_DATA", ROOT.parent / "shared/data")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(data))
    return parser.parse_args()


def study(args, seed, name, state):
    result = args.out / f"{name}-{state}-{seed}.json"
    if result.exists():
        return
    epochs, batch, hop = SETS[name]
    command = [args.ingraft, "study", plan(args, hop), "--data", args.data / "audio" / name]
    command += ["--methods", args.methods, "--sites", "late", "--epochs", epochs, "--batch", batch]
    command += ["--optimizer", OPTIMIZERS[state], "--seed", seed, "--json"]
    command += [word for path in splits(name) for word in ("--split", path)]
    run = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    result.write_bytes(run.stdout)


def plan(args, hop):
    path = args.out / f"{hop}.plan"
    if not path.exists():
        command = [args.ingraft, "compile", args.data / "models/onnx/yamnet_audioset521_int8.onnx", "-o", path]
        command += ["--dim", "N=1", "--front-end", "yamnet", "--hop", hop, "--train-from", "late", "--head-classes", "16"]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path


def splits(name):
    folder = ROOT / "tests/data/splits"
    return sorted(folder.glob("spoken_digits_*.csv")) if name == "spoken_digits" else [folder / f"{name}.csv"]


def table(args):
    yield "| task | runs | judgments | method | f32 | state | accuracy | difference, points | of two seeds of f32 |"
    yield "|" + " --- |" * 9
    for name, state in itertools.product(args.sets, args.states[1:]):
        for method in args.methods.split(","):
            yield row(args, name, state, method)


def row(args, name, state, method):
    seeds = [seed for seed in range(args.seeds) if (args.out / f"{name}-{state}-{seed}.json").exists()]
    exact = [runs(args, name, "f32", seed, method) for seed in seeds]
    other = [runs(args, name, state, seed, method) for seed in seeds]
    sizes = test_clips(name) * len(seeds)
    flat = lambda lists: list(itertools.chain.from_iterable(lists))
    mean = lambda values: sum(value * size for value, size in zip(values, sizes)) / sum(sizes)
    cells = [f"`{name}`", len(sizes), sum(sizes), f"`{method}`", f"{mean(flat(exact)):.3f}", state, f"{mean(flat(other)):.3f}"]
    cells.append(difference(flat(other), flat(exact), sizes))
    cells.append(difference(flat(exact[1:]), flat(exact[:-1]), sizes[: len(flat(exact[1:]))]) if len(seeds) > 1 else "")
    return "| " + " | ".join(map(str, cells)) + " |"


def runs(args, name, state, seed, method):
    report = json.loads((args.out / f"{name}-{state}-{seed}.json").read_text())
    return next(found["by_run"] for found in report["methods"] if found["method"] == method)


def test_clips(name):
    """Clips that each run of a seed is judged by, in the order of the runs."""
    rows = lambda path: [line.split(",", 1)[0] for line in path.read_text().splitlines()[1:]]
    if name == "spoken_digits":
        return [rows(path).count("test") for path in splits(name)]
    folds = rows(splits(name)[0])
    return [folds.count(fold) for fold in sorted(set(folds), key=int)]


def difference(one, other, sizes):
    """Mean of `one` less `other`, weighted by clips, and its standard error from how the runs scatter."""
    total = sum(sizes)
    apart = [100 * (a - b) for a, b in zip(one, other)]
    mean = sum(value * size for value, size in zip(apart, sizes)) / total
    spread = sum((size * (value - mean)) ** 2 for value, size in zip(apart, sizes))
    return f"{mean:+.2f} ± {math.sqrt(spread * len(sizes) / max(len(sizes) - 1, 1)) / total:.2f}"


if __name__ == "__main__":
    main()
