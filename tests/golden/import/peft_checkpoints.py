#!/usr/bin/env python3
"""Checkpoints of HF PEFT as it saves them, on tiny models, with what PEFT computes.

Writes, beside this file, an ONNX file of each model; a folder per case with `adapter_config.json` and
`adapter_model.safetensors`; and `outputs.safetensors` with `CASE/output` and, where PEFT can merge the case,
`CASE/delta/MODULE`. Needs peft 0.21.2, torch, numpy, onnx and safetensors; made with torch 2.15.0.

    python tests/golden/import/peft_checkpoints.py [CASE...]

makes all of them, or those that are named. The same files come out in every run on one machine; on another, singular vectors of the
weight that some methods store (FRoD, TinyLoRA, PSOFT, AdaMSS) differ in their last bits, or in more (see the record of PSOFT).
"""

import copy
import json
import pathlib
import platform
import shutil
import sys
from unittest import mock

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import peft
import torch
from peft.tuners.boft import layer as boft
from peft.tuners.lora.config import BdLoraConfig
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

HERE = pathlib.Path(__file__).parent
CASES = []


def rounded(rng, shape, scale):
    return torch.tensor(np.round(rng.uniform(-scale, scale, shape) * 1024) / 1024, dtype=torch.float32)


class Linear(torch.nn.Module):
    """Two layers and a classifier; one of them an ONNX `MatMul` with its weight turned round."""

    def __init__(self):
        super().__init__()
        self.lin0 = torch.nn.Linear(12, 10)
        self.block = torch.nn.ModuleDict({"lin1": torch.nn.Linear(10, 15)})
        self.score = torch.nn.Linear(15, 4)

    def forward(self, x):
        return self.score(torch.relu(self.block["lin1"](torch.relu(self.lin0(x)))))


class Conv(torch.nn.Module):
    """Batch norms behind two of its convolutions, which compilation folds."""

    def __init__(self):
        super().__init__()
        self.conv0 = torch.nn.Conv2d(3, 6, 3, bias=False)
        self.bn0 = torch.nn.BatchNorm2d(6)
        self.conv1 = torch.nn.Conv2d(6, 8, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.point = torch.nn.Conv2d(8, 5, 1)
        self.fc = torch.nn.Linear(5, 4)

    def forward(self, x):
        x = torch.relu(self.bn0(self.conv0(x)))
        x = torch.relu(self.point(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean(dim=(2, 3)))


class Norm(torch.nn.Module):
    """Normalizations with a bias and without."""

    def __init__(self):
        super().__init__()
        self.lin0 = torch.nn.Linear(12, 10)
        self.norm0 = torch.nn.LayerNorm(10)
        self.lin1 = torch.nn.Linear(10, 15)
        self.norm1 = torch.nn.LayerNorm(15, bias=False)
        self.score = torch.nn.Linear(15, 4)

    def forward(self, x):
        return self.score(torch.relu(self.norm1(self.lin1(torch.relu(self.norm0(self.lin0(x)))))))


class Batch(torch.nn.Module):
    """Batch norms where no convolution can take them in: of the input, and behind an activation."""

    def __init__(self):
        super().__init__()
        self.batch0 = torch.nn.BatchNorm2d(3)
        self.mix = torch.nn.Conv2d(3, 6, 1)
        self.batch1 = torch.nn.BatchNorm2d(6)
        self.fc = torch.nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.batch1(torch.relu(self.mix(self.batch0(x)))).mean(dim=(2, 3)))


class Tokens(torch.nn.Module):
    """A table whose rows are looked up."""

    def __init__(self):
        super().__init__()
        self.emb = torch.nn.Embedding(11, 6)
        self.lin0 = torch.nn.Linear(6, 10)
        self.score = torch.nn.Linear(10, 4)

    def forward(self, x):
        return self.score(torch.relu(self.lin0(self.emb(x).mean(dim=1))))


class Line(torch.nn.Module):
    """Convolutions along one dimension, one of them with gaps."""

    def __init__(self):
        super().__init__()
        self.line0 = torch.nn.Conv1d(3, 6, 3)
        self.line1 = torch.nn.Conv1d(6, 8, 3, padding=2, dilation=2)
        self.fc = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.line1(torch.relu(self.line0(x)))).mean(dim=2))


class Groups(torch.nn.Module):
    """Convolutions with groups, with gaps, with both and one per channel; windows that are not square."""

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Conv2d(6, 9, (3, 2), padding=(1, 0), groups=3)
        self.far = torch.nn.Conv2d(9, 10, 3, padding=2, dilation=2)
        self.both = torch.nn.Conv2d(10, 5, (2, 3), padding=1, dilation=(2, 1), groups=5)
        self.deep = torch.nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.fc = torch.nn.Linear(5, 4)

    def forward(self, x):
        x = torch.relu(self.both(torch.relu(self.far(torch.relu(self.mix(x))))))
        return self.fc(self.deep(x).mean(dim=(2, 3)))


