#!/usr/bin/env python3
"""Effective weights of methods that HF PEFT does not have, computed from their published definitions.

Writes `numpy.json` beside this file. Needs NumPy alone; made with 2.4.6. Everything is written out with
explicit matrices, slowly, and shares no code with the runtime.

    python tests/golden/methods/numpy_methods.py

Each function gives the effective weight of W `[out, row]` and the tensors, whose shapes the second list gives.
"""

import json
import pathlib

import numpy as np


def plane(u, factor):
    """I − factor·u·uᵀ/(uᵀu)."""
    return np.eye(len(u)) - factor * np.outer(u, u) / (u @ u)


def block_diagonal(blocks):
    size = sum(len(block) for block in blocks)
    whole, at = np.zeros((size, size)), 0
    for block in blocks:
        whole[at:at + len(block), at:at + len(block)] = block
        at += len(block)
    return whole


def ether(w, t, blocks):
    return w @ block_diagonal([plane(u, 2) for u in np.split(t["ether_u"].ravel(), blocks)])


def ether_plus(w, t, row_blocks, out_blocks):
    def relaxed(side, blocks):
        u, v = (np.split(t[f"ether_{name}_{side}"].ravel(), blocks) for name in "uv")
        return block_diagonal([plane(a, 1) + np.eye(len(a)) - plane(b, 1) for a, b in zip(u, v)])

    return relaxed("out", out_blocks) @ w @ relaxed("in", row_blocks)


def kradapter(w, t):
    out, row = w.shape
    u, v = t["U"], t["V"]
    k = np.array([np.kron(v[i], u[i]) for i in range(len(u))])[:, :max(out, row)]
    return w + 2 * (k if out <= row else k.T)


def svft(w, t, places):
    u, _, vt = np.linalg.svd(w, full_matrices=False)
    # Of the two signs of a pair, that whose left vector has a positive entry of largest magnitude.
    signs = np.sign(u[np.abs(u).argmax(axis=0), range(u.shape[1])])
    u, vt = u * signs, vt * signs[:, None]
    m = np.zeros(u.shape[1] ** 2)
    for place, value in zip(places, t["svft_m"].ravel()):
        m[place] += value / (1 + np.exp(-t["svft_gate"].item()))
    return w + u @ m.reshape(u.shape[1], -1) @ vt


def band(k, width):
    return [i * k + j for i in range(k) for j in range(k) if abs(i - j) <= width]


def cases():
    yield "ether", dict(blocks=3), (5, 9, 1), dict(ether_u=(9, 1)), lambda w, t: ether(w, t, 3)
    yield "ether", dict(blocks=4), (4, 3, 3), dict(ether_u=(27, 1)), lambda w, t: ether(w, t, 3)
    yield "ether", dict(blocks=1), (5, 7, 1), dict(ether_u=(7, 1)), lambda w, t: ether(w, t, 1)
    both = {f"ether_{name}_{side}": (n, 1) for side, n in [("in", 12), ("out", 8)] for name in "uv"}
    yield "ether+", dict(blocks=4), (8, 12, 1), both, lambda w, t: ether_plus(w, t, 4, 4)
    odd = {f"ether_{name}_{side}": (n, 1) for side, n in [("in", 18), ("out", 5)] for name in "uv"}
    yield "ether+", dict(blocks=3), (5, 2, 3), odd, lambda w, t: ether_plus(w, t, 3, 1)
    for (out, inputs, kernel), k1, k2 in [((6, 4, 1), 2, 3), ((4, 6, 1), 2, 3), ((5, 5, 1), 2, 3), ((3, 2, 3), 1, 18)]:
        short = min(out, inputs * kernel ** 2)
        yield "kradapter", {}, (out, inputs, kernel), dict(U=(short, k1), V=(short, k2)), kradapter
    for pattern, out, inputs, width in [("plain", 5, 7, 0), ("banded", 7, 5, 2), ("banded", 3, 9, 2)]:
        k = min(out, inputs)
        places = band(k, min(width, k - 1))
        settings = dict(pattern=pattern, off_diagonals=max(width, 1))
        shapes = dict(svft_m=(1, len(places)), svft_gate=(1, 1))
        yield "svft", settings, (out, inputs, 1), shapes, lambda w, t, places=places: svft(w, t, places)


def numbers(values):
    return [float(f"{v:.10g}") for v in np.ravel(values)]


def run(index, record):
    method, settings, (out, inputs, kernel), shapes, effective = record
    rng = np.random.default_rng(index)
    draw = lambda shape: np.round(rng.uniform(-1, 1, shape) * 1024) / 1024
    w = draw((out, inputs * kernel ** 2))
    tensors = {name: draw(shape) for name, shape in shapes.items()}
    return dict(method=method, settings={k: str(v) for k, v in settings.items()}, out=out, inputs=inputs,
                kernel=kernel, weight=numbers(w), tensors={n: numbers(t) for n, t in tensors.items()}, constants={},
                delta=numbers(effective(w, tensors) - w))


if __name__ == "__main__":
    entries = [run(index, record) for index, record in enumerate(cases())]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    pathlib.Path(__file__).with_name("numpy.json").write_text(f"[\n{lines}\n]\n")
    print(len(entries), "cases")
