"""Cores between singular vectors of the base.

Singular vectors carry the sign rule of `case.svd` (the entry of largest magnitude of each u is positive) and are
inputs of the case; a core means nothing without them.

Readings chosen:
- `svft`: the pattern's places are row-major; the gate multiplies by sigmoid(gate). `top_k` places: largest
  signed entries of U V for a square W (V's columns the right vectors), else of the square factor itself (U,
  or V transposed). Random places may repeat and then add. Rank is the full min(out, in).
- `vectorfit`: the AVF trace (inferred): strength = mean |v - v0|, EMA s = beta s + (1 - beta) strength
  started at zero, freeze the K largest (ties to the earlier vector) until the next check; frozen vectors do
  not move.
- `spectral-adapter`: slice `offset * rank`; the rotational form has the multipliers c of the code.
- `psoft`: PEFT's loop for the Neumann series, copied by its count of terms; R = diag(b) R0 diag(a).
"""

import numpy as np

from case import Method, best, close, conv, linear, sigmoid, svd


class Svft(Method):
    name = "svft"
    record = "part 2, SVFT"
    identity = False
    cases = (
        (linear(5, 4), {"pattern": "plain", "off_diagonals": 0}),
        (linear(4, 6), {"pattern": "banded", "off_diagonals": 1}),
        (linear(5, 3), {"pattern": "random", "off_diagonals": 1}),
        (linear(4, 4), {"pattern": "top_k", "off_diagonals": 1}),
        (linear(3, 5), {"pattern": "top_k", "off_diagonals": 1}),
        (conv(3, 2, (2, 2)), {"pattern": "banded", "off_diagonals": 2}),
    )

    def places(self, h, s):
        k, d = min(s.out, s.row), h["off_diagonals"]
        return k * (2 * d + 1) - d * (d + 1)

    def base(self, draw, h, s):
        w, k, d = draw.values((s.out, s.row)), min(s.out, s.row), h["off_diagonals"]
        u, values, v = svd(w)
        if h["pattern"] in ("plain", "banded"):
            flat = [i * k + j for i in range(k) for j in range(k) if abs(i - j) <= d]
        elif h["pattern"] == "random":
            flat = draw.generator.integers(0, k * k, size=self.places(h, s))
            flat[-1] = flat[0]
        else:
            square = u @ v if s.out == s.row else u if s.out < s.row else v.T
            flat = best(square, self.places(h, s))
        rows, columns = np.divmod(np.asarray(flat), k)
        return w, {"U": u, "S": values, "V": v, "indices": np.array([rows, columns])}

    def shapes(self, h, s):
        return {"svft_m": (self.places(h, s),), "svft_gate": (1,)}

    def count(self, h, s):
        return self.places(h, s) + 1

    def weight(self, w, t, c, h, s):
        k = min(s.out, s.row)
        core = np.zeros((k, k), dtype=t["svft_m"].dtype)
        np.add.at(core, tuple(c["indices"]), t["svft_m"])
        return w + c["U"] @ (sigmoid(t["svft_gate"]) * core) @ c["V"].T

    def holds(self, w, b, t, c, h, s, draw):
        assert close((c["U"] * c["S"]) @ c["V"].T, w)
        zero = {**t, "svft_m": 0 * t["svft_m"]}
        assert close(self.weight(w, zero, c, h, s), w)
        g = draw.values(w.shape)
        wanted = sigmoid(t["svft_gate"]) * (c["U"].T @ g @ c["V"])[tuple(c["indices"])]
        step = {**t, "svft_m": t["svft_m"] + 1e-30j}
        assert close(np.imag((g * self.weight(w, step, c, h, s)).sum()) / 1e-30, wanted.sum())


