"""Deltas with few coefficients in a transform's domain.

Places of coefficients are inputs of a case, [2, n] as rows and columns.

Readings chosen:
- `fourierft`: Delta[p, q] = scale / (out * in) * sum_k c_k cos(2 pi (u_k p / out + v_k q / in)), the real
  part of the inverse 2-D transform, here summed term by term.
- `waveft`: filters by rec_hi[n] = (-1)^n rec_lo[L - 1 - n]; `horizontal` is the top-right quadrant and takes
  the row high-pass. Places outside the padded matrix cannot occur: padding only shifts them.
- `wara` (form C, weight delta): one factor pair per subband over half sizes, odd sizes rounded up and the
  result cropped from the top left; LH is the quadrant that takes the row high-pass (`waveft`'s horizontal),
  HL the column high-pass. s = alpha / rank, B = 0 at the start. Haar.
- `qwha`: F H over the input axis. Input sizes that are no power of two are padded to the next one, i in the
  formula being the padded size and the delta its first columns (the record names a table of K 2^k sizes or
  padding).
- `qwha` from the quantization error: the budget's remainder goes one by one to the channels with fewest, ties
  to the lower index, after even shares; top-k ties to the lower index; columns of N are R H / i (H
  symmetric).
"""

import numpy as np

from case import Method, best, close, conv, linear, scatter


class FourierFt(Method):
    name = "fourierft"
    record = "anchors 1.2, FourierFT"
    identity = False
    cases = (
        (linear(5, 7), {"frequencies": 6, "scale": 150}),
        (linear(4, 6), {"frequencies": 5, "scale": 20}),
        (linear(1, 3), {"frequencies": 2, "scale": 10}),
    )

    def base(self, draw, h, s):
        flat = draw.places(h["frequencies"], s.out * s.row)
        return draw.values((s.out, s.row)), {"indices": np.array(np.divmod(flat, s.row))}

    def shapes(self, h, s):
        return {"fourierft_spectrum": (h["frequencies"],)}

    def count(self, h, s):
        return h["frequencies"]

    def weight(self, w, t, c, h, s):
        u, v = c["indices"]
        p, q = np.arange(s.out)[:, None, None], np.arange(s.row)[None, :, None]
        waves = np.cos(2 * np.pi * (u * p / s.out + v * q / s.row))
        return w + h["scale"] / (s.out * s.row) * waves @ t["fourierft_spectrum"]

    def holds(self, w, b, t, c, h, s, draw):
        spectrum = np.zeros((s.out, s.row))
        spectrum[tuple(c["indices"])] = t["fourierft_spectrum"]
        assert close(self.weight(w, t, c, h, s), w + h["scale"] * np.fft.ifft2(spectrum).real)


def _filters():
    root3 = np.sqrt(3)
    db2 = np.array([1 + root3, 3 + root3, 3 - root3, 1 - root3]) / (4 * np.sqrt(2))
    root7 = np.sqrt(7)
    coif1 = np.array([1 - root7, 5 + root7, 14 + 2 * root7, 14 - 2 * root7, 1 - root7, -3 + root7]) / (
        16 * np.sqrt(2)
    )
    return {"db1": np.array([1, 1]) / np.sqrt(2), "db2": db2, "sym2": db2, "coif1": coif1}


FILTERS = _filters()


def high(low):
    return (-1.0) ** np.arange(len(low)) * low[::-1]


def synthesis(size, low):
    """The matrix from [approximation; detail] of `size` entries to the reconstruction of size - (L - 2)."""
    half, length, cut = size // 2, len(low), (2 * len(low) - 3) // 2
    whole = np.zeros((2 * (half - 1) + length, size))
    for band, taps in enumerate((low, high(low))):
        for k in range(half):
            whole[2 * k : 2 * k + length, band * half + k] += taps
    return whole[cut : len(whole) - cut]


