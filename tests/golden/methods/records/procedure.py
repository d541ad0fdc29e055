"""Training procedures whose result is a dense delta.

Readings chosen:
- `hd-pissa`: G is the gradient with respect to the common weight, given per step and worker; gA = s B^T G, gB
  = s G A^T with s = alpha // rank (the code's integer division); Adam with bias correction per factor,
  direction times the learning rate; W <- W - sum over workers of (dB A + B dA - dB dA). A, B keep their first
  values.
"""

import numpy as np

from case import Method, close, linear, svd


class HdPissa(Method):
    name = "hd-pissa"
    record = "part 2, HD-PiSSA"
    identity = False
    cases = (
        (linear(5, 6), {"rank": 2, "alpha": 4, "workers": 2, "steps": 2, "learning_rate": 0.0625}),
        (linear(4, 3), {"rank": 2, "alpha": 3, "workers": 1, "steps": 3, "learning_rate": 0.125}),
        (linear(3, 4), {"rank": 1, "alpha": 1, "workers": 3, "steps": 1, "learning_rate": 0.25}),
    )

    def base(self, draw, h, s):
        w, r = draw.values((s.out, s.row)), h["rank"]
        u, values, v = svd(w)
        slices = [slice(k * r, (k + 1) * r) for k in range(h["workers"])]
        c = {
            "A": np.array([(v[:, at] * np.sqrt(values[at])).T for at in slices]),
            "B": np.array([u[:, at] * np.sqrt(values[at]) for at in slices]),
            "gradients": draw.values((h["steps"], h["workers"], s.out, s.row)),
        }
        return w, c

    def shapes(self, h, s):
        return {}

    def count(self, h, s):
        return 0

    def parameters(self, h, s):
        """Scalars of the optimizer; no tensor of the result is trained."""
        return h["workers"] * h["rank"] * (s.out + s.row)

    def updates(self, c, h):
        """Adam's steps of the factors, [steps, workers, ...]."""
        scale, found = h["alpha"] // h["rank"], []
        moments = {name: (np.zeros_like(c[name]), np.zeros_like(c[name])) for name in "AB"}
        for step, gradients in enumerate(c["gradients"], start=1):
            of = {
                "A": scale * np.einsum("kor,koi->kri", c["B"], gradients),
                "B": scale * np.einsum("koi,kri->kor", gradients, c["A"]),
            }
            moved = {}
            for name, g in of.items():
                first, second = moments[name]
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
                moments[name] = first, second
                root = np.sqrt(second / (1 - 0.999**step)) + 1e-8
                moved[name] = h["learning_rate"] * first / (1 - 0.9**step) / root
            found.append(moved)
        return found

    def weight(self, w, t, c, h, s):
        for moved in self.updates(c, h):
            first = moved["B"] @ c["A"] + c["B"] @ moved["A"]
            w = w - (first - moved["B"] @ moved["A"]).sum(axis=0)
        return w

    def expected(self, w, t, c, h, s):
        moved = self.updates(c, h)
        return {f"accumulated_{name}": sum(step[name] for step in moved) for name in "AB"} | {
            "second_order": sum((step["B"] @ step["A"]).sum(axis=0) for step in moved)
        }

    def holds(self, w, b, t, c, h, s, draw):
        found, delta = self.expected(w, t, c, h, s), self.weight(w, t, c, h, s) - w
        linear_part = (found["accumulated_B"] @ c["A"] + c["B"] @ found["accumulated_A"]).sum(axis=0)
        assert close(delta, found["second_order"] - linear_part)
        if h["steps"] == 1:
            bound = min(2 * h["rank"] * h["workers"], s.out, s.row)
            assert np.linalg.matrix_rank(delta) == bound
