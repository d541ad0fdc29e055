#!/usr/bin/env python3
"""records.json against HF PEFT, for the methods that PEFT has.

Effective weights and biases of PEFT's own layers, and their gradients by PyTorch. Needs peft 0.21.2 and torch, which
make.py does not. Prints the cases that agree, fails at the first that does not.

    python with_peft.py
"""

import json
import pathlib

import numpy as np
import peft
import torch

SETTINGS = {
    "lora": lambda h: ("LoraConfig", dict(r=h["rank"], lora_alpha=h["alpha"])),
    "rslora": lambda h: ("LoraConfig", dict(r=h["rank"], lora_alpha=h["alpha"], use_rslora=True)),
    "dora": lambda h: ("LoraConfig", dict(r=h["rank"], lora_alpha=h["alpha"], use_dora=True)),
    "adalora": lambda h: ("AdaLoraConfig", dict(init_r=h["rank"], lora_alpha=h["alpha"], total_step=10)),
    "gralora": lambda h: (
        "GraloraConfig",
        dict(r=h["rank"], alpha=h["alpha"], gralora_k=h["k"], hybrid_r=h["hybrid_rank"]),
    ),
    "mhr": lambda h: ("PolyConfig", poly(h)),
    "poly": lambda h: ("PolyConfig", poly(h)),
    "vblora": lambda h: (
        "VBLoRAConfig",
        dict(r=h["rank"], num_vectors=h["vectors"], vector_length=h["vector_length"], topk=h["topk"]),
    ),
    "tinylora": lambda h: ("TinyLoraConfig", dict(r=h["rank"], u=h["u"])),
    "unilora": lambda h: ("UniLoraConfig", dict(r=h["rank"], theta_d_length=h["theta_d_length"])),
    "delora": lambda h: ("DeloraConfig", dict(r=h["rank"])),
    "ia3": lambda h: ("IA3Config", dict(feedforward_modules=["layer"] if h["feedforward"] else [])),
    "beft": lambda h: ("BeftConfig", {}),
    "hira": lambda h: ("HiraConfig", dict(r=h["rank"])),
    "loha": lambda h: ("LoHaConfig", dict(r=h["rank"], alpha=h["alpha"])),
    "c3a": lambda h: ("C3AConfig", dict(block_size=h["block"])),
    "randlora": lambda h: ("RandLoraConfig", dict(r=h["rank"], randlora_alpha=h["alpha"])),
    "deft": lambda h: (
        "DeftConfig",
        dict(r=h["rank"], alpha=h["alpha"], decomposition_method=h["decomposition"], para=h["para"]),
    ),
    "psoft": lambda h: ("PsoftConfig", psoft(h)),
    "fourierft": lambda h: ("FourierFTConfig", dict(n_frequency=h["frequencies"], scaling=float(h["scale"]))),
    "waveft": lambda h: (
        "WaveFTConfig",
        dict(
            n_frequency=h["coefficients"],
            scaling=float(h["scale"]),
            wavelet_family=h["wavelet"],
            use_idwt=h["use_idwt"],
        ),
    ),
    "oft": lambda h: (
        "OFTConfig",
        dict(
            r=0,
            oft_block_size=h["block"],
            block_share=h["share"],
            use_cayley_neumann=h["neumann_terms"] > 0,
            num_cayley_neumann_terms=max(h["neumann_terms"], 1),
        ),
    ),
    "boft": lambda h: ("BOFTConfig", dict(boft_block_size=h["block"], boft_n_butterfly_factor=h["factors"])),
    "hra": lambda h: ("HRAConfig", dict(r=h["rank"], apply_GS=h["gram_schmidt"])),
    "road": lambda h: ("RoadConfig", dict(variant=f"road_{h['variant']}", group_size=h["group"])),
    "bone": lambda h: ("MissConfig", dict(r=h["rank"], init_weights="bat")),
    "miss": lambda h: ("MissConfig", miss(h)),
    "supertuning": lambda h: (
        "SupertuningConfig",
        dict(
            sparsity=h["sparsity"], select_top=h["select_top"], r=h["rank"] or None, lora_alpha=h.get("alpha")
        ),
    ),
}


def poly(h):
    return dict(r=h["rank"], n_tasks=h["tasks"], n_skills=h["skills"], n_splits=h["splits"])


def psoft(h):
    terms = h["neumann_terms"]
    neumann = dict(use_cayley_neumann=True, num_cayley_neumann_terms=terms) if terms else {}
    return dict(r=h["rank"], psoft_alpha=h["alpha"], ab_svd_init=f"{h['init']}_init", **neumann)


def miss(h):
    if "mini_rank" in h:
        return dict(r=h["rank"], mini_r=h["mini_rank"], init_weights="mini")
    return dict(r=h["rank"])


CONVOLUTIONS = ("lora", "rslora", "dora", "adalora", "loha", "hira", "ia3", "oft", "hra")
"""What PEFT adapts convolutions with; the rest is compared on the flattened matrix."""