class Attention(torch.nn.Module):
    """Attention whose three projections are one parameter."""

    def __init__(self):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.score = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.score(self.attn(x, x, x, need_weights=False)[0].mean(dim=1))


def base(kind, classes=None, turned=False):
    """The model, its last layer made anew for `classes`, as a user of PEFT would for labels of her own; `turned` with a layer of (in, out)."""
    rng = np.random.default_rng(7)
    model = kind().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dtype == torch.float32:
                values = rounded(rng, tuple(tensor.shape), 0.6)
                near_one = "running_var" in name or (".bn" in "." + name and name.endswith("weight"))
                tensor.copy_(values.abs() + 0.5 if near_one else values)
    if classes:
        model.score = torch.nn.Linear(model.score.in_features, classes)
    if turned:
        old, model.block["lin1"] = model.block["lin1"], Conv1D(15, 10)
        with torch.no_grad():
            model.block["lin1"].weight.copy_(old.weight.T)
            model.block["lin1"].bias.copy_(old.bias)
    return model


def node(op, inputs, output, **attributes):
    return onnx.helper.make_node(op, inputs, [output], name="/" + "/".join(output.split(".") + [op]), **attributes)


def write_onnx(model, shape, nodes, path, turned=(), dtype=onnx.TensorProto.FLOAT, constants=()):
    keep = {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    initializers = [onnx.numpy_helper.from_array(
        np.ascontiguousarray(tensor.numpy().T if name in turned else tensor.numpy()), name)
        for name, tensor in keep.items()]
    initializers += [onnx.numpy_helper.from_array(value, name) for name, value in constants]
    value = onnx.helper.make_tensor_value_info
    result = value("y", onnx.TensorProto.FLOAT, [shape[0], 4])
    graph = onnx.helper.make_graph(nodes, path.stem, [value("x", dtype, shape)], [result], initializers)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)


def write_bases():
    linear = [
        node("Gemm", ["x", "lin0.weight", "lin0.bias"], "lin0", transB=1), node("Relu", ["lin0"], "r0"),
        node("MatMul", ["r0", "block.lin1.weight"], "block.lin1"),
        node("Add", ["block.lin1", "block.lin1.bias"], "a1"), node("Relu", ["a1"], "r1"),
        node("Gemm", ["r1", "score.weight", "score.bias"], "y", transB=1),
    ]
    write_onnx(base(Linear), [3, 12], linear, HERE / "linear.onnx", turned={"block.lin1.weight"})
    norm = lambda x, name, y: node("BatchNormalization", [x] + [
        f"{name}.{part}" for part in ["weight", "bias", "running_mean", "running_var"]], y)
    conv = [
        node("Conv", ["x", "conv0.weight"], "conv0"), norm("conv0", "bn0", "n0"), node("Relu", ["n0"], "r0"),
        node("Conv", ["r0", "conv1.weight", "conv1.bias"], "conv1", pads=[1] * 4), norm("conv1", "bn1", "n1"),
        node("Relu", ["n1"], "r1"), node("Conv", ["r1", "point.weight", "point.bias"], "point"),
        node("Relu", ["point"], "r2"), node("GlobalAveragePool", ["r2"], "pool"), node("Flatten", ["pool"], "flat"),
        node("Gemm", ["flat", "fc.weight", "fc.bias"], "y", transB=1),
    ]
    write_onnx(base(Conv), [2, 3, 9, 7], conv, HERE / "conv.onnx")
    batch = [
        norm("x", "batch0", "b0"), node("Conv", ["b0", "mix.weight", "mix.bias"], "mix"), node("Relu", ["mix"], "r0"),
        norm("r0", "batch1", "b1"), node("GlobalAveragePool", ["b1"], "pool"), node("Flatten", ["pool"], "flat"),
        node("Gemm", ["flat", "fc.weight", "fc.bias"], "y", transB=1),
    ]
    write_onnx(base(Batch), [2, 3, 4, 5], batch, HERE / "batch.onnx")
    layer = lambda x, parameters, y: node("LayerNormalization", [x] + parameters, y, epsilon=1e-5)
    norms = [
        node("Gemm", ["x", "lin0.weight", "lin0.bias"], "lin0", transB=1),
        layer("lin0", ["norm0.weight", "norm0.bias"], "norm0"), node("Relu", ["norm0"], "r0"),
        node("Gemm", ["r0", "lin1.weight", "lin1.bias"], "lin1", transB=1),
        layer("lin1", ["norm1.weight"], "norm1"), node("Relu", ["norm1"], "r1"),
        node("Gemm", ["r1", "score.weight", "score.bias"], "y", transB=1),
    ]
    write_onnx(base(Norm), [3, 12], norms, HERE / "norm.onnx")
    tokens = [
        node("Gather", ["emb.weight", "x"], "emb"), node("ReduceMean", ["emb"], "m", axes=[1], keepdims=0),
        node("Gemm", ["m", "lin0.weight", "lin0.bias"], "lin0", transB=1), node("Relu", ["lin0"], "r0"),
        node("Gemm", ["r0", "score.weight", "score.bias"], "y", transB=1),
    ]
    write_onnx(base(Tokens), [3, 5], tokens, HERE / "tokens.onnx", dtype=onnx.TensorProto.INT64)
    line = [
        node("Conv", ["x", "line0.weight", "line0.bias"], "line0"), node("Relu", ["line0"], "r0"),
        node("Conv", ["r0", "line1.weight", "line1.bias"], "line1", pads=[2, 2], dilations=[2]),
        node("Relu", ["line1"], "r1"), node("ReduceMean", ["r1"], "m", axes=[2], keepdims=0),
        node("Gemm", ["m", "fc.weight", "fc.bias"], "y", transB=1),
    ]
    write_onnx(base(Line), [2, 3, 11], line, HERE / "line.onnx")
    layer = lambda x, name, y, **how: node("Conv", [x, f"{name}.weight", f"{name}.bias"], y, **how)
    groups = [
        layer("x", "mix", "mix", pads=[1, 0, 1, 0], group=3), node("Relu", ["mix"], "r0"),
        layer("r0", "far", "far", pads=[2] * 4, dilations=[2, 2]), node("Relu", ["far"], "r1"),
        layer("r1", "both", "both", pads=[1] * 4, dilations=[2, 1], group=5), node("Relu", ["both"], "r2"),
        layer("r2", "deep", "deep", pads=[1] * 4, group=5),
        node("GlobalAveragePool", ["deep"], "pool"), node("Flatten", ["pool"], "flat"),
        node("Gemm", ["flat", "fc.weight", "fc.bias"], "y", transB=1),
    ]
    write_onnx(base(Groups), [2, 6, 9, 7], groups, HERE / "groups.onnx")


