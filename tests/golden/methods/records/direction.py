"""Magnitude apart from direction.

Readings chosen:
- `dora`, `edora`: the row norm of the moved weight is detached (held constant by gradients); the bias is not
  scaled.
- `delora`: HF's form, norms clamped at 1e-4 from below and gradients through the norms (the record names no
  detached node). Alternative: the original's frozen copies.
- `bora`: columns first, then rows; both modes of the norms (`detached` and `exact`), as the record asks.
- `map`: eps = 1e-6 is added to the norm; a starts at the base's norm, b at 0; the norm carries gradients.
- norms of convolutions run over the flattened row, and `bora`'s columns are the row's positions.
"""

import numpy as np

from case import Method, close, conv, linear, norm, stop, svd
from low_rank import Lora


class Dora(Lora):
    name = "dora"
    record = "anchors 1.1 (DoRA), part 1 PEFT-RLVR"
    cases = (
        (linear(5, 7), {"rank": 2, "alpha": 3}),
        (conv(3, 2, (3, 3)), {"rank": 2, "alpha": 5}),
        (linear(6, 1), {"rank": 1, "alpha": 2}),
        (conv(4, 4, (1, 3), 2), {"rank": 2, "alpha": 2}),
    )

    def shapes(self, h, s):
        return {**super().shapes(h, s), "lora_magnitude_vector": (s.out,)}

    def count(self, h, s):
        return super().count(h, s) + s.out

    def start(self, t, w, b, c, h, s):
        return {**super().start(t, w, b, c, h, s), "lora_magnitude_vector": norm(w, axis=1)}

    def weight(self, w, t, c, h, s):
        moved = w + self.scale(h) * t["lora_B"] @ t["lora_A"]
        return (t["lora_magnitude_vector"] / stop(norm(moved, axis=1)))[:, None] * moved

    def holds(self, w, b, t, c, h, s, draw):
        assert close(norm(self.weight(w, t, c, h, s), axis=1), np.abs(t["lora_magnitude_vector"]))


class Edora(Method):
    name = "edora"
    record = "part 3, EDoRA"
    cases = (
        (linear(5, 4), {"rank": 2, "alpha": 16}),
        (linear(3, 6), {"rank": 3, "alpha": 3}),
        (conv(3, 2, (2, 2)), {"rank": 2, "alpha": 4}),
    )

    def base(self, draw, h, s):
        w, r = draw.values((s.out, s.row)), h["rank"]
        u, values, v = svd(w)
        return w, {"lora_A": (v[:, :r] * values[:r]).T, "lora_B": u[:, :r]}

    def shapes(self, h, s):
        return {"default_lora_latent_mapping": (h["rank"], h["rank"]), "lora_magnitude_vector": (s.out,)}

    def count(self, h, s):
        return h["rank"] ** 2 + s.out

    def tensors(self, draw, w, c, h, s):
        t = super().tensors(draw, w, c, h, s)
        return {**t, "default_lora_latent_mapping": t["default_lora_latent_mapping"] / 4}

    def start(self, t, w, b, c, h, s):
        # The record draws R with deviation 1e-5; at R = 0 the base is exact.
        core = 0 * t["default_lora_latent_mapping"]
        return {"default_lora_latent_mapping": core, "lora_magnitude_vector": norm(w, axis=1)}

    def weight(self, w, t, c, h, s):
        moved = w + h["alpha"] / h["rank"] * c["lora_B"] @ t["default_lora_latent_mapping"] @ c["lora_A"]
        return (t["lora_magnitude_vector"] / stop(norm(moved, axis=1)))[:, None] * moved

    def holds(self, w, b, t, c, h, s, draw):
        # The forward of the record: base, its rescaling, and the adapter's term.
        x, scale = draw.values((s.row,)), h["alpha"] / h["rank"]
        low = c["lora_B"] @ t["default_lora_latent_mapping"] @ c["lora_A"]
        ratio = t["lora_magnitude_vector"] / norm(w + scale * low, axis=1)
        y = w @ x + (ratio - 1) * (w @ x) + ratio * scale * (low @ x)
        assert close(self.weight(w, t, c, h, s) @ x, y)


