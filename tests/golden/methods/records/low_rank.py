"""Two factors per site: W' = W + s B A and what stays close to it.

Names are HF PEFT's where PEFT has the method. A convolution's `lora_A` is read as [rank, row].

Readings chosen:
- `pissa` trains on the untouched base (issue 4): W' = W + s (B A - B0 A0), with s B0 A0 the best rank-r
  approximation of W. Alternative: PEFT's residual base W - s B0 A0 under the same factors; equal in value.
- `sora`: the record (part 3, QAA) writes y = W x + B (g (.) A x) without a scale; s = alpha / rank here, and
  the cases take alpha = rank, where the two agree.
- `lora` with a slice: the first `active` rows of A and columns of B under the scale alpha / r_max (part 1,
  Shears; part 2, LoRA x NAS: the code does not rescale). Alternative: alpha / active.
- `lorat`: E is stored as a delta of the graph's own table (trunc-normal there), zero at the start. The box head
  and the position table belong to the graph.
- grouped convolutions: the delta is B A over the flattened row [inputs / groups * kernel], one row space for
  all groups. Alternative: PEFT's dense A over all inputs, which its own merge refuses.
"""

import numpy as np

from case import Method, block_diagonal, close, conv, linear, svd


class Lora(Method):
    name = "lora"
    record = "anchors 1.1, part 2 rsLoRA, part 1 Shears (slice)"
    cases = (
        (linear(5, 7), {"rank": 2, "alpha": 3}),
        (linear(1, 1), {"rank": 1, "alpha": 1}),
        (conv(4, 3, (3, 2)), {"rank": 3, "alpha": 4}),
        (conv(4, 6, (1, 3), 2), {"rank": 2, "alpha": 3}),
        (conv(5, 5, (3, 3), 5), {"rank": 1, "alpha": 2}),
        (linear(3, 6), {"rank": 4, "alpha": 6, "active": 3}),
    )

    def scale(self, h):
        return h["alpha"] / h["rank"]

    def shapes(self, h, s):
        return {"lora_A": (h["rank"], s.row), "lora_B": (s.out, h["rank"])}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        return {**t, "lora_B": 0 * t["lora_B"]}

    def weight(self, w, t, c, h, s):
        kept = h.get("active", h["rank"])
        return w + self.scale(h) * t["lora_B"][:, :kept] @ t["lora_A"][:kept]

    def holds(self, w, b, t, c, h, s, draw):
        # A slice is the whole with its tail zeroed.
        if "active" in h:
            kept, whole = h["active"], {k: v for k, v in h.items() if k != "active"}
            cut = {**t, "lora_B": t["lora_B"] * (np.arange(h["rank"]) < kept)}
            assert close(self.weight(w, t, c, h, s), self.weight(w, cut, c, whole, s))