def write_attention():
    heads = lambda name: [node("Reshape", [name, "heads"], name + "h"),
                          node("Transpose", [name + "h"], name + "t", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])]
    nodes = [
        node("MatMul", ["x", "attn.in_proj_weight"], "m"), node("Add", ["m", "attn.in_proj_bias"], "p"),
        onnx.helper.make_node("Split", ["p", "thirds"], ["q", "k", "v"], axis=2, name="/attn/Split"),
        *heads("q"), *heads("k"), *heads("v"), node("MatMul", ["qt", "kt"], "qk"), node("Mul", ["qk", "scale"], "s"),
        node("Softmax", ["s"], "a", axis=-1), node("MatMul", ["a", "vt"], "av"),
        node("Transpose", ["av"], "o", perm=[0, 2, 1, 3]), node("Reshape", ["o", "whole"], "flat"),
        node("MatMul", ["flat", "attn.out_proj.weight"], "om"), node("Add", ["om", "attn.out_proj.bias"], "attn"),
        node("ReduceMean", ["attn"], "mean", axes=[1], keepdims=0),
        node("Gemm", ["mean", "score.weight", "score.bias"], "y", transB=1),
    ]
    ints = lambda *values: np.array(values, dtype=np.int64)
    constants = [("heads", ints(2, 3, 2, 4)), ("whole", ints(2, 3, 8)), ("thirds", ints(8, 8, 8)),
                 ("scale", np.array(0.5, dtype=np.float32))]
    write_onnx(base(Attention), [2, 3, 8], nodes, HERE / "attention.onnx",
               turned={"attn.in_proj_weight", "attn.out_proj.weight"}, constants=constants)


SHAPES = {Linear: (3, 12), Conv: (2, 3, 9, 7), Norm: (3, 12), Batch: (2, 3, 4, 5), Tokens: (3, 5), Line: (2, 3, 11), Attention: (2, 3, 8),
          Groups: (2, 6, 9, 7)}


def sample(kind):
    rng = np.random.default_rng(3)
    if kind is Tokens:
        return torch.tensor(rng.integers(0, 11, SHAPES[kind]))
    return rounded(rng, SHAPES[kind], 2.0)


def case(name, config, kind, targets, **settings):
    CASES.append((name, getattr(peft, config), kind, dict(target_modules=targets, **settings)))


