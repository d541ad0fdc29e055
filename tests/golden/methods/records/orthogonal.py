"""Reflections, rotations and their products.

Readings chosen:
- `ether`: TRUE block-diagonal semantics. One-sided ETHER acts on the inputs (`in`) or the outputs (`out`);
  ETHER+ on either or both (`both`, the default of its strongest variant). No epsilon in u.u. The bias is
  untouched.
- `oft`: exact is (I - Q)(I + Q)^-1, the Neumann series is I + 2Q + 2Q^2 + ...: transposes of each other.
  Forward W (x R), so W' = W R^T per block; a shared block is repeated. `neumann_terms` 0 is exact.
- `boft`: PEFT's permutations; factor i works on chunks of half a block, evens before odds inside groups of
  2^(i+1) chunks; the first factor is applied first. The gain scales outputs; the bias is untouched.
- `hra`: W' = W H_1 ... H_r, columns normalized; with Gram-Schmidt I - 2 U U^T. Pairs of equal columns, the
  start at even ranks, are the identity; other starts are not.
- `road`: c2 carries the rotated half, the bias turns too. `road` 4 lays its two sets out group by group,
  [groups, 2, group] (PEFT; the record only says two sets per channel). Alternative: [2, out].
"""

import numpy as np

from case import Method, block_diagonal, close, conv, linear, norm
from spectral import cayley, neumann


def blocks_of(vectors, build):
    return block_diagonal([build(*rows) for rows in zip(*vectors)])


def reflection(u):
    return np.eye(len(u)) - 2 * np.outer(u, u) / (u @ u)


def relaxed(u, v):
    return np.eye(len(u)) - np.outer(u, u) / (u @ u) + np.outer(v, v) / (v @ v)


