"""Places chosen by scores from calibration data.

Readings chosen:
- `speft`: the nine scores of `speft_scores`; alpha = 1. A budget of at most 1 is a fraction, else a count.
- `spt`: two tensors share the budget; a tensor becomes LoRA when its selected entries reach r (out + in) /
  alpha; its LoRA's own scale is lora_alpha / rank. Sensitivity is the plain sum over batches of squared
  gradients.
- `id3`: the score uses the weights of the moment; a step's quota is floor(B / T), one more in the first B mod
  T steps; the base optimizer here is plain SGD (the record's is AdamW), masked, so that the effective weight
  shows the masks alone.
"""

import numpy as np

from case import best, close, linear
from sparse import Sparse


def speft_scores(w1, w2, inputs, labels, uniform):
    """The nine scores of W1 in the net logits = W2 tanh(W1 x) under mean cross-entropy, batches of one example.

    g is the sum over examples of the gradient of (loss of the example / number of examples).
    SynFlow: |W|, identities, an all-ones input, the sum of logits. GraSP: logits over 200 in the loss, w * (H g)
    with g held, both matrices in the product; signed. Skeletonization is -w g, signed."""

    def gradients(a, b, temperature=1.0):
        hidden = np.tanh(inputs @ a.T)
        logits = hidden @ b.T / temperature
        powers = np.exp(logits)
        wrong = (powers / powers.sum(axis=1, keepdims=True) - np.eye(len(b))[labels]) / temperature
        back = (wrong @ b) * (1 - hidden**2)
        return np.einsum("no,ni->noi", back, inputs), np.einsum("nc,no->nco", wrong, hidden)

    per_example = gradients(w1, w2)[0]
    g = per_example.mean(axis=0)
    held = [x.mean(axis=0) for x in gradients(w1, w2, 200.0)]
    moved = gradients(w1 + 1e-30j * held[0], w2 + 1e-30j * held[1], 200.0)[0].mean(axis=0)
    flow = np.outer(np.abs(w2).sum(axis=0), np.ones(w1.shape[1]))
    return per_example, {
        "random": uniform,
        "magnitude": np.abs(w1),
        "gradient": np.abs(g),
        "snip": np.abs(w1 * g),
        "skeletonization": -w1 * g,
        "taylor": (w1 * g) ** 2,
        "fisher": (per_example**2).mean(axis=0),
        "synflow": np.abs(np.abs(w1) * flow),
        "grasp": w1 * np.imag(moved) / 1e-30,
    }


class Speft(Sparse):
    """One case per score; the first hidden layer of a two-layer net is the site."""

    name = "speft"
    record = "part 3, SPEFT"
    cases = tuple(
        (linear(4, 3), {"score": score, "budget": budget})
        for score, budget in (
            ("random", 5),
            ("magnitude", 0.5),
            ("gradient", 0.25),
            ("snip", 4),
            ("skeletonization", 4),
            ("taylor", 4),
            ("fisher", 5),
            ("synflow", 4),
            ("grasp", 4),
        )
    )

    def base(self, draw, h, s):
        w, out = draw.values((s.out, s.row)), draw.values((3, s.out))
        inputs, labels = draw.values((4, s.row)), np.array([0, 2, 1, 0])
        uniform = draw.generator.integers(0, 512, size=w.shape) / 512
        found, _ = speft_scores(w, out, inputs, labels, uniform)
        return w, {
            "next_weight": out,
            "inputs": inputs,
            "labels": labels,
            "uniform": uniform,
            "gradients": found,
        }

    def entries(self, h, s):
        return int(h["budget"] * s.out * s.row) if h["budget"] <= 1 else h["budget"]

    def scores(self, w, c):
        return speft_scores(w, c["next_weight"], c["inputs"], c["labels"], c["uniform"])[1]

    def chosen(self, w, c, h, s):
        return best(self.scores(w, c)[h["score"]], self.entries(h, s))

    def expected(self, w, t, c, h, s):
        score = self.scores(w, c)[h["score"]]
        # Over two matrices at once: the second is the first upside down, so that every score has its tie.
        both = best(np.concatenate([score.ravel(), score[::-1].ravel()]), self.entries(h, s))
        return super().expected(w, t, c, h, s) | {"score": score, "global_with_reversed": both}

    def holds(self, w, b, t, c, h, s, draw):
        super().holds(w, b, t, c, h, s, draw)

        def loss(a):
            logits = np.tanh(c["inputs"] @ a.T) @ c["next_weight"].T
            chosen = logits[np.arange(4), c["labels"]]
            return (np.log(np.exp(logits).sum(axis=1)) - chosen).mean()

        def difference(i, step=1e-5):
            around = np.zeros(w.size)
            around[i] = step
            around = around.reshape(w.shape)
            return (loss(w + around) - loss(w - around)) / (2 * step)

        g = np.array([difference(i) for i in range(w.size)]).reshape(w.shape)
        assert close(np.abs(g), self.scores(w, c)["gradient"], 1e-8)
        flow = np.abs(c["next_weight"]) @ np.abs(w)
        assert close(self.scores(w, c)["synflow"].sum(), flow.sum())


