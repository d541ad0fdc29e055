"""Writes the golden values of the optimizer and loss tests, computed by PyTorch in float64.

Run from this folder: python golden.py > golden/torch.csv
Each line is a name followed by values.
"""

import torch

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
STEPS, SIZE, RATE, DECAY = 6, 5, 0.05, 0.1


def line(name, values):
    print(",".join([name] + [f"{float(v):.9e}" for v in torch.as_tensor(values).detach().flatten()]))


def optimizers(parameters):
    return {
        "sgd": torch.optim.SGD(parameters, lr=RATE, weight_decay=DECAY),
        "momentum": torch.optim.SGD(parameters, lr=RATE, momentum=0.9, weight_decay=DECAY),
        "adam": torch.optim.Adam(parameters, lr=RATE, weight_decay=DECAY),
        "adamw": torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY),
    }


def plain():
    start, gradients = torch.randn(SIZE), torch.randn(STEPS, SIZE)
    line("start", start)
    for step in range(STEPS):
        line(f"gradient{step}", gradients[step])
    for name in optimizers([torch.nn.Parameter(start.clone())]):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = optimizers([parameter])[name]
        for step in range(STEPS):
            parameter.grad = gradients[step].clone()
            optimizer.step()
            line(f"{name}{step}", parameter)


def lora():
    """y = W x + s B A x, squared error: the effective factor s B and A after every step."""
    rank, scale, rows, columns = 2, 4.0, 3, 4
    weight, x, target = torch.randn(rows, columns), torch.randn(columns, 7), torch.randn(rows, 7)
    a, b = torch.rand(rank, columns) - 0.5, torch.zeros(rows, rank)
    for name, value in (("weight", weight), ("x", x), ("target", target), ("a", a)):
        line(f"lora.{name}", value)
    for name in optimizers([torch.nn.Parameter(a.clone())]):
        down, up = torch.nn.Parameter(a.clone()), torch.nn.Parameter(b.clone())
        optimizer = optimizers([down, up])[name]
        for step in range(STEPS):
            optimizer.zero_grad()
            ((weight + scale * up @ down) @ x - target).square().mean().backward()
            optimizer.step()
            line(f"lora.{name}.down{step}", down)
            line(f"lora.{name}.up{step}", scale * up)


def losses():
    functional = torch.nn.functional
    logits, soft = torch.randn(4) * 3, torch.softmax(torch.randn(4), 0)
    line("loss.logits", logits)
    line("loss.soft", soft)
    marks = torch.tensor([0.0, 1.0, 1.0, 0.0])
    line("loss.marks", marks)
    cases = {
        "hard": lambda z: functional.cross_entropy(z, torch.tensor(2)),
        "smooth": lambda z: functional.cross_entropy(z, torch.tensor(2), label_smoothing=0.1),
        "soft": lambda z: functional.cross_entropy(z, soft, label_smoothing=0.1),
        "binary": lambda z: functional.binary_cross_entropy_with_logits(z, marks),
        "squared": lambda z: functional.mse_loss(z, marks),
    }
    for name, loss in cases.items():
        z = logits.clone().requires_grad_()
        value = loss(z)
        value.backward()
        line(f"loss.{name}.value", value)
        line(f"loss.{name}.grad", z.grad)


plain()
lora()
losses()
