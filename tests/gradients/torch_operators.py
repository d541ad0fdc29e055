#!/usr/bin/env python3
"""Gradients of operators without parameters, from PyTorch.

Writes `golden/operators.csv` beside this file: one line per tensor, its name and its values. Reals are what an f32 holds.
Needs torch and numpy; made with torch 2.15.0.

    python tests/gradients/torch_operators.py

Every loss is the inner product of the output with a fixed tensor `dy`. Quantizers are
`fake_quantize_per_tensor_affine`, straight through rounding and 0 where the code leaves [-128, 127].
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F

LINES = []
RNG = np.random.default_rng(5)


def put(name, values):
    values = values.detach().numpy() if torch.is_tensor(values) else np.asarray(values)
    LINES.append(",".join([name, *(np.format_float_positional(np.float32(v), trim="-") for v in values.ravel())]))


def f32(shape, scale=1.0):
    return (RNG.normal(size=shape) * scale).astype(np.float32)


def leaf(values):
    return torch.tensor(values.astype(np.float64), requires_grad=True)


def backward(name, output, wanted):
    dy = f32(tuple(output.shape))
    put(f"{name}.dy", dy)
    grads = torch.autograd.grad((output * torch.tensor(dy, dtype=torch.float64)).sum(), list(wanted.values()), retain_graph=True)
    for key, grad in zip(wanted, grads):
        put(f"{name}.d{key}", grad)


def recurrent(kind, gates, order):
    """Both directions; gates as ONNX orders them."""
    time, batch, inputs, hidden = 4, 2, 3, 5
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](inputs, hidden, bidirectional=True).double()
    for parameter in layer.parameters():
        parameter.data = torch.tensor(f32(tuple(parameter.shape), 0.4).astype(np.float64))
    pick = lambda matrix: torch.cat([matrix.chunk(gates)[i] for i in order])
    sides = ["", "_reverse"]
    part = lambda what: torch.stack([pick(getattr(layer, f"{what}_l0{side}")) for side in sides])
    put(f"{kind}.weight", part("weight_ih"))
    put(f"{kind}.recurrent", part("weight_hh"))
    put(f"{kind}.bias", torch.cat([part("bias_ih"), part("bias_hh")], 1))
    x, h = f32((time, batch, inputs)), f32((2, batch, hidden), 0.5)
    c = f32((2, batch, hidden), 0.5)
    put(f"{kind}.x", x)
    put(f"{kind}.h", h)
    wanted = {"x": leaf(x), "h": leaf(h)}
    state = wanted["h"]
    if kind == "lstm":
        put("lstm.c", c)
        wanted["c"] = leaf(c)
        state = (wanted["h"], wanted["c"])
    out, last = layer(wanted["x"], state)
    # ONNX has the directions before the batch.
    backward(f"{kind}.all", out.view(time, batch, 2, hidden).transpose(1, 2), wanted)
    outputs = {"hidden": last} if kind == "gru" else {"hidden": last[0], "cell": last[1]}
    for name, output in outputs.items():
        backward(f"{kind}.{name}", output, wanted)


def picks():
    x = leaf(f32((3, 4, 5)))
    slices = RNG.integers(0, 4, 7)
    put("gather.indices", slices)
    backward("gather", x.index_select(1, torch.tensor(slices)), {"x": x})
    elements = RNG.integers(0, 4, (3, 6, 5))
    put("elements.indices", elements)
    backward("elements", x.gather(1, torch.tensor(elements)), {"x": x})


def choice():
    condition = RNG.integers(0, 2, (3, 1, 7))
    put("where.condition", condition)
    a, b = leaf(f32((5, 1))), leaf(f32((3, 5, 7)))
    backward("where", torch.where(torch.tensor(condition) == 1, a, b), {"a": a, "b": b})


def resize():
    x = leaf(f32((2, 4, 5, 3)))
    first = x.permute(0, 3, 1, 2)
    for name, size, options in [
        ("half", (8, 11), dict(mode="bilinear", align_corners=False)),
        ("corners", (7, 9), dict(mode="bilinear", align_corners=True)),
        ("nearest", (8, 10), dict(mode="nearest")),
    ]:
        backward(f"resize.{name}", F.interpolate(first, size=size, **options).permute(0, 2, 3, 1), {"x": x})


def softmax():
    """int8 in, int8 out; the margin keeps both masks equal (the plan's looks at the value before rounding)."""
    scale = np.float64(np.float32(0.11))
    while True:
        codes = RNG.integers(-128, 128, (4, 9))
        x = leaf(codes * scale)
        p = torch.softmax(x, -1)
        steps = (p * 256).detach().numpy()
        if not ((steps > 254.9) & (steps < 255.6)).any() and (steps > 255.6).any():
            break
    put("softmax.codes", codes)
    quantized = torch.fake_quantize_per_tensor_affine(p, 1 / 256, -128, -128, 127)
    backward("softmax", quantized, {"x": x})


def product():
    x = leaf(f32((3, 4, 5)))
    put("product.x", x)
    backward("product", x.prod(1), {"x": x})


def dynamic():
    """A layer on codes whose scale and zero point come from their range, with a low-rank term, as a dynamic quantizer
    leaves it: the range counts as constant."""
    x = leaf(f32((6, 5)))
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    scale = float(np.float32((np.float32(high) - np.float32(low)) / np.float32(255)))
    zero = int(np.rint(-low / scale)) - 128
    quantized = torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)
    codes = np.rint(quantized.detach().numpy() / scale) + zero
    weight, scales = RNG.integers(-127, 128, (4, 5)), np.abs(f32(4, 0.01)) + np.float32(0.001)
    bias, down, up = f32(4), leaf(f32((2, 5), 0.3)), leaf(f32((4, 2), 0.3))
    for name, values in [("codes", codes), ("scale", [scale]), ("zero", [zero]), ("weight", weight), ("scales", scales),
                         ("bias", bias), ("down", down), ("up", up)]:
        put(f"dynamic.{name}", values)
    real = torch.tensor(weight * scales.astype(np.float64)[:, None])
    y = quantized @ real.T + torch.tensor(bias, dtype=torch.float64) + quantized @ down.T @ up.T
    backward("dynamic", torch.relu(y), {"x": x, "down": down, "up": up})


def copies():
    """Slice, transpose, pad and concatenation: each is a strided copy."""
    x = leaf(f32((3, 4, 5)))
    backward("slice", x[1:, :, ::2], {"x": x})
    backward("transpose", x.permute(2, 0, 1), {"x": x})
    backward("pad", F.pad(x, (1, 2, 0, 3)), {"x": x})
    backward("concat", torch.cat([torch.zeros(3, 2, 5, dtype=torch.float64), x], 1), {"x": x})
    backward("reverse", x.flip(1), {"x": x})


def main():
    torch.manual_seed(0)
    recurrent("lstm", 4, [0, 3, 1, 2])
    recurrent("gru", 3, [1, 0, 2])
    for part in (picks, choice, resize, softmax, product, dynamic, copies):
        part()
    path = pathlib.Path(__file__).parent / "golden" / "operators.csv"
    path.write_text("\n".join(LINES) + "\n")
    print(f"torch {torch.__version__}, {len(LINES)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
