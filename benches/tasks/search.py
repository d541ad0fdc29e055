"""Recipes for the last blocks of a convolutional network, tried on a GPU: all inner folds and seeds train at once.

    cargo bench --bench tasks -- TASK --dump CLIPS.npz
    python benches/tasks/search.py MODEL.onnx=FEATURES CLIPS.npz BLOCKS GRID.json

GRID.json is a list of objects that say what differs from RECIPE: LoRA on pointwise layers, or with a rank of 0 every weight and
bias. Printed is the accuracy on inner folds of every split's training clips, never on a split's test clips. The network is the
float one of benches/peers/network.py: what is found here is a recipe, and its figure is the one that `cargo bench --bench tasks`
then gives.
"""

import json
import math
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peers"))
from network import Network, apply  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS, FOLDS = 6, 3
# Runs that train side by side.
WIDTH = 36

RECIPE = {
    "rate": 1e-3, "decay": 0.01, "head_rate": 2e-3, "head_decay": 0.01, "epochs": 30, "batch": 8, "views": 8, "rank": 8,
    "alpha": 8, "smoothing": 0.0, "dropout": 0.0, "clip": 1.0, "warm_up": 0.05, "schedule": "cosine",
}  # fmt: skip


class Tail:
    """The last blocks, of depthwise and pointwise layers in turn, for many adapters at once."""

    def __init__(self, network, blocks):
        at = [k for k, step in enumerate(network.steps) if self.is_convolution(network, step)][-2 * blocks]
        self.network, self.prefix_steps, self.entry = network, network.steps[:at], network.steps[at][1][0]
        steps = network.steps[at:]
        self.layers = [network.layers[step[0]] for step in steps if self.is_convolution(network, step)]
        self.pointwise = [layer for layer in self.layers if layer.groups == 1]
        # Every layer of these networks ends in the same clip.
        _, names, _, attributes = next((step for step in steps if step[0] == "Clip"), ("", [], "", {"min": 0.0}))
        bounds = [network.constants[name] if name else None for name in names[1:]]
        bounds = bounds or [attributes.get("min"), attributes.get("max")]
        self.low, self.high = ([None if bound is None else float(bound) for bound in bounds] + [None])[:2]

    @staticmethod
    def is_convolution(network, step):
        return step[0] in network.layers and not network.layers[step[0]].linear

    @torch.no_grad()
    def prefix(self, x):
        values = {self.network.input: x}
        for kind, names, output, attributes in self.prefix_steps:
            operands = [values[n] if n in values else self.network.constants.get(n) for n in names]
            layers = self.network.layers
            values[output] = layers[kind](operands[0]) if kind in layers else apply(kind, operands, attributes)
        return values[self.entry]

    def __call__(self, x, factors=(), deltas=(), dropout=0.0):
        """Embeddings [runs, patches, features] of x [runs, patches, C, H, W]; `factors` are (down, up) of each pointwise layer,
        `deltas` what is added to (weight, bias) of each layer."""
        factors, deltas = iter(factors), iter(deltas)
        for layer in self.layers:
            runs, patches, channels, height, width = x.shape
            delta, shift = next(deltas, (0.0, 0.0))
            weight, bias = layer.weight[None] + delta, layer.bias[None] + shift
            if layer.groups != 1:
                # The runs are groups of channels.
                weight, bias = weight.expand(runs, *weight.shape[1:]), bias.expand(runs, -1)
                top, left, bottom, right = layer.pads
                x = F.pad(x.transpose(0, 1).flatten(1, 2), (left, right, top, bottom))
                y = F.conv2d(
                    x, weight.flatten(0, 1), bias.flatten(), layer.stride, 0, layer.dilation, runs * layer.groups
                )
                x = y.view(patches, runs, -1, *y.shape[2:]).transpose(0, 1)
            else:
                x = x.reshape(runs, patches, channels, height * width)
                y = torch.matmul(weight[:, None, :, :, 0, 0], x) + bias[:, None, :, None]
                down, up = next(factors, (None, None))
                if down is not None:
                    low = torch.einsum("rkc,rncs->rnks", down, F.dropout(x, dropout) if dropout else x)
                    y = y + torch.einsum("rok,rnks->rnos", up, low)
                x = y.view(runs, patches, -1, height, width)
            x = torch.clamp(x, self.low, self.high)
        return x.mean((3, 4))


