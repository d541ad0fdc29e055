"""Vectors over outputs, inputs, norms and biases.

Readings chosen:
- `ia3`: attention kind scales the whole output with its bias; feed-forward kind scales the inputs and leaves
  the bias. On a convolution the vector has one entry per channel, and a channel's whole window takes it; in a
  grouped convolution the inputs of group g are its own channels.
- `bitfit` and `ln` hold replacements (HF saves trained biases and norms as such), not deltas.
- `ssf`: gamma (.) y + beta after the layer with its bias.
- the norm of `ln` is one vector pair: its `weight` is [channels, 1].
"""

import numpy as np

from case import Method, Site, close, conv, linear


class Ia3(Method):
    name = "ia3"
    record = "anchors 1.2, IA3; part 1 PEFT-UnitTest"
    biased = True
    cases = (
        (linear(4, 5), {"feedforward": False}),
        (linear(4, 5), {"feedforward": True}),
        (conv(3, 2, (3, 2)), {"feedforward": False}),
        (conv(4, 6, (1, 3), 2), {"feedforward": True}),
    )

    def shapes(self, h, s):
        size = s.inputs if h["feedforward"] else s.out
        if s.kind == "conv":
            return {"ia3_l": (1, size, 1, 1)}
        return {"ia3_l": (1, size) if h["feedforward"] else (size, 1)}

    def count(self, h, s):
        return s.inputs if h["feedforward"] else s.out

    def start(self, t, w, b, c, h, s):
        return {"ia3_l": np.ones_like(t["ia3_l"])}

    def apply(self, w, b, t, c, h, s):
        scale = t["ia3_l"].ravel()
        if not h["feedforward"]:
            return scale[:, None] * w, scale * b
        per_group = np.repeat(scale.reshape(s.groups, -1), s.window, axis=1)
        return w * np.repeat(per_group, s.out // s.groups, axis=0), b


class BitFit(Method):
    name = "bitfit"
    record = "part 1, Winter-wheat PEFT; anchors 1.0 (bias)"
    biased = True
    cases = ((linear(4, 3), {}), (conv(2, 1, (2, 2)), {}))

    def shapes(self, h, s):
        return {"bias": (s.out,)}

    def count(self, h, s):
        return s.out

    def start(self, t, w, b, c, h, s):
        return {"bias": b}

    def apply(self, w, b, t, c, h, s):
        return w, t["bias"]


class Beft(Method):
    name = "beft"
    record = "anchors 1.2, BEFT"
    biased = True
    cases = ((linear(5, 2), {}), (linear(1, 3), {}))

    def shapes(self, h, s):
        return {"beft_bias": (1, s.out)}

    def count(self, h, s):
        return s.out

    def start(self, t, w, b, c, h, s):
        return {"beft_bias": 0 * t["beft_bias"]}

    def apply(self, w, b, t, c, h, s):
        return w, b + t["beft_bias"].ravel()


class Ssf(Method):
    name = "ssf"
    record = "part 2, Medical PEFT study (SSF)"
    biased = True
    cases = ((linear(4, 5), {}), (conv(3, 2, (3, 1)), {}), (conv(4, 4, (3, 3), 4), {}))

    def shapes(self, h, s):
        return {"ssf_scale": (s.out,), "ssf_shift": (s.out,)}

    def count(self, h, s):
        return 2 * s.out

    def start(self, t, w, b, c, h, s):
        return {"ssf_scale": np.ones(s.out), "ssf_shift": np.zeros(s.out)}

    def apply(self, w, b, t, c, h, s):
        return t["ssf_scale"][:, None] * w, t["ssf_scale"] * b + t["ssf_shift"]

    def holds(self, w, b, t, c, h, s, draw):
        x, (weight, bias) = draw.values((s.row,)), self.apply(w, b, t, c, h, s)
        assert close(weight @ x + bias, t["ssf_scale"] * (w @ x + b) + t["ssf_shift"])


class LnTuning(Method):
    name = "ln"
    record = "anchors 1.2, LN tuning"
    biased = True
    cases = ((Site("norm", 5, 1), {}), (Site("norm", 1, 1), {}))

    def shapes(self, h, s):
        return {"ln_tuning_layers.weight": (s.out,), "ln_tuning_layers.bias": (s.out,)}

    def count(self, h, s):
        return 2 * s.out

    def start(self, t, w, b, c, h, s):
        return {"ln_tuning_layers.weight": w.ravel(), "ln_tuning_layers.bias": b}

    def apply(self, w, b, t, c, h, s):
        return t["ln_tuning_layers.weight"][:, None] + 0 * w, t["ln_tuning_layers.bias"]
