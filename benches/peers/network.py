"""The float network of a quantized ONNX model, as PyTorch runs it: weights dequantized, rounding of activations left out."""

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import nn
import torch.nn.functional as F


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
        self.down = self.up = None

    def add_factors(self, rank):
        self.down = nn.Parameter(torch.randn(rank, *self.weight.shape[1:]) / self.weight[0].numel() ** 0.5)
        self.up = nn.Parameter(torch.zeros(self.weight.shape[0], rank, 1, 1))

    def train_all(self):
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.requires_grad_(True)

    def forward(self, x):
        top, left, bottom, right = self.pads
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        if self.down is None:
            return y
        return y + F.conv2d(F.conv2d(x, self.down, None, self.stride, padding, self.dilation), self.up)


class Network(nn.Module):
    """Everything up to the features of the last linear layer, then a head of our own."""

    def __init__(self, path, features, classes):
        super().__init__()
        graph = onnx.load(path).graph
        self.constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        self.input, self.features = graph.input[0].name, features
        self.layers, self.steps = nn.ModuleDict(), []
        for node in graph.node:
            self.take(node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
        self.steps = self.needed()
        self.head = nn.Linear(self.width(graph), classes)

    def needed(self):
        """The steps that the features depend on."""
        wanted, kept = {self.features}, []
        for step in reversed(self.steps):
            if step[2] in wanted:
                wanted.update(step[1])
                kept.append(step)
        return kept[::-1]

    def width(self, graph):
        shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
        return shapes[self.features][-1]

    def take(self, node, attributes):
        """Folds what depends on constants alone; keeps the rest as a step."""
        names = list(node.input)
        values = [self.constants.get(name) for name in names]
        if node.op_type == "Constant":
            self.constants[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"])
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear") and values[0] is None:
            self.steps.append(("Identity", names[:1], node.output[0], {}))
        elif node.op_type == "DequantizeLinear":
            self.constants[node.output[0]] = dequantize(values, attributes.get("axis", 1))
        elif node.op_type == "Conv":
            key = f"layer{len(self.layers)}"
            self.layers[key] = Layer(values[1], values[2] if len(values) > 2 else None, attributes)
            self.steps.append((key, names[:1], node.output[0], {}))
        else:
            self.steps.append((node.op_type, names, node.output[0], attributes))

    def forward(self, x):
        values = {self.input: x}
        for kind, names, output, attributes in self.steps:
            operands = [values[n] if n in values else self.constants.get(n) for n in names]
            values[output] = self.layers[kind](operands[0]) if kind in self.layers else apply(kind, operands, attributes)
        return self.head(values[self.features].flatten(1))


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
            return x + (operands[1] if torch.is_tensor(operands[1]) else torch.tensor(operands[1]))
        case "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        case "ReduceMean":
            return x.mean(tuple(attributes["axes"]), keepdim=bool(attributes.get("keepdims", 1)))
        case "Flatten":
            return x.flatten(attributes.get("axis", 1))
        case "Reshape":
            return x.reshape([x.shape[0], *[int(v) for v in operands[1]][1:]])
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