LIN, BOTH = ["lin0", "lin1"], ["conv0", "conv1", "point"]
case("lora", "LoraConfig", Linear, LIN, r=3, lora_alpha=5)
case("lora_patterns", "LoraConfig", Linear, LIN, r=4, lora_alpha=6, rank_pattern={"block.lin1": 3, "lin1": 2},
     alpha_pattern={"lin.": 7.5}, use_rslora=True, modules_to_save=["score"])
case("lora_bias", "LoraConfig", Linear, LIN, r=2, lora_bias=True)
case("lora_trained_bias", "LoraConfig", Linear, LIN, r=2, bias="lora_only")
case("lora_conv", "LoraConfig", Conv, BOTH, r=3, lora_alpha=2)
case("dora", "LoraConfig", Linear, LIN, r=3, lora_alpha=5, use_dora=True)
case("dora_conv", "LoraConfig", Conv, BOTH, r=2, use_dora=True)
case("adalora", "AdaLoraConfig", Linear, LIN, init_r=5, target_r=3, lora_alpha=4, total_step=10)
case("vera_saved", "VeraConfig", Linear, LIN, r=6)
case("vera_drawn", "VeraConfig", Linear, LIN, r=6, save_projection=False, projection_prng_key=11)
case("randlora", "RandLoraConfig", Linear, LIN, r=3, randlora_alpha=5)
case("gralora", "GraloraConfig", Linear, ["lin0"], r=4, gralora_k=2, hybrid_r=2, alpha=3)
case("delora", "DeloraConfig", Linear, LIN, r=3, delora_lambda=4)
case("vblora", "VBLoRAConfig", Linear, ["lin0"], r=3, num_vectors=7, vector_length=2, topk=2)
case("vblora_top", "VBLoRAConfig", Linear, ["lin0"], r=3, num_vectors=7, vector_length=2, topk=3,
     save_only_topk_weights=True)
case("tinylora", "TinyLoraConfig", Linear, LIN, r=2, u=5, save_projection=True, weight_tying=1.0)
case("unilora", "UniLoraConfig", Linear, LIN, r=3, theta_d_length=20, save_indices=True)
case("loha", "LoHaConfig", Linear, LIN, r=2, alpha=3)
case("loha_conv", "LoHaConfig", Conv, BOTH, r=2, alpha=3)
case("loha_effective", "LoHaConfig", Conv, BOTH, r=2, alpha=3, use_effective_conv2d=True)
case("lokr", "LoKrConfig", Linear, LIN, r=1, alpha=2, decompose_both=True)
case("lokr_factor", "LoKrConfig", Linear, LIN, r=8, alpha=2, decompose_factor=5)
case("lokr_effective", "LoKrConfig", Conv, BOTH, r=1, alpha=2, use_effective_conv2d=True)
case("hira", "HiraConfig", Linear, LIN, r=3)
case("hira_conv", "HiraConfig", Conv, BOTH, r=2)
case("deft_qr", "DeftConfig", Linear, LIN, r=3, decomposition_method="qr", alpha=2)
case("deft_relu", "DeftConfig", Linear, LIN, r=3, decomposition_method="relu")
for terms in [2, 3, 4, 5]:
    case(f"oft_neumann_{terms}", "OFTConfig", Linear, LIN, oft_block_size=5, r=0, num_cayley_neumann_terms=terms)
case("oft_shared", "OFTConfig", Linear, LIN, oft_block_size=2, r=0, block_share=True, use_cayley_neumann=False)
case("oft_conv", "OFTConfig", Conv, ["point"], oft_block_size=4, r=0, use_cayley_neumann=False)
case("boft", "BOFTConfig", Linear, LIN, boft_block_size=2)
case("hra", "HRAConfig", Linear, LIN, r=4)
case("hra_scheme", "HRAConfig", Conv, BOTH, r=2, apply_GS=True)
for variant in [1, 2, 4]:
    case(f"road_{variant}", "RoadConfig", Linear, ["lin0"], variant=f"road_{variant}", group_size=10)
