"""Factors taken from drawn matrices, singular vectors, or one bank of vectors.

What is drawn (VeRA's matrices, TinyLoRA's P, Uni-LoRA's indices) is an input of the case.

Readings chosen:
- `unilora`: the scales are count^-1/2 over this one site; over a network the counts run over all sites.
- `vblora`: the bank is trained; ties of the kept logits go to the lower index.
- `tinylora`: rank is cut to the smaller side; A and B carry the square root of the singular values.
"""

import numpy as np

from case import Method, close, linear, softmax, stop, svd


class Vera(Method):
    name = "vera"
    record = "anchors 1.2, VeRA; part 1 PEFT-RLVR"
    cases = ((linear(5, 7), {"rank": 4}), (linear(7, 2), {"rank": 3}), (linear(1, 1), {"rank": 2}))

    def base(self, draw, h, s):
        w = draw.values((s.out, s.row))
        return w, {"vera_A": draw.values((h["rank"], s.row)), "vera_B": draw.values((s.out, h["rank"]))}

    def shapes(self, h, s):
        return {"vera_lambda_b": (s.out,), "vera_lambda_d": (h["rank"],)}

    def count(self, h, s):
        return s.out + h["rank"]

    def start(self, t, w, b, c, h, s):
        return {**t, "vera_lambda_b": 0 * t["vera_lambda_b"]}

    def weight(self, w, t, c, h, s):
        return w + (t["vera_lambda_b"][:, None] * c["vera_B"]) @ (t["vera_lambda_d"][:, None] * c["vera_A"])


class VbLora(Method):
    """A and B are put together from top-k mixtures of one bank's vectors; the softmax runs over the kept logits."""

    name = "vblora"
    record = "anchors 1.2, VBLoRA"
    identity = False
    cases = (
        (linear(4, 6), {"rank": 2, "vectors": 5, "vector_length": 2, "topk": 2}),
        (linear(3, 9), {"rank": 1, "vectors": 4, "vector_length": 3, "topk": 3}),
    )

    def shapes(self, h, s):
        r, n, v = h["rank"], h["vectors"], h["vector_length"]
        assert s.row % v == 0 and s.out % v == 0
        return {
            "vblora_logits_A": (r, s.row // v, n),
            "vblora_logits_B": (s.out // v, r, n),
            "vblora_vector_bank": (n, v),
        }

    def count(self, h, s):
        r, n, v = h["rank"], h["vectors"], h["vector_length"]
        return n * (r * (s.row + s.out) // v + v)

    def mixed(self, logits, bank, topk):
        order = np.argsort(-stop(logits), axis=-1, kind="stable")[..., :topk]
        weights = softmax(np.take_along_axis(logits, order, axis=-1))
        return (weights[..., None] * bank[order]).sum(axis=-2)

    def weight(self, w, t, c, h, s):
        bank = t["vblora_vector_bank"]
        down = self.mixed(t["vblora_logits_A"], bank, h["topk"]).reshape(h["rank"], s.row)
        up = self.mixed(t["vblora_logits_B"], bank, h["topk"]).transpose(0, 2, 1).reshape(s.out, h["rank"])
        return w + up @ down


class TinyLora(Method):
    name = "tinylora"
    record = "anchors 1.2, TinyLoRA"
    cases = (
        (linear(5, 4), {"rank": 2, "u": 3}),
        (linear(3, 7), {"rank": 3, "u": 4}),
        (linear(1, 4), {"rank": 1, "u": 1}),
    )

    def base(self, draw, h, s):
        w, r = draw.values((s.out, s.row)), h["rank"]
        u, values, v = svd(w)
        root = np.sqrt(values[:r])
        projections = draw.values((h["u"], r, r))
        return w, {
            "tinylora_A": (v[:, :r] * root).T,
            "tinylora_B": u[:, :r] * root,
            "tinylora_P": projections,
        }

    def shapes(self, h, s):
        return {"tinylora_v": (h["u"],)}

    def count(self, h, s):
        return h["u"]

    def start(self, t, w, b, c, h, s):
        return {"tinylora_v": 0 * t["tinylora_v"]}

    def weight(self, w, t, c, h, s):
        core = np.einsum("u,uij->ij", t["tinylora_v"], c["tinylora_P"])
        return w + c["tinylora_B"] @ core @ c["tinylora_A"]


class UniLora(Method):
    name = "unilora"
    record = "anchors 1.2, UniLoRA"
    identity = False
    cases = (
        (linear(4, 5), {"rank": 2, "theta_d_length": 6}),
        (linear(3, 2), {"rank": 1, "theta_d_length": 2}),
    )

    def base(self, draw, h, s):
        w, r, d = draw.values((s.out, s.row)), h["rank"], h["theta_d_length"]
        total = r * (s.row + s.out)
        indices = draw.places(total, total) % d
        scales = np.bincount(indices, minlength=d) ** -0.5
        a, b = indices[: r * s.row].reshape(r, s.row), indices[r * s.row :].reshape(s.out, r)
        return w, {
            "unilora_indices_A": a,
            "unilora_indices_B": b,
            "unilora_scales_A": scales[a],
            "unilora_scales_B": scales[b],
        }

    def shapes(self, h, s):
        return {"unilora_theta_d": (h["theta_d_length"],)}

    def count(self, h, s):
        return h["theta_d_length"]

    def weight(self, w, t, c, h, s):
        theta = t["unilora_theta_d"]
        down = theta[c["unilora_indices_A"]] * c["unilora_scales_A"]
        return w + (theta[c["unilora_indices_B"]] * c["unilora_scales_B"]) @ down

    def holds(self, w, b, t, c, h, s, draw):
        # The projection theta -> (A, B) is an isometry.
        factors = [t["unilora_theta_d"][c[f"unilora_indices_{x}"]] * c[f"unilora_scales_{x}"] for x in "AB"]
        assert close(sum((f**2).sum() for f in factors), (t["unilora_theta_d"] ** 2).sum())
