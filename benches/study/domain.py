#!/usr/bin/env python3
"""A domain phase without labels before a task with few: LoRA on the built-in model and the spoken digits of two speakers.

    cargo build --release -p ingraft-cli
    python3 benches/study/domain.py OUT [--seeds 3] [--epochs 20] [--clips all|own]

Needs the development data (INGRAFT_DATA, or `../shared/data` beside the repository). The domain phase learns which of four
things was done to a clip: nothing, played backwards, slower or faster by a quarter. Its clips are those that the task learns
from and, with `all`, of other speakers too; none that is judged. The task then goes on from that adapter (`--from`) with a head
of its own, or trains a second one on it (`--on`), beside training without it. Prints accuracy over all judgments and the mean
difference of twins, of the same split and seed, with its standard error.
"""

import argparse
import array
import json
import math
import os
import pathlib
import subprocess
import wave

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEAKERS = ["jackson", "theo"]
KINDS = {
    "as_is": lambda samples: samples,
    "backwards": lambda samples: samples[::-1],
    "slower": lambda samples: played(samples, 0.8),
    "faster": lambda samples: played(samples, 1.25),
}
DOMAIN_EPOCHS = 8


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    plan = args.out / "built-in.plan"
    ingraft(args, "compile", ROOT / "models/demo/base_int8.onnx", "-o", plan, "--dim", "N=1", "--front-end", "yamnet", "--train-from", "all", "--head-classes", "16")
    found = {}
    for speaker in SPEAKERS:
        folder = args.out / f"domain-{speaker}"
        make_domain(args, speaker, folder)
        for seed in range(args.seeds):
            lora = ["train", plan, "--seed", seed, "--json", "--sites", "late"]
            domain = args.out / f"{speaker}-{seed}.adapter"
            ingraft(args, *lora, "--method", "lora", "--data", folder, "--epochs", DOMAIN_EPOCHS, "-o", domain)
            task = ["--data", args.data / "audio/spoken_digits", "--split", split(speaker), "--epochs", args.epochs, "-o", args.out / "task.adapter"]
            ways = {"lora": [*lora, "--method", "lora"], "from the domain": [*lora[:5], "--from", domain], "on the domain": [*lora, "--method", "lora", "--on", domain]}
            for way, start in ways.items():
                found.setdefault(way, []).append(json.loads(ingraft(args, *start, *task)))
    for way, runs in found.items():
        print(line(way, runs, found["lora"]))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--clips", choices=["all", "own"], default="all")
    parser.add_argument("--ingraft", type=pathlib.Path, default=ROOT / "target/release/ingraft")
    data = os.environ.get("INGRAFT_DATA", ROOT.parent / "shared/data")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(data))
    return parser.parse_args()


def ingraft(args, *words):
    command = [str(word) for word in (args.ingraft, *words)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


def split(speaker):
    return ROOT / f"tests/data/splits/spoken_digits_{speaker}_0.csv"


def side(speaker, wanted):
    rows = (row.split(",", 1) for row in split(speaker).read_text().splitlines()[1:])
    return {file for name, file in rows if name == wanted}


def make_domain(args, speaker, folder):
    """A folder per kind, of what the domain phase may hear."""
    own, judged = side(speaker, "train"), set().union(*(side(speaker, "test") for speaker in SPEAKERS))
    clips = args.data / "audio/spoken_digits"
    for path in sorted(clips.glob("*/*.wav")):
        name = path.relative_to(clips).as_posix()
        # Names end in the number of the take: ten of each digit of a speaker.
        other = args.clips == "all" and name not in judged and int(path.stem.split("_")[-1]) < 10
        if name in own or other:
            rate, samples = read(path)
            for kind, change in KINDS.items():
                write(folder / kind / path.name, rate, change(samples))


def read(path):
    with wave.open(str(path)) as file:
        return file.getframerate(), array.array("h", file.readframes(file.getnframes()))


def write(path, rate, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(array.array("h", samples).tobytes())


def played(samples, speed):
    """At another speed and pitch, by straight lines between samples."""
    changed = array.array("h")
    for index in range(int((len(samples) - 1) / speed)):
        whole, part = divmod(index * speed, 1)
        left, right = samples[int(whole)], samples[int(whole) + 1]
        changed.append(round(left + part * (right - left)))
    return changed


def line(way, runs, plain):
    judged = sum(run["n"] for run in runs)
    right = sum(run["n"] * run["accuracy"] for run in runs)
    apart = [100 * (run["accuracy"] - twin["accuracy"]) for run, twin in zip(runs, plain)]
    mean = sum(apart) / len(apart)
    error = math.sqrt(sum((value - mean) ** 2 for value in apart) / max(len(apart) - 1, 1) / len(apart))
    return f"| {way} | {len(runs)} | {judged} | {right / judged:.3f} | {mean:+.1f} ± {error:.1f} |"


if __name__ == "__main__":
    main()
