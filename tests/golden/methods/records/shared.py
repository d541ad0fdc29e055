"""Factors that several sites, features, tasks or domains share or mix.

One case is one site; where sites share a tensor its gradient is the sum over the sites, which `holds` checks by
running two sites over one pool.

Readings chosen:
- `s2lora`: B diag(lambda) A with A, B shared and lambda private, lambda = 0 at the start, no scale.
  Alternative of the record: B = 0 and lambda = 1. The L1 prox is the soft threshold, zero at |lambda| =
  threshold.
- `flix`: s_f = alpha / r_f per feature (the record leaves the scale open); inactive features have zero
  gradients.
- `poly`/`mhr`: HF's scale 1 / r and plain sigmoid (evaluation); `poly` is `mhr` with one split.
- `context-peft`: the weight form of one domain. The bias of the LoRA form is an output bias of the domain.
- `msplora`: one scale alpha / r per level; the paper's semantics (shared factors act in every layer).
"""

import numpy as np

from case import Method, close, conv, linear, sigmoid


class MspLora(Method):
    """Levels: global (largest rank), group, layer (smallest)."""

    name = "msplora"
    record = "part 1, MSPLoRA"
    cases = (
        (linear(4, 6), {"ranks": [3, 2, 1], "alphas": [4, 3, 2]}),
        (conv(3, 2, (3, 1)), {"ranks": [2, 1, 1], "alphas": [2, 2, 1]}),
    )
    levels = ("global", "group", "layer")

    def shapes(self, h, s):
        return {
            name: shape
            for level, r in zip(self.levels, h["ranks"])
            for name, shape in ((f"lora_A.{level}", (r, s.row)), (f"lora_B.{level}", (s.out, r)))
        }

    def count(self, h, s):
        # (i + o)(r_g + 3 r_k + L r_l) with one layer and its one group.
        return (s.out + s.row) * sum(h["ranks"])

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if "_B" in k else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        levels = zip(self.levels, h["ranks"], h["alphas"])
        return w + sum(alpha / r * t[f"lora_B.{level}"] @ t[f"lora_A.{level}"] for level, r, alpha in levels)

    def holds(self, w, b, t, c, h, s, draw):
        # Two layers over one pool: d(l1 + l2)/dA is the sum of what each layer gives.
        g = [draw.values(w.shape), draw.values(w.shape)]
        other = draw.values(w.shape)
        scale = h["alphas"][0] / h["ranks"][0]
        apart = sum(scale * t["lora_B.global"].T @ gradient for gradient in g)
        step = draw.values(t["lora_A.global"].shape)
        moved = {**t, "lora_A.global": t["lora_A.global"] + 1e-30j * step}
        both = (g[0] * self.weight(w, moved, c, h, s)).sum() + (
            g[1] * self.weight(other, moved, c, h, s)
        ).sum()
        assert close(np.imag(both) / 1e-30, (apart * step).sum())


class S2Lora(Method):
    name = "s2lora"
    record = "part 3, S2-LoRA"
    definition = "inferred"
    cases = (
        (linear(4, 5), {"rank": 3, "threshold": 0.25}),
        (conv(3, 2, (1, 2)), {"rank": 4, "threshold": 0.5}),
    )

    def shapes(self, h, s):
        return {"lora_A": (h["rank"], s.row), "lora_B": (s.out, h["rank"]), "lambda": (h["rank"],)}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row) + h["rank"]

    def start(self, t, w, b, c, h, s):
        return {**t, "lambda": 0 * t["lambda"]}

    def weight(self, w, t, c, h, s):
        return w + (t["lora_B"] * t["lambda"]) @ t["lora_A"]

    def expected(self, w, t, c, h, s):
        coefficients = t["lambda"]
        return {
            "soft_thresholded": np.sign(coefficients) * np.maximum(np.abs(coefficients) - h["threshold"], 0)
        }

    def holds(self, w, b, t, c, h, s, draw):
        # Dropping coefficients moves the weight by no more than their bound.
        kept = t["lambda"] * (np.abs(t["lambda"]) > h["threshold"])
        moved = np.linalg.norm(self.weight(w, t, c, h, s) - self.weight(w, {**t, "lambda": kept}, c, h, s))
        sizes = np.linalg.norm(t["lora_B"], axis=0) * np.linalg.norm(t["lora_A"], axis=1)
        assert moved <= (np.abs(t["lambda"] - kept) * sizes).sum() + 1e-12


class Flix(Method):
    name = "flix"
    record = "part 3, FLix"
    definition = "inferred"
    cases = (
        (linear(5, 4), {"ranks": {"en": 2, "qa": 1, "fr": 1}, "alpha": 2, "active": ["en", "qa"]}),
        (conv(2, 3, (3, 1)), {"ranks": {"room": 1, "mic": 2}, "alpha": 3, "active": ["mic"]}),
    )

    def shapes(self, h, s):
        return {
            name: shape
            for feature, r in h["ranks"].items()
            for name, shape in ((f"lora_A.{feature}", (r, s.row)), (f"lora_B.{feature}", (s.out, r)))
        }

    def count(self, h, s):
        return sum(h["ranks"].values()) * (s.out + s.row)

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if "_B" in k else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        return w + sum(h["alpha"] / h["ranks"][f] * t[f"lora_B.{f}"] @ t[f"lora_A.{f}"] for f in h["active"])

    def holds(self, w, b, t, c, h, s, draw):
        scaled = [h["alpha"] / h["ranks"][f] * t[f"lora_B.{f}"] for f in h["active"]]
        down = np.concatenate([t[f"lora_A.{f}"] for f in h["active"]])
        assert close(w + np.concatenate(scaled, axis=1) @ down, self.weight(w, t, c, h, s))


