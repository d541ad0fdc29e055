"""Hadamard, Kronecker and Khatri-Rao products of factors.

Readings chosen:
- `abba`: s = sqrt(alpha1 alpha2), no division by rank (the reference's; the paper's scale is not verified);
  ranks may differ.
- `hira`: no scale. `hut`: form H1 W (.) (1 + s B A) and form H2 W (.) (1 + B1 A1) + B2 A2 of the record, both
  inferred; H1's s is alpha / rank, H2 has no scale.
- `moka`: p = softmax(g), static; s = alpha (the record leaves s open).
- `soka`: W_res = W - Delta_0 stays frozen, so W' = W + sum U_k (x) V_k - Delta_0, the square root of each
  singular value on either side. Rank by energy: smallest r whose squares reach the share; by elbow: largest
  drop; the smaller of both.
- `lokr` on convolutions: `lokr_w2` is [o2, i2, kh, kw] and w1 is broadcast; a split w2 is flattened over its
  window.
- `kradapter`: s = 2, as its README.
"""

import numpy as np

from case import Method, close, conv, linear, softmax, svd


class Abba(Method):
    name = "abba"
    record = "part 1, ABBA"
    cases = (
        (linear(4, 5), {"rank1": 2, "rank2": 3, "alpha1": 2, "alpha2": 3}),
        (conv(3, 2, (2, 2)), {"rank1": 1, "rank2": 2, "alpha1": 4, "alpha2": 1}),
    )

    def shapes(self, h, s):
        r1, r2 = h["rank1"], h["rank2"]
        return {
            "lora_A1": (r1, s.row),
            "lora_B1": (s.out, r1),
            "lora_A2": (r2, s.row),
            "lora_B2": (s.out, r2),
        }

    def count(self, h, s):
        return (h["rank1"] + h["rank2"]) * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        u, values, v = (x[..., : h["rank1"]] for x in svd(w))
        return {
            **t,
            "lora_B1": u * np.sqrt(values),
            "lora_A1": (v * np.sqrt(values)).T,
            "lora_B2": 0 * t["lora_B2"],
        }

    def weight(self, w, t, c, h, s):
        return w + np.sqrt(h["alpha1"] * h["alpha2"]) * (t["lora_B1"] @ t["lora_A1"]) * (
            t["lora_B2"] @ t["lora_A2"]
        )

    def holds(self, w, b, t, c, h, s, draw):
        # The exact factored form: one LoRA of rank r1 r2.
        up = np.einsum("pa,pb->pab", t["lora_B1"], t["lora_B2"]).reshape(s.out, -1)
        down = np.einsum("aq,bq->abq", t["lora_A1"], t["lora_A2"]).reshape(-1, s.row)
        assert close(w + np.sqrt(h["alpha1"] * h["alpha2"]) * up @ down, self.weight(w, t, c, h, s))


class Hira(Method):
    name = "hira"
    record = "part 1, HUT (HiRA)"
    cases = ((linear(4, 5), {"rank": 2}), (conv(2, 2, (3, 2)), {"rank": 3}), (linear(1, 6), {"rank": 1}))

    def shapes(self, h, s):
        return {"hira_A": (h["rank"], s.row), "hira_B": (s.out, h["rank"])}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        return {**t, "hira_B": 0 * t["hira_B"]}

    def weight(self, w, t, c, h, s):
        return w + w * (t["hira_B"] @ t["hira_A"])

    def holds(self, w, b, t, c, h, s, draw):
        pruned = w * (draw.values(w.shape) > 0)
        assert (self.weight(pruned, t, c, h, s)[pruned == 0] == 0).all()
        x = draw.values((s.row,))
        side = sum(t["hira_B"][:, k] * (w @ (t["hira_A"][k] * x)) for k in range(h["rank"]))
        assert close(self.weight(w, t, c, h, s) @ x, w @ x + side)


class Hut(Method):
    name = "hut"
    record = "part 1, HUT"
    definition = "inferred"
    cases = ((linear(5, 3), {"form": "H1", "rank": 2, "alpha": 3}), (linear(3, 4), {"form": "H2", "rank": 1}))

    def shapes(self, h, s):
        factors = ("",) if h["form"] == "H1" else ("1", "2")
        down = {f"hut_A{k}": (h["rank"], s.row) for k in factors}
        return down | {f"hut_B{k}": (s.out, h["rank"]) for k in factors}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row) * (1 if h["form"] == "H1" else 2)

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if "_B" in k else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        if h["form"] == "H1":
            return w * (1 + h["alpha"] / h["rank"] * t["hut_B"] @ t["hut_A"])
        return w * (1 + t["hut_B1"] @ t["hut_A1"]) + t["hut_B2"] @ t["hut_A2"]

    def holds(self, w, b, t, c, h, s, draw):
        if h["form"] == "H1":
            same = {**h, "alpha": h["rank"]}
            factors = {"hira_A": t["hut_A"], "hira_B": t["hut_B"]}
            assert close(self.weight(w, t, c, same, s), Hira().weight(w, factors, c, h, s))