class Clips:
    """Clips behind the frozen prefix, their features under the base, labels, and inner folds."""

    def __init__(self, path, tail):
        held = np.load(path)
        self.labels = torch.tensor(held["labels"], device=DEVICE)
        self.groups, self.learned = held["groups"], held["learned"].astype(bool)
        count, self.views, self.patches = held["patches"].shape[:3]
        inputs = torch.tensor(held["patches"], dtype=torch.float32).reshape(-1, *tail.network.shape[1:])
        behind = torch.cat([tail.prefix(part.to(DEVICE)) for part in inputs.split(64)])
        self.prefixes = behind.view(count, self.views, self.patches, *behind.shape[1:])
        with torch.no_grad():
            each = [tail(part.flatten(0, 2)[None])[0] for part in self.prefixes.split(4)]
        lengths = torch.tensor(held["lengths"], device=DEVICE)[..., None]
        # What a patch counts in the mean over its clip.
        self.shares = (torch.arange(self.patches, device=DEVICE) < lengths) / lengths
        features = torch.cat(each).view(count, self.views, self.patches, -1)
        self.features = torch.einsum("cvp,cvpd->cvd", self.shares, features)

    def inner(self, seed):
        """(train, test) of three folds of each split's training clips, dealt by class, groups kept together."""
        rng, runs = np.random.default_rng(seed), []
        labels = self.labels.cpu().numpy()
        for learned in self.learned:
            train, place, dealt = np.flatnonzero(learned), {}, 0
            for clip in sorted(rng.permutation(train), key=lambda clip: labels[clip]):
                if self.groups[clip] not in place:
                    place[self.groups[clip]] = dealt % FOLDS
                    dealt += 1
            fold = np.array([place[self.groups[clip]] for clip in train])
            runs += [(train[fold != which], train[fold == which]) for which in range(FOLDS)]
        return runs


def factor(recipe, step, steps):
    """What rates are multiplied with at `step` of each run's `steps`."""
    warm = (steps * recipe["warm_up"]).floor().clamp(min=1)
    left = 1 - ((step + 1 - warm) / (steps - warm)).clamp(0, 1)
    shape = {"cosine": 0.5 - 0.5 * torch.cos(math.pi * left), "linear": left, "constant": torch.ones_like(left)}
    return torch.where(step < warm, (step + 1) / warm, shape[recipe["schedule"]]) * (step < steps)