class Mhr(Method):
    """Mixes parameters, not outputs: alpha = sigmoid(Z) / (sum over skills + 1e-12) per split."""

    name = "mhr"
    record = "part 3, MHR / Poly"
    cases = (
        (linear(4, 6), {"rank": 2, "tasks": 2, "skills": 3, "splits": 2, "task": 1}),
        (linear(8, 4), {"rank": 1, "tasks": 1, "skills": 2, "splits": 4, "task": 0}),
    )

    def shapes(self, h, s):
        splits, skills, r = h["splits"], h["skills"], h["rank"]
        assert s.row % splits == 0 and s.out % splits == 0
        return {
            "poly_lora_A": (splits, skills, s.row // splits, r),
            "poly_lora_B": (splits, skills, r, s.out // splits),
            "poly_router.module_logits": (h["tasks"], splits * skills),
        }

    def count(self, h, s):
        return h["skills"] * h["rank"] * (s.out + s.row) + h["tasks"] * h["splits"] * h["skills"]

    def start(self, t, w, b, c, h, s):
        return {**t, "poly_lora_B": 0 * t["poly_lora_B"]}

    def factors(self, t, h, s):
        """The task's A [row, rank] and B [rank, out], row-vector convention."""
        z = t["poly_router.module_logits"][h["task"]].reshape(h["splits"], h["skills"])
        mix = sigmoid(z)
        mix = mix / (mix.sum(axis=1, keepdims=True) + 1e-12)
        down = np.einsum("qs,qsdr->qdr", mix, t["poly_lora_A"]).reshape(s.row, h["rank"])
        up = np.einsum("qs,qsrd->rqd", mix, t["poly_lora_B"]).reshape(h["rank"], s.out)
        return down, up

    def weight(self, w, t, c, h, s):
        down, up = self.factors(t, h, s)
        return w + (down @ up).T / h["rank"]

    def holds(self, w, b, t, c, h, s, draw):
        # Equal logits are the average over the skills.
        logits = t["poly_router.module_logits"]
        down, up = self.factors({**t, "poly_router.module_logits": 0 * logits}, h, s)
        assert close(down, t["poly_lora_A"].mean(axis=1).reshape(down.shape))
        mean_up = t["poly_lora_B"].mean(axis=1).transpose(1, 0, 2).reshape(up.shape)
        assert close(up, mean_up)
        # Mixing parameters is not mixing outputs.
        outputs = np.einsum("qsdr,psre->qdpe", t["poly_lora_A"], t["poly_lora_B"]) / h["skills"]
        assert not close(outputs.reshape(s.row, s.out), down @ up, 1e-3)


class Poly(Mhr):
    name = "poly"
    cases = (
        (linear(5, 7), {"rank": 2, "tasks": 2, "skills": 2, "splits": 1, "task": 0}),
        (linear(3, 2), {"rank": 3, "tasks": 3, "skills": 3, "splits": 1, "task": 2}),
    )


class ContextPeft(Method):
    name = "context-peft"
    record = "part 1, Context-PEFT"
    biased = True
    cases = (
        (linear(4, 5), {"form": "lora", "ranks": {"audio": 2, "text": 1}, "alpha": 3, "domain": "audio"}),
        (linear(3, 4), {"form": "lora_bias", "ranks": {"audio": 1, "text": 2}, "alpha": 2, "domain": "text"}),
        (linear(4, 3), {"form": "ia3", "domains": ["audio", "text"], "domain": "text"}),
        (linear(2, 3), {"form": "bitfit", "domains": ["audio", "text"], "domain": "audio"}),
    )

    def domains(self, h):
        return h["ranks"] if "ranks" in h else h["domains"]

    def shapes(self, h, s):
        shapes = {}
        for d in self.domains(h):
            if "lora" in h["form"]:
                shapes |= {f"lora_A.{d}": (h["ranks"][d], s.row), f"lora_B.{d}": (s.out, h["ranks"][d])}
            if h["form"] == "ia3":
                shapes[f"ia3_l.{d}"] = (s.out,)
            if h["form"] in ("bitfit", "lora_bias"):
                shapes[f"bias.{d}"] = (s.out,)
        return shapes

    def count(self, h, s):
        vectors = len(self.domains(h)) * s.out if h["form"] != "lora" else 0
        return sum(h.get("ranks", {}).values()) * (s.out + s.row) + vectors

    def start(self, t, w, b, c, h, s):
        return {k: v * (1 if "_A" in k else 0) for k, v in t.items()}

    def apply(self, w, b, t, c, h, s):
        d = h["domain"]
        if h["form"] == "ia3":
            scale = 1 + t[f"ia3_l.{d}"]
            return scale[:, None] * w, scale * b
        if "lora" in h["form"]:
            w = w + h["alpha"] / h["ranks"][d] * t[f"lora_B.{d}"] @ t[f"lora_A.{d}"]
        return w, b + t[f"bias.{d}"] if f"bias.{d}" in t else b

    def holds(self, w, b, t, c, h, s, draw):
        # Masked, concatenated evaluation of a mixed sequence is the token loop.
        if h["form"] != "lora":
            return
        tokens, order = draw.values((3, s.row)), ["audio", "text", "audio"]
        down = np.concatenate([t[f"lora_A.{d}"] for d in h["ranks"]])
        up = np.concatenate([t[f"lora_B.{d}"] for d in h["ranks"]], axis=1)
        owner = [d for d, r in h["ranks"].items() for _ in range(r)]
        mask = [[(d == o) * h["alpha"] / h["ranks"][o] for o in owner] for d in order]
        together = tokens @ w.T + (tokens @ down.T * np.array(mask)) @ up.T
        alone = [self.apply(w, b, t, c, {**h, "domain": d}, s)[0] @ x for d, x in zip(order, tokens)]
        assert close(together, np.array(alone))
