"""Trained entries of the weight itself: chosen once, then values at fixed places.

A case holds the inputs of the choice as constants (gradients per example, [n, out, row]), the choice as
`expected`, and the values as tensors in ascending row-major order of their places. Every choice breaks ties
towards the lowest row-major index.

Readings chosen:
- `shira`: `gradient` accumulates |g| over batches (alternative: the magnitude of the sum,
  `expected.alternative_score`); `snip` is |W| times the magnitude of the summed gradient; `structured` is the
  union of named rows, named columns and the diagonal. The number of entries is rank * (in + out), at most
  all. gamma multiplies the values.
- `supertuning`: |W| in float64, k = int(n * (1 - sparsity)); `select_top` false takes the smallest. Values
  follow the order of selection (largest, or smallest, first), as PEFT stores them.
- `paca`: P = columns / s, s = alpha / rank; columns are overwritten, not added to.
- `neuroada`: values in ascending column order inside a row (the reference's own order is by magnitude); the
  shared variant takes the columns chosen by most rows.
- `rosa`: S is not multiplied by s; scores are |mean of g^2| (default) or |mean of g| over batches.
- `sparsegrad`: HOSVD bases with the sign rule (largest entry of each column positive); places are the top k
  of |Q_o^T G Q_i| for one gradient; values in ascending order of rotated places.
"""

import numpy as np

from case import Method, best, close, conv, linear, ranked, scatter


class Sparse(Method):
    """`chosen` gives ascending flat places in the matrix [out, row]."""

    tensor = "values"

    def base(self, draw, h, s):
        return draw.values((s.out, s.row)), {}

    def entries(self, h, s):
        raise NotImplementedError

    def chosen(self, w, c, h, s):
        raise NotImplementedError

    def shapes(self, h, s):
        return {self.tensor: (self.entries(h, s),)}

    def count(self, h, s):
        return self.entries(h, s)

    def start(self, t, w, b, c, h, s):
        return {**t, self.tensor: 0 * t[self.tensor]}

    def weight(self, w, t, c, h, s):
        return w + scatter(w.shape, self.chosen(w, c, h, s), t[self.tensor])

    def expected(self, w, t, c, h, s):
        return {"indices": np.array(np.divmod(self.chosen(w, c, h, s), s.row))}

    def holds(self, w, b, t, c, h, s, draw):
        # Nothing else moves; undone by restoring what was there.
        places, moved = self.chosen(w, c, h, s), self.weight(w, t, c, h, s)
        assert len(set(places)) == len(places)
        back = moved.copy().ravel()
        back[places] = w.ravel()[places]
        assert (back == w.ravel()).all()


class Shira(Sparse):
    name = "shira"
    record = "part 3, SHiRA"
    tensor = "shira_weight"
    cases = (
        (linear(5, 4), {"mask": "random", "rank": 1, "scale": 1}),
        (linear(4, 6), {"mask": "magnitude", "rank": 1, "scale": 0.5}),
        (linear(4, 5), {"mask": "gradient", "rank": 1, "scale": 1}),
        (conv(3, 2, (3, 1)), {"mask": "snip", "rank": 1, "scale": 2}),
        (linear(5, 4), {"mask": "structured", "rows": [1], "columns": [0, 2], "scale": 1}),
        (linear(2, 1), {"mask": "magnitude", "rank": 1, "scale": 1}),
        (linear(4, 5), {"mask": "magnitude", "rank": 1, "scale": 1}, "ties"),
        (conv(4, 4, (3, 1), 4), {"mask": "gradient", "rank": 1, "scale": 1}, "ties"),
    )

    def base(self, draw, h, s):
        w, c = draw.values((s.out, s.row)), {}
        if h["mask"] == "random":
            c["places"] = np.sort(draw.places(self.entries(h, s), w.size))
        if h["mask"] in ("gradient", "snip"):
            c["gradients"] = draw.values((3, s.out, s.row))
        return w, c

    def structured(self, h, s):
        mask = np.eye(s.out, s.row, dtype=bool)
        mask[h["rows"]], mask[:, h["columns"]] = True, True
        return np.flatnonzero(mask)

    def entries(self, h, s):
        if h["mask"] == "structured":
            return len(self.structured(h, s))
        return min(h["rank"] * (s.out + s.row), s.out * s.row)

    def scores(self, w, c, h):
        kinds = {"magnitude": lambda: np.abs(w)}
        kinds["gradient"] = lambda: np.abs(c["gradients"]).sum(axis=0)
        kinds["snip"] = lambda: np.abs(w * c["gradients"].sum(axis=0))
        return kinds[h["mask"]]()

    def chosen(self, w, c, h, s):
        if h["mask"] == "structured":
            return self.structured(h, s)
        return c["places"] if h["mask"] == "random" else best(self.scores(w, c, h), self.entries(h, s))

    def weight(self, w, t, c, h, s):
        return w + h["scale"] * scatter(w.shape, self.chosen(w, c, h, s), t[self.tensor])

    def expected(self, w, t, c, h, s):
        found = super().expected(w, t, c, h, s)
        if h["mask"] in ("magnitude", "gradient", "snip"):
            found["score"] = self.scores(w, c, h)
        if h["mask"] == "gradient":
            found["alternative_score"] = np.abs(c["gradients"].sum(axis=0))
        return found