case("miss", "MissConfig", Linear, LIN, r=4)
case("miss_bat", "MissConfig", Linear, ["lin0"], r=2, init_weights="bat")
case("miss_mini", "MissConfig", Linear, ["lin1"], r=4, mini_r=5, init_weights="mini")
case("shira", "ShiraConfig", Linear, LIN, r=1)
case("supertuning", "SupertuningConfig", Linear, LIN, sparsity=0.9, save_precomputed_indices=True, r=2, lora_alpha=3)
case("fourierft", "FourierFTConfig", Linear, LIN, n_frequency=17, scaling=40.0)
case("waveft", "WaveFTConfig", Linear, LIN, n_frequency=17, scaling=3.0, wavelet_family="db1")
case("waveft_plain", "WaveFTConfig", Linear, LIN, n_frequency=17, scaling=3.0, use_idwt=False)
case("c3a", "C3AConfig", Linear, LIN, block_size=2, block_size_pattern={"lin1": 5})
case("ia3", "IA3Config", Linear, LIN, feedforward_modules=["lin1"])
case("ia3_conv", "IA3Config", Conv, BOTH, feedforward_modules=["conv1"])
case("beft", "BeftConfig", Linear, LIN)
case("lora_head", "LoraConfig", Linear, LIN, r=3, lora_alpha=5, modules_to_save=["score"], classes=6)
# Those that read the weight itself, or start from it and leave it changed.
case("osf", "OSFConfig", Linear, LIN, effective_rank=7, rank_pattern={"lin1": 0.5})
case("peanut", "PeanutConfig", Linear, LIN, r=3, scaling=0.7)
case("peanut_deep", "PeanutConfig", Linear, LIN, r=4, depth=2, act_fn="gelu", scaling=1.5)
case("glora", "GloraConfig", Linear, LIN, r=3, config_A_B="lora", config_C="lora", config_D_E="vector")
case("glora_vector", "GloraConfig", Linear, LIN, r=3, config_A_B="vector", config_C="vector", config_D_E="constant")
case("glora_constant", "GloraConfig", Linear, LIN, r=3, config_A_B="constant", config_C="none", config_D_E="none")
case("pissa", "LoraConfig", Linear, LIN, r=3, lora_alpha=5, init_lora_weights="pissa")
case("olora", "LoraConfig", Linear, LIN, r=3, lora_alpha=5, init_lora_weights="olora")
case("pvera_saved", "PveraConfig", Linear, LIN, r=6)
case("pvera_drawn", "PveraConfig", Linear, LIN, r=6, save_projection=False, projection_prng_key=11)
case("bdlora", "LoraConfig", Linear, LIN, r=4, lora_alpha=6,
     use_bdlora=BdLoraConfig(target_modules_bd_a=["lin1"], target_modules_bd_b=["lin0"], nblocks=2))
case("bdlora_some", "LoraConfig", Linear, LIN, r=5, lora_alpha=6,
     use_bdlora=BdLoraConfig(target_modules_bd_b=["n1"], nblocks=5, match_strict=False))
case("ln", "LNTuningConfig", Norm, ["norm0", "norm1"])
case("ln_head", "LNTuningConfig", Norm, ["norm0"], modules_to_save=["norm1", "score"])
case("frod", "FrodConfig", Linear, LIN, sparse_rate=0.1, progressbar=False)
case("lora_all_biases", "LoraConfig", Linear, LIN, r=2, bias="all")
case("lora_table", "LoraConfig", Tokens, ["emb", "lin0"], r=2, lora_alpha=3)
case("dora_table", "LoraConfig", Tokens, ["emb"], r=2, lora_alpha=3, use_dora=True)
case("lora_tokens", "LoraConfig", Tokens, ["lin0"], r=2, trainable_token_indices={"emb": [7, 2, 4]})
case("tokens", "TrainableTokensConfig", Tokens, ["emb"], token_indices=[1, 9, 3])
case("lora_whole_table", "LoraConfig", Tokens, ["lin0"], r=2, modules_to_save=["emb"])
case("lora_line", "LoraConfig", Line, ["line0"], r=2, lora_alpha=3)
case("dora_line", "LoraConfig", Line, ["line0"], r=2, use_dora=True)
case("loha_line", "LoHaConfig", Line, ["line0", "line1"], r=2, alpha=3)
case("lokr_line", "LoKrConfig", Line, ["line0", "line1"], r=8, alpha=2)
case("lora_attention", "LoraConfig", Attention, ["attn"], r=3, lora_alpha=2)
# Sizes and settings that another branch of the mathematics answers for.
case("adalora_conv", "AdaLoraConfig", Conv, BOTH, init_r=4, target_r=2, lora_alpha=-1, total_step=10)
case("adalora_pruned", "AdaLoraConfig", Linear, LIN, init_r=5, target_r=3, lora_alpha=4, total_step=10)
case("boft_conv", "BOFTConfig", Conv, ["conv1", "point"], boft_block_size=2)
case("boft_butterfly", "BOFTConfig", Linear, ["lin0"], boft_block_size=2, boft_n_butterfly_factor=2)
case("boft_butterflies", "BOFTConfig", Conv, ["point"], boft_block_size=2, boft_n_butterfly_factor=3)
case("shira_float", "ShiraConfig", Linear, LIN, r=2)


