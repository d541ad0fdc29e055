#!/usr/bin/env python3
"""What a second session of training costs of the first, with and without clips kept from it (`ingraft train --replay`).

    cargo build --release -p ingraft-cli
    python3 benches/tasks/forgetting.py [--ingraft target/release/ingraft] [--jobs 2] [--seeds 3] [--method lora] [--sets esc10_cc0]

Needs the development data (INGRAFT_DATA, or `../shared/data` beside the repository). On int8 YAMNet, for every committed fold and
seed: an adapter learns the first half of the classes (by name), another goes on from it (`--from`) with the other half. Told is the
accuracy on the test clips of the first classes before and after, as `train --old` has it, and on those of the second; of both by
an adapter that learned all classes at once, too. Clips go back to the first session in three sizes of the replay file.
"""

import argparse
import concurrent.futures
import csv
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = [8, 16, 32]


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        plan = pathlib.Path(scratch) / "yamnet.plan"
        model = args.data / "models/onnx/yamnet_audioset521_int8.onnx"
        train_from = ["--train-from", "late", "--head-classes", 16, "--dim", "N=1", "--front-end", "yamnet"]
        run(args, "compile", model, "-o", plan, *train_from)
        print(f"`{args.method}` {' '.join(args.extra)}, {args.epochs} epochs a session, {args.seeds} seeds\n")
        print("| clips | second session | file | before | after | forgotten | new classes | all |\n" + "| --- " * 8 + "|")
        for name in args.sets:
            folds = folders(args, name, pathlib.Path(scratch) / name)
            jobs = [(fold, seed) for fold in folds for seed in range(args.seeds)]
            found = list(pool.map(lambda job: sessions(args, plan, *job), jobs))
            for arm in found[0]:
                each = [one[arm] for one in found]
                before, after, new, all_, size = (
                    statistics.mean(one[field] for one in each) for field in ("before", "after", "new", "all", "bytes")
                )
                lost = f"{before - after:+.3f}"
                row = [f"`{name}`", arm, f"{size / 1e6:.1f} MB" if size else "–", f"{before:.3f}", f"{after:.3f}", lost]
                print("| " + " | ".join(row + [f"{new:.3f}", f"{all_:.3f}"]) + " |", flush=True)


def sessions(args, plan, fold, seed):
    """Figures of every arm on one fold."""
    folder = fold / f"seed{seed}"
    folder.mkdir()
    common = ["--method", args.method, "--sites", "late", "--epochs", args.epochs, "--seed", seed, *args.extra]

    def train(name, *options):
        return run(args, "train", plan, "-o", folder / f"{name}.adapter", *common, *options)

    def accuracy(name, part):
        told = run(args, "eval", plan, "--data", fold / part, "--adapter", folder / f"{name}.adapter")
        return told["accuracy"] * told["n"], told["n"]

    def judged(name, before, after=None, size=0):
        new = accuracy(name, "new_test")
        # A head without the first classes is right for none of their clips.
        old = (0, first[1]) if after == 0 else accuracy(name, "old_test")
        after, share = old[0] / old[1] if after is None else after, (old[0] + new[0]) / (old[1] + new[1])
        return {"before": before, "after": after, "new": new[0] / new[1], "all": share, "bytes": size}

    found = {}
    train("old", "--data", fold / "old")
    first = accuracy("old", "old_test")
    second = ["--data", fold / "new", "--old", fold / "old_test", "--old-adapter", folder / "old.adapter"]
    second += ["--from", folder / "old.adapter"]
    told = train("alone", *second)["forgetting"]
    found["new classes alone"] = judged("alone", told["before"], told["after"])
    for room in ROOMS:
        replay = ["--replay", folder / f"{room}.replay"]
        # Which clips are kept does not depend on what was learned from them.
        idle = ["--data", fold / "old", "--method", "head", "--epochs", 0, "--seed", seed, "--replay-clips", room]
        size = run(args, "train", plan, "-o", folder / "idle.adapter", *idle, *replay)["replay"]["file_bytes"]
        told = train(f"replay{room}", *second, *replay)["forgetting"]
        found[f"with {room} clips of the first"] = judged(f"replay{room}", told["before"], told["after"], size)
    train("joint", "--data", fold / "all")
    found["one session, all clips"] = judged("joint", told["before"])
    return found


def folders(args, name, scratch):
    """A folder for every fold, with the clips to learn and to judge of the first and the second classes."""
    data = args.data / "audio" / name
    with open(ROOT / f"tests/data/splits/{name}.csv") as file:
        rows = [(int(row["fold"]), row["file"]) for row in csv.DictReader(file)]
    classes = sorted({os.path.dirname(path) for _, path in rows})
    first = classes[: (len(classes) + 1) // 2]
    folds = []
    for fold in sorted({fold for fold, _ in rows}):
        for of, path in rows:
            part = "old" if os.path.dirname(path) in first else "new"
            for target in [part + "_test"] if of == fold else [part, "all"]:
                link = scratch / str(fold) / target / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(data / path)
        folds.append(scratch / str(fold))
    return folds


def run(args, *words):
    done = subprocess.run([args.ingraft, *map(str, words), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stderr}")
    return json.loads(done.stdout)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ingraft", default=ROOT / "target/release/ingraft")
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("INGRAFT_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--sets", type=lambda text: text.split(","), default=["esc10_cc0", "uav_motor_prop", "uav_detect"])
    parser.add_argument("--method", default="lora")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--extra", type=str.split, default=[], help="further options of every session, in one word")
    return parser.parse_args()


if __name__ == "__main__":
    main()