class VectorFit(Method):
    name = "vectorfit"
    record = "part 2, VectorFit"
    definition = "inferred"
    biased = True
    cases = (
        (linear(4, 6), {}),
        (linear(5, 3), {}),
        (conv(3, 2, (3, 1)), {"avf": {"beta": 0.5, "freeze": 2}}),
    )

    def base(self, draw, h, s):
        w = draw.values((s.out, s.row))
        u, values, v = svd(w)
        constants = {"U": u, "S": values, "V": v}
        if "avf" in h:
            constants["movements"] = draw.values((4, 5))
        return w, constants

    def shapes(self, h, s):
        return {"delta_sigma": (min(s.out, s.row),), "delta_bias": (s.out,)}

    def count(self, h, s):
        return min(s.out, s.row) + s.out

    def start(self, t, w, b, c, h, s):
        return {k: 0 * v for k, v in t.items()}

    def apply(self, w, b, t, c, h, s):
        return (c["U"] * (c["S"] + t["delta_sigma"])) @ c["V"].T, b + t["delta_bias"]

    def expected(self, w, t, c, h, s):
        if "avf" not in h:
            return {}
        # Five one-entry vectors; each check adds that round's movement to those not frozen.
        values, smooth, frozen, trace = np.zeros(5), np.zeros(5), np.zeros(5, dtype=bool), []
        for movement in c["movements"]:
            values = np.where(frozen, values, values + movement)
            smooth = h["avf"]["beta"] * smooth + (1 - h["avf"]["beta"]) * np.abs(values)
            frozen = np.isin(np.arange(5), best(smooth, h["avf"]["freeze"]))
            trace.append((smooth, frozen, values))
        smooth, frozen, values = (np.array(x) for x in zip(*trace))
        return {"avf_strength": smooth, "avf_frozen": frozen, "avf_values": values}

    def holds(self, w, b, t, c, h, s, draw):
        g = draw.values(w.shape)
        step = {**t, "delta_sigma": t["delta_sigma"] + 1e-30j * np.arange(1, len(c["S"]) + 1)}
        wanted = np.diag(c["U"].T @ g @ c["V"]) @ np.arange(1, len(c["S"]) + 1)
        assert close(np.imag((g * self.apply(w, b, step, c, h, s)[0]).sum()) / 1e-30, wanted)


def cayley(skew, forward=False):
    """(I - S)(I + S)^-1, or (I + S)(I - S)^-1."""
    eye, s = np.eye(len(skew)), -skew if forward else skew
    return np.linalg.solve((eye + s).T, (eye - s).T).T