case("loha_line_effective", "LoHaConfig", Line, ["line0", "line1"], r=2, alpha=60, use_effective_conv2d=True)
case("randlora_sparse", "RandLoraConfig", Linear, LIN, r=2, randlora_alpha=5, sparse=True)
case("supertuning_plain", "SupertuningConfig", Linear, LIN, sparsity=0.8, save_precomputed_indices=True, select_top=False)
case("delora_patterns", "DeloraConfig", Linear, LIN, r=3, rank_pattern={"lin1": 2}, lambda_pattern={"lin0": 5})
case("oft_exact", "OFTConfig", Linear, LIN, oft_block_size=5, r=0, use_cayley_neumann=False)
# The second layer as HF's Conv1D, whose weight is (in, out).
for name, config, settings in [
    ("lora", "LoraConfig", dict(r=2, lora_alpha=3)), ("dora", "LoraConfig", dict(r=2, use_dora=True)),
    ("adalora", "AdaLoraConfig", dict(init_r=3, target_r=2, total_step=10)), ("vera", "VeraConfig", dict(r=4)),
    ("randlora", "RandLoraConfig", dict(r=3)), ("gralora", "GraloraConfig", dict(r=5, gralora_k=5)),
    ("vblora", "VBLoRAConfig", dict(r=2, num_vectors=7, vector_length=5)), ("hira", "HiraConfig", dict(r=2)),
    ("unilora", "UniLoraConfig", dict(r=2, theta_d_length=20, save_indices=True)), ("ia3", "IA3Config", dict(feedforward_modules=["lin1"])),
    ("tinylora", "TinyLoraConfig", dict(r=2, u=5, save_projection=True)), ("deft", "DeftConfig", dict(r=2)),
]:
    case(f"{name}_turned", config, Linear, ["lin1"], fan_in_fan_out=True, **settings)
# Of values that fill their floats: what is merged is rounded at every step.
MERGED = {"lora_rank_1": 1, "lora_rank_2": 2, "lora_rank_9": 9}
for name, rank in MERGED.items():
    case(name, "LoraConfig", Linear, LIN, r=rank, lora_alpha=7)
# By seeds of their own: of others, the place in this list is the seed.
case("ln_batch", "LNTuningConfig", Batch, ["batch0", "batch1"], seed=78)
case("ln_batch_moved", "LNTuningConfig", Batch, ["batch0", "batch1"], moved=True, seed=79)
# Singular vectors of the weight: those that the checkpoint was made with stand beside it (`factors`), for their signs follow from no weight.
case("psoft", "PsoftConfig", Linear, LIN, r=4, psoft_alpha=3, factors=True)
case("psoft_neumann", "PsoftConfig", Linear, LIN, r=5, psoft_alpha=2, ab_svd_init="pissa_init", use_cayley_neumann=True,
     num_cayley_neumann_terms=4, cayley_neumann_eps=0.5, factors=True)
