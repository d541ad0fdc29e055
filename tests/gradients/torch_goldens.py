#!/usr/bin/env python3
"""Gradients through an int8 chain with adapter terms, from PyTorch's fake quantization.

Writes `golden/int8_chain.f32` beside this file: little-endian f32 values, in the
order of the calls of `Golden.write` below, which the Rust test reads back in the same order.
Needs torch and numpy; made with torch 2.15.0.

    python tests/gradients/torch_goldens.py

Chain, activations channels-last: conv 3x3 (stride 2, padding 0 top, 1 elsewhere), relu ->
depthwise 3x3 (padding 1), relu -> 1x1. Every layer has a sparse and an affine term, the
first and the last a low-rank term of rank 3 and 2. The loss is the inner product of the
dequantized output with a fixed tensor. `fake_quantize_per_tensor_affine` passes the
gradient straight through rounding, and stops it where the code leaves [-128, 127].

Its mask follows the rounded code, the plan's the value before rounding: they differ for
values within half a step of the range. And a value close to a tie may round the other
way in f32. A seed is searched where neither occurs, so the comparison is exact.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F

X_SHAPE = (1, 9, 8, 5)
# Kernel, stride, padding (top, left, bottom, right), out channels, rank, deltas per row, relu, depthwise.
LAYERS = [
    dict(kernel=3, stride=2, pad=(0, 1, 1, 1), out=8, rank=3, nnz=4, relu=True, depthwise=False, step=0.007, zero=-128),
    dict(kernel=3, stride=1, pad=(1, 1, 1, 1), out=8, rank=0, nnz=3, relu=True, depthwise=True, step=0.006, zero=-128),
    dict(kernel=1, stride=1, pad=(0, 0, 0, 0), out=10, rank=2, nnz=2, relu=False, depthwise=False, step=0.012, zero=5),
]
X_STEP, X_ZERO = 0.03, -11
TIE_MARGIN = 5e-4


def f32(values):
    """The values an f32 file holds, in double precision."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def leaf(values):
    return torch.tensor(f32(values), requires_grad=True)


class Layer:
    """One layer: constants as a plan stores them, trainable tensors as torch leaves."""

    def __init__(self, rng, recipe, in_channels, in_step, in_zero):
        self.__dict__.update(recipe)
        k, out = self.kernel, self.out
        self.inputs = 1 if self.depthwise else in_channels
        self.row = k * k * self.inputs
        self.in_step, self.in_zero = in_step, in_zero
        self.codes = rng.integers(-127, 128, (out, self.row))
        self.weight_scale = f32(rng.uniform(0.5, 1.5, out) * 0.012 / np.sqrt(self.row))
        self.weight = leaf(self.codes * self.weight_scale[:, None])
        self.bias_codes = rng.integers(-3000, 3001, out)
        self.down = leaf(rng.normal(size=(self.rank, self.row)) * 0.3)
        self.up = leaf(rng.normal(size=(out, self.rank)) * 0.3)
        self.columns = np.stack([np.sort(rng.choice(self.row, self.nnz, replace=False)) for _ in range(out)])
        self.values = leaf(rng.normal(size=(out, self.nnz)) * 0.3)
        self.scale = leaf(rng.uniform(0.7, 1.3, out))
        self.shift = leaf(rng.uniform(-0.2, 0.2, out))

    def conv(self, x, matrix, groups):
        """x [N, C, H, W] with a weight given as [out, kh * kw * in]."""
        weight = matrix.reshape(len(matrix), self.kernel, self.kernel, self.inputs).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, stride=self.stride, groups=groups)

    def forward(self, x):
        """Dequantized output and the value before the clip in output steps."""
        groups = self.out if self.depthwise else 1
        top, left, bottom, right = self.pad
        x = F.pad(x, (left, right, top, bottom))
        delta = torch.zeros(self.out, self.row, dtype=torch.float64)
        delta = delta.scatter(1, torch.tensor(self.columns), self.values)
        z = self.conv(x, self.weight, groups) + self.conv(x, delta, groups)
        bias = torch.tensor(self.bias_codes * self.in_step * self.weight_scale)
        z = z + bias[:, None, None]
        if self.rank:
            z = z + F.conv2d(self.conv(x, self.down, 1), self.up[:, :, None, None])
        z = z * self.scale[:, None, None] + self.shift[:, None, None]
        real = torch.relu(z) if self.relu else z
        return torch.fake_quantize_per_tensor_affine(real, self.step, self.zero, -128, 127), z / self.step

    def exact(self, steps):
        """Whether both masks and both roundings agree on every value, and one value in twenty clips at the top."""
        steps = steps.detach().numpy()
        lo, hi = (0.0 if self.relu else -128 - self.zero), 127 - self.zero
        inside = steps[(steps > lo - 1) & (steps < hi + 1)]
        tie = np.abs(inside - np.floor(inside) - 0.5).min() > TIE_MARGIN
        top = not np.any((steps > hi - TIE_MARGIN) & (steps < hi + 0.5 + TIE_MARGIN))
        bottom = not np.any((steps < lo + TIE_MARGIN) & (steps > lo - 0.5 - TIE_MARGIN))
        if self.relu:
            bottom = np.abs(steps).min() > TIE_MARGIN
        return tie and top and bottom and np.mean(steps > hi) > 0.05

    def folded_bias(self):
        return self.bias_codes - self.in_zero * self.codes.sum(1)

    def multiplier(self):
        """sx * sw / sy, each step rounded to f32 as the compiler does."""
        return np.float32(self.in_step) * self.weight_scale.astype(np.float32) / np.float32(self.step)


