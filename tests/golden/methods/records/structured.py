"""Circulant, Toeplitz, Kronecker and circuit-shaped matrices, random bases, projections.

Readings chosen:
- `surm`: s = 1 but for the Kronecker kind (alpha / k). `toeplitz` is the general kind the record mentions, a
  product of two Toeplitz matrices with 2n - 1 entries each, T[p, q] = t[p - q + n - 1]; `symmetric-toeplitz`
  is the code's, n entries each, T[p, q] = t[|p - q|]. Square sites only.
- `quantum-peft`: qubit 1 is the most significant factor of the tensor product; angles in the order of
  application, ascending qubits inside a sublayer; CZ on all pairs of a sublayer, then its rotations. Sizes
  that are no power of two are embedded in the next one and rows are cut. Alternative: first qubit least
  significant (stride 2^i). s = alpha = 1.
- `randlora`: `paper` pairs basis j of B with basis j of A (the record's sum). `peft` flattens A as (rank,
  basis) and B as (basis, rank) and multiplies the flat axes, so that columns of B meet other rows of A: PEFT
  0.21.2 computes this, and checkpoints of it mean this. Both are equal where rank or the number of bases is
  1.
- `deft`: PEFT's forms; `qr` takes LAPACK's signs (they show in Q R); `para` drops the injection. s multiplies
  R.
- `c3a`: block [m, n] is circulant with the kernel as its first row, over the number of inputs.
"""

import numpy as np

from case import Method, close, linear, norm, stop


def circulant(column):
    n = len(column)
    return column[(np.arange(n)[:, None] - np.arange(n)[None, :]) % n]


def toeplitz(diagonals):
    n = (len(diagonals) + 1) // 2
    return diagonals[np.arange(n)[:, None] - np.arange(n)[None, :] + n - 1]


