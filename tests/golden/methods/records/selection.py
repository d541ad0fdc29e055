"""Rows, columns, tiles and experts.

Readings chosen:
- `smt`: scores of a tile from the summed signed gradient; `mean_abs` is |mean|, `abs_mean` mean|.|, `l1` the
  sum of magnitudes, `l2` the root of the sum of squares. Tiles in ascending row-major order, values [n * l,
  l] tile by tile. `norm_dist` takes n of this matrix; `no_restriction` n over this matrix and a second one.
- `losia`: EMAs start at zero, U uses the updated mean; sizes are floor(p out), floor(p in), at least one; of
  the three greedy picks the one with the largest block sum, the earlier on ties; rows and columns ascending.
- `s2ft`: `up` trains rows, `down` columns, of one feed-forward pair; channels in ascending order inside each
  of the four runs (U without D, both, D without U, rest). The effective weight is given in the original
  order. Deltas start at zero.
- `loki`: attribution = mean over the m = 7 points of dL/dz_j (no activation factor); k = floor(q / 100 *
  out); per sample min-max normalized, the k lowest; ties, also of the counts, to the lower index. Active rows
  and biases are replacements.
- `esft`: scores normalized inside a layer (the shipped data; the published script divides over layers): the
  token score sums to one, the gate score is the mean gate, not renormalized; the shortest prefix in
  descending order whose sum reaches p. A site's row is one expert's parameters; the chosen experts are
  replacements.
"""

import numpy as np

from case import Method, Site, best, close, conv, linear


