#!/usr/bin/env python3
"""Effective weights and parameter gradients of HF PEFT's own layers.

Writes `peft.json` beside this file. Needs peft 0.21.2, torch and numpy; made with torch 2.15.0.

    python tests/golden/methods/peft_goldens.py

One layer per case, in double precision once it is made, its parameters drawn and rounded to f32. The layer sees
the identity (or, for a convolution, every patch with a single one), so that its output less the
bias is the transpose of the effective weight. `delta` is that weight less the base's; `gradient`
is of the inner product of the weight with `direction`, and of `shift`, what is added to the bias, with its first column. Matrices are rows of published
order: input channel, height, width.
"""

import json
import pathlib

import numpy as np
import peft
import torch

CASES = []


def case(method, settings, config, out=5, inputs=7, kernel=None, fixed=None, starts=()):
    CASES.append(dict(method=method, settings=settings, config=config, out=out, inputs=inputs, kernel=kernel,
                      fixed=fixed, starts=starts))


def lora(**extra):
    return lambda: peft.LoraConfig(target_modules=["layer"], **extra)


def config(kind, **extra):
    return lambda: getattr(peft, kind)(target_modules=["layer"], **extra)


DORA = dict(rank=3, alpha=5)
for shape in [dict(), dict(out=4, inputs=3, kernel=3), dict(out=6, inputs=1)]:
    case("dora", DORA, lora(r=3, lora_alpha=5, use_dora=True), **shape)
for shape in [dict(), dict(out=8, inputs=3)]:
    case("pissa", dict(rank=2, alpha=3), lora(r=2, lora_alpha=3, init_lora_weights="pissa"), **shape)
case("vera", dict(rank=4), config("VeraConfig", r=4), out=9, inputs=8, fixed=("vera_A", "vera_B"))
for rank in [1, 3]:
    for shape in [dict(out=12, inputs=9), dict(out=4, inputs=3, kernel=3), dict(out=5, inputs=6, kernel=1)]:
        case("loha", dict(rank=rank, alpha=2), config("LoHaConfig", r=rank, alpha=2), **shape)
for rank, both in [(8, False), (1, False), (1, True)]:
    for shape in [dict(out=6, inputs=12), dict(out=9, inputs=10, kernel=3), dict(out=7, inputs=5)]:
        case("lokr", dict(rank=rank, alpha=4, decompose_both=str(both).lower()),
             config("LoKrConfig", r=rank, alpha=4, decompose_both=both), **shape)
for shape in [dict(), dict(out=4, inputs=3, kernel=3)]:
    case("hira", dict(rank=3), config("HiraConfig", r=3), **shape)
case("delora", {"rank": 3, "lambda": 15}, config("DeloraConfig", r=3, delora_lambda=15.0), out=9, inputs=8)
for shape in [dict(), dict(out=6, inputs=15), dict(out=16, inputs=8)]:
    case("fourierft", dict(frequencies=11, scale=150), config("FourierFTConfig", n_frequency=11, scaling=150.0),
         fixed=("indices",), **shape)
    case("waveft", dict(coefficients=11, scale=25), config("WaveFTConfig", n_frequency=11, scaling=25.0,
         wavelet_family="db1"), fixed=("indices",), **shape)
for terms in [0, 2, 3, 4, 5, 7]:
    exact = dict(use_cayley_neumann=terms != 0, num_cayley_neumann_terms=max(terms, 1))
    case("oft", dict(block=4, neumann_terms=terms), config("OFTConfig", r=0, oft_block_size=4, **exact), inputs=12)
case("oft", dict(block=9), config("OFTConfig", r=0, oft_block_size=9, use_cayley_neumann=False), inputs=3, kernel=3)
for shape in [dict(), dict(out=4, inputs=3, kernel=3)]:
    case("hra", dict(rank=4), config("HRAConfig", r=4), **shape)
for rank, inputs in [(3, 7), (4, 8), (7, 7)]:
    case("miss", dict(rank=rank), config("MissConfig", r=rank), inputs=inputs)
case("bone", dict(rank=4), config("MissConfig", r=4, init_weights="bat"), out=8, inputs=12)
ADALORA = dict(init_r=3, target_r=2, total_step=10, lora_alpha=5)
for shape in [dict(), dict(out=4, inputs=3, kernel=3)]:
    case("adalora", dict(rank=3, target_rank=2, alpha=5), config("AdaLoraConfig", **ADALORA), **shape)
case("beft", dict(), config("BeftConfig"))
case("boft", dict(block=4), config("BOFTConfig", boft_block_size=4), out=5, inputs=8)
case("boft", dict(block=3), config("BOFTConfig", boft_block_size=3), out=4, inputs=3, kernel=3)
case("boft", dict(block=2, factors=3), config("BOFTConfig", boft_block_size=2, boft_n_butterfly_factor=3), out=5,
     inputs=8)
case("boft", dict(block=4, factors=2), config("BOFTConfig", boft_block_size=4, boft_n_butterfly_factor=2), out=3,
     inputs=16)