class Lorat(Lora):
    """LoRA on every linear; a table of token types, one-hot rows times E, has a delta of its own."""

    name = "lorat"
    record = "part 3, LoRAT"
    cases = (
        (linear(4, 6), {"rank": 2, "alpha": 2, "types": 3}),
        (linear(5, 3), {"rank": 2, "alpha": 2, "types": 3}),
        (conv(3, 1, (3, 1)), {"rank": 1, "alpha": 2, "types": 3}),
    )

    def table(self, h, s):
        return s.kind == "linear" and s.row == h["types"]

    def shapes(self, h, s):
        return {"token_types": (h["types"], s.out)} if self.table(h, s) else super().shapes(h, s)

    def count(self, h, s):
        return h["types"] * s.out if self.table(h, s) else super().count(h, s)

    def start(self, t, w, b, c, h, s):
        return {k: 0 * v if k != "lora_A" else v for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        return w + t["token_types"].T if self.table(h, s) else super().weight(w, t, c, h, s)

    def holds(self, w, b, t, c, h, s, draw):
        # A token of type k has row k of E added.
        if self.table(h, s):
            e, kinds = w.T + t["token_types"], np.array([2, 0, 0, 1])
            assert close(np.eye(3)[kinds] @ self.weight(w, t, c, h, s).T, e[kinds])


class RsLora(Lora):
    name = "rslora"
    record = "part 2, rsLoRA"
    cases = ((linear(5, 3), {"rank": 3, "alpha": 2}), (conv(2, 3, (3, 1)), {"rank": 4, "alpha": 16}))

    def scale(self, h):
        return h["alpha"] / np.sqrt(h["rank"])

    def holds(self, w, b, t, c, h, s, draw):
        assert self.scale({"alpha": 16, "rank": 4}) == 8 and self.scale({"alpha": 16, "rank": 64}) == 2


class Pissa(Lora):
    name = "pissa"
    record = "anchors 1.1 (PiSSA), issue 4"
    cases = (
        (linear(5, 7), {"rank": 2, "alpha": 3}),
        (linear(7, 4), {"rank": 3, "alpha": 3}),
        (conv(3, 2, (2, 2)), {"rank": 1, "alpha": 2}),
    )

    def base(self, draw, h, s):
        w = draw.values((s.out, s.row))
        u, values, v = (x[..., : h["rank"]] for x in svd(w))
        root = np.sqrt(values / self.scale(h))
        return w, {"initial_A": (v * root).T, "initial_B": u * root}

    def start(self, t, w, b, c, h, s):
        return {"lora_A": c["initial_A"], "lora_B": c["initial_B"]}

    def weight(self, w, t, c, h, s):
        return w + self.scale(h) * (t["lora_B"] @ t["lora_A"] - c["initial_B"] @ c["initial_A"])

    def expected(self, w, t, c, h, s):
        return {"residual": w - self.scale(h) * c["initial_B"] @ c["initial_A"]}

    def holds(self, w, b, t, c, h, s, draw):
        residual = self.expected(w, t, c, h, s)["residual"]
        tail = np.linalg.svd(w, compute_uv=False)[h["rank"] :]
        assert close(np.linalg.norm(residual), np.linalg.norm(tail))
        # Stored as one LoRA of rank 2r.
        a = np.concatenate([t["lora_A"], c["initial_A"]])
        pair = np.concatenate([t["lora_B"], -c["initial_B"]], axis=1)
        assert close(w + self.scale(h) * pair @ a, self.weight(w, t, c, h, s))


class Sora(Lora):
    name = "sora"
    record = "part 3, QAA (SoRA)"
    definition = "inferred"
    cases = ((linear(4, 6), {"rank": 3, "alpha": 3}), (conv(3, 2, (3, 1)), {"rank": 2, "alpha": 2}))

    def shapes(self, h, s):
        return {**super().shapes(h, s), "gate": (h["rank"],)}

    def count(self, h, s):
        return super().count(h, s) + h["rank"]

    def weight(self, w, t, c, h, s):
        return w + self.scale(h) * (t["lora_B"] * t["gate"]) @ t["lora_A"]

    def holds(self, w, b, t, c, h, s, draw):
        # A gate at zero is a smaller rank.
        gate = t["gate"] * (np.arange(h["rank"]) > 0)
        less = self.scale(h) * (t["lora_B"][:, 1:] * gate[1:]) @ t["lora_A"][1:]
        assert close(self.weight(w, {**t, "gate": gate}, c, h, s), w + less)


class AdaLora(Method):
    name = "adalora"
    record = "anchors 1.2, AdaLoRA"
    cases = ((linear(5, 4), {"rank": 3, "alpha": 2}), (conv(2, 3, (2, 2)), {"rank": 2, "alpha": 4}))

    def shapes(self, h, s):
        return {"lora_A": (h["rank"], s.row), "lora_B": (s.out, h["rank"]), "lora_E": (h["rank"], 1)}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row + 1)

    def start(self, t, w, b, c, h, s):
        return {**t, "lora_E": 0 * t["lora_E"]}

    def weight(self, w, t, c, h, s):
        # The scale is alpha itself; the divisor is the initial rank, kept after pruning.
        return w + h["alpha"] / (h["rank"] + 1e-5) * t["lora_B"] @ (t["lora_A"] * t["lora_E"])


