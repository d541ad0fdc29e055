"""Tensor-train and tensor-ring factors.

Readings chosen:
- `loretta` (rep): modes factor the row-major flattening of [in, rank] and [rank, out]; s = alpha / rank.
  Cores of A are `lora_A.k`, of B `lora_B.k`. Norm training, part of the method, is not part of a site's
  weight.
- `tlora`: input side, W' = W T + Delta (the record infers the side). Delta's tensor ring runs over the output
  modes, then the input modes, and its last core is zero at the start; T starts at the identity with one core
  divided by the ring rank.
"""

import numpy as np

from case import Method, close, linear


def train(cores):
    """Contracts cores [R_{k-1}, n_k, R_k] with R_0 = R_d = 1 to a vector, row-major over the modes."""
    whole = cores[0]
    for core in cores[1:]:
        whole = np.einsum("anb,bmc->anmc", whole, core).reshape(whole.shape[0], -1, core.shape[2])
    return whole[0, :, 0]


class Loretta(Method):
    name = "loretta"
    record = "part 2, LoRETTA (rep)"
    identity = False
    cases = (
        (linear(6, 10), {"rank": 2, "alpha": 4, "tt_rank": 2, "modes_A": [5, 2, 2], "modes_B": [2, 3, 2]}),
        (linear(5, 4), {"rank": 3, "alpha": 2, "tt_rank": 3, "modes_A": [2, 2, 3], "modes_B": [3, 5]}),
        (linear(6, 4), {"rank": 2, "alpha": 1, "tt_rank": 2, "modes_A": [2, 2, 2], "modes_B": [2, 1, 2, 3]}),
    )

    def shapes(self, h, s):
        assert np.prod(h["modes_A"]) == s.row * h["rank"] and np.prod(h["modes_B"]) == s.out * h["rank"]
        shapes = {}
        for x in "AB":
            modes = h[f"modes_{x}"]
            ranks = [1] + [h["tt_rank"]] * (len(modes) - 1) + [1]
            shapes |= {f"lora_{x}.{k}": (ranks[k], n, ranks[k + 1]) for k, n in enumerate(modes)}
        return shapes

    def count(self, h, s):
        r = h["tt_rank"]
        return sum(r * (m[0] + m[-1]) + r * r * sum(m[1:-1]) for m in (h["modes_A"], h["modes_B"]))

    def weight(self, w, t, c, h, s):
        down, up = (train([t[f"lora_{x}.{k}"] for k in range(len(h[f"modes_{x}"]))]) for x in "AB")
        return w + h["alpha"] / h["rank"] * (down.reshape(s.row, h["rank"]) @ up.reshape(h["rank"], s.out)).T

    def holds(self, w, b, t, c, h, s, draw):
        # One entry, core by core.
        modes = h["modes_A"]
        place = [int(draw.generator.integers(n)) for n in modes]
        product = np.eye(1)
        for k, i in enumerate(place):
            product = product @ t[f"lora_A.{k}"][:, i, :]
        flat = np.ravel_multi_index(place, modes)
        assert close(product[0, 0], train([t[f"lora_A.{k}"] for k in range(len(modes))])[flat])
        # Zero-start option: a zero last core of B.
        zero = {k: v * (0 if k == f"lora_B.{len(h['modes_B']) - 1}" else 1) for k, v in t.items()}
        assert close(self.weight(w, zero, c, h, s), w)


def ring_matrix(cores):
    """T[(i..), (j..)] = trace of the product of core[:, i, j, :]."""
    rank = cores[0].shape[0]
    whole = np.eye(rank).reshape(rank, 1, 1, rank)
    for core in cores:
        whole = np.einsum("aijb,bklc->aikjlc", whole, core)
        whole = whole.reshape(rank, whole.shape[1] * whole.shape[2], -1, rank)
    return np.einsum("aija->ij", whole)


class Tlora(Method):
    name = "tlora"
    record = "part 3, TLoRA (transform + residual)"
    definition = "inferred"
    cases = (
        (linear(6, 6), {"modes_in": [2, 3], "modes_out": [3, 2], "rank": 2, "residual_rank": 2}),
        (linear(4, 12), {"modes_in": [2, 2, 3], "modes_out": [4], "rank": 1, "residual_rank": 2}),
    )

    def shapes(self, h, s):
        assert np.prod(h["modes_in"]) == s.row and np.prod(h["modes_out"]) == s.out
        r, q = h["rank"], h["residual_rank"]
        shapes = {f"transform.{k}": (r, n, n, r) for k, n in enumerate(h["modes_in"])}
        return shapes | {f"residual.{k}": (q, n, q) for k, n in enumerate(h["modes_out"] + h["modes_in"])}

    def count(self, h, s):
        modes = h["modes_out"] + h["modes_in"]
        return h["rank"] ** 2 * sum(n * n for n in h["modes_in"]) + h["residual_rank"] ** 2 * sum(modes)

    def start(self, t, w, b, c, h, s):
        r, start = h["rank"], dict(t)
        for k, n in enumerate(h["modes_in"]):
            start[f"transform.{k}"] = np.einsum("ij,ab->aijb", np.eye(n), np.eye(r)) / (r if k == 0 else 1)
        last = f"residual.{len(h['modes_out'] + h['modes_in']) - 1}"
        return {**start, last: 0 * t[last]}

    def weight(self, w, t, c, h, s):
        transform = ring_matrix([t[f"transform.{k}"] for k in range(len(h["modes_in"]))])
        whole = np.eye(h["residual_rank"])[:, None, :]
        for k, n in enumerate(h["modes_out"] + h["modes_in"]):
            whole = np.einsum("anb,bmc->anmc", whole, t[f"residual.{k}"]).reshape(len(whole), -1, len(whole))
        return w @ transform + np.einsum("ana->n", whole).reshape(s.out, s.row)

    def holds(self, w, b, t, c, h, s, draw):
        # The definition of T, entry by entry.
        cores, modes = [t[f"transform.{k}"] for k in range(len(h["modes_in"]))], h["modes_in"]
        transform = ring_matrix(cores)
        for i in np.ndindex(*modes):
            for j in np.ndindex(*modes):
                product = np.eye(h["rank"])
                for core, a, d in zip(cores, i, j):
                    product = product @ core[:, a, d, :]
                at = np.ravel_multi_index(i, modes), np.ravel_multi_index(j, modes)
                assert close(np.trace(product), transform[at])