for block, out, inputs in [(3, 6, 9), (4, 4, 8), (5, 5, 5)]:
    case("c3a", dict(block=block), config("C3AConfig", block_size=block), out=out, inputs=inputs)
for decomposition in ["relu", "qr"]:
    for para in [False, True]:
        settings = dict(rank=3, decomposition=decomposition, para=str(para).lower())
        case("deft", settings, config("DeftConfig", r=3, decomposition_method=decomposition, para=para))
case("deft", dict(rank=8, decomposition="qr"), config("DeftConfig", r=8, decomposition_method="qr"), out=2)
for grid, rank, hybrid in [(1, 3, 0), (2, 4, 0), (4, 4, 3)]:
    case("gralora", dict(grid=grid, rank=rank, hybrid_rank=hybrid, alpha=5),
         config("GraloraConfig", r=rank, gralora_k=grid, hybrid_r=hybrid, alpha=5), out=8, inputs=12)
for method, splits in [("poly", 1), ("mhr", 2)]:
    settings = dict(skills=3, tasks=2, task=1, rank=2, **({"splits": splits} if splits > 1 else {}))
    case(method, settings, config("PolyConfig", r=2, n_tasks=2, n_skills=3, n_splits=splits), out=4, inputs=6)
for terms in [0, 2, 4, 5]:
    case("psoft", dict(rank=3, neumann_terms=terms), config("PsoftConfig", r=3, psoft_alpha=3,
         use_cayley_neumann=terms != 0, num_cayley_neumann_terms=max(terms, 1)), fixed=("U", "S", "Vh"))
for rank, out, inputs in [(2, 5, 7), (3, 7, 5), (4, 3, 6)]:
    case("randlora", dict(rank=rank, alpha=6), config("RandLoraConfig", r=rank, randlora_alpha=6), out=out,
         inputs=inputs, fixed=("randlora_A", "randlora_B"))
for variant, group in [(1, 2), (2, 8), (4, 4)]:
    case("road", dict(variant=variant, group=group), config("RoadConfig", variant=f"road_{variant}",
         group_size=group), out=8)
case("tinylora", dict(rank=2, coefficients=5), config("TinyLoraConfig", r=2, u=5),
     fixed=("U", "S", "Vh", "tinylora_P"))

# Ours, and the end of PEFT's name where it is another.
NAMES = {
    "dora": ["lora_A", "lora_B", "lora_magnitude_vector"],
    "pissa": ["lora_A", "lora_B"],
    "vera": ["vera_lambda_b", "vera_lambda_d"],
    "loha": ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"],
    "lokr": ["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"],
    "hira": ["hira_A", "hira_B"],
    "delora": ["delora_A", "delora_B", "delora_lambda"],
    "fourierft": ["fourierft_spectrum"],
    "waveft": ["waveft_spectrum"],
    "oft": ["oft_R"],
    "hra": ["hra_u"],
    "miss": ["miss_block"],
    "bone": ["miss_block"],
    "adalora": ["lora_A", "lora_B", "lora_E"],
    "beft": ["beft_bias"],
    "boft": ["boft_R", "boft_s"],
    "c3a": ["c3a_kernel"],
    "deft": ["deft_P", "deft_R"],
    "gralora": ["gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"],
    "poly": ["poly_lora_A", "poly_lora_B", "module_logits"],
    "mhr": ["poly_lora_A", "poly_lora_B", "module_logits"],
    "psoft": ["psoft_R", "vector_a", "vector_b"],
    "randlora": ["randlora_lambda", "randlora_gamma"],
    "road": ["road_theta", "road_alpha"],
    "tinylora": ["tinylora_v"],
}
# The CUDA extension of BOFT is not here; without it PEFT takes one factor, whatever was asked for.
peft.tuners.boft.layer.get_fbd_cuda = lambda: True


class Model(torch.nn.Module):
    def __init__(self, out, inputs, kernel):
        super().__init__()
        conv = kernel is not None
        self.layer = torch.nn.Conv2d(inputs, out, kernel) if conv else torch.nn.Linear(inputs, out)

    def forward(self, x):
        return self.layer(x)


class BlockDiagonal:
    """BOFT's extension, in PyTorch."""

    @staticmethod
    def apply(blocks):
        return torch.stack([torch.block_diag(*torch.unbind(factor)) for factor in blocks])


peft.tuners.boft.layer.FastBlockDiag = BlockDiagonal


def parameter(layer, name):
    """The tensor called `name`, whichever of PEFT's containers holds it."""
    if name == "module_logits":
        return layer.poly_router["default"].module_logits
    if name in ["vector_a", "vector_b"]:
        return getattr(layer.psoft_R["default"], name)
    if name == "tinylora_v":
        return next(iter(layer.tinylora_v["default"].values()))
    held = getattr(layer, name, None)
    if held is None or "default" not in held:
        return None
    held = held["default"]
    return held if isinstance(held, torch.Tensor) else getattr(held, "weight", None)


