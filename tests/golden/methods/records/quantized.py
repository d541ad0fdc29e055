"""Adaptation of, or through, low-bit weights.

Readings chosen:
- `peqa`: groups are runs of consecutive inputs of one output row (g = row is per output channel); the base
  weight of the case is the dequantized one. Zero points are integers of the unsigned code range; `symmetric`
  takes z = 0 and signed codes.
- `l4q`: signed codes Qn = -2^(bits-1), Qp = 2^(bits-1) - 1; gradients of q and beta are multiplied by kappa =
  1 / sqrt(group * Qp) (the record's example). The base of the case is the float W; W_q is the effective
  weight, so a fresh adapter is the quantized base and not W. Every case has clipped entries.
- `sketchtune`: groups of columns are consecutive and equal; gradients scatter-add.
- `sqft` (QA form): straight-through inside the clamp, nothing where the code is clipped (DESIGN section 7).
  Alternative: straight-through everywhere; the cases carry `clipped` so that either can be told.
- rounding is half to even.
"""

import numpy as np

from case import Method, close, conv, linear, stop
from low_rank import Lora


class Peqa(Method):
    name = "peqa"
    record = "part 3, PEQA"
    definition = "inferred"
    cases = (
        (linear(4, 6), {"bits": 4, "group": 6, "symmetric": False}),
        (linear(3, 6), {"bits": 3, "group": 2, "symmetric": False}),
        (conv(3, 2, (3, 1)), {"bits": 4, "group": 6, "symmetric": True}),
    )

    def base(self, draw, h, s):
        w, groups = draw.values((s.out, s.row)), s.row // h["group"]
        split = w.reshape(s.out, groups, h["group"])
        if h["symmetric"]:
            low, high = -(2 ** (h["bits"] - 1)), 2 ** (h["bits"] - 1) - 1
            scale, zero = np.abs(split).max(axis=2) / high, np.zeros((s.out, groups), dtype=int)
        else:
            low, high = 0, 2 ** h["bits"] - 1
            floor, ceiling = np.minimum(split.min(axis=2), 0), np.maximum(split.max(axis=2), 0)
            scale = (ceiling - floor) / high
            zero = np.clip(np.round(-floor / scale), low, high).astype(int)
        scale = np.round(scale * 4096) / 4096
        codes = np.clip(np.round(split / scale[..., None]) + zero[..., None], low, high).astype(int)
        integers = (codes - zero[..., None]).reshape(s.out, s.row)
        dequantized = integers * np.repeat(scale, h["group"], axis=1)
        return dequantized, {"codes": codes.reshape(s.out, s.row), "scale": scale, "zero_point": zero}

    def shapes(self, h, s):
        return {"delta_scale": (s.out, s.row // h["group"])}

    def count(self, h, s):
        return s.out * s.row // h["group"]

    def start(self, t, w, b, c, h, s):
        return {"delta_scale": 0 * t["delta_scale"]}

    def weight(self, w, t, c, h, s):
        integers = c["codes"] - np.repeat(c["zero_point"], h["group"], axis=1)
        return integers * np.repeat(c["scale"] + t["delta_scale"], h["group"], axis=1)

    def holds(self, w, b, t, c, h, s, draw):
        # Symmetric per channel: the scale is an output scale before the bias.
        if h["symmetric"] and h["group"] == s.row:
            ratio = (c["scale"] + t["delta_scale"]) / c["scale"]
            assert close(self.weight(w, t, c, h, s), ratio * w)


class L4q(Lora):
    name = "l4q"
    record = "part 3, L4Q"
    identity = False
    cases = (
        (linear(3, 6), {"rank": 2, "alpha": 2, "bits": 3, "group": 3}),
        (conv(2, 2, (2, 2)), {"rank": 1, "alpha": 2, "bits": 4, "group": 8}),
    )

    def bounds(self, h):
        return -(2 ** (h["bits"] - 1)), 2 ** (h["bits"] - 1) - 1

    def shapes(self, h, s):
        groups = s.row // h["group"]
        return {**super().shapes(h, s), "quant_step": (s.out, groups), "quant_offset": (s.out, groups)}

    def count(self, h, s):
        return super().count(h, s) + 2 * s.out * s.row // h["group"]

    def tensors(self, draw, w, c, h, s):
        t = super().tensors(draw, w, c, h, s)
        step = 0.1875 + np.abs(t["quant_step"]) / 8
        return {**t, "quant_step": step * 4 / 2 ** (h["bits"] - 1), "quant_offset": t["quant_offset"] / 8}

    def pieces(self, w, t, h, s):
        low, high = self.bounds(h)
        kappa = 1 / np.sqrt(h["group"] * high)

        def spread(x):
            # The value of x with its gradient times kappa, once per input.
            return np.repeat(kappa * x + (1 - kappa) * stop(x), h["group"], axis=1)

        step, offset = spread(t["quant_step"]), spread(t["quant_offset"])
        v = (w + self.scale(h) * t["lora_B"] @ t["lora_A"] - offset) / step
        inside = (stop(v) >= low) & (stop(v) <= high)
        clamped = np.where(inside, v, np.clip(stop(v), low, high))
        return clamped + stop(np.round(stop(clamped)) - stop(clamped)), step, offset, inside

    def weight(self, w, t, c, h, s):
        codes, step, offset, _ = self.pieces(w, t, h, s)
        return codes * step + offset

    def expected(self, w, t, c, h, s):
        codes, _, _, inside = self.pieces(w, t, h, s)
        return {"codes": codes.astype(int), "inside": inside}

    def holds(self, w, b, t, c, h, s, draw):
        low, high = self.bounds(h)
        codes, step, offset, inside = self.pieces(w, t, h, s)
        assert codes.min() >= low and codes.max() <= high and not inside.all() and inside.any()
        # The record's backward, written out.
        g, scale, kappa = draw.values(w.shape), self.scale(h), 1 / np.sqrt(h["group"] * high)
        v = (w + scale * t["lora_B"] @ t["lora_A"] - offset) / step
        wanted = {
            "lora_A": scale * t["lora_B"].T @ (g * inside),
            "lora_B": scale * (g * inside) @ t["lora_A"].T,
            "quant_step": kappa * _grouped(g * np.where(inside, np.round(v) - v, np.clip(v, low, high)), h),
            "quant_offset": kappa * _grouped(g * ~inside, h),
        }
        for name, value in wanted.items():
            step = draw.values(value.shape)
            moved = {**t, name: t[name] + 1e-30j * step}
            assert close(np.imag((g * self.weight(w, moved, c, h, s)).sum()) / 1e-30, (value * step).sum()), (
                name
            )


def _grouped(matrix, h):
    return matrix.reshape(len(matrix), -1, h["group"]).sum(axis=2)


class SketchTune(Method):
    name = "sketchtune"
    record = "part 1, SketchTune"
    cases = (
        (linear(3, 6), {"bits": 2, "groups": 1}),
        (linear(2, 6), {"bits": 3, "groups": 2}),
        (conv(2, 2, (3, 1)), {"bits": 4, "groups": 3}),
    )

    def base(self, draw, h, s):
        codes = draw.generator.integers(0, 2 ** h["bits"], size=(s.out, s.row))
        start = draw.values((s.out, h["groups"], 2 ** h["bits"]))
        return self.looked_up(start, codes, h, s), {"codes": codes, "initial_codebook": start}

    def looked_up(self, codebook, codes, h, s):
        group = np.arange(s.row) // (s.row // h["groups"])
        return codebook[np.arange(s.out)[:, None], group[None, :], codes]

    def shapes(self, h, s):
        return {"codebook": (s.out, h["groups"], 2 ** h["bits"])}

    def count(self, h, s):
        return s.out * h["groups"] * 2 ** h["bits"]

    def start(self, t, w, b, c, h, s):
        return {"codebook": c["initial_codebook"]}

    def weight(self, w, t, c, h, s):
        return self.looked_up(t["codebook"], c["codes"], h, s)

    def holds(self, w, b, t, c, h, s, draw):
        # Partial sums by code are the product.
        x, group = draw.values((s.row,)), np.arange(s.row) // (s.row // h["groups"])
        sums = np.zeros(t["codebook"].shape)
        for p in range(s.out):
            np.add.at(sums[p], (group, c["codes"][p]), x)
        assert close((sums * t["codebook"]).sum(axis=(1, 2)), self.weight(w, t, c, h, s) @ x)


class Sqft(Lora):
    name = "sqft"
    record = "part 2, LoRA x NAS (SQFT)"
    cases = (
        (linear(4, 6), {"rank": 2, "alpha": 3}),
        (linear(3, 6), {"rank": 1, "alpha": 2, "bits": 4, "group": 3}),
    )

    def base(self, draw, h, s):
        w = draw.values((s.out, s.row)) * (draw.generator.random((s.out, s.row)) < 0.5)
        w[0, 0] = 0.5
        if "bits" not in h:
            return w, {}
        groups = s.row // h["group"]
        scale = np.full((s.out, groups), 0.125) + np.abs(draw.values((s.out, groups))) / 16
        zero = draw.generator.integers(5, 10, size=(s.out, groups))
        codes = np.round(w / np.repeat(scale, h["group"], axis=1)) + np.repeat(zero, h["group"], axis=1)
        w = self.dequantized(np.clip(codes, 0, 2 ** h["bits"] - 1), scale, zero, h)
        return w, {"scale": scale, "zero_point": zero}

    def dequantized(self, codes, scale, zero, h):
        return np.repeat(scale, h["group"], axis=1) * (codes - np.repeat(zero, h["group"], axis=1))

    def codes(self, w, t, c, h):
        merged = w + self.scale(h) * (t["lora_B"] @ t["lora_A"]) * (w != 0)
        scale, zero = (np.repeat(c[name], h["group"], axis=1) for name in ("scale", "zero_point"))
        exact = (merged + zero * scale) / scale
        inside = (np.round(stop(exact)) >= 0) & (np.round(stop(exact)) <= 2 ** h["bits"] - 1)
        held = np.where(inside, exact, np.clip(stop(exact), 0, 2 ** h["bits"] - 1))
        return held + stop(np.round(stop(held)) - stop(held)), inside

    def weight(self, w, t, c, h, s):
        if "bits" not in h:
            return w + self.scale(h) * (t["lora_B"] @ t["lora_A"]) * (w != 0)
        return self.dequantized(self.codes(w, t, c, h)[0], c["scale"], c["zero_point"], h)

    def expected(self, w, t, c, h, s):
        mask = {"mask": w != 0}
        if "bits" not in h:
            return mask
        codes, inside = self.codes(w, t, c, h)
        return {**mask, "codes": codes.astype(int), "clipped": ~inside}

    def holds(self, w, b, t, c, h, s, draw):
        assert (self.weight(w, t, c, h, s)[w == 0] == 0).all() and (w == 0).any()
