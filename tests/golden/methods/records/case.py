"""What a case is, how it is drawn, and how its gradients are taken.

A method is a class: the shapes of its trained tensors, their count, its effective weight as a function of the
base's weight, and what its record says must hold. `record` names the part and heading of the project's notes on
the papers; where a note is open, the module's docstring says which reading was taken. The weight of a
convolution is read as the matrix [out, inputs / groups * kernel], the published flattening of
[out, inputs / groups, kh, kw].

Gradients are those of sum(G * W') + sum(g * b') with fixed random G and g. They are taken by the complex step,
exact to rounding; `stop` drops the perturbation, so a node that a record detaches is held constant. Every case
then takes them again by central differences, with the detached nodes replayed from the unperturbed run, and
the two agree.

Fields of a case in records.json: `method`, `family` (the module), `record`, `definition` (verified or inferred),
`site` (kind, out, in, kernel, groups), `hyper`, `parameters` (trained scalars), `starts_as_base`; then arrays as
{shape, data}, data row-major: `weight` and `bias` of the base, `tensors` (trained), `constants` (what the method
drew, derived from the base, or was given), `effective_weight` and `effective_bias`, `upstream` and
`upstream_bias` (G and g), `gradients` by tensor, `expected` (selections, codes, schedules).
"""

import zlib
from typing import NamedTuple

import numpy as np

METHODS = []


class Site(NamedTuple):
    """The layer that is adapted."""

    kind: str
    out: int
    inputs: int
    kernel: tuple = ()
    groups: int = 1

    @property
    def window(self):
        return int(np.prod(self.kernel, dtype=int))

    @property
    def row(self):
        """Length of a row of the weight read as a matrix."""
        return self.inputs // self.groups * self.window

    @property
    def shape(self):
        """Shape of the weight as published."""
        return (self.out, self.inputs // self.groups, *self.kernel)


def linear(out, inputs):
    return Site("linear", out, inputs)


def conv(out, inputs, kernel, groups=1):
    return Site("conv", out, inputs, tuple(kernel), groups)


class Draw:
    """Values with ten significant digits at most, so that they are the same numbers in f32."""

    def __init__(self, name, coarse=False):
        self.steps = 4 if coarse else 512
        self.generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))

    def values(self, shape, scale=1.0):
        """Multiples of 1/512 within [-scale, scale], none zero; of 1/4, so that many are equal, in a coarse case."""
        sign = self.generator.choice([-1.0, 1.0], size=shape)
        return sign * self.generator.integers(1, int(self.steps * scale) + 1, size=shape) / self.steps

    def near(self, value, shape):
        return value + self.values(shape, 0.25)

    def places(self, count, of):
        """Distinct integers below `of`, in the order drawn."""
        return self.generator.permutation(of)[:count]


class _Tape:
    """Values of the detached nodes of one evaluation."""

    def __init__(self):
        self.held, self.at = [], None

    def keep(self, value):
        if self.at is None:
            self.held.append(value)
            return value
        self.at += 1
        return self.held[self.at - 1]


_tape = _Tape()


def stop(value):
    """The value as a constant: nothing flows through it."""
    return _tape.keep(np.array(np.real(value), dtype=float))


