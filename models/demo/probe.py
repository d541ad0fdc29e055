#!/usr/bin/env python3
"""How well a linear head on the demo base's embedding separates the synthetic tasks.

    cargo run --release -p ingraft-models --example synthesize -- DIR 60
    python models/demo/probe.py DIR

Per task: logistic regression on the standardized mean embedding of a clip, learnt from 20 clips per class, tested on
the others; mean over 10 seeded splits. Also the accuracy of the best constant map from the base's own arg-max.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import export
from frontend import patches, read_wav

HERE = Path(__file__).resolve().parent
LEARN = 20
SPLITS = 10


def features(model: bytes, task: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean embeddings [clips, width], the base's arg-max [clips] and labels [clips] of a folder per class."""
    session, rows = export.session(model), []
    for label, folder in enumerate(sorted(p for p in task.iterdir() if p.is_dir())):
        for file in sorted(folder.glob("*.wav")):
            logits, embedding = session.run(["logits", "embedding"], {"patch": patches(read_wav(file)).numpy()})
            rows.append((embedding.mean(0), logits.mean(0).argmax(), label))
    embeddings, guesses, labels = zip(*rows)
    return np.stack(embeddings), np.array(guesses), np.array(labels)


def logistic(x: np.ndarray, y: np.ndarray, test: np.ndarray, penalty: float = 1e-2) -> np.ndarray:
    """Labels for `test` from multinomial logistic regression with an L2 penalty, on standardized features."""
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, test, y = (torch.from_numpy(v) for v in ((x - mean) / deviation, (test - mean) / deviation, y))
    weight = torch.zeros(int(y.max()) + 1, x.shape[1], requires_grad=True)
    bias = torch.zeros(weight.shape[0], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        solver.zero_grad()
        value = F.cross_entropy(F.linear(x, weight, bias), y) + penalty * weight.square().sum() / 2
        value.backward()
        return value

    solver.step(loss)
    return F.linear(test, weight, bias).argmax(1).detach().numpy()


def splits(labels: np.ndarray):
    """Boolean masks of the clips to learn from: LEARN of each class."""
    rng = np.random.default_rng(0)
    for _ in range(SPLITS):
        chosen = np.zeros(labels.size, bool)
        for label in np.unique(labels):
            chosen[rng.permutation(np.flatnonzero(labels == label))[:LEARN]] = True
        yield chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with one folder per task, each with one per class")
    parser.add_argument("--model", type=Path, default=HERE / "base_int8.onnx")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for task in sorted(p for p in options.clips.iterdir() if p.is_dir()):
        x, guesses, labels = features(options.model.read_bytes(), task)
        hits = [np.mean(logistic(x[m], labels[m], x[~m]) == labels[~m]) for m in splits(labels)]
        table = np.zeros((guesses.max() + 1, labels.max() + 1))
        np.add.at(table, (guesses, labels), 1)
        own = table.max(1).sum() / labels.size
        print(f"{task.name}: {labels.size} clips, head {np.mean(hits):.3f} (splits {min(hits):.3f}..{max(hits):.3f}), "
              f"base's own answer, best relabelling {own:.3f}")


if __name__ == "__main__":
    main()