class Smt(Method):
    name = "smt"
    record = "part 2, SMT"
    cases = (
        (linear(4, 6), {"tile": 2, "tiles": 2, "score": "mean_abs", "scope": "norm_dist"}),
        (linear(6, 3), {"tile": 3, "tiles": 1, "score": "abs_mean", "scope": "norm_dist"}),
        (linear(4, 4), {"tile": 2, "tiles": 2, "score": "l2", "scope": "norm_dist"}),
        (linear(4, 4), {"tile": 2, "tiles": 2, "score": "l1", "scope": "no_restriction"}),
        (conv(4, 2, (2, 1)), {"tile": 1, "tiles": 3, "score": "mean_abs", "scope": "norm_dist"}, "ties"),
    )

    def base(self, draw, h, s):
        c = {"gradient_sum": draw.values((s.out, s.row))}
        if h["scope"] == "no_restriction":
            c["other_gradient_sum"] = draw.values((s.out, s.row), 0.75)
        return draw.values((s.out, s.row)), c

    def scores(self, gradient, h):
        size = h["tile"]
        assert gradient.shape[0] % size == 0 and gradient.shape[1] % size == 0
        tiles = gradient.reshape(gradient.shape[0] // size, size, -1, size).transpose(0, 2, 1, 3)
        kinds = {
            "mean_abs": lambda x: np.abs(x.mean(axis=(2, 3))),
            "abs_mean": lambda x: np.abs(x).mean(axis=(2, 3)),
            "l1": lambda x: np.abs(x).sum(axis=(2, 3)),
            "l2": lambda x: np.sqrt((x * x).sum(axis=(2, 3))),
        }
        return kinds[h["score"]](tiles)

    def chosen(self, c, h):
        score = self.scores(c["gradient_sum"], h)
        if h["scope"] == "norm_dist":
            return best(score, h["tiles"]), []
        both = np.concatenate([score.ravel(), self.scores(c["other_gradient_sum"], h).ravel()])
        places = best(both, h["tiles"] + 1)
        return places[places < score.size], places[places >= score.size] - score.size

    def shapes(self, h, s):
        return {"smt_tiles": (h["tiles"] * h["tile"], h["tile"])}

    def count(self, h, s):
        return h["tiles"] * h["tile"] ** 2

    def start(self, t, w, b, c, h, s):
        size = h["tile"]
        corners = [np.multiply(np.divmod(k, s.row // size), size) for k in self.chosen(c, h)[0]]
        return {"smt_tiles": np.concatenate([w[i : i + size, j : j + size] for i, j in corners])}

    def weight(self, w, t, c, h, s):
        # Tiles are trained in place: they replace the base's.
        size, moved = h["tile"], w.astype(t["smt_tiles"].dtype)
        for n, k in enumerate(self.chosen(c, h)[0]):
            i, j = np.multiply(np.divmod(k, s.row // size), size)
            moved[i : i + size, j : j + size] = t["smt_tiles"][n * size : (n + 1) * size]
        return moved

    def expected(self, w, t, c, h, s):
        first, second = self.chosen(c, h)
        found = {
            "score": self.scores(c["gradient_sum"], h),
            "tiles": np.array(np.divmod(first, s.row // h["tile"])),
        }
        if len(second):
            found["other_tiles"] = np.array(np.divmod(second, s.row // h["tile"]))
        return found


class Losia(Method):
    name = "losia"
    record = "part 3, LoSiA"
    cases = (
        (linear(6, 6), {"fraction": 0.34, "beta": 0.85}),
        (linear(5, 7), {"fraction": 0.45, "beta": 0.85}),
        (linear(3, 4), {"fraction": 0.25, "beta": 0.5}, "ties"),
    )

    def base(self, draw, h, s):
        return draw.values((s.out, s.row)), {"gradients": draw.values((3, s.out, s.row))}

    def sizes(self, h, s):
        return max(1, int(h["fraction"] * s.out)), max(1, int(h["fraction"] * s.row))

    def score(self, w, c, h):
        mean = spread = np.zeros_like(w)
        for gradient in c["gradients"]:
            moved = np.abs(w * gradient - (w * gradient) ** 2 / 2)
            mean = h["beta"] * mean + (1 - h["beta"]) * moved
            spread = h["beta"] * spread + (1 - h["beta"]) * np.abs(moved - mean)
        return mean * spread

    def picks(self, score, rows, columns):
        by_row, by_column = best(score.sum(axis=1), rows), best(score.sum(axis=0), columns)
        return [
            (by_row, by_column),
            (by_row, best(score[by_row].sum(axis=0), columns)),
            (best(score[:, by_column].sum(axis=1), rows), by_column),
        ]

    def chosen(self, w, c, h, s):
        score = self.score(w, c, h)
        return max(self.picks(score, *self.sizes(h, s)), key=lambda pick: score[np.ix_(*pick)].sum())

    def shapes(self, h, s):
        return {"losia_block": self.sizes(h, s)}

    def count(self, h, s):
        return int(np.prod(self.sizes(h, s)))

    def start(self, t, w, b, c, h, s):
        return {"losia_block": 0 * t["losia_block"]}

    def weight(self, w, t, c, h, s):
        rows, columns = self.chosen(w, c, h, s)
        return w + np.eye(s.out)[:, rows] @ t["losia_block"] @ np.eye(s.row)[columns]

    def expected(self, w, t, c, h, s):
        rows, columns = self.chosen(w, c, h, s)
        score = self.score(w, c, h)
        sums = [score[np.ix_(*pick)].sum() for pick in self.picks(score, *self.sizes(h, s))]
        return {"score": score, "rows": rows, "columns": columns, "block_sums": sums}


class S2ft(Method):
    name = "s2ft"
    record = "part 1, S2FT"
    cases = (
        (linear(6, 4), {"kind": "up", "up": [4, 1], "down": [1, 2, 5]}),
        (linear(4, 6), {"kind": "down", "up": [4, 1], "down": [1, 2, 5]}),
        (linear(3, 5), {"kind": "down", "up": [], "down": [3]}),
        (conv(5, 3, (1, 1)), {"kind": "up", "up": [0, 3], "down": [3]}),
    )

    def channels(self, h, s):
        return s.out if h["kind"] == "up" else s.row

    def order(self, h, s):
        up, down = set(h["up"]), set(h["down"])
        rest = set(range(self.channels(h, s))) - up - down
        return np.array(sorted(up - down) + sorted(up & down) + sorted(down - up) + sorted(rest))

    def slice(self, h):
        if h["kind"] == "up":
            return slice(0, len(h["up"]))
        start = len(set(h["up"]) - set(h["down"]))
        return slice(start, start + len(h["down"]))

    def shapes(self, h, s):
        return {"s2ft_S": (len(h["up"]), s.row) if h["kind"] == "up" else (s.out, len(h["down"]))}

    def count(self, h, s):
        return len(h["up"]) * s.row if h["kind"] == "up" else s.out * len(h["down"])

    def start(self, t, w, b, c, h, s):
        return {"s2ft_S": 0 * t["s2ft_S"]}

    def weight(self, w, t, c, h, s):
        places = np.eye(self.channels(h, s))[self.order(h, s)[self.slice(h)]]
        return w + (places.T @ t["s2ft_S"] if h["kind"] == "up" else t["s2ft_S"] @ places)

    def expected(self, w, t, c, h, s):
        cut = self.slice(h)
        return {"order": self.order(h, s), "slice": [cut.start, cut.stop]}

    def holds(self, w, b, t, c, h, s, draw):
        # Permuted, with its slice added, and permuted back.
        order, cut = self.order(h, s), self.slice(h)
        permuted = (w[order] if h["kind"] == "up" else w[:, order]).copy()
        if h["kind"] == "up":
            permuted[cut] += t["s2ft_S"]
            back = permuted[np.argsort(order)]
        else:
            permuted[:, cut] += t["s2ft_S"]
            back = permuted[:, np.argsort(order)]
        assert close(back, self.weight(w, t, c, h, s))
        wanted = h["up"] if h["kind"] == "up" else h["down"]
        assert sorted(order[cut]) == sorted(wanted)
        # The pair's function is unchanged by the permutation.
        n = self.channels(h, s)
        first, second, x = draw.values((n, 3)), draw.values((2, n)), draw.values((3,))
        assert close(second[:, order] @ np.tanh(first[order] @ x), second @ np.tanh(first @ x))


class Loki(Method):
    name = "loki"
    record = "part 1, LoKI"
    biased = True
    cases = ((linear(5, 3), {"quota": 40, "samples": 4}), (linear(6, 2), {"quota": 20, "samples": 3}, "ties"))

    def base(self, draw, h, s):
        return draw.values((s.out, s.row)), {"path_gradients": draw.values((h["samples"], 7, s.out))}

    def rows(self, h, s):
        return int(h["quota"] * s.out // 100)

    def chosen(self, c, h, s):
        scores = c["path_gradients"].mean(axis=1)
        low, top = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
        normalized = (scores - low) / (top - low)
        taken = np.concatenate([best(-row, self.rows(h, s)) for row in normalized])
        counts = np.bincount(taken, minlength=s.out)
        return best(counts, self.rows(h, s)), scores, counts

    def shapes(self, h, s):
        return {"active_weight": (self.rows(h, s), s.row), "active_bias": (self.rows(h, s),)}

    def count(self, h, s):
        return self.rows(h, s) * (s.row + 1)

    def start(self, t, w, b, c, h, s):
        rows = self.chosen(c, h, s)[0]
        return {"active_weight": w[rows], "active_bias": b[rows]}

    def apply(self, w, b, t, c, h, s):
        rows = self.chosen(c, h, s)[0]
        kept, place = ~np.isin(np.arange(s.out), rows), np.eye(s.out)[:, rows]
        return w * kept[:, None] + place @ t["active_weight"], b * kept + place @ t["active_bias"]

    def expected(self, w, t, c, h, s):
        rows, scores, counts = self.chosen(c, h, s)
        return {"attribution": scores, "counts": counts, "rows": rows}


class Esft(Method):
    name = "esft"
    record = "part 2, ESFT"
    cases = (
        (Site("experts", 5, 4), {"score": "gate", "top_k": 2, "p": 0.3, "selected": 2}),
        (Site("experts", 5, 4), {"score": "token", "top_k": 2, "p": 0.6, "selected": 3}),
    )

    def base(self, draw, h, s):
        logits = draw.values((6, s.out)) * 2
        kept = np.array([np.isin(np.arange(s.out), best(row, h["top_k"])) for row in logits])
        gates = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) * kept
        return draw.values((s.out, s.row)), {"gates": np.round(gates * 512) / 512}

    def score(self, c, h):
        if h["score"] == "gate":
            return c["gates"].mean(axis=0)
        return (c["gates"] > 0).mean(axis=0) / h["top_k"]

    def chosen(self, c, h):
        score = self.score(c, h)
        order = np.lexsort((np.arange(len(score)), -score))
        reach = np.cumsum(score[order])
        return np.sort(order[: int(np.argmax(reach >= h["p"])) + 1])

    def shapes(self, h, s):
        return {"experts": (h["selected"], s.row)}

    def count(self, h, s):
        return h["selected"] * s.row

    def start(self, t, w, b, c, h, s):
        return {"experts": w[self.chosen(c, h)]}

    def weight(self, w, t, c, h, s):
        chosen = self.chosen(c, h)
        return w * ~np.isin(np.arange(s.out), chosen)[:, None] + np.eye(s.out)[:, chosen] @ t["experts"]

    def expected(self, w, t, c, h, s):
        return {"score": self.score(c, h), "experts": self.chosen(c, h)}

    def holds(self, w, b, t, c, h, s, draw):
        assert h["score"] == "gate" or close(self.score(c, h).sum(), 1.0)