class Spt(Sparse):
    """Two tensors of a network share the budget; the case's site is the first."""

    name = "spt"
    record = "part 2, SPT"
    cases = (
        (
            linear(4, 5),
            {"rank": 1, "lora_alpha": 2, "alpha": 5, "budget": 9, "selected": 7, "structured": True},
        ),
        (
            linear(4, 5),
            {"rank": 1, "lora_alpha": 2, "alpha": 1, "budget": 10, "selected": 7, "structured": False},
        ),
    )

    def base(self, draw, h, s):
        other = draw.values((3, 3, s.out))
        return draw.values((s.out, s.row)), {
            "gradients": draw.values((3, s.out, s.row)),
            "other_gradients": other,
        }

    def selected(self, c, h, s):
        squares = [(c[name] ** 2).sum(axis=0) for name in ("gradients", "other_gradients")]
        places = best(np.concatenate([x.ravel() for x in squares]), h["budget"])
        size = squares[0].size
        return places[places < size], places[places >= size] - size, squares

    def structured(self, found, rows, columns, h):
        return len(found) >= h["rank"] * (rows + columns) / h["alpha"]

    def entries(self, h, s):
        return h["selected"]

    def shapes(self, h, s):
        if not h["structured"]:
            return super().shapes(h, s)
        return {"lora_A": (h["rank"], s.row), "lora_B": (s.out, h["rank"])}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row) if h["structured"] else h["selected"]

    def start(self, t, w, b, c, h, s):
        return {k: v * (1 if k == "lora_A" else 0) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        if not h["structured"]:
            return super().weight(w, t, c, h, s)
        return w + h["lora_alpha"] / h["rank"] * t["lora_B"] @ t["lora_A"]

    def chosen(self, w, c, h, s):
        return self.selected(c, h, s)[0]

    def expected(self, w, t, c, h, s):
        first, second, squares = self.selected(c, h, s)
        return {
            "sensitivity": squares[0],
            "indices": np.array(np.divmod(first, s.row)),
            "other_indices": np.array(np.divmod(second, s.out)),
            "structured": [
                int(self.structured(first, s.out, s.row, h)),
                int(self.structured(second, 3, s.out, h)),
            ],
        }

    def holds(self, w, b, t, c, h, s, draw):
        first, second, _ = self.selected(c, h, s)
        assert len(first) + len(second) == h["budget"]
        assert (len(first), self.structured(first, s.out, s.row, h)) == (h["selected"], h["structured"])


class Id3(Sparse):
    name = "id3"
    record = "part 3, ID3"
    cases = (
        (
            linear(4, 3),
            {"budget": 7, "steps": 3, "exponent": 1, "epsilon": 1e-3, "learning_rate": 0.125},
            "ties",
        ),
        (linear(3, 5), {"budget": 5, "steps": 5, "exponent": 0.5, "epsilon": 1e-3, "learning_rate": 0.25}),
        (linear(3, 3), {"budget": 4, "steps": 3, "exponent": 0, "epsilon": 1e-3, "learning_rate": 0.25}),
    )

    def base(self, draw, h, s):
        return draw.values((s.out, s.row)), {"gradients": draw.values((h["steps"], s.out, s.row))}

    def shapes(self, h, s):
        return {}

    def count(self, h, s):
        return 0

    def parameters(self, h, s):
        return h["budget"]

    def unlike_base(self, h):
        return True

    def steps(self, w, c, h):
        weight, masks = w.copy(), [np.zeros(w.size, dtype=bool)]
        for step, gradient in enumerate(c["gradients"]):
            score = np.abs(gradient) / (np.abs(weight) + h["epsilon"]) ** h["exponent"]
            quota = h["budget"] // h["steps"] + (step < h["budget"] % h["steps"])
            mask = masks[-1].copy()
            mask[best(np.where(mask, -1.0, score.ravel()), quota)] = True
            weight = weight - h["learning_rate"] * gradient * mask.reshape(w.shape)
            masks.append(mask)
        return weight, np.array(masks[1:])

    def weight(self, w, t, c, h, s):
        return self.steps(w, c, h)[0]

    def expected(self, w, t, c, h, s):
        return {"masks": self.steps(w, c, h)[1].reshape(h["steps"], s.out, s.row)}

    def holds(self, w, b, t, c, h, s, draw):
        moved, masks = self.steps(w, c, h)
        assert masks[-1].sum() == h["budget"] and (np.diff(masks.astype(int), axis=0) >= 0).all()
        assert (moved.ravel()[~masks[-1]] == w.ravel()[~masks[-1]]).all()
        mean = h["budget"] * (h["steps"] + 1) / (2 * h["steps"])
        assert abs(masks.sum(axis=1).mean() - mean) <= 1
