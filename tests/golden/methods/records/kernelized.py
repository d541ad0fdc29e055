"""Sparse deltas generated from distances of factors.

Readings chosen:
- `snell`: D[j, p] = sum_h c_h |P_h[j] - Q_h[p]|, c = 0.1 (+1, -1); entries at or below the quantile are
  dropped; `reference` keeps D |D| with |D| and the mask held by gradients, `hard` keeps D under a held mask.
  The quantile interpolates linearly (torch's and NumPy's default) over all entries of the matrix. The
  distance has no guard in its value. tau = 0 is the dense kernel LoRA, D as it is (so in the
  released code).
- `snella`: adds alpha * softmax over the outputs of (D / gamma) + beta. Its global allocation (`expected` of
  the cases that have `layers`): budget n(t) = n_T + (n_0 - n_T)(1 - progress)^3 rounded down, with n_0 = (1 -
  init) and n_T = (1 - target) of all entries; counts are score shares rounded down and capped at the layer's
  size, what is left is shared again among layers with room, and a rest smaller than their number goes one by
  one to the highest scores.
  The released allocator shares the rest in real numbers and truncates at the end, so that its total falls
  short of the budget by less than the number of layers (`expected.kept_truncated`).
- the record's P and Q are `In_Qs` [heads, in, rank / heads] and `Out_Qs` [heads, out, rank / heads].
"""

import numpy as np

from case import Method, close, linear, norm, softmax, stop