class Net(torch.nn.Module):
    def __init__(self, site):
        super().__init__()
        if site["kind"] == "conv":
            kernel, groups = tuple(site["kernel"]), site["groups"]
            self.layer = torch.nn.Conv2d(site["in"], site["out"], kernel, groups=groups)
        else:
            self.layer = torch.nn.Linear(site["in"], site["out"])

    def forward(self, x, **extra):
        return self.layer(x, **extra)


def tensor(entry):
    return torch.tensor(np.array(entry["data"]).reshape(entry["shape"]))


def place(layer, name, value):
    """Puts a value where the layer holds a tensor of this name."""
    attribute, _, leaf = name.partition(".")
    held = getattr(layer, attribute)["default"]
    if leaf:
        held = getattr(held, leaf)
    elif isinstance(held, torch.nn.Module):
        held = held.weight
    held.data = value.reshape(held.shape).to(held.dtype)
    return held


def effective(case):
    site, h = case["site"], case["hyper"]
    shape = case["weight"]["shape"]
    if case["method"] not in CONVOLUTIONS:
        shape = [shape[0], int(np.prod(shape[1:]))]
        site = site | {"kind": "linear", "in": shape[1]}
    kind, settings = SETTINGS[case["method"]](h)
    net = Net(site)
    net.layer.weight.data = tensor(case["weight"]).reshape(shape)
    net.layer.bias.data = (
        tensor(case["bias"]) if "bias" in case else torch.zeros(site["out"], dtype=torch.double)
    )
    model = peft.get_peft_model(
        net.float(), getattr(peft, kind)(target_modules=["layer"], **settings)
    ).double()
    layer, held = model.base_model.model.layer, {}
    for name, entry in case["tensors"].items():
        if name == "poly_router.module_logits":
            held[name] = layer.poly_router["default"].module_logits
        elif name == "tinylora_v":
            held[name] = next(iter(layer.tinylora_v["default"].values()))
        elif name in ("vblora_vector_bank", "unilora_theta_d"):
            held[name] = getattr(layer, name)["default"]
        else:
            held[name] = place(layer, name, tensor(entry))
        held[name].data = tensor(entry).reshape(held[name].shape).to(held[name].dtype)
    for name, entry in case["constants"].items():
        if name in ("indices", "A", "B"):
            continue
        getattr(layer, name)["default"] = tensor(entry)
    if "indices" in case["constants"]:
        where = layer.indices if case["method"] == "fourierft" else layer.waveft_indices
        where["default"] = tensor(case["constants"]["indices"]).long()
    if case["method"] == "psoft":
        layer._psoft_A_cache["default"] = tensor(case["constants"]["A"])
        layer._psoft_B_cache["default"] = tensor(case["constants"]["B"])
    if case["method"] == "supertuning":
        # torch.topk leaves the order of equal magnitudes open: the same magnitudes, then our places.
        theirs, ours = layer.supertuning_indices["default"], tensor(case["expected"]["supertuning_indices"])
        sizes = tensor(case["weight"]).abs().ravel()
        assert (sizes[theirs.long()] == sizes[ours]).all()
        layer.supertuning_indices["default"] = ours.int()
    model.eval()
    extra = {"task_ids": torch.tensor([h["task"]])} if case["method"] in ("mhr", "poly") else {}
    if site["kind"] == "conv":
        size = [site["in"], *site["kernel"]]
        probes = torch.eye(int(np.prod(size)), dtype=torch.double).reshape(-1, *size)
        zero, found = model(0 * probes[:1]), model(probes)
        return (found - zero).reshape(len(probes), -1).T.reshape(-1, *size), zero.ravel(), held
    probes = torch.eye(site["in"], dtype=torch.double)
    if extra:
        probes = probes[None]
    zero, found = model(0 * probes, **extra), model(probes, **extra)
    zero, found = zero.reshape(-1, site["out"]), found.reshape(-1, site["out"])
    return (found - zero).T, zero[0], held


def near(got, entry, case, what):
    wanted = tensor(entry).ravel()
    apart = (got.detach().ravel() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)
    assert apart < 2e-6, (case["method"], case["hyper"], case["site"], what, float(apart))


def main():
    file = pathlib.Path(__file__).parent / "records.json"
    agreed = {}
    for case in json.loads(file.read_text()):
        method, h = case["method"], case["hyper"]
        if (
            method not in SETTINGS
            or case["site"]["groups"] > 1
            or "active" in h
            or h.get("layout") == "paper"
        ):
            continue
        if method == "boft" and h["factors"] > 1:
            continue  # PEFT falls back to one factor where its CUDA extension is absent.
        weight, bias, held = effective(case)
        near(weight, case["effective_weight"], case, "weight")
        loss = (weight.ravel() * tensor(case["upstream"]).ravel()).sum()
        if "effective_bias" in case:
            near(bias, case["effective_bias"], case, "bias")
            loss = loss + (bias * tensor(case["upstream_bias"])).sum()
        loss.backward()
        for name, entry in case["gradients"].items():
            near(held[name].grad, entry, case, name)
        agreed[method] = agreed.get(method, 0) + 1
    print(f"{sum(agreed.values())} cases agree: {agreed}")


if __name__ == "__main__":
    main()