case("psoft_free", "PsoftConfig", Linear, LIN, r=3, psoft_orth=False, psoft_mag_a=False, factors=True)
case("psoft_low_rank", "PsoftConfig", Linear, LIN, r=4, psoft_svd="lowrank", factors=True)
# No angle, no signs.
case("psoft_scaled", "PsoftConfig", Linear, LIN, r=4, straight=True)
# Rows that are clustered, once more when it is loaded.
case("adamss", "AdamssConfig", Linear, LIN, r=4, num_subspaces=3, subspace_rank=2)
case("adamss_seed", "AdamssConfig", Linear, LIN, r=3, num_subspaces=4, subspace_rank=1, random_seed=5)
case("adamss_dynamic", "AdamssConfig", Linear, LIN, r=6, num_subspaces=2, subspace_rank=3, use_dynamic_rank=True)
case("adamss_whole", "AdamssConfig", Linear, ["lin1"], r=100, num_subspaces=3, subspace_rank=2)
# Groups and gaps. PEFT's LoRA reads every group, unless its values say otherwise (`within`), and merges none; what it runs on gaps
# does not fit its base, what it merges does (`merged`).
ALL = ["mix", "far", "both", "deep"]
case("lora_groups", "LoraConfig", Groups, ["mix", "deep"], r=6, lora_alpha=5, rank_pattern={"deep": 5}, within=True)
case("lora_groups_all", "LoraConfig", Groups, ["mix"], r=3)
case("loha_groups", "LoHaConfig", Groups, ALL, r=2, alpha=3)
case("loha_groups_effective", "LoHaConfig", Groups, ALL, r=2, alpha=60, use_effective_conv2d=True)
case("lokr_groups", "LoKrConfig", Groups, ALL, r=8, alpha=2)
case("lokr_groups_effective", "LoKrConfig", Groups, ALL, r=1, alpha=2, use_effective_conv2d=True)
case("ia3_groups", "IA3Config", Groups, ALL, feedforward_modules=["mix", "both", "deep"])
case("lora_gaps", "LoraConfig", Groups, ["far"], r=2, lora_alpha=3, merged=True)
case("dora_gaps", "LoraConfig", Groups, ["far"], r=2, use_dora=True, merged=True)
case("adalora_gaps", "AdaLoraConfig", Groups, ["far"], init_r=3, target_r=2, lora_alpha=4, total_step=10)
case("hira_gaps", "HiraConfig", Groups, ["far"], r=2)
case("hra_gaps", "HRAConfig", Groups, ["far"], r=4, merged=True)
# Tables too.
case("hira_table", "HiraConfig", Tokens, ["emb", "lin0"], r=2)
case("oft_table", "OFTConfig", Tokens, ["emb"], oft_block_size=3, r=0)
case("oft_table_exact", "OFTConfig", Tokens, ["emb", "lin0"], oft_block_size=2, r=0, use_cayley_neumann=False)
case("tinylora_table", "TinyLoraConfig", Tokens, ["emb", "lin0"], r=2, u=5, weight_tying=1.0)
# Other wavelets, other seeds; filters longer than a side among them.
case("waveft_db3", "WaveFTConfig", Linear, LIN, n_frequency=23, scaling=3.0, wavelet_family="db3", random_loc_seed=5)
case("waveft_sym5", "WaveFTConfig", Linear, LIN, n_frequency=23, scaling=3.0, wavelet_family="sym5")
case("waveft_coif2", "WaveFTConfig", Linear, LIN, n_frequency=23, scaling=3.0, wavelet_family="coif2")
case("fourierft_seed", "FourierFTConfig", Linear, LIN, n_frequency=19, scaling=40.0, random_loc_seed=2**31 + 9)
case("tinylora_untied", "TinyLoraConfig", Linear, LIN, r=2, u=5)
case("fourierft_turned", "FourierFTConfig", Linear, ["lin1"], n_frequency=19, scaling=40.0, fan_in_fan_out=True)
case("waveft_turned", "WaveFTConfig", Linear, ["lin1"], n_frequency=19, scaling=3.0, wavelet_family="db2", fan_in_fan_out=True)
# Blocks that are drawn back to a bound, and such as are within it.
case("oft_constrained", "OFTConfig", Linear, LIN, oft_block_size=2, r=0, coft=True, eps=0.4)
case("oft_constrained_shared", "OFTConfig", Linear, LIN, oft_block_size=5, r=0, coft=True, eps=1.1, block_share=True, use_cayley_neumann=False)


class Blocks:
    """What PEFT's CUDA extension for several factors of BOFT computes: blocks on a diagonal, factor by factor."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]


def prune(wrapped):
    """What AdaLoRA's allocator leaves: singular values of zero, and the pattern that says which are saved."""
    pattern = {}
    with torch.no_grad():
        for number, (name, values) in enumerate(
                (n, p) for n, p in wrapped.base_model.model.named_parameters() if "lora_E" in n):
            keep = [(k + number) % 2 == 0 for k in range(len(values))]
            values[~torch.tensor(keep)] = 0
            pattern[name] = keep
    wrapped.peft_config["default"].rank_pattern = pattern


def stay_within(wrapped):
    """Zeroes what factors of grouped convolutions read of other groups."""
    with torch.no_grad():
        for layer in wrapped.modules():
            groups = getattr(layer.get_base_layer(), "groups", 1) if hasattr(layer, "lora_A") else 1
            if groups > 1:
                down = layer.lora_A["default"].weight
                rows, columns = down.shape[0] // groups, down.shape[1] // groups
                own = torch.block_diag(*[torch.ones(rows, columns)] * groups)
                down.mul_(own[:, :, None, None])


def add_factors(wrapped, path):
    """Adds the singular vectors that PSOFT computed to its file, as a user would."""
    held = load_file(path)
    for name, layer in wrapped.named_modules():
        if hasattr(layer, "_psoft_A_cache"):
            held[f"{name}.psoft_A"], held[f"{name}.psoft_B"] = layer._get_psoft_ab_cache_buffers("default")
    save_file(held, path, metadata={"format": "pt"})