def softmax(logits, axis=-1):
    powers = np.exp(logits - stop(logits).max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def magnitude(x):
    """|x| that a complex step passes through."""
    return x * np.sign(np.real(x))


def norm(x, axis=None, keepdims=False):
    """Root of the sum of squares; no conjugate, so that a complex step passes through."""
    return np.sqrt((x * x).sum(axis=axis, keepdims=keepdims))


def svd(matrix):
    """Thin SVD with the sign rule of the records: the entry of largest magnitude of each u is positive.

    Returns U [out, k], the singular values, and V [in, k]."""
    u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    largest = np.abs(u).argmax(axis=0)
    signs = np.sign(u[largest, np.arange(u.shape[1])])
    return u * signs, values, vt.T * signs


def ranked(scores, count):
    """Flat indices of the `count` largest, largest first; ties go to the lowest index."""
    scores = np.real(np.asarray(scores)).ravel()
    return np.lexsort((np.arange(scores.size), -scores))[:count]


def best(scores, count):
    """The same indices in ascending order."""
    return np.sort(ranked(scores, count))


def scatter(shape, indices, values):
    """Zeros with values added at flat indices; repeated indices add up."""
    flat = np.zeros(int(np.prod(shape)), dtype=np.asarray(values).dtype)
    np.add.at(flat, np.asarray(indices).ravel(), np.asarray(values).ravel())
    return flat.reshape(shape)


def block_diagonal(parts):
    """Blocks, of any sizes, along the diagonal."""
    widths = [part.shape[1] for part in parts]
    return np.block(
        [
            [part if i == j else np.zeros((part.shape[0], width)) for j, width in enumerate(widths)]
            for i, part in enumerate(parts)
        ]
    )


def close(a, b, bound=1e-10):
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= bound * max(1.0, np.abs(b).max(initial=0))


class Method:
    """One method. Subclasses with a `name` are registered."""

    name = family = record = None
    """The method a class is of, where that is not its name: a case of `qwha` with another start."""
    of = None
    definition = "verified"
    """What the base is at the start: `True` where a fresh adapter computes the base."""
    identity = True
    biased = False
    cases = ()

    def __init_subclass__(cls):
        if "name" in cls.__dict__:
            cls.family = cls.__module__
            METHODS.append(cls())

    def base(self, draw, h, s):
        """The base's weight as a matrix, and the method's constants."""
        return draw.values((s.out, s.row)), {}

    def shapes(self, h, s):
        raise NotImplementedError

    def tensors(self, draw, w, c, h, s):
        return {name: draw.values(shape) for name, shape in self.shapes(h, s).items()}

    def count(self, h, s):
        """Trained scalars, by the record's formula."""
        raise NotImplementedError

    def parameters(self, h, s):
        return self.count(h, s)

    def start(self, t, w, b, c, h, s):
        """The tensors as the record initializes them; random ones may keep any values."""
        raise NotImplementedError

    def weight(self, w, t, c, h, s):
        raise NotImplementedError

    def bias(self, b, t, c, h, s):
        return b

    def apply(self, w, b, t, c, h, s):
        return self.weight(w, t, c, h, s), self.bias(b, t, c, h, s)

    def expected(self, w, t, c, h, s):
        """Further results to compare: selections, codes, schedules."""
        return {}

    def holds(self, w, b, t, c, h, s, draw):
        """Asserts what the record says must hold."""

    def unlike_base(self, h):
        return not self.identity


def _loss(method, g, gb, w, b, t, c, h, s):
    weight, bias = method.apply(w, b, t, c, h, s)
    return (g * weight).sum() + ((gb * bias).sum() if b is not None else 0.0)


def gradients(method, g, gb, w, b, t, c, h, s):
    """Of every trained tensor: by the complex step, checked by central differences."""
    found = {}
    _tape.held, _tape.at = [], None
    _loss(method, g, gb, w, b, t, c, h, s)
    held = list(_tape.held)
    for name, value in t.items():
        exact, central = np.zeros(value.size), np.zeros(value.size)
        for i in range(value.size):
            step = np.zeros(value.size)
            step[i] = 1.0
            step = step.reshape(value.shape)

            def at(moved):
                return _loss(method, g, gb, w, b, {**t, name: moved}, c, h, s)

            _tape.held, _tape.at = [], None
            exact[i] = np.imag(at(value + 1e-30j * step)) / 1e-30
            _tape.held, _tape.at = held, 0
            ahead = at(value + 1e-5 * step)
            _tape.at = 0
            central[i] = (ahead - at(value - 1e-5 * step)) / 2e-5
        _tape.held, _tape.at = [], None
        assert close(central, exact, 1e-6), (method.name, h, name, central, exact)
        found[name] = exact.reshape(value.shape)
    return found


def build(method, index, s, h, ties=None):
    """One case as plain data. With `ties` its values are coarse, so that choices meet equal scores."""
    draw = Draw(f"{method.name} {index}", ties is not None)
    w, c = method.base(draw, h, s)
    b = draw.values((s.out,)) if method.biased else None
    t = method.tensors(draw, w, c, h, s)
    assert {k: v.shape for k, v in t.items()} == {k: tuple(v) for k, v in method.shapes(h, s).items()}, (
        method.name
    )
    assert sum(v.size for v in t.values()) == method.count(h, s), (method.name, h)
    if method.unlike_base(h):
        assert not close(method.apply(w, b, t, c, h, s)[0], w, 1e-3), method.name
    else:
        weight, bias = method.apply(w, b, method.start(t, w, b, c, h, s), c, h, s)
        assert close(weight, w) and (b is None or close(bias, b)), (
            method.name,
            "is not the base at its start",
        )
    g, gb = draw.values((s.out, s.row)), draw.values((s.out,))
    weight, bias = method.apply(w, b, t, c, h, s)
    assert np.isrealobj(weight) and np.isfinite(weight).all()
    method.holds(w, b, t, c, h, s, draw)
    case = {
        "method": method.of or method.name,
        "family": method.family,
        "record": method.record,
        "definition": method.definition,
        "site": {"kind": s.kind, "out": s.out, "in": s.inputs, "kernel": list(s.kernel), "groups": s.groups},
        "hyper": h,
        "parameters": method.parameters(h, s),
        "starts_as_base": not method.unlike_base(h),
        "weight": plain(w.reshape(s.shape)),
        "tensors": {k: plain(v) for k, v in t.items()},
        "constants": {k: plain(v) for k, v in c.items()},
        "effective_weight": plain(weight.reshape(s.shape)),
        "upstream": plain(g.reshape(s.shape)),
        "gradients": {
            k: plain(v)
            for k, v in gradients(method, g, gb if b is not None else None, w, b, t, c, h, s).items()
        },
        "expected": {k: plain(v) for k, v in method.expected(w, t, c, h, s).items()},
    }
    if b is not None:
        case |= {"bias": plain(b), "effective_bias": plain(bias), "upstream_bias": plain(gb)}
    return case


def plain(array):
    """Numbers that JSON holds, at thirteen significant digits; below 1e-15 they are rounding, and zero."""
    array = np.asarray(array)
    if array.dtype.kind in "iub":
        data = [int(v) for v in array.ravel()]
    else:
        data = [float(f"{float(v):.13g}") if abs(v) > 1e-15 else 0.0 for v in array.ravel()]
        data = [int(v) if v == int(v) and abs(v) < 1e9 else v for v in data]
    return {"shape": list(array.shape), "data": data}