def train(tail, clips, runs, recipe, seed):
    """Hits of each run on its test clips."""
    torch.manual_seed(seed)
    rng, count, batch = np.random.default_rng(seed), len(runs), recipe["batch"]
    seen = [clips.features[learned][:, : recipe["views"]].flatten(0, 1) for learned, _ in runs]
    mean = torch.stack([features.mean(0) for features in seen])[:, None]
    deviation = torch.stack([features.std(0, unbiased=False) + 1e-5 for features in seen])[:, None]
    classes, width, whole = int(clips.labels.max()) + 1, mean.shape[-1], recipe["rank"] == 0
    scale, terms = recipe["alpha"] / max(recipe["rank"], 1), []
    for layer in tail.layers if whole else tail.pointwise:
        if whole:
            terms += [torch.zeros(count, *part.shape, device=DEVICE) for part in (layer.weight, layer.bias)]
            continue
        outputs, inputs = layer.weight.shape[:2]
        down = (torch.rand(count, recipe["rank"], inputs, device=DEVICE) * 2 - 1) / inputs**0.5
        terms += [down, torch.zeros(count, outputs, recipe["rank"], device=DEVICE)]
    head = [torch.zeros(count, classes, width, device=DEVICE), torch.zeros(count, classes, device=DEVICE)]
    parameters = [parameter.requires_grad_() for parameter in terms + head]
    moments = [[torch.zeros_like(parameter) for parameter in parameters] for _ in range(2)]

    def logits(chosen, views):
        x = clips.prefixes[chosen, views].flatten(1, 2)
        dropout = recipe["dropout"] if torch.is_grad_enabled() else 0.0
        pairs = list(zip(terms[::2], terms[1::2]))
        factors = [] if whole else [(down, up * scale) for down, up in pairs]
        features = tail(x, factors, pairs if whole else [], dropout)
        features = features.view(*chosen.shape, clips.patches, width)
        features = torch.einsum("rbp,rbpd->rbd", clips.shares[chosen, views], features)
        return torch.einsum("rkd,rbd->rbk", head[0], (features - mean) / deviation) + head[1][:, None]

    orders = [
        [order[at : at + batch] for _ in range(recipe["epochs"]) for order in [rng.permutation(learned)]
         for at in range(0, len(order), batch)]
        for learned, _ in runs
    ]  # fmt: skip
    steps = torch.tensor([len(order) for order in orders], device=DEVICE)
    for step in range(int(steps.max())):
        chosen, weights = np.zeros((count, batch), int), np.zeros((count, batch), np.float32)
        for run, order in enumerate(orders):
            if step < len(order):
                chosen[run, : len(order[step])] = order[step]
                weights[run, : len(order[step])] = 1 / len(order[step])
        chosen, weights = torch.tensor(chosen, device=DEVICE), torch.tensor(weights, device=DEVICE)
        views = torch.tensor(rng.integers(0, min(recipe["views"], clips.views), chosen.shape), device=DEVICE)
        truth = clips.labels[chosen].flatten()
        losses = F.cross_entropy(
            logits(chosen, views).flatten(0, 1), truth, reduction="none", label_smoothing=recipe["smoothing"]
        )
        gradients = torch.autograd.grad((losses * weights.flatten()).sum(), parameters)
        with torch.no_grad():
            norm = sum((gradient.flatten(1) ** 2).sum(1) for gradient in gradients).sqrt()
            clipped = (recipe["clip"] / norm).clamp(max=1.0)
            rates = factor(recipe, step, steps)
            for at, (parameter, gradient) in enumerate(zip(parameters, gradients)):
                each = [count] + [1] * (parameter.dim() - 1)
                rate, decay = ("rate", "decay") if at < len(terms) else ("head_rate", "head_decay")
                move, gradient = (rates * recipe[rate]).view(each), gradient * clipped.view(each)
                first, second = moments[0][at].lerp_(gradient, 0.1), moments[1][at].lerp_(gradient**2, 0.001)
                root = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                parameter.mul_(1 - move * recipe[decay]).sub_(move * first / (1 - 0.9 ** (step + 1)) / root)
            for delta, layer in zip(terms[::2], tail.layers if whole else []):
                # What the base's int8 weights can hold.
                bound = layer.weight.abs().amax((1, 2, 3), keepdim=True)
                delta.clamp_(-bound - layer.weight, bound - layer.weight)
    with torch.no_grad():
        longest = max(len(judged) for _, judged in runs)
        padded = np.stack([np.resize(judged, longest) for _, judged in runs])
        padded = torch.tensor(padded, device=DEVICE)
        found = (logits(padded, torch.zeros_like(padded)).argmax(-1) == clips.labels[padded]).cpu().numpy()
    return [hit for row, (_, judged) in zip(found, runs) for hit in row[: len(judged)]]


def main(network, clips, blocks, grid):
    path, features = network.split("=")
    tail = Tail(Network(path, features).to(DEVICE).eval(), int(blocks))
    clips = Clips(clips, tail)
    runs = [run for seed in range(SEEDS) for run in clips.inner(seed)]
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name() if DEVICE == 'cuda' else 'CPU'}, {len(runs)} runs a row")
    print("| recipe | accuracy | judgments | s |\n| --- | --- | --- | --- |")
    for change in json.loads(pathlib.Path(grid).read_text()):
        start, hits = time.monotonic(), []
        for first in range(0, len(runs), WIDTH):
            hits += train(tail, clips, runs[first : first + WIDTH], {**RECIPE, **change}, first)
        print(f"| {json.dumps(change)} | {np.mean(hits):.3f} | {len(hits)} | {time.monotonic() - start:.0f} |", flush=True)


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    main(*sys.argv[1:])