def run(index, name, config, kind, settings, outputs):
    settings = dict(settings)
    index = settings.pop("seed", index)
    torch.manual_seed(index)
    rng = np.random.default_rng(index)
    classes, moved = settings.pop("classes", None), settings.pop("moved", False)
    factors, straight, within, only_merged = (
        settings.pop(flag, False) for flag in ["factors", "straight", "within", "merged"])
    # Without its extension PEFT makes one factor of many.
    butterflies = settings.get("boft_n_butterfly_factor", 1) > 1
    boft.get_fbd_cuda = (lambda: Blocks) if butterflies else (lambda: None)
    wrapped = peft.get_peft_model(base(kind, classes, name.endswith("_turned")), config(**settings), autocast_adapter_dtype=False).eval()
    with torch.no_grad():
        for parameter_name, tensor in wrapped.named_parameters():
            if not tensor.requires_grad:
                continue
            near_one = any(part in parameter_name for part in ["magnitude", "lambda_d", "delora_lambda", "ia3_l", "boft_s"])
            near_one |= parameter_name.endswith((".vector_a", ".vector_b"))
            old = tensor if any(part in parameter_name for part in ["modules_to_save", "base_layer", "ln_tuning", ".bias", "tokens_delta"]) else float(near_one)
            scale = 3.0 if "logits" in parameter_name else 0.4
            tensor.copy_(rounded(rng, tuple(tensor.shape), scale) + old)
            if name in MERGED:
                tensor.copy_(torch.tensor(rng.standard_normal(tuple(tensor.shape)) / 3, dtype=torch.float32))
            if straight and "psoft_R" in parameter_name and tensor.shape[0] != settings["r"]:
                tensor.zero_()
    if name == "adalora_pruned":
        prune(wrapped)
    if within:
        stay_within(wrapped)
    if moved:
        # As a forward pass in training mode does.
        for buffer_name, tensor in wrapped.named_buffers():
            if "ln_tuning" in buffer_name and "running" in buffer_name:
                tensor += rounded(rng, tuple(tensor.shape), 0.4)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    # On Windows PEFT saves the places of SHiRA as float32.
    system = "Windows" if name == "shira_float" else platform.system()
    with mock.patch("platform.system", lambda: system):
        wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    if factors:
        add_factors(wrapped, folder / "adapter_model.safetensors")
    path = folder / "adapter_config.json"
    held = json.loads(path.read_text())
    # PEFT keeps a set, which is written in another order in every run.
    held["target_modules"] = sorted(held["target_modules"])
    path.write_text(json.dumps({k: v for k, v in held.items() if v is not None}, indent=1, sort_keys=False) + "\n")
    x = sample(kind)
    if name in MERGED:
        single = copy.deepcopy(wrapped)
        layers = {n.removeprefix("base_model.model."): m for n, m in single.named_modules() if hasattr(m, "lora_A")}
        with torch.no_grad():
            for module, layer in layers.items():
                outputs[f"{name}/added/{module}"] = layer.get_delta_weight("default").contiguous()
            layers = dict(single.merge_and_unload().named_modules())
        for module in ["lin0", "block.lin1"]:
            outputs[f"{name}/merged/{module}"] = layers[module].weight.detach().clone()
    before = {n: m.weight.detach().clone() for n, m in base(kind).named_modules() if hasattr(m, "weight")}
    wrapped = wrapped.double()
    for layer in wrapped.modules():
        # AdaMSS turns its input into the type it was made with.
        if hasattr(layer, "adamss_A"):
            layer.dtype = torch.float64
    with torch.no_grad():
        x = x.double() if x.is_floating_point() else x
        y = None if only_merged else wrapped(x)
        if name.startswith("lora_groups"):
            outputs[f"{name}/output"] = y.to(torch.float32)
            return
        merged = wrapped.merge_and_unload()
        if y is not None and not torch.allclose(merged(x), y, rtol=1e-4, atol=1e-4):
            raise SystemExit(f"{name}: what PEFT merges is not what it runs")
        outputs[f"{name}/output"] = (merged(x) if y is None else y).to(torch.float32)
    for module, old in before.items():
        new = dict(merged.named_modules())[module].weight
        if new.shape == old.shape and not torch.equal(new.float(), old):
            outputs[f"{name}/delta/{module}"] = (new - old.double()).to(torch.float32).contiguous()


if __name__ == "__main__":
    write_bases()
    write_attention()
    wanted = sys.argv[1:]
    outputs = load_file(HERE / "outputs.safetensors") if wanted else {}
    for index, (name, config, kind, settings) in enumerate(CASES):
        if not wanted or name in wanted:
            run(index, name, config, kind, settings, outputs)
    for kind in SHAPES:
        if wanted and f"{kind.__name__.lower()}/input" in outputs:
            continue
        x = sample(kind)
        outputs[f"{kind.__name__.lower()}/input"] = x
        outputs[f"{kind.__name__.lower()}/output"] = base(kind)(x).detach()
    save_file(outputs, HERE / "outputs.safetensors")
    print(len(wanted) or len(CASES), "checkpoints")