class Loha(Method):
    name = "loha"
    record = "anchors 1.2, LoHa"
    cases = (
        (linear(4, 5), {"rank": 2, "alpha": 3}),
        (conv(3, 2, (3, 1)), {"rank": 1, "alpha": 2}),
        (conv(4, 4, (2, 2), 2), {"rank": 2, "alpha": 2}),
    )

    def shapes(self, h, s):
        r = h["rank"]
        return {
            "hada_w1_a": (s.out, r),
            "hada_w1_b": (r, s.row),
            "hada_w2_a": (s.out, r),
            "hada_w2_b": (r, s.row),
        }

    def count(self, h, s):
        return 2 * h["rank"] * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        return {**t, "hada_w2_a": 0 * t["hada_w2_a"]}

    def weight(self, w, t, c, h, s):
        first, second = t["hada_w1_a"] @ t["hada_w1_b"], t["hada_w2_a"] @ t["hada_w2_b"]
        return w + h["alpha"] / h["rank"] * first * second


class Lokr(Method):
    """`w1` is the shape of the first factor, the second's is by division; which are split shows in the tensors."""

    name = "lokr"
    record = "anchors 1.2, LoKr"
    cases = (
        (linear(6, 12), {"rank": 8, "alpha": 4, "w1": [2, 3], "split_w1": False, "split_w2": False}),
        (linear(6, 12), {"rank": 1, "alpha": 4, "w1": [2, 3], "split_w1": True, "split_w2": True}),
        (conv(4, 6, (3, 1)), {"rank": 1, "alpha": 2, "w1": [2, 2], "split_w1": False, "split_w2": True}),
        (linear(7, 5), {"rank": 1, "alpha": 3, "w1": [1, 1], "split_w1": False, "split_w2": True}),
    )

    def shapes(self, h, s):
        (o1, i1), r = h["w1"], h["rank"]
        o2, i2 = s.out // o1, s.inputs // i1
        first = {"lokr_w1_a": (o1, r), "lokr_w1_b": (r, i1)} if h["split_w1"] else {"lokr_w1": (o1, i1)}
        window = (i2 * s.window,) if h["split_w2"] else (i2, *s.kernel)
        second = (
            {"lokr_w2_a": (o2, r), "lokr_w2_b": (r, *window)} if h["split_w2"] else {"lokr_w2": (o2, *window)}
        )
        return first | second

    def count(self, h, s):
        (o1, i1), r = h["w1"], h["rank"]
        o2, i2 = s.out // o1, s.row // i1
        return (r * (o1 + i1) if h["split_w1"] else o1 * i1) + (r * (o2 + i2) if h["split_w2"] else o2 * i2)

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if k in ("lokr_w2", "lokr_w2_b") else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        first = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
        second = t["lokr_w2"] if "lokr_w2" in t else t["lokr_w2_a"] @ t["lokr_w2_b"]
        second = second.reshape(s.out // h["w1"][0], -1)
        return w + h["alpha"] / h["rank"] * np.kron(first, second)


def kron_apply(a, b, x):
    """(A (x) B) x with x reshaped row-major."""
    return (a @ x.reshape(a.shape[1], b.shape[1]) @ b.T).ravel()


class Moka(Method):
    """`splits`: the shape of each A; B's is by division, and ranks of the components multiply."""

    name = "moka"
    record = "part 2, MoKA"
    definition = "inferred"
    cases = (
        (linear(6, 10), {"splits": [[2, 5], [3, 2], [1, 1]], "alpha": 2}),
        (conv(3, 2, (3, 1)), {"splits": [[3, 2]], "alpha": 1}),
    )

    def shapes(self, h, s):
        shapes = {"gate": (len(h["splits"]),)}
        for k, (a1, a2) in enumerate(h["splits"]):
            assert s.out % a1 == 0 and s.row % a2 == 0
            shapes |= {f"A.{k}": (a1, a2), f"B.{k}": (s.out // a1, s.row // a2)}
        return shapes

    def count(self, h, s):
        return sum(a * c + s.out // a * (s.row // c) for a, c in h["splits"]) + len(h["splits"])

    def start(self, t, w, b, c, h, s):
        return {k: v * (1 if k.startswith("A") else 0) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        share = softmax(t["gate"])
        parts = range(len(h["splits"]))
        return w + h["alpha"] * sum(share[k] * np.kron(t[f"A.{k}"], t[f"B.{k}"]) for k in parts)

    def holds(self, w, b, t, c, h, s, draw):
        x, share = draw.values((s.row,)), softmax(t["gate"])
        side = sum(share[k] * kron_apply(t[f"A.{k}"], t[f"B.{k}"], x) for k in range(len(h["splits"])))
        assert close(self.weight(w, t, c, h, s) @ x, w @ x + h["alpha"] * side)
        if len(h["splits"]) == 1:
            lokr = {"alpha": h["alpha"], "rank": 1, "w1": h["splits"][0]}
            assert close(
                self.weight(w, t, c, h, s),
                Lokr().weight(w, {"lokr_w1": t["A.0"], "lokr_w2": t["B.0"]}, c, lokr, s),
            )


def rearranged(matrix, m, n):
    """Van Loan-Pitsianis: row (i, j) is the vector of block (i, j)."""
    p, q = matrix.shape[0] // m, matrix.shape[1] // n
    return matrix.reshape(m, p, n, q).transpose(0, 2, 1, 3).reshape(m * n, p * q)


class Soka(Method):
    name = "soka"
    record = "part 3, SoKA"
    definition = "inferred"
    cases = (
        (linear(6, 8), {"split": [2, 4], "rank": 2, "energy": 0.9}),
        (linear(4, 9), {"split": [4, 3], "rank": 3, "energy": 0.6}),
    )

    def base(self, draw, h, s):
        w, (m, n) = draw.values((s.out, s.row)), h["split"]
        u, values, v = svd(rearranged(w, m, n))
        root = np.sqrt(values[: h["rank"]])
        first = (u[:, : h["rank"]] * root).T.reshape(-1, m, n)
        second = (v[:, : h["rank"]] * root).T.reshape(-1, s.out // m, s.row // n)
        return w, {"initial_U": first, "initial_V": second, "spectrum": values}

    def shapes(self, h, s):
        m, n = h["split"]
        return {"U": (h["rank"], m, n), "V": (h["rank"], s.out // m, s.row // n)}

    def count(self, h, s):
        m, n = h["split"]
        return h["rank"] * (m * n + s.out // m * (s.row // n))

    def start(self, t, w, b, c, h, s):
        return {"U": c["initial_U"], "V": c["initial_V"]}

    def weight(self, w, t, c, h, s):
        def total(u, v):
            return sum(np.kron(a, d) for a, d in zip(u, v))

        return w + total(t["U"], t["V"]) - total(c["initial_U"], c["initial_V"])

    def expected(self, w, t, c, h, s):
        values = c["spectrum"]
        energy = int(np.argmax(np.cumsum(values**2) >= h["energy"] * (values**2).sum())) + 1
        elbow = int(np.argmax(values[:-1] - values[1:])) + 1
        return {"rank_by_energy": [energy], "rank_by_elbow": [elbow], "rank": [min(energy, elbow)]}

    def holds(self, w, b, t, c, h, s, draw):
        m, n = h["split"]
        one = rearranged(np.kron(t["U"][0], t["V"][0]), m, n)
        assert np.linalg.matrix_rank(one) == 1
        x = draw.values((s.row,))
        side = sum(kron_apply(u, v, x) for u, v in zip(t["U"], t["V"]))
        side = side - sum(kron_apply(u, v, x) for u, v in zip(c["initial_U"], c["initial_V"]))
        assert close(self.weight(w, t, c, h, s) @ x, w @ x + side)


class KrAdapter(Method):
    name = "kradapter"
    record = "part 2, KRAdapter"
    cases = (
        (linear(6, 4), {"scale": 2}),
        (linear(4, 6), {"scale": 2}),
        (linear(5, 5), {"scale": 2}),
        (conv(3, 2, (3, 3)), {"scale": 2}),
    )

    def sizes(self, s):
        small, large = sorted((s.out, s.row))
        k1 = int(np.sqrt(small))
        return small, large, k1, max(k1, -(-large // k1))

    def shapes(self, h, s):
        small, _, k1, k2 = self.sizes(s)
        return {"U": (small, k1), "V": (small, k2)}

    def count(self, h, s):
        small, _, k1, k2 = self.sizes(s)
        return small * (k1 + k2)

    def start(self, t, w, b, c, h, s):
        return {**t, "U": 0 * t["U"]}

    def weight(self, w, t, c, h, s):
        small, large, k1, k2 = self.sizes(s)
        product = np.einsum("ip,iq->ipq", t["V"], t["U"]).reshape(small, k1 * k2)[:, :large]
        return w + h["scale"] * (product if s.out <= s.row else product.T)

    def holds(self, w, b, t, c, h, s, draw):
        # The side path, on either side.
        small, large, k1, k2 = self.sizes(s)
        x = draw.values((s.row,))
        if s.out <= s.row:
            padded = np.pad(x, (0, k1 * k2 - s.row)).reshape(k2, k1)
            side = np.einsum("ip,pq,iq->i", t["V"], padded, t["U"])
        else:
            side = (t["V"].T @ (x[:, None] * t["U"])).ravel()[: s.out]
        assert close((self.weight(w, t, c, h, s) - w) @ x, h["scale"] * side)
