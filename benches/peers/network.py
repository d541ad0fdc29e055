"""The float network of a quantized ONNX model, as PyTorch runs it: weights dequantized, rounding of activations left out."""

import math

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from graph import read


# Whose constant operands are tensors; the rest have attributes for operands.
ON_TENSORS = {"Add", "Sub", "Mul", "Pow", "Max", "MatMul", "Concat", "Gather"}


class Layer(nn.Module):
    """A convolution or linear layer: frozen, with factors beside it, or trained itself."""

    def __init__(self, weight, bias, attributes):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias), requires_grad=False)
        self.groups = attributes.get("group", 1)
        self.stride = tuple(attributes.get("strides", (1, 1)))
        self.dilation = tuple(attributes.get("dilations", (1, 1)))
        self.pads = attributes.get("pads", [0, 0, 0, 0])
        self.linear = attributes.get("linear", 0)
        self.down = self.up = None

    def add_factors(self, rank):
        self.down = nn.Parameter(torch.randn(rank, *self.weight.shape[1:]) / self.weight[0].numel() ** 0.5)
        self.up = nn.Parameter(torch.zeros(self.weight.shape[0], rank, 1, 1))

    def train_all(self):
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.requires_grad_(True)

    def forward(self, x):
        if self.linear:
            return self.convolve(x[:, :, None, None])[:, :, 0, 0]
        return self.convolve(x)

    def convolve(self, x):
        top, left, bottom, right = self.pads
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        if self.down is None:
            return y
        return y + F.conv2d(F.conv2d(x, self.down, None, self.stride, padding, self.dilation), self.up)


class Network(nn.Module):
    """Everything up to the tensor `features`, then a head of our own where there are classes for it."""

    def __init__(self, path, features, classes=0):
        super().__init__()
        graph = read(path)
        self.constants = dict(graph["constants"])
        self.shape, self.features = list(graph["inputs"].values())[0], features
        self.input = list(graph["inputs"])[0]
        self.layers, self.steps = nn.ModuleDict(), []
        for kind, names, output, attributes in graph["nodes"]:
            self.take(kind, names, output, attributes)
        self.steps, self.made = self.needed(), {}
        self.layers = nn.ModuleDict({step[0]: self.layers[step[0]] for step in self.steps if step[0] in self.layers})
        self.head = nn.Linear(graph["widths"][features], classes) if classes else nn.Identity()

    def needed(self):
        """The steps that the features depend on."""
        wanted, kept = {self.features}, []
        for step in reversed(self.steps):
            if step[2] in wanted:
                wanted.update(step[1])
                kept.append(step)
        return kept[::-1]

    def take(self, kind, names, output, attributes):
        """Folds what depends on constants alone; keeps the rest as a step."""
        values = [self.constants.get(name) for name in names]
        if kind == "Constant":
            self.constants[output] = attributes["value"]
        elif kind in ("QuantizeLinear", "DequantizeLinear") and values[0] is None:
            self.steps.append(("Identity", names[:1], output, {}))
        elif kind == "DequantizeLinear":
            self.constants[output] = dequantize(values, attributes.get("axis", 1))
        elif kind == "Transpose" and values[0] is not None:
            self.constants[output] = np.ascontiguousarray(values[0].transpose(attributes["perm"]))
        elif kind == "Conv":
            self.add_layer(values[1], values[2] if len(values) > 2 else None, attributes, names, output)
        elif kind in ("MatMul", "Gemm") and values[1] is not None:
            weight = values[1] if attributes.get("transB", 0) else values[1].T
            bias = values[2] if len(values) > 2 else None
            self.add_layer(np.ascontiguousarray(weight)[:, :, None, None], bias, {"linear": 1}, names, output)
        else:
            self.steps.append((kind, names, output, attributes))

    def add_layer(self, weight, bias, attributes, names, output):
        key = f"layer{len(self.layers)}"
        self.layers[key] = Layer(weight, bias, attributes)
        self.steps.append((key, names[:1], output, {}))

    def forward(self, x):
        values = {self.input: x}
        for kind, names, output, attributes in self.steps:
            operands = [values[n] if n in values else self.constants.get(n) for n in names]
            if kind in ON_TENSORS:
                operands = [v if torch.is_tensor(v) else self.constant(n, x) for n, v in zip(names, operands)]
            values[output] = self.layers[kind](operands[0]) if kind in self.layers else apply(kind, operands, attributes)
        return self.head(values[self.features].flatten(1))

    def constant(self, name, like):
        """A constant where `like` is, reals as it has them, made once: a CUDA graph has no room for copies from here."""
        if name not in self.made:
            values = torch.tensor(self.constants[name], device=like.device)
            self.made[name] = values.to(like.dtype) if values.is_floating_point() else values
        return self.made[name]


def dequantize(values, axis):
    codes, scale = values[0].astype(np.float32), values[1]
    zero = values[2].astype(np.float32) if len(values) > 2 else np.float32(0)
    if scale.ndim == 1 and scale.size > 1:
        shape = [-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)]
        scale, zero = scale.reshape(shape), np.broadcast_to(zero, scale.shape).reshape(shape)
    return ((codes - zero) * scale).astype(np.float32)


def apply(kind, operands, attributes):
    x = operands[0]
    match kind:
        case "Identity":
            return x
        case "Clip":
            low, high = (None if v is None else float(v) for v in (operands[1:] + [None, None])[:2])
            return torch.clamp(x, low, high)
        case "Relu":
            return F.relu(x)
        case "Add":
            return x + operands[1]
        case "Sub":
            return x - operands[1]
        case "Mul":
            return x * operands[1]
        case "Pow":
            return x ** operands[1]
        case "Max":
            return torch.maximum(x, operands[1])
        case "MatMul":
            return x @ operands[1]
        case "Sqrt" | "Log" | "Tanh" | "Reciprocal":
            return getattr(torch, kind.lower())(x)
        case "AveragePool":
            return F.avg_pool2d(x, attributes["kernel_shape"], attributes.get("strides"))
        case "Sigmoid":
            return torch.sigmoid(x)
        case "Softmax":
            return torch.softmax(x, attributes.get("axis", -1))
        case "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        case "ReduceMean":
            return x.mean(tuple(attributes["axes"]), keepdim=bool(attributes.get("keepdims", 1)))
        case "Flatten":
            return x.flatten(attributes.get("axis", 1))
        case "Reshape":
            return x.reshape(extents([int(v) for v in operands[1]], x))
        case "Concat":
            return torch.cat(operands, attributes["axis"])
        case "Gather":
            at = attributes.get("axis", 0)
            return x.index_select(at, operands[1].flatten()).reshape(*x.shape[:at], *operands[1].shape, *x.shape[at + 1 :])
        case "Slice":
            return sliced(x, *operands[1:])
        case "Unsqueeze":
            axes = attributes["axes"] if "axes" in attributes else operands[1].tolist()
            for axis in sorted(axes):
                x = x.unsqueeze(axis)
            return x
        case "Squeeze":
            axes = attributes["axes"] if "axes" in attributes else operands[1].tolist()
            return x.squeeze(tuple(int(a) for a in axes))
        case "Transpose":
            return x.permute(*attributes["perm"])
        case _:
            raise NotImplementedError(f"no operator {kind} in the networks of this bench")


def extents(wanted, x):
    """What Reshape asks for, its first extent that of `x` where the network was written for another batch."""
    if wanted[0] != -1 and (-1 in wanted or math.prod(wanted) != x.numel()):
        wanted[0] = x.shape[0]
    return wanted


def sliced(x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps):
        cut[axis] = slice(int(start), int(end), int(step))
    return x[tuple(cut)]
