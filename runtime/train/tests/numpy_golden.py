"""Writes the golden values of compact optimizer states and subspace optimizers, from their definitions in NumPy.

Run from this folder: python numpy_golden.py > golden/numpy.csv
Each line is a name followed by values.
"""

import numpy as np

rng = np.random.default_rng(5)
RATE, DECAY, STEPS = 0.05, 0.1, 6
B1, B2 = 0.9, 0.999


def line(name, values):
    print(",".join([name] + [f"{float(v):.9e}" for v in np.asarray(values).flatten()]))


def mixed(word):
    word &= 0xFFFFFFFF
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return word ^ (word >> 16)


def bf16(values, positive, seed):
    out = []
    for index, value in enumerate(values):
        bits = int(np.float32(value).view(np.uint32)) + (mixed(seed + index) >> 16)
        out.append(float(np.uint32(bits & 0xFFFF0000).view(np.float32)))
    return np.array(out)


def int8(values, positive, seed):
    """Every code's value is written out; the two around a value are searched for."""
    codes = 255 if positive else 127
    largest = float(np.float32(np.abs(values).max()))
    levels = np.array([0.0] + [largest * 2.0 ** ((c - codes) / 8) for c in range(1, codes + 1)])
    out = []
    for index, value in enumerate(values):
        low = int(np.searchsorted(levels, abs(value) * (1 + 1e-7), side="right")) - 1
        chosen = levels[low]
        if low < codes:
            chance = (mixed(seed + index) >> 8) / 2**24
            if chance * (levels[low + 1] - levels[low]) < abs(value) - levels[low]:
                chosen = levels[low + 1]
        out.append(np.copysign(chosen, value))
    return np.array(out)


def compact(name, keep):
    """AdamW on two blocks, the second not full, its moments through `keep` behind every step."""
    p, moments = start.copy(), np.zeros((2, SIZE))
    for step in range(1, STEPS + 1):
        g = gradients[step - 1]
        m = moments[0] + (1 - B1) * (g - moments[0])
        v = B2 * moments[1] + (1 - B2) * g * g
        p = p * (1 - RATE * DECAY) - RATE * (m / (1 - B1**step)) / (np.sqrt(v / (1 - B2**step)) + 1e-8)
        for slot, values in enumerate([m, v]):
            for block in range(2):
                at = slice(block * 64, (block + 1) * 64)
                padded = np.zeros(64)
                padded[: len(values[at])] = values[at]
                seed = mixed(step) ^ block ^ (slot << 31)
                moments[slot][at] = keep(padded, slot == 1, mixed(seed))[: len(values[at])]
        line(f"{name}{step - 1}", p)


def subspace(name, rows, columns, rank, history):
    """The directions by a singular value decomposition, the natural gradient by a dense inverse."""
    factor, damping, every, eps = 0.25, 1e-3, 3, 1e-6 if history else 1e-8
    p = rng.normal(size=(rows, columns))
    line(f"{name}.start", p)
    short, long = min(rows, columns), max(rows, columns)
    basis, kept = None, []
    m, v = np.zeros((rank, long)), np.zeros((rank, long))
    left, right = np.linalg.qr(rng.normal(size=(rows, rows)))[0], np.linalg.qr(rng.normal(size=(columns, columns)))[0]
    sizes = np.array([100.0, 10.0] + [0.2] * (short - 2))
    for step in range(1, STEPS + 1):
        # Singular vectors that turn a little, singular values far apart.
        turn = np.linalg.qr(np.eye(rows) + 0.05 * rng.normal(size=(rows, rows)))[0]
        g = 0.05 * (left @ turn)[:, :short] * sizes @ right[:, :short].T
        line(f"{name}.gradient{step - 1}", g)
        wide = g if rows <= columns else g.T
        if (step - 1) % every == 0:
            found = np.linalg.svd(wide)[0][:, :rank]
            if basis is not None:
                found = found * np.sign((found * basis).sum(0))
            basis, kept = found, []
        low = basis.T @ wide
        if history:
            kept = (kept + [low.flatten()])[-history:]
            h = np.array(kept).T
            low = np.linalg.solve(damping * np.eye(len(h)) + h @ h.T, low.flatten()).reshape(low.shape)
        m, v = B1 * m + (1 - B1) * low, B2 * v + (1 - B2) * low * low
        move = basis @ (m / (1 - B1**step) / (np.sqrt(v / (1 - B2**step)) + eps))
        p = p * (1 - RATE * DECAY) - RATE * factor * (move if rows <= columns else move.T)
        line(f"{name}.{step - 1}", p)


SIZE = 100
start, gradients = rng.normal(size=SIZE), rng.normal(size=(STEPS, SIZE)) * 10.0 ** rng.uniform(-4, 1, size=SIZE)
line("compact.start", start)
for step in range(STEPS):
    line(f"compact.gradient{step}", gradients[step])
compact("adamw-bf16.", bf16)
compact("adamw-int8.", int8)
subspace("galore.wide", 6, 9, 2, 0)
subspace("galore.tall", 9, 6, 2, 0)
subspace("natural.wide", 6, 9, 2, 2)
subspace("natural.tall", 9, 6, 1, 4)