class SuperTuning(Sparse):
    name = "supertuning"
    record = "anchors 1.2, SuperTuning"
    tensor = "supertuning_values"
    cases = (
        (linear(4, 6), {"sparsity": 0.75, "select_top": True, "rank": 0}),
        (linear(5, 3), {"sparsity": 0.5, "select_top": False, "rank": 2, "alpha": 3}),
        (linear(3, 4), {"sparsity": 0.5, "select_top": True, "rank": 0}, "ties"),
    )

    def entries(self, h, s):
        return int(s.out * s.row * (1 - h["sparsity"]))

    def chosen(self, w, c, h, s):
        return ranked(np.abs(w) if h["select_top"] else -np.abs(w), self.entries(h, s))

    def expected(self, w, t, c, h, s):
        return {"supertuning_indices": self.chosen(w, c, h, s)}

    def shapes(self, h, s):
        factors = {"supertuning_lora_A": (h["rank"], s.row), "supertuning_lora_B": (s.out, h["rank"])}
        return super().shapes(h, s) | (factors if h["rank"] else {})

    def count(self, h, s):
        return self.entries(h, s) + h["rank"] * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        return {k: v * (1 if k.endswith("_A") else 0) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        w = super().weight(w, t, c, h, s)
        if not h["rank"]:
            return w
        return w + h["alpha"] / h["rank"] * t["supertuning_lora_B"] @ t["supertuning_lora_A"]

    def holds(self, w, b, t, c, h, s, draw):
        if not h["rank"]:
            super().holds(w, b, t, c, h, s, draw)


class Paca(Sparse):
    name = "paca"
    record = "part 1, PaCA"
    cases = ((linear(4, 6), {"rank": 2, "alpha": 3}), (conv(3, 2, (2, 2)), {"rank": 3, "alpha": 3}))

    def base(self, draw, h, s):
        return draw.values((s.out, s.row)), {"paca_indices": draw.places(h["rank"], s.row)}

    def shapes(self, h, s):
        return {"paca_w": (s.out, h["rank"])}

    def count(self, h, s):
        return s.out * h["rank"]

    def start(self, t, w, b, c, h, s):
        return {"paca_w": w[:, c["paca_indices"]] * h["rank"] / h["alpha"]}

    def weight(self, w, t, c, h, s):
        kept = ~np.isin(np.arange(s.row), c["paca_indices"])
        spread = np.zeros((h["rank"], s.row))
        spread[np.arange(h["rank"]), c["paca_indices"]] = h["alpha"] / h["rank"]
        return w * kept + t["paca_w"] @ spread

    def expected(self, w, t, c, h, s):
        return {"delta_columns": self.weight(w, t, c, h, s)[:, c["paca_indices"]] - w[:, c["paca_indices"]]}

    def holds(self, w, b, t, c, h, s, draw):
        still = ~np.isin(np.arange(s.row), c["paca_indices"])
        assert (self.weight(w, t, c, h, s)[:, still] == w[:, still]).all()


class NeuroAda(Sparse):
    name = "neuroada"
    record = "part 2, NeuroAda"
    tensor = "neuroada_theta"
    cases = (
        (linear(4, 5), {"k": 2, "shared": False}),
        (linear(3, 6), {"k": 1, "shared": False}),
        (linear(5, 4), {"k": 2, "shared": True}),
        (conv(3, 2, (3, 1)), {"k": 3, "shared": False}),
        (linear(4, 5), {"k": 2, "shared": False}, "ties"),
        (conv(3, 3, (2, 2), 3), {"k": 2, "shared": False}),
    )

    def shapes(self, h, s):
        return {self.tensor: (s.out, h["k"])}

    def count(self, h, s):
        return h["k"] * s.out

    def columns(self, w, h):
        rows = np.array([best(np.abs(row), h["k"]) for row in w])
        if not h["shared"]:
            return rows
        shared = best(np.bincount(rows.ravel(), minlength=w.shape[1]), h["k"])
        return np.tile(shared, (len(w), 1))

    def chosen(self, w, c, h, s):
        return (np.arange(s.out)[:, None] * s.row + self.columns(w, h)).ravel()

    def expected(self, w, t, c, h, s):
        return super().expected(w, t, c, h, s) | {"columns": self.columns(w, h)}


class Rosa(Sparse):
    name = "rosa"
    record = "part 3, RoSA"
    cases = (
        (linear(5, 4), {"rank": 2, "alpha": 3, "density": 0.3, "score": "grad2"}),
        (linear(3, 7), {"rank": 1, "alpha": 2, "density": 0.25, "score": "grad"}),
    )

    def base(self, draw, h, s):
        return draw.values((s.out, s.row)), {"gradients": draw.values((3, s.out, s.row))}

    def entries(self, h, s):
        return int(h["density"] * s.out * s.row)

    def shapes(self, h, s):
        return {
            "rosa_A": (h["rank"], s.row),
            "rosa_B": (s.out, h["rank"]),
            "rosa_spa.values": (self.entries(h, s),),
        }

    def count(self, h, s):
        return h["rank"] * (s.out + s.row) + self.entries(h, s)

    def start(self, t, w, b, c, h, s):
        return {**t, "rosa_B": 0 * t["rosa_B"], "rosa_spa.values": 0 * t["rosa_spa.values"]}

    def chosen(self, w, c, h, s):
        power = 2 if h["score"] == "grad2" else 1
        return best(np.abs((c["gradients"] ** power).mean(axis=0)), self.entries(h, s))

    def weight(self, w, t, c, h, s):
        low = h["alpha"] / h["rank"] * t["rosa_B"] @ t["rosa_A"]
        return w + low + scatter(w.shape, self.chosen(w, c, h, s), t["rosa_spa.values"])

    def holds(self, w, b, t, c, h, s, draw):
        assert close(
            self.weight(w, {**t, "rosa_B": 0 * t["rosa_B"]}, c, h, s),
            w + scatter(w.shape, self.chosen(w, c, h, s), t["rosa_spa.values"]),
        )


class SparseGrad(Sparse):
    name = "sparsegrad"
    record = "part 3, SparseGrad"
    tensor = "sparsegrad_S"
    cases = ((linear(4, 3), {"k": 4}), (linear(3, 5), {"k": 3}))

    def base(self, draw, h, s):
        stack = draw.values((6, s.out, s.row))
        bases = []
        for unfolding in (
            stack.transpose(1, 0, 2).reshape(s.out, -1),
            stack.transpose(2, 0, 1).reshape(s.row, -1),
        ):
            u = np.linalg.svd(unfolding, full_matrices=False)[0]
            bases.append(u * np.sign(u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])]))
        c = {
            "gradient_stack": stack,
            "Q_o": bases[0],
            "Q_i": bases[1],
            "gradient": draw.values((s.out, s.row)),
        }
        return draw.values((s.out, s.row)), c

    def entries(self, h, s):
        return h["k"]

    def chosen(self, w, c, h, s):
        return best(np.abs(c["Q_o"].T @ c["gradient"] @ c["Q_i"]), h["k"])

    def weight(self, w, t, c, h, s):
        return w + c["Q_o"] @ scatter(w.shape, self.chosen(w, c, h, s), t[self.tensor]) @ c["Q_i"].T

    def expected(self, w, t, c, h, s):
        return super().expected(w, t, c, h, s) | {"rotated_gradient": c["Q_o"].T @ c["gradient"] @ c["Q_i"]}

    def holds(self, w, b, t, c, h, s, draw):
        for basis in (c["Q_o"], c["Q_i"]):
            assert close(basis.T @ basis, np.eye(len(basis)))
        # All entries kept is the gradient itself.
        rotated = self.expected(w, t, c, h, s)["rotated_gradient"]
        assert close(c["Q_o"] @ rotated @ c["Q_i"].T, c["gradient"])
        x = draw.values((s.row,))
        rotated = c["Q_o"].T @ w @ c["Q_i"]
        assert close(c["Q_o"] @ (rotated @ (c["Q_i"].T @ x)), w @ x)
