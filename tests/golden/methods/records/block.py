"""Blocks of the weight.

Readings chosen:
- `bone` is PEFT's "bat" (r divides both sides): W'_ab = W_ab (I + B_a) + B_a, a the block row.
- `miss`: input j reads row j mod r of the block (zero padding is the same); `mini` repeats the block's
  columns along the outputs.
- `diablo`: D_i is [d_in, d_out] with ceilings, cut to the site; padded entries have zero gradients.
"""

import numpy as np

from case import Method, block_diagonal, close, conv, linear


class Bone(Method):
    name = "bone"
    record = "part 2, Bone"
    cases = ((linear(8, 12), {"rank": 4}), (linear(4, 2), {"rank": 2}), (conv(3, 2, (3, 1)), {"rank": 3}))

    def shapes(self, h, s):
        r = h["rank"]
        assert s.out % r == 0 and s.row % r == 0
        return {"miss_block": (s.out // r, r, r)}

    def count(self, h, s):
        return s.out * h["rank"]

    def start(self, t, w, b, c, h, s):
        return {"miss_block": 0 * t["miss_block"]}

    def weight(self, w, t, c, h, s):
        r, block = h["rank"], t["miss_block"]
        tiles = w.reshape(s.out // r, r, s.row // r, r)
        return w + (np.einsum("apbq,aqs->apbs", tiles, block) + block[:, :, None, :]).reshape(w.shape)

    def holds(self, w, b, t, c, h, s, draw):
        r, moved = h["rank"], self.weight(w, t, c, h, s)
        for a in range(s.out // r):
            for k in range(s.row // r):
                tile = np.s_[a * r : (a + 1) * r, k * r : (k + 1) * r]
                block = t["miss_block"][a]
                assert close(moved[tile], w[tile] @ (np.eye(r) + block) + block)
                assert close((moved[tile] - block) @ np.linalg.inv(np.eye(r) + block), w[tile], 1e-8)


class Miss(Method):
    name = "miss"
    record = "part 2, Bone (later variant); anchors 1.2, MiSS"
    cases = (
        (linear(5, 7), {"rank": 3}),
        (linear(4, 6), {"rank": 2}),
        (linear(6, 5), {"rank": 2, "mini_rank": 3}),
        (linear(2, 1), {"rank": 1}),
    )

    def shapes(self, h, s):
        assert s.out % h.get("mini_rank", s.out) == 0
        return {"miss_block": (h["rank"], h.get("mini_rank", s.out))}

    def count(self, h, s):
        return h["rank"] * h.get("mini_rank", s.out)

    def start(self, t, w, b, c, h, s):
        return {"miss_block": 0 * t["miss_block"]}

    def weight(self, w, t, c, h, s):
        block = np.tile(t["miss_block"], s.out // t["miss_block"].shape[1])
        return w + block[np.arange(s.row) % h["rank"]].T

    def holds(self, w, b, t, c, h, s, draw):
        x, r = draw.values((s.row,)), h["rank"]
        shards = np.pad(x, (0, -s.row % r)).reshape(-1, r).sum(axis=0)
        block = np.tile(t["miss_block"], s.out // t["miss_block"].shape[1])
        assert close(self.weight(w, t, c, h, s) @ x, w @ x + block.T @ shards)


class Diablo(Method):
    name = "diablo"
    record = "part 2, DiaBlo"
    cases = (
        (linear(10, 7), {"blocks": 3}),
        (linear(4, 8), {"blocks": 4}),
        (linear(3, 2), {"blocks": 1}),
        (conv(3, 2, (2, 2)), {"blocks": 2}),
    )

    def sizes(self, h, s):
        d_in, d_out = -(-s.row // h["blocks"]), -(-s.out // h["blocks"])
        return d_in, d_out, max(-(-s.row // d_in), -(-s.out // d_out))

    def shapes(self, h, s):
        d_in, d_out, n = self.sizes(h, s)
        return {"block_A": (n, d_in, d_out)}

    def count(self, h, s):
        return int(np.prod(self.sizes(h, s)))

    def start(self, t, w, b, c, h, s):
        return {"block_A": 0 * t["block_A"]}

    def weight(self, w, t, c, h, s):
        return w + block_diagonal(list(t["block_A"])).T[: s.out, : s.row]

    def holds(self, w, b, t, c, h, s, draw):
        d_in, _, n = self.sizes(h, s)
        x = draw.values((s.row,))
        parts = np.pad(x, (0, n * d_in - s.row)).reshape(n, d_in)
        side = np.einsum("ni,nio->no", parts, t["block_A"]).ravel()[: s.out]
        assert close(self.weight(w, t, c, h, s) @ x, w @ x + side)