def fixed(layer, record):
    """Constants that PEFT draws."""
    if record["method"] == "vera":
        out, inputs = record["out"], record["inputs"]
        return {"vera_A": layer.vera_A["default"][:, :inputs], "vera_B": layer.vera_B["default"][:out]}
    if record["method"] == "randlora":
        a, b = layer.randlora_A["default"], layer.randlora_B["default"]
        return {"randlora_A": a[:, 0], "randlora_B": b.flatten(start_dim=1)}
    if record["method"] in ["psoft", "tinylora"]:
        # Singular vectors up to a sign: PEFT's own.
        a, b = (layer.tinylora_A["default"], layer.tinylora_B["default"]) if record["method"] == "tinylora" else (
            layer._psoft_A_cache["default"], layer._psoft_B_cache["default"])
        values = torch.linalg.svdvals(layer.get_base_layer().weight)[: a.shape[0]]
        roots = values.sqrt() if record["method"] == "tinylora" else torch.ones_like(values)
        held = {"U": b / (values / roots), "S": values.reshape(1, -1), "Vh": a / roots.reshape(-1, 1)}
        return held | ({"tinylora_P": layer.tinylora_P["default"]} if record["method"] == "tinylora" else {})
    held = layer.indices if record["method"] == "fourierft" else layer.waveft_indices
    rows, columns = held["default"]
    width = record["inputs"] if record["method"] == "fourierft" else record["inputs"] + record["inputs"] % 2
    return {"indices": (rows * width + columns).reshape(1, -1)}


def rounded(rng, shape, scale):
    return torch.tensor(np.round(rng.uniform(-scale, scale, shape) * 1024) / 1024)


def numbers(tensor):
    return [float(f"{v:.10g}") for v in tensor.detach().reshape(-1).tolist()]


def run(index, record):
    torch.manual_seed(index)
    rng = np.random.default_rng(index)
    out, inputs, kernel = record["out"], record["inputs"], record["kernel"]
    row = inputs * (kernel or 1) ** 2
    model = Model(out, inputs, kernel)
    base = rounded(rng, (out, row), 1.0)
    with torch.no_grad():
        model.layer.weight.copy_(base.reshape(model.layer.weight.shape))
    wrapped = peft.get_peft_model(model, record["config"](), autocast_adapter_dtype=False).double().eval()
    layer = wrapped.base_model.model.layer
    tensors = {}
    for name in NAMES[record["method"]]:
        tensor = parameter(layer, name)
        if tensor is None:
            continue
        steady = any(part in name for part in ["magnitude", "lambda_d", "delora_lambda", "boft_s", "gamma", "vector_",
                                               "road_alpha"])
        values = rounded(rng, tuple(tensor.shape), 0.5) + (1.0 if steady else 0.0)
        with torch.no_grad():
            tensor.copy_(values)
        tensors[name] = tensor
    eye = torch.eye(row, dtype=torch.float64)
    x = eye.reshape(row, inputs, kernel, kernel) if kernel else eye
    run = {"task_ids": torch.tensor([1])} if record["method"] in ["poly", "mhr"] else {}
    bias = layer.get_base_layer().bias
    with torch.no_grad():
        bias.copy_(rounded(np.random.default_rng(1000 + index), (out,), 1.0))
    before = bias.clone()
    y = (layer(x.unsqueeze(0), **run) if run else wrapped(x)).reshape(row, out)
    zero = layer(torch.zeros_like(x[:1]).unsqueeze(0) if run else torch.zeros_like(x[:1]), **run).reshape(out)
    effective = (y - zero).transpose(0, 1)
    shift = zero - bias
    direction = rounded(rng, (out, row), 1.0)
    along = (shift * direction[:, 0]).sum()
    gradients = torch.autograd.grad((effective * direction).sum() + along, list(tensors.values()))
    if not run:
        with torch.no_grad():
            layer.merge()
            merged = layer.get_base_layer().weight.reshape(out, row)
        assert torch.allclose(merged, effective, rtol=1e-5, atol=1e-5), (record["method"], "merge is not forward")
    entry = dict(method=record["method"], settings={k: str(v) for k, v in record["settings"].items()}, out=out,
                 inputs=inputs, kernel=kernel or 1, weight=numbers(base))
    if shift.abs().max() > 1e-12:
        entry |= dict(bias=numbers(before), shift=numbers(shift))
    entry["tensors"] = {name: numbers(tensor) for name, tensor in tensors.items()}
    entry["constants"] = {n: numbers(t) for n, t in fixed(layer, record).items()} if record["fixed"] else {}
    entry["delta"] = numbers(effective - base)
    entry["direction"] = numbers(direction)
    entry["gradient"] = {name: numbers(g) for name, g in zip(tensors, gradients)}
    return entry


if __name__ == "__main__":
    entries = [run(index, record) for index, record in enumerate(CASES)]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    pathlib.Path(__file__).with_name("peft.json").write_text(f"[\n{lines}\n]\n")
    print(len(entries), "cases")