class SpectralAdapter(Method):
    name = "spectral-adapter"
    record = "part 2, Spectral Adapter"
    cases = (
        (linear(4, 5), {"form": "additive", "rank": 2, "offset": 0}),
        (linear(6, 4), {"form": "additive", "rank": 2, "offset": 1}),
        (linear(5, 4), {"form": "rotational", "rank": 3, "offset": 0}),
        (conv(4, 2, (1, 2)), {"form": "rotational", "rank": 2, "offset": 1}),
    )

    def base(self, draw, h, s):
        w, first = draw.values((s.out, s.row)), h["rank"] * h["offset"]
        u, values, v = (x[..., first : first + h["rank"]] for x in svd(w))
        return w, {"U": u, "S": values, "V": v}

    def shapes(self, h, s):
        r = h["rank"]
        if h["form"] == "additive":
            return {"Bu": (s.out, r), "Av": (r, s.row)}
        return {"X_u": (r, r), "X_v": (r, r), "c": (r,)}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row) if h["form"] == "additive" else 2 * h["rank"] ** 2 + h["rank"]

    def start(self, t, w, b, c, h, s):
        return {k: np.ones_like(v) if k == "c" else 0 * v for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        u, values, v = c["U"], c["S"], c["V"]
        if h["form"] == "additive":
            return w + ((u + t["Bu"]) * values) @ (v.T + t["Av"]) - (u * values) @ v.T
        left, right = (cayley((t[x] - t[x].T) / 2) for x in ("X_u", "X_v"))
        return w + u @ (left * (values * t["c"]) @ right.T - np.diag(values)) @ v.T

    def holds(self, w, b, t, c, h, s, draw):
        u, values, v = c["U"], c["S"], c["V"]
        if h["form"] == "additive":
            x = draw.values((s.row,))
            p = t["Av"] @ x
            side = t["Bu"] @ (values * (v.T @ x + p)) + u @ (values * p)
            assert close(self.weight(w, t, c, h, s) @ x, w @ x + side)
        else:
            turn = cayley((t["X_u"] - t["X_u"].T) / 2)
            assert close(turn.T @ turn, np.eye(h["rank"]))


class Psoft(Method):
    name = "psoft"
    record = "part 2, PSOFT"
    cases = (
        (linear(5, 4), {"rank": 3, "alpha": 3, "init": "psoft", "neumann_terms": 0}),
        (linear(4, 6), {"rank": 2, "alpha": 4, "init": "pissa", "neumann_terms": 0}),
        (linear(4, 5), {"rank": 3, "alpha": 3, "init": "psoft", "neumann_terms": 5}),
        (linear(4, 3), {"rank": 3, "alpha": 6, "init": "psoft", "neumann_terms": 3}),
        (linear(3, 3), {"rank": 2, "alpha": 2, "init": "psoft", "neumann_terms": 2}),
    )

    def base(self, draw, h, s):
        w, scale = draw.values((s.out, s.row)), h["alpha"] / h["rank"]
        u, values, v = (x[..., : h["rank"]] for x in svd(w))
        if h["init"] == "psoft":
            return w, {"A": v.T, "B": u * values / scale}
        root = np.sqrt(values / scale)
        return w, {"A": (v * root).T, "B": u * root}

    def shapes(self, h, s):
        r = h["rank"]
        return {"psoft_R.weight": (r * (r - 1) // 2,), "psoft_R.vector_a": (r,), "psoft_R.vector_b": (r,)}

    def count(self, h, s):
        return h["rank"] * (h["rank"] - 1) // 2 + 2 * h["rank"]

    def tensors(self, draw, w, c, h, s):
        t = super().tensors(draw, w, c, h, s)
        return {"psoft_R.weight": t["psoft_R.weight"] / 2} | {
            k: draw.near(1, v.shape) for k, v in t.items() if "vector" in k
        }

    def start(self, t, w, b, c, h, s):
        return {k: np.ones_like(v) if "vector" in k else 0 * v for k, v in t.items()}

    def rotation(self, t, h):
        r = h["rank"]
        q = np.zeros((r, r), dtype=t["psoft_R.weight"].dtype)
        q[np.triu_indices(r, 1)] = t["psoft_R.weight"]
        q = q - q.T
        return neumann(q, h["neumann_terms"]) if h["neumann_terms"] else cayley(q, forward=True)

    def weight(self, w, t, c, h, s):
        turn = t["psoft_R.vector_b"][:, None] * self.rotation(t, h) * t["psoft_R.vector_a"]
        return w + h["alpha"] / h["rank"] * c["B"] @ (turn - np.eye(h["rank"])) @ c["A"]

    def holds(self, w, b, t, c, h, s, draw):
        turn = self.rotation(t, h)
        if h["neumann_terms"]:
            return
        assert close(turn.T @ turn, np.eye(h["rank"]))
        if h["init"] == "psoft":
            ones = {**t, "psoft_R.vector_a": np.ones(h["rank"]), "psoft_R.vector_b": np.ones(h["rank"])}
            kept = np.linalg.svd(self.weight(w, ones, c, h, s), compute_uv=False)
            assert close(kept, np.linalg.svd(w, compute_uv=False))


def neumann(q, terms):
    """PEFT's series: 1, 1 + 2Q, then 1 + 2Q + 2Q^2 + ... with weight 1 on the last power; 3 terms and 4 agree."""
    total = np.eye(len(q)) + (2 * q if terms > 1 else 0)
    if terms > 2:
        power = q @ q
        total = total + 2 * power
        for _ in range(3, terms - 1):
            power = power @ q
            total = total + 2 * power
        total = total + power @ q
    return total