class Ether(Method):
    name = "ether"
    record = "part 1, ETHER / ETHER+"
    identity = False
    cases = (
        (linear(5, 9), {"blocks": 3, "side": "in"}),
        (linear(6, 4), {"blocks": 2, "side": "out"}),
        (linear(3, 5), {"blocks": 1, "side": "in"}),
        (conv(2, 2, (3, 2)), {"blocks": 4, "side": "in"}),
    )

    def size(self, h, s):
        return s.row if h["side"] == "in" else s.out

    def shapes(self, h, s):
        assert self.size(h, s) % h["blocks"] == 0
        return {"ether_u": (h["blocks"], self.size(h, s) // h["blocks"])}

    def count(self, h, s):
        return self.size(h, s)

    def turn(self, t):
        return blocks_of([t["ether_u"]], reflection)

    def weight(self, w, t, c, h, s):
        return w @ self.turn(t) if h["side"] == "in" else self.turn(t) @ w

    def holds(self, w, b, t, c, h, s, draw):
        assert close(self.weight(self.weight(w, t, c, h, s), t, c, h, s), w)
        for u in t["ether_u"]:
            assert close(np.linalg.norm(reflection(u) - np.eye(len(u))), 2.0)
        if h["side"] == "in":
            x = draw.values((s.row,)).reshape(t["ether_u"].shape)
            u = t["ether_u"]
            moved = x - 2 * u * ((u * x).sum(axis=1) / (u * u).sum(axis=1))[:, None]
            assert close(self.weight(w, t, c, h, s) @ x.ravel(), w @ moved.ravel())


class EtherPlus(Method):
    name = "ether+"
    record = "part 1, ETHER / ETHER+"
    cases = (
        (linear(4, 6), {"blocks": 2, "side": "both"}),
        (linear(3, 5), {"blocks": 1, "side": "in"}),
        (linear(6, 2), {"blocks": 3, "side": "out"}),
        (conv(4, 1, (2, 2)), {"blocks": 2, "side": "both"}),
    )

    def sides(self, h, s):
        sides = {"in": s.row, "out": s.out}
        return sides if h["side"] == "both" else {h["side"]: sides[h["side"]]}

    def shapes(self, h, s):
        n = h["blocks"]
        return {f"ether_{x}_{side}": (n, size // n) for side, size in self.sides(h, s).items() for x in "uv"}

    def count(self, h, s):
        return 2 * sum(self.sides(h, s).values())

    def start(self, t, w, b, c, h, s):
        return {k: -t[k.replace("_v_", "_u_")] if "_v_" in k else v for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        for side in self.sides(h, s):
            turn = blocks_of([t[f"ether_u_{side}"], t[f"ether_v_{side}"]], relaxed)
            w = w @ turn if side == "in" else turn @ w
        return w

    def holds(self, w, b, t, c, h, s, draw):
        side = next(iter(self.sides(h, s)))
        for u, v in zip(t[f"ether_u_{side}"], t[f"ether_v_{side}"]):
            cos = u @ v / np.sqrt((u @ u) * (v @ v))
            apart = np.linalg.norm(relaxed(u, v) - np.eye(len(u)))
            assert close(apart, np.sqrt(max(0.0, 2 - 2 * cos**2)), 1e-7)


class Oft(Method):
    name = "oft"
    record = "anchors 1.2, OFT"
    cases = (
        (linear(5, 6), {"block": 3, "neumann_terms": 0, "share": False}),
        (linear(3, 8), {"block": 4, "neumann_terms": 5, "share": False}),
        (linear(4, 6), {"block": 2, "neumann_terms": 0, "share": True}),
        (linear(2, 6), {"block": 3, "neumann_terms": 3, "share": True}),
        (conv(3, 2, (2, 2)), {"block": 4, "neumann_terms": 2, "share": False}),
    )

    def shapes(self, h, s):
        size = h["block"]
        assert s.row % size == 0
        return {"oft_R": (1 if h["share"] else s.row // size, size * (size - 1) // 2)}

    def count(self, h, s):
        return (1 if h["share"] else s.row // h["block"]) * h["block"] * (h["block"] - 1) // 2

    def tensors(self, draw, w, c, h, s):
        return {k: v / 2 for k, v in super().tensors(draw, w, c, h, s).items()}

    def start(self, t, w, b, c, h, s):
        return {"oft_R": 0 * t["oft_R"]}

    def turn(self, vector, h):
        q = np.zeros((h["block"], h["block"]), dtype=vector.dtype)
        q[np.triu_indices(h["block"], 1)] = vector
        q = q - q.T
        return neumann(q, h["neumann_terms"]) if h["neumann_terms"] else cayley(q)

    def weight(self, w, t, c, h, s):
        turns = [self.turn(v, h) for v in t["oft_R"]]
        if h["share"]:
            turns = turns * (s.row // h["block"])
        return w @ block_diagonal(turns).T

    def holds(self, w, b, t, c, h, s, draw):
        if not h["neumann_terms"]:
            turn, eye = self.turn(t["oft_R"][0], h), np.eye(h["block"])
            assert close(turn.T @ turn, eye)
            # The long series is the transpose of the exact rotation.
            small = self.turn(t["oft_R"][0] / 20, h)
            assert close(self.turn(t["oft_R"][0] / 20, {**h, "neumann_terms": 30}), small.T)


class Boft(Method):
    name = "boft"
    record = "anchors 1.2, BOFT"
    cases = (
        (linear(3, 8), {"block": 2, "factors": 3}),
        (linear(5, 6), {"block": 3, "factors": 1}),
        (linear(2, 8), {"block": 4, "factors": 2}),
    )

    def shapes(self, h, s):
        size, m = h["block"], h["factors"]
        assert s.row % (size * 2 ** (m - 1)) == 0 and (m == 1 or size % 2 == 0)
        return {"boft_R": (m, s.row // size, size, size), "boft_s": (s.out, 1)}

    def count(self, h, s):
        return h["factors"] * s.row * h["block"] + s.out

    def tensors(self, draw, w, c, h, s):
        t = super().tensors(draw, w, c, h, s)
        return {**t, "boft_s": draw.near(1, t["boft_s"].shape)}

    def start(self, t, w, b, c, h, s):
        return {"boft_R": 0 * t["boft_R"], "boft_s": np.ones_like(t["boft_s"])}

    def order(self, factor, h, s):
        """Where each place of the permuted vector reads."""
        if h["factors"] == 1:
            return np.arange(s.row)
        chunk, group = h["block"] // 2, 2 ** (factor + 1)
        chunks = np.arange(s.row).reshape(-1, group, chunk)
        return np.concatenate([chunks[:, 0::2], chunks[:, 1::2]], axis=1).ravel()

    def turn(self, t, h, s):
        whole = np.eye(s.row)
        for factor, blocks in enumerate(t["boft_R"]):
            place = np.eye(s.row)[self.order(factor, h, s)]
            rotation = block_diagonal([cayley((r - r.T) / 2) for r in blocks])
            whole = place @ rotation @ place.T @ whole
        return whole

    def weight(self, w, t, c, h, s):
        return (w @ self.turn(t, h, s).T) * t["boft_s"]

    def holds(self, w, b, t, c, h, s, draw):
        turn = self.turn(t, h, s)
        assert close(turn.T @ turn, np.eye(s.row))
        assert (self.order(0, h, s) == np.arange(s.row)).all() or h["factors"] > 1


class Hra(Method):
    name = "hra"
    record = "anchors 1.2, HRA"
    cases = (
        (linear(4, 5), {"rank": 3, "gram_schmidt": False}),
        (linear(3, 4), {"rank": 4, "gram_schmidt": False}),
        (linear(3, 6), {"rank": 2, "gram_schmidt": True}),
        (conv(2, 2, (2, 2)), {"rank": 2, "gram_schmidt": False}),
    )

    def shapes(self, h, s):
        return {"hra_u": (s.row, h["rank"])}

    def count(self, h, s):
        return s.row * h["rank"]

    def unlike_base(self, h):
        return h["gram_schmidt"] or h["rank"] % 2 == 1

    def start(self, t, w, b, c, h, s):
        return {"hra_u": np.repeat(t["hra_u"][:, ::2], 2, axis=1)}

    def turn(self, t, h, s):
        if not h["gram_schmidt"]:
            whole = np.eye(s.row)
            for u in t["hra_u"].T:
                whole = whole @ reflection(u)
            return whole
        found = []
        for u in t["hra_u"].T:
            for earlier in found:
                u = u - (earlier @ u) * earlier
            found.append(u / norm(u))
        return np.eye(s.row) - 2 * sum(np.outer(u, u) for u in found)

    def weight(self, w, t, c, h, s):
        return w @ self.turn(t, h, s)

    def holds(self, w, b, t, c, h, s, draw):
        turn = self.turn(t, h, s)
        assert close(turn.T @ turn, np.eye(s.row))


class Road(Method):
    name = "road"
    record = "part 2, RoAd"
    biased = True
    cases = (
        (linear(8, 3), {"variant": 1, "group": 4}),
        (linear(6, 5), {"variant": 2, "group": 2}),
        (linear(8, 2), {"variant": 4, "group": 4}),
        (linear(6, 1), {"variant": 1, "group": 6}),
    )

    def shapes(self, h, s):
        assert s.out % h["group"] == 0
        size = {1: s.out // 2, 2: s.out, 4: 2 * s.out}[h["variant"]]
        return {"road_theta": (size,), "road_alpha": (size,)}

    def count(self, h, s):
        return h["variant"] * s.out

    def tensors(self, draw, w, c, h, s):
        t = super().tensors(draw, w, c, h, s)
        return {**t, "road_alpha": draw.near(1, t["road_alpha"].shape)}

    def start(self, t, w, b, c, h, s):
        return {"road_theta": 0 * t["road_theta"], "road_alpha": np.ones_like(t["road_alpha"])}

    def columns(self, t, h, s):
        cos, sin = t["road_alpha"] * np.cos(t["road_theta"]), t["road_alpha"] * np.sin(t["road_theta"])
        if h["variant"] == 1:
            half = h["group"] // 2
            return [np.repeat(x.reshape(-1, 1, half), 2, axis=1).ravel() for x in (cos, sin)]
        if h["variant"] == 2:
            return cos, sin
        # Two sets per group: the first is the cosine column's, the second the sine column's.
        cos, sin = (x.reshape(-1, 2, h["group"]) for x in (cos, sin))
        return cos[:, 0].ravel(), sin[:, 1].ravel()

    def apply(self, w, b, t, c, h, s):
        c1, c2 = self.columns(t, h, s)

        def turned(z):
            pairs = z.reshape(-1, 2, h["group"] // 2, z.shape[1])
            rotated = np.stack([-pairs[:, 1], pairs[:, 0]], axis=1).reshape(z.shape)
            return c1[:, None] * z + c2[:, None] * rotated

        return turned(w), turned(b[:, None])[:, 0]

    def holds(self, w, b, t, c, h, s, draw):
        # Each pair (k, k + group/2) is one 2x2 block.
        c1, c2 = self.columns(t, h, s)
        half = h["group"] // 2
        block = np.array([[c1[0], -c2[0]], [c2[half], c1[half]]])
        assert close(self.apply(w, b, t, c, h, s)[0][[0, half]], block @ w[[0, half]])
        if h["variant"] == 1:
            assert close(block.T @ block, np.eye(2) * t["road_alpha"][0] ** 2)