class Delora(Method):
    name = "delora"
    record = "part 3, DeLoRA"
    cases = (
        (linear(5, 4), {"rank": 2}),
        (linear(3, 7), {"rank": 3}),
        (linear(2, 1), {"rank": 1}),
    )

    def base(self, draw, h, s):
        w = draw.values((s.out, s.row))
        return w, {"delora_w_norm": np.linalg.norm(w, axis=0)}

    def shapes(self, h, s):
        return {"delora_A": (h["rank"], s.row), "delora_B": (s.out, h["rank"]), "delora_lambda": (1,)}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row) + 1

    def start(self, t, w, b, c, h, s):
        return {**t, "delora_B": 0 * t["delora_B"]}

    def weight(self, w, t, c, h, s):
        def size(x, axis):
            if not np.real(x).any():
                return np.full(h["rank"], 1e-4)
            found = norm(x, axis=axis)
            return np.where(np.real(found) < 1e-4, 1e-4, found)

        core = t["delora_lambda"] / (h["rank"] * size(t["delora_A"], 1) * size(t["delora_B"], 0))
        return w + (t["delora_B"] * core) @ (t["delora_A"] * c["delora_w_norm"])

    def holds(self, w, b, t, c, h, s, draw):
        delta = self.weight(w, t, c, h, s) - w
        assert np.linalg.norm(delta / c["delora_w_norm"]) <= abs(t["delora_lambda"][0]) + 1e-12
        factors = np.array([2.0, 0.5, 3.0])[: h["rank"], None]
        assert close(self.weight(w, {**t, "delora_A": t["delora_A"] * factors}, c, h, s) - w, delta)


class Bora(Lora):
    name = "bora"
    record = "part 2, BoRA"
    definition = "inferred"
    cases = (
        (linear(4, 5), {"rank": 2, "alpha": 3, "norms": "detached"}),
        (linear(4, 5), {"rank": 2, "alpha": 3, "norms": "exact"}),
        (conv(3, 2, (1, 3)), {"rank": 1, "alpha": 1, "norms": "detached"}),
    )

    def shapes(self, h, s):
        return {**super().shapes(h, s), "magnitude_column": (s.row,), "magnitude_row": (s.out,)}

    def count(self, h, s):
        return super().count(h, s) + s.out + s.row

    def start(self, t, w, b, c, h, s):
        sizes = {"magnitude_column": norm(w, axis=0), "magnitude_row": norm(w, axis=1)}
        return {**super().start(t, w, b, c, h, s), **sizes}

    def weight(self, w, t, c, h, s):
        hold = stop if h["norms"] == "detached" else (lambda x: x)
        moved = w + self.scale(h) * t["lora_B"] @ t["lora_A"]
        turned = moved * (t["magnitude_column"] / hold(norm(moved, axis=0)))
        return (t["magnitude_row"] / hold(norm(turned, axis=1)))[:, None] * turned

    def holds(self, w, b, t, c, h, s, draw):
        # With the column magnitudes at the moved weight's own norms it is DoRA.
        moved = w + self.scale(h) * t["lora_B"] @ t["lora_A"]
        own = {**t, "magnitude_column": norm(moved, axis=0), "lora_magnitude_vector": t["magnitude_row"]}
        assert close(self.weight(w, own, c, h, s), Dora().weight(w, own, c, h, s))


class Map(Lora):
    name = "map"
    record = "part 2, MAP"
    definition = "inferred"
    cases = (
        (linear(5, 3), {"rank": 2, "epsilon": 1e-6}),
        (conv(2, 2, (3, 1)), {"rank": 1, "epsilon": 1e-6}),
    )

    def shapes(self, h, s):
        return {**super().shapes(h, s), "map_a": (1,), "map_b": (1,)}

    def count(self, h, s):
        return super().count(h, s) + 2

    def start(self, t, w, b, c, h, s):
        return {**t, "map_a": np.array([np.linalg.norm(w)]), "map_b": 0 * t["map_b"]}

    def weight(self, w, t, c, h, s):
        delta = t["lora_B"] @ t["lora_A"]
        return t["map_a"] * w / np.linalg.norm(w) + t["map_b"] * delta / (norm(delta) + h["epsilon"])

    def holds(self, w, b, t, c, h, s, draw):
        # The norm from two Gram matrices, and invariance to the scale of a factor.
        a, up = t["lora_A"], t["lora_B"]
        assert close(((up.T @ up) * (a @ a.T)).sum(), np.linalg.norm(up @ a) ** 2)
        assert close(self.weight(w, {**t, "lora_A": 3 * a}, c, h, s), self.weight(w, t, c, h, s), 1e-5)