class Surm(Method):
    name = "surm"
    record = "part 1, SURM"
    cases = (
        (linear(5, 5), {"kind": "circulant"}),
        (linear(4, 4), {"kind": "circulant"}),
        (linear(5, 5), {"kind": "symmetric-toeplitz"}),
        (linear(4, 4), {"kind": "toeplitz"}),
        (linear(6, 9), {"kind": "kronecker", "k": 3, "alpha": 4}),
        (linear(1, 1), {"kind": "circulant"}),
    )

    def shapes(self, h, s):
        if h["kind"] == "kronecker":
            k = h["k"]
            assert s.out % k == 0 and s.row % k == 0
            return {"A": (k, s.row // k), "B": (s.out // k, k)}
        assert s.out == s.row
        size = 2 * s.out - 1 if h["kind"] == "toeplitz" else s.out
        return {"a": (size,), "b": (size,)}

    def count(self, h, s):
        kinds = {"kronecker": s.out + s.row, "toeplitz": 2 * (2 * s.out - 1)}
        return kinds.get(h["kind"], 2 * s.out)

    def start(self, t, w, b, c, h, s):
        return {k: v * (0 if k in "bB" else 1) for k, v in t.items()}

    def matrix(self, t, h, s):
        if h["kind"] == "kronecker":
            return h["alpha"] / h["k"] * np.kron(t["B"], t["A"])
        if h["kind"] == "circulant":
            return circulant(t["a"] * t["b"])
        if h["kind"] == "toeplitz":
            return toeplitz(t["b"]) @ toeplitz(t["a"])
        return toeplitz(np.concatenate([t["b"][:0:-1], t["b"]])) @ toeplitz(
            np.concatenate([t["a"][:0:-1], t["a"]])
        )

    def weight(self, w, t, c, h, s):
        return w + self.matrix(t, h, s)

    def holds(self, w, b, t, c, h, s, draw):
        x = draw.values((s.row,))
        if h["kind"] == "circulant":
            fast = np.fft.ifft(np.fft.fft(t["a"] * t["b"]) * np.fft.fft(x)).real
            assert close(self.matrix(t, h, s) @ x, fast)
        if h["kind"] == "symmetric-toeplitz":
            n, length, y = s.out, 1 << (2 * s.out - 2).bit_length(), x
            for name in "ab":
                ring = np.concatenate([t[name], np.zeros(length - 2 * n + 1), t[name][:0:-1]])
                y = np.fft.ifft(np.fft.fft(ring) * np.fft.fft(y, length)).real[:n]
            assert close(self.matrix(t, h, s) @ x, y)


class QuantumPeft(Method):
    name = "quantum-peft"
    record = "part 2, Quantum-PEFT (Pauli form)"
    definition = "inferred"
    cases = (
        (linear(4, 8), {"rank": 2, "layers": 1}),
        (linear(5, 3), {"rank": 2, "layers": 2}),
        (linear(2, 2), {"rank": 1, "layers": 1}),
    )

    def qubits(self, size):
        return max(1, (size - 1).bit_length())

    def angles(self, size, h):
        q = self.qubits(size)
        return q + 2 * h["layers"] * (q - 1)

    def shapes(self, h, s):
        return {
            "angles_out": (self.angles(s.out, h),),
            "angles_in": (self.angles(s.row, h),),
            "lambda": (h["rank"],),
        }

    def count(self, h, s):
        return (
            sum((2 * h["layers"] + 1) * self.qubits(n) - 2 * h["layers"] for n in (s.out, s.row)) + h["rank"]
        )

    def start(self, t, w, b, c, h, s):
        return {**t, "lambda": 0 * t["lambda"]}

    def circuit(self, angles, size, h):
        q, left = self.qubits(size), list(angles)
        whole = np.eye(2**q)

        def rotate(qubit):
            turn, half = np.eye(1), left.pop(0) / 2
            gate = np.array([[np.cos(half), -np.sin(half)], [np.sin(half), np.cos(half)]])
            for k in range(q):
                turn = np.kron(turn, gate if k == qubit else np.eye(2))
            return turn

        for qubit in range(q):
            whole = rotate(qubit) @ whole
        bits = (np.arange(2**q)[:, None] >> np.arange(q)[::-1]) & 1
        for _ in range(h["layers"]):
            for first in (0, 1):
                pairs = [(k, k + 1) for k in range(first, q - 1, 2)]
                for a, b in pairs:
                    whole = np.where(bits[:, a] & bits[:, b], -1, 1)[:, None] * whole
                for qubit in sorted(k for pair in pairs for k in pair):
                    whole = rotate(qubit) @ whole
        assert not left
        return whole

    def weight(self, w, t, c, h, s):
        up = self.circuit(t["angles_out"], s.out, h)[: s.out, : h["rank"]]
        down = self.circuit(t["angles_in"], s.row, h)[: s.row, : h["rank"]]
        return w + (up * t["lambda"]) @ down.T

    def holds(self, w, b, t, c, h, s, draw):
        whole = self.circuit(t["angles_out"], s.out, h)
        assert close(whole.T @ whole, np.eye(len(whole)))
        # Parameter shift of one angle: these real circuits are of half-angle form in each factor.
        g, name = draw.values(w.shape), "angles_out"
        ahead, behind = (np.eye(1, t[name].size)[0] * x for x in (np.pi, -np.pi))
        f = [(g * self.weight(w, {**t, name: t[name] + x}, c, h, s)).sum() for x in (ahead, behind)]
        step = {**t, name: t[name] + 1e-30j * np.eye(1, t[name].size)[0]}
        assert close(np.imag((g * self.weight(w, step, c, h, s)).sum()) / 1e-30, (f[0] - f[1]) / 4)


class C3a(Method):
    name = "c3a"
    record = "anchors 1.2, C3A"
    cases = ((linear(6, 9), {"block": 3}), (linear(4, 6), {"block": 2}), (linear(3, 2), {"block": 1}))

    def shapes(self, h, s):
        b = h["block"]
        assert s.out % b == 0 and s.row % b == 0
        return {"c3a_kernel": (s.out // b, s.row // b, b)}

    def count(self, h, s):
        return s.out * s.row // h["block"]

    def start(self, t, w, b, c, h, s):
        return {"c3a_kernel": 0 * t["c3a_kernel"]}

    def weight(self, w, t, c, h, s):
        blocks = [[circulant(kernel).T for kernel in row] for row in t["c3a_kernel"]]
        return w + np.block(blocks) / s.row

    def holds(self, w, b, t, c, h, s, draw):
        # PEFT's order of transforms: fft(ifft(x) * fft(kernel)).
        size, x = h["block"], draw.values((s.row,))
        spectra = np.fft.ifft(x.reshape(-1, size)), np.fft.fft(t["c3a_kernel"])
        y = np.fft.fft(np.einsum("nb,mnb->mb", *spectra)).real.ravel() / s.row
        assert close((self.weight(w, t, c, h, s) - w) @ x, y)


class RandLora(Method):
    name = "randlora"
    record = "anchors 1.2, RandLoRA"
    cases = (
        (linear(5, 4), {"rank": 3, "alpha": 2, "layout": "paper"}),
        (linear(5, 4), {"rank": 3, "alpha": 2, "layout": "peft"}),
        (linear(3, 6), {"rank": 1, "alpha": 4, "layout": "peft"}),
        (linear(4, 7), {"rank": 2, "alpha": 3, "layout": "peft"}),
    )

    def bases(self, h, s):
        return -(-min(s.out, s.row) // h["rank"])

    def base(self, draw, h, s):
        w, n, r = draw.values((s.out, s.row)), self.bases(h, s), h["rank"]
        small, large = sorted((s.out, s.row))
        return w, {"randlora_A": draw.values((r, 1, small)), "randlora_B": draw.values((large, n, r))}

    def shapes(self, h, s):
        n = self.bases(h, s)
        return {"randlora_lambda": (h["rank"], n), "randlora_gamma": (n, min(s.out, s.row))}

    def count(self, h, s):
        return self.bases(h, s) * (h["rank"] + min(s.out, s.row))

    def start(self, t, w, b, c, h, s):
        return {**t, "randlora_lambda": 0 * t["randlora_lambda"]}

    def weight(self, w, t, c, h, s):
        down = t["randlora_lambda"][:, :, None] * c["randlora_A"] * t["randlora_gamma"][None]
        if h["layout"] == "paper":
            down = down.transpose(1, 0, 2)
        up = c["randlora_B"].reshape(len(c["randlora_B"]), -1)
        tall = up @ down.reshape(-1, down.shape[2])
        return w + h["alpha"] / h["rank"] * (tall if s.row <= s.out else tall.T)

    def holds(self, w, b, t, c, h, s, draw):
        if h["layout"] == "paper" or h["rank"] == 1:
            bases = range(self.bases(h, s))
            tall = sum(
                c["randlora_B"][:, j]
                @ np.diag(t["randlora_lambda"][:, j])
                @ c["randlora_A"][:, 0]
                @ np.diag(t["randlora_gamma"][j])
                for j in bases
            )
            tall = tall if s.row <= s.out else tall.T
            assert close(self.weight(w, t, c, h, s), w + h["alpha"] / h["rank"] * tall)


def orthonormal(columns):
    """Gram-Schmidt with LAPACK's signs."""
    found = []
    signs = np.sign(np.diag(np.linalg.qr(stop(columns))[1]))
    for column in columns.T:
        for earlier in found:
            column = column - (earlier @ column) * earlier
        found.append(column / norm(column))
    return np.array(found).T * signs


class Deft(Method):
    name = "deft"
    record = "anchors 1.2, DEFT"
    cases = (
        (linear(5, 4), {"rank": 2, "alpha": 2, "decomposition": "relu", "para": False}),
        (linear(5, 3), {"rank": 2, "alpha": 3, "decomposition": "qr", "para": False}),
        (linear(4, 6), {"rank": 3, "alpha": 3, "decomposition": "qr", "para": True}),
    )

    def shapes(self, h, s):
        projection = {"deft_P": (s.out, h["rank"])}
        return projection if h["para"] else projection | {"deft_R": (h["rank"], s.row)}

    def count(self, h, s):
        return h["rank"] * (s.out + (0 if h["para"] else s.row))

    def unlike_base(self, h):
        # Pure removal cannot be the identity.
        return h["para"]

    def start(self, t, w, b, c, h, s):
        right = self.bases(t, h)[1]
        return {**t, "deft_R": h["rank"] / h["alpha"] * right.T @ w}

    def bases(self, t, h):
        if h["decomposition"] == "relu":
            return t["deft_P"], t["deft_P"] * (np.real(t["deft_P"]) > 0)
        basis = orthonormal(t["deft_P"])
        return basis, basis

    def weight(self, w, t, c, h, s):
        basis, right = self.bases(t, h)
        injected = 0 if h["para"] else h["alpha"] / h["rank"] * t["deft_R"]
        return w + basis @ (injected - right.T @ w)

    def holds(self, w, b, t, c, h, s, draw):
        if h["decomposition"] == "qr":
            basis = orthonormal(t["deft_P"])
            assert close(basis, np.linalg.qr(t["deft_P"])[0])
        if h["para"]:
            assert close(basis.T @ self.weight(w, t, c, h, s), np.zeros((h["rank"], s.row)))
