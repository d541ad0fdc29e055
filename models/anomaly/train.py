#!/usr/bin/env python3
"""Trains the autoencoder that knows how a healthy motor sounds, and writes its int8 ONNX file.

    cargo run --release -p ingraft-models --example synthesize -- clips 200
    python models/anomaly/train.py clips

It learns from synthesized motors in good order alone. Clips 0 to 159 are learned from, 160 to 199 judged by.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

import export
from frontend import BANDS, FRAMES, log_mel, read_wav

TAKEN = 8  # frames of a window: twelve windows fill a patch of 96 frames
WIDTHS = (64, 64, 8, 64, 64)
LEARNED = range(160)
JUDGED = range(160, 200)
STEPS = 1500
BATCH = 128
PEAK_RATE = 3e-3
WEIGHT_DECAY = 1e-3


def windows(folder: Path, numbers: range, hop: int) -> torch.Tensor:
    """[clips, windows, TAKEN * BANDS] of the first patch of each clip, frame after frame."""
    clips = [log_mel(torch.from_numpy(read_wav(folder / f"{n:04}.wav"))[None])[0, 0, :FRAMES] for n in numbers]
    return torch.stack(clips).unfold(1, TAKEN, hop).permute(0, 1, 3, 2).flatten(2)


class Autoencoder(nn.Module):
    """ReLU6 between linear layers; inputs are centred by band and scaled, outputs scaled back."""

    def __init__(self, mean: torch.Tensor, deviation: float):
        super().__init__()
        self.mean, self.deviation = mean, deviation
        extents = (TAKEN * BANDS, *WIDTHS, TAKEN * BANDS)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(extents, extents[1:]))

    def forward(self, x):
        x = (x - self.mean) / self.deviation
        for layer in self.layers[:-1]:
            x = F.relu6(layer(x))
        return self.layers[-1](x) * self.deviation + self.mean

    def folded(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases with centring and scaling multiplied in, in float64."""
        layers = [(l.weight.detach().double(), l.bias.detach().double()) for l in self.layers]
        mean = self.mean.double()
        weight, bias = layers[0]
        layers[0] = weight / self.deviation, bias - weight @ mean / self.deviation
        weight, bias = layers[-1]
        layers[-1] = weight * self.deviation, bias * self.deviation + mean
        return [(w.numpy().astype(np.float32), b.numpy().astype(np.float32)) for w, b in layers]


def train(examples: torch.Tensor) -> Autoencoder:
    mean = examples.reshape(-1, BANDS).mean(0).repeat(TAKEN)
    network = Autoencoder(mean, examples.std().item())
    optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, STEPS)
    for _ in range(STEPS):
        batch = examples[torch.randint(len(examples), (BATCH,))]
        loss = F.mse_loss(network(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def float_model(network: Autoencoder) -> bytes:
    graph = export.Graph()
    bounds = [graph.constant("relu6.min", np.float32(0)), graph.constant("relu6.max", np.float32(6))]
    layers, value = network.folded(), "patch"
    for index, (weight, bias) in enumerate(layers, start=1):
        name = f"layer{index}"
        inputs = [value, graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]
        if index == len(layers):
            graph.node("Gemm", inputs, "reconstruction", name, transB=1)
        else:
            linear = graph.node("Gemm", inputs, f"{name}.linear", name, transB=1)
            value = graph.node("Clip", [linear, *bounds], name, f"{name}.relu6")
    value = helper.make_tensor_value_info
    shape = ["N", TAKEN * BANDS]
    ends = [[value(name, TensorProto.FLOAT, shape)] for name in ("patch", "reconstruction")]
    return graph.finish("motor_autoencoder", *ends)


def scores(model: bytes, clips: torch.Tensor) -> np.ndarray:
    """Per clip: the mean squared error of what comes back, over all windows."""
    flat = clips.flatten(0, 1).numpy()
    (back,) = export.session(model).run(["reconstruction"], {"patch": flat})
    return ((back - flat) ** 2).mean(1).reshape(clips.shape[:2]).mean(1)


def auroc(good: np.ndarray, bad: np.ndarray) -> float:
    return float(np.mean(bad[:, None] > good) + 0.5 * np.mean(bad[:, None] == good))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="what the example synthesize wrote")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    folder = options.clips / "motor"
    examples = windows(folder / "normal", LEARNED, 2).flatten(0, 1)
    real = float_model(train(examples))
    int8 = export.int8_model(real, examples.numpy())
    (options.out / "base_int8.onnx").write_bytes(int8)
    judged = {kind: windows(folder / kind, JUDGED, TAKEN) for kind in ("normal", "imbalance", "bearing")}
    for name, model in (("float", real), ("int8", int8)):
        good = scores(model, judged["normal"])
        by_fault = {kind: auroc(good, scores(model, judged[kind])) for kind in ("imbalance", "bearing")}
        print(f"{name}: {len(model)} bytes, error of motors in good order {good.mean():.3f}, AUROC {by_fault}")


if __name__ == "__main__":
    main()