class WaveFt(Method):
    name = "waveft"
    record = "part 1, WaveFT"
    cases = (
        (linear(6, 4), {"coefficients": 5, "scale": 25, "wavelet": "db1", "use_idwt": True}),
        (linear(5, 7), {"coefficients": 6, "scale": 25, "wavelet": "db1", "use_idwt": True}),
        (linear(5, 6), {"coefficients": 5, "scale": 4, "wavelet": "db2", "use_idwt": True}),
        (linear(4, 7), {"coefficients": 5, "scale": 4, "wavelet": "coif1", "use_idwt": True}),
        (conv(3, 2, (3, 1)), {"coefficients": 4, "scale": 2, "wavelet": "db1", "use_idwt": False}),
    )

    def base(self, draw, h, s):
        flat = draw.places(h["coefficients"], s.out * s.row)
        return draw.values((s.out, s.row)), {"indices": np.array(np.divmod(flat, s.row))}

    def shapes(self, h, s):
        return {"waveft_spectrum": (h["coefficients"],)}

    def count(self, h, s):
        return h["coefficients"]

    def start(self, t, w, b, c, h, s):
        return {"waveft_spectrum": 0 * t["waveft_spectrum"]}

    def weight(self, w, t, c, h, s):
        rows, columns = c["indices"]
        if not h["use_idwt"]:
            return w + h["scale"] * scatter(w.shape, rows * s.row + columns, t["waveft_spectrum"])
        low = FILTERS[h["wavelet"]]
        padded = [n + len(low) - 2 + (n + len(low)) % 2 for n in w.shape]
        at = (rows + (padded[0] - s.out) // 2) * padded[1] + columns + (padded[1] - s.row) // 2
        spectrum = scatter(padded, at, t["waveft_spectrum"])
        # The top-right quadrant is the rows' high band, the bottom-left the columns': swap them into place.
        o, i = padded[0] // 2, padded[1] // 2
        quadrants = [[spectrum[:o, :i], spectrum[o:, :i]], [spectrum[:o, i:], spectrum[o:, i:]]]
        delta = synthesis(padded[0], low) @ np.block(quadrants) @ synthesis(padded[1], low).T
        top, left = (delta.shape[0] - s.out) // 2, (delta.shape[1] - s.row) // 2
        return w + h["scale"] * delta[top : top + s.out, left : left + s.row]

    def holds(self, w, b, t, c, h, s, draw):
        low = FILTERS[h["wavelet"]]
        bank = synthesis(64, low)
        middle = slice(8, -8)
        assert close((bank @ bank.T)[middle, middle], np.eye(len(bank))[middle, middle])
        if h["use_idwt"] and h["wavelet"] == "db1" and s.out % 2 == s.row % 2 == 0:
            # Haar, entry by entry.
            rows, columns = c["indices"]
            spectrum = scatter(w.shape, rows * s.row + columns, t["waveft_spectrum"])
            o, i = s.out // 2, s.row // 2
            for p, q in np.ndindex(*w.shape):
                a, u, d, v = p // 2, p % 2, q // 2, q % 2
                bands = spectrum[a, d], spectrum[a, i + d], spectrum[o + a, d], spectrum[o + a, i + d]
                value = bands[0] + (-1) ** u * bands[1] + (-1) ** v * bands[2] + (-1) ** (u + v) * bands[3]
                got = self.weight(w, t, c, h, s)[p, q] - w[p, q]
                assert close(got, h["scale"] / 2 * value)


class Wara(Method):
    name = "wara"
    record = "part 1, WaRA (form C)"
    definition = "inferred"
    bands = ("LL", "LH", "HL", "HH")
    cases = ((linear(4, 6), {"rank": 2, "alpha": 3}), (linear(5, 3), {"rank": 1, "alpha": 2}))

    def shapes(self, h, s):
        o, i = -(-s.out // 2), -(-s.row // 2)
        down = {f"wara_A.{band}": (h["rank"], i) for band in self.bands}
        return down | {f"wara_B.{band}": (o, h["rank"]) for band in self.bands}

    def count(self, h, s):
        return 4 * h["rank"] * (-(-s.out // 2) + -(-s.row // 2))

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if "_B" in k else 1) for k, v in t.items()}

    def weight(self, w, t, c, h, s):
        ll, lh, hl, hh = (t[f"wara_B.{band}"] @ t[f"wara_A.{band}"] for band in self.bands)
        spread = np.zeros((2 * len(ll), 2 * ll.shape[1]), dtype=(ll + lh + hl + hh).dtype)
        spread[0::2, 0::2] = ll + lh + hl + hh
        spread[0::2, 1::2] = ll + lh - hl - hh
        spread[1::2, 0::2] = ll - lh + hl - hh
        spread[1::2, 1::2] = ll - lh - hl + hh
        return w + h["alpha"] / h["rank"] / 2 * spread[: s.out, : s.row]

    def holds(self, w, b, t, c, h, s, draw):
        # An orthonormal transform keeps the norm where nothing is cropped.
        if s.out % 2 == s.row % 2 == 0:
            total = sum(np.linalg.norm(t[f"wara_B.{k}"] @ t[f"wara_A.{k}"]) ** 2 for k in self.bands)
            moved = (self.weight(w, t, c, h, s) - w) / (h["alpha"] / h["rank"])
            assert close(np.linalg.norm(moved) ** 2, total)


def hadamard(size):
    whole = np.eye(1)
    while len(whole) < size:
        whole = np.block([[whole, whole], [whole, -whole]])
    return whole


class Qwha(Method):
    name = "qwha"
    record = "part 1, QWHA"
    cases = (
        (linear(3, 8), {"coefficients": 11, "lambda": 0.25}),
        (linear(5, 4), {"coefficients": 9, "lambda": 0.25}),
        (linear(3, 6), {"coefficients": 9, "lambda": 0.5}),
    )

    def base(self, draw, h, s):
        size = len(hadamard(s.row))
        flat = np.sort(draw.places(h["coefficients"], s.out * size))
        return draw.values((s.out, s.row)), {"qhft_indices": np.array(np.divmod(flat, size))}

    def shapes(self, h, s):
        return {"qhft_spectrum": (h["coefficients"],)}

    def count(self, h, s):
        return h["coefficients"]

    def start(self, t, w, b, c, h, s):
        return {"qhft_spectrum": 0 * t["qhft_spectrum"]}

    def weight(self, w, t, c, h, s):
        turn = hadamard(s.row)
        rows, columns = c["qhft_indices"]
        spectrum = scatter((s.out, len(turn)), rows * len(turn) + columns, t["qhft_spectrum"])
        return w + h["lambda"] / (np.sqrt(s.out) * len(turn)) * (spectrum @ turn)[:, : s.row]

    def holds(self, w, b, t, c, h, s, draw):
        turn = hadamard(s.row)
        assert close(turn @ turn, len(turn) * np.eye(len(turn)))


def quantization_aware(error, inputs, budget, scale, alpha):
    """The record's initialization for the error E = W_fp - dequant(Q): the spectrum [out, in] it starts from."""
    out, size = error.shape
    gram = inputs.T @ inputs
    gram = gram + 1e-4 * np.trace(gram) / size * np.eye(size)
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(values)[:, None] * vectors.T
    target, columns = root @ error.T, root @ hadamard(size) / size
    whole = np.linalg.solve(columns, target)
    weights = np.linalg.norm(whole, axis=0) ** alpha
    kept = np.minimum(np.floor(budget * weights / weights.sum()).astype(int), size)
    while (left := budget - kept.sum()) > 0:
        free = np.flatnonzero(kept < size)
        if left >= len(free):
            kept[free] = np.minimum(kept[free] + left // len(free), size)
        else:
            kept[free[np.argsort(kept[free], kind="stable")[:left]]] += 1
    spectrum = np.zeros((out, size))
    for channel in range(out):
        gain = (columns**2).sum(axis=0) * whole[:, channel] ** 2
        places = best(gain, kept[channel])
        basis = columns[:, places]
        spectrum[channel, places] = np.linalg.solve(basis.T @ basis, basis.T @ target[:, channel])
    return spectrum / scale * np.sqrt(out), kept, root


class QwhaInit(Qwha):
    """Spectrum and places from the quantization error of the base and calibration inputs."""

    name = "qwha-init"
    of = "qwha"
    cases = tuple(
        (s, {"start": "error", "rank": 1, "lambda": 0.25, "alpha": 1}) for s in (linear(3, 8), linear(5, 4))
    )

    def base(self, draw, h, s):
        exact = draw.values((s.out, s.row))
        w, inputs = np.round(exact * 3) / 3, draw.values((12, s.row))
        w = np.round(w * 4096) / 4096
        spectrum, kept, _ = quantization_aware(
            exact - w, inputs, h["rank"] * (s.out + s.row), h["lambda"], h["alpha"]
        )
        places = np.array(np.nonzero(spectrum))
        return w, {
            "float_weight": exact,
            "inputs": inputs,
            "qhft_indices": places,
            "kept_per_channel": kept,
            "initial": spectrum,
        }

    def shapes(self, h, s):
        return {"qhft_spectrum": (h["rank"] * (s.out + s.row),)}

    def count(self, h, s):
        return h["rank"] * (s.out + s.row)

    def unlike_base(self, h):
        return True

    def tensors(self, draw, w, c, h, s):
        return {"qhft_spectrum": c["initial"][tuple(c["qhft_indices"])]}

    def holds(self, w, b, t, c, h, s, draw):
        error, budget = c["float_weight"] - w, h["rank"] * (s.out + s.row)
        delta = self.weight(w, t, c, h, s) - w
        _, _, root = quantization_aware(error, c["inputs"], budget, h["lambda"], h["alpha"])
        left = np.linalg.norm(root @ (error - delta).T)
        assert left < np.linalg.norm(root @ error.T)
        # Better than each channel's largest coefficients at the same budgets without the refit.
        turn = hadamard(s.row)
        raw = error @ turn
        places = [best(np.abs(row), k) for row, k in zip(raw, c["kept_per_channel"])]
        naive = np.array([scatter(row.shape, at, row[at]) for row, at in zip(raw, places)]) @ turn / len(turn)
        assert left < np.linalg.norm(root @ (error - naive).T)
        assert c["kept_per_channel"].sum() == budget