class Golden:
    def __init__(self):
        self.parts = []

    def write(self, values):
        values = values.detach().numpy() if torch.is_tensor(values) else np.asarray(values)
        self.parts.append(values.astype("<f4").ravel())

    def save(self, path):
        path.parent.mkdir(exist_ok=True)
        np.concatenate(self.parts).tofile(path)


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1).contiguous()


def attempt(seed):
    """The chain of `seed`, or None where a comparison would not be exact."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, X_SHAPE)
    x = leaf((codes - X_ZERO) * f32(X_STEP))
    layers, tensor = [], x.permute(0, 3, 1, 2)
    channels, step, zero = X_SHAPE[3], float(f32(X_STEP)), X_ZERO
    outputs = []
    for recipe in LAYERS:
        recipe = dict(recipe, step=float(f32(recipe["step"])))
        layer = Layer(rng, recipe, channels, step, zero)
        tensor, steps = layer.forward(tensor)
        if not layer.exact(steps):
            return None
        layers.append(layer)
        outputs.append(tensor)
        channels, step, zero = layer.out, layer.step, layer.zero
    dy = torch.tensor(f32(rng.normal(size=channels_last(tensor).shape)))
    (channels_last(tensor) * dy).sum().backward()
    return codes, x, layers, outputs, dy


def main():
    seed = next(seed for seed in range(100_000) if attempt(seed))
    codes, x, layers, outputs, dy = attempt(seed)
    golden = Golden()
    golden.write(codes)
    golden.write([X_STEP, X_ZERO])
    for layer, output in zip(layers, outputs):
        golden.write([layer.step, layer.zero])
        golden.write(layer.codes.T if layer.depthwise else layer.codes)
        golden.write(layer.folded_bias())
        golden.write(layer.multiplier())
        for values in (layer.down, layer.up, layer.columns, layer.values, layer.scale, layer.shift):
            golden.write(values)
        golden.write(torch.round(channels_last(output) / layer.step) + layer.zero)
    golden.write(dy)
    golden.write(x.grad)
    for layer in layers:
        low_rank = (layer.down, layer.up) if layer.rank else ()
        for values in (layer.weight, *low_rank, layer.values, layer.scale, layer.shift):
            golden.write(values.grad)
    path = pathlib.Path(__file__).parent / "golden" / "int8_chain.f32"
    golden.save(path)
    clipped = [int((channels_last(o) / l.step + l.zero >= 126.5).sum()) for l, o in zip(layers, outputs)]
    print(f"seed {seed}, torch {torch.__version__}, codes at the top {clipped}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