class Snell(Method):
    name = "snell"
    record = "part 1, SNELL"
    identity = False
    cases = (
        (linear(4, 5), {"rank": 4, "tau": 0.3, "mode": "reference"}),
        (linear(3, 6), {"rank": 2, "tau": 0.5, "mode": "hard"}),
        (linear(5, 3), {"rank": 6, "tau": 0.0, "mode": "reference"}),
    )

    def shapes(self, h, s):
        return {"In_Qs": (2, s.row, h["rank"] // 2), "Out_Qs": (2, s.out, h["rank"] // 2)}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row)

    def dense(self, t, h):
        distance = norm(t["In_Qs"][:, :, None, :] - t["Out_Qs"][:, None, :, :], axis=3)
        return 0.1 * (distance[0] - distance[1])

    def squares(self, h):
        return h["mode"] == "reference" and h["tau"] > 0

    def mask(self, dense, h):
        size = np.abs(stop(dense))
        if h["tau"] == 0:
            return np.ones(size.shape)
        return (size > np.quantile(size, h["tau"])).astype(float)

    def weight(self, w, t, c, h, s):
        dense = self.dense(t, h)
        kept = stop(self.mask(dense, h))
        return w + (dense * (stop(np.abs(stop(dense))) if self.squares(h) else 1) * kept).T

    def expected(self, w, t, c, h, s):
        return {"mask": self.mask(self.dense(t, h), h).T.astype(int), "dense": self.dense(t, h).T}

    def holds(self, w, b, t, c, h, s, draw):
        kept = self.mask(self.dense(t, h), h)
        assert abs(kept.sum() - (1 - h["tau"]) * w.size) <= 1
        # The stop-gradient rule: dS = |D| * mask * dD.
        g, step = draw.values(w.shape), draw.values(t["In_Qs"].shape)
        moved = {**t, "In_Qs": t["In_Qs"] + 1e-30j * step}
        tangent = np.imag(self.dense(moved, h)) / 1e-30
        factor = np.abs(self.dense(t, h)) if self.squares(h) else 1
        got = np.imag((g * self.weight(w, moved, c, h, s)).sum()) / 1e-30
        assert close(got, (g.T * tangent * factor * kept).sum())


def allocate(scores, sizes, budget):
    """Kept entries per layer."""
    counts, scores = np.zeros(len(sizes), dtype=int), np.asarray(scores, dtype=float)
    left = min(budget, int(np.sum(sizes)))
    while left > 0:
        room = counts < sizes
        share = np.floor(left * np.where(room, scores, 0) / scores[room].sum()).astype(int)
        share = np.minimum(share, sizes - counts)
        if share.sum() == 0:
            order = [k for k in np.lexsort((np.arange(len(scores)), -scores)) if room[k]]
            share[order[:left]] = 1
        counts, left = counts + share, left - int(share.sum())
    return counts


def truncated(scores, sizes, budget):
    """The released allocator: real shares of what is left among layers with room, truncated at the end."""
    scores = np.asarray(scores, dtype=float) / np.sum(scores)
    counts = np.minimum(np.floor(budget * scores), sizes).astype(float)
    while (left := min(budget, np.sum(sizes)) - counts.sum()) > 1e-9:
        room = sizes - counts > 1e-12
        share = np.where(room, left * scores / scores[room].sum(), 0)
        counts = counts + np.minimum(share, sizes - counts)
    return np.floor(counts + 1e-9).astype(int)


class Snella(Snell):
    name = "snella"
    record = "part 2, SNELLA"
    cases = (
        (linear(4, 5), {"rank": 4, "tau": 0.4, "mode": "reference"}),
        (
            linear(3, 4),
            {
                "rank": 2,
                "tau": 0.5,
                "mode": "hard",
                "layers": 4,
                "init": 0.3,
                "target": 0.9,
                "progress": [0, 0.25, 0.5, 1],
            },
        ),
    )

    def base(self, draw, h, s):
        c = {}
        if "layers" in h:
            c = {
                "layer_sizes": draw.generator.integers(6, 30, size=h["layers"]),
                "factor": draw.values((4, 6)),
                "factor_gradients": draw.values((3, 4, 6)),
            }
        return draw.values((s.out, s.row)), c

    def shapes(self, h, s):
        return super().shapes(h, s) | {"alpha": (1,), "gamma": (1,), "beta": (1,)}

    def count(self, h, s):
        return super().count(h, s) + 3

    def tensors(self, draw, w, c, h, s):
        return super().tensors(draw, w, c, h, s) | {
            k: draw.near(v, (1,)) for k, v in (("alpha", 1), ("gamma", 1), ("beta", 0))
        }

    def dense(self, t, h):
        plain = super().dense(t, h)
        return plain + t["alpha"] * softmax(plain / t["gamma"], axis=1) + t["beta"]

    def importance(self, c):
        """A factor's mean of EMA times uncertainty, both with 0.85 and from zero."""
        mean = spread = np.zeros_like(c["factor"])
        for gradient in c["factor_gradients"]:
            moved = np.abs(c["factor"] * gradient)
            mean = 0.85 * mean + 0.15 * moved
            spread = 0.85 * spread + 0.15 * np.abs(moved - mean)
        return (mean * spread).mean(axis=1)

    def expected(self, w, t, c, h, s):
        found = super().expected(w, t, c, h, s)
        if "layers" in h:
            total = int(c["layer_sizes"].sum())
            score = self.importance(c)
            first, last = (1 - h["init"]) * total, (1 - h["target"]) * total
            budgets = [int(last + (first - last) * (1 - p) ** 3) for p in h["progress"]]
            counts = np.array([allocate(score, c["layer_sizes"], n) for n in budgets])
            found |= {"layer_scores": score / score.sum(), "budgets": budgets, "kept": counts}
            found["kept_truncated"] = np.array([truncated(score, c["layer_sizes"], n) for n in budgets])
        return found

    def holds(self, w, b, t, c, h, s, draw):
        super().holds(w, b, t, c, h, s, draw)
        if "layers" in h:
            found = self.expected(w, t, c, h, s)
            assert (found["kept"].sum(axis=1) == found["budgets"]).all() and (
                found["kept"] <= c["layer_sizes"]
            ).all()
            short = found["budgets"] - found["kept_truncated"].sum(axis=1)
            assert (short >= 0).all() and (short < h["layers"]).all()
            assert allocate([1, 1, 2], np.array([10, 10, 3]), 12).tolist() == [5, 4, 3]