class MeLora(Method):
    """Mini i reads slice i of the inputs and writes slice i of the outputs; ranks may differ."""

    name = "melora"
    record = "part 3, MELoRA"
    cases = (
        (linear(6, 9), {"ranks": [2, 2, 2], "alphas": [3, 3, 3]}),
        (linear(4, 10), {"ranks": [1, 3], "alphas": [2, 5]}),
        (linear(3, 5), {"ranks": [2], "alphas": [3]}),
    )

    def shapes(self, h, s):
        n = len(h["ranks"])
        assert s.out % n == 0 and s.row % n == 0
        minis = enumerate(h["ranks"])
        return {
            name: shape
            for i, r in minis
            for name, shape in ((f"lora_A.{i}", (r, s.row // n)), (f"lora_B.{i}", (s.out // n, r)))
        }

    def count(self, h, s):
        n = len(h["ranks"])
        return sum(r * (s.out + s.row) // n for r in h["ranks"])

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if "_B" in k else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        minis = enumerate(zip(h["ranks"], h["alphas"]))
        delta = block_diagonal([alpha / r * t[f"lora_B.{k}"] @ t[f"lora_A.{k}"] for k, (r, alpha) in minis])
        return w + delta

    def holds(self, w, b, t, c, h, s, draw):
        if len(h["ranks"]) == 1:
            factors = {"lora_A": t["lora_A.0"], "lora_B": t["lora_B.0"]}
            plain = {"rank": h["ranks"][0], "alpha": h["alphas"][0]}
            assert close(Lora().weight(w, factors, c, plain, s), self.weight(w, t, c, h, s))


class GraLora(Method):
    """Block (j, n) of the delta is s (A_n[:, slice j] B_j[slice n])^T; HF's bookkeeping: the hybrid rank stands
    outside `rank` and s = alpha / (rank + hybrid)."""

    name = "gralora"
    record = "part 3, GraLoRA"
    cases = (
        (linear(6, 9), {"rank": 3, "alpha": 4, "k": 3, "hybrid_rank": 0}),
        (linear(4, 8), {"rank": 4, "alpha": 3, "k": 4, "hybrid_rank": 2}),
        (linear(5, 3), {"rank": 2, "alpha": 3, "k": 1, "hybrid_rank": 0}),
    )

    def shapes(self, h, s):
        k, r, hybrid = h["k"], h["rank"], h["hybrid_rank"]
        assert s.out % k == 0 and s.row % k == 0 and r % k == 0
        shapes = {"gralora_A": (k, s.row // k, r), "gralora_B": (k, r, s.out // k)}
        if hybrid:
            shapes |= {"gralora_A_general": (hybrid, s.row), "gralora_B_general": (s.out, hybrid)}
        return shapes

    def count(self, h, s):
        return (h["rank"] + h["hybrid_rank"]) * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if "_B" in k else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        k, r, hybrid = h["k"], h["rank"], h["hybrid_rank"]
        scale, u = h["alpha"] / (r + hybrid), r // k
        a = t["gralora_A"].reshape(k, s.row // k, k, u)
        rows = t["gralora_B"].reshape(k, k, u, s.out // k)
        delta = np.einsum("nxju,jnuy->jynx", a, rows).reshape(s.out, s.row)
        if hybrid:
            delta = delta + t["gralora_B_general"] @ t["gralora_A_general"]
        return w + scale * delta

    def holds(self, w, b, t, c, h, s, draw):
        # The forward of the record: project each slice, regroup, project back.
        k, r = h["k"], h["rank"]
        x = draw.values((s.row,))
        z = np.einsum("nx,nxr->nr", x.reshape(k, -1), t["gralora_A"]).reshape(k, k, r // k)
        y = np.einsum("jr,jry->jy", z.transpose(1, 0, 2).reshape(k, r), t["gralora_B"]).ravel()
        if h["hybrid_rank"]:
            y = y + t["gralora_B_general"] @ (t["gralora_A_general"] @ x)
        y = h["alpha"] / (r + h["hybrid_rank"]) * y
        assert close((self.weight(w, t, c, h, s) - w) @ x, y)
