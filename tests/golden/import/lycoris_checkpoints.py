#!/usr/bin/env python3
"""Checkpoints of LyCORIS on the two tiny models, with what LyCORIS computes.

Writes `lycoris/CASE.safetensors` and `lycoris/outputs.safetensors` with `CASE/output`. Needs lycoris-lora 4.1.3 (einops, toml) beside
what `peft_checkpoints.py` needs.

    python tests/golden/import/lycoris_checkpoints.py
"""

import numpy as np
import torch
from lycoris import LycorisNetwork, create_lycoris
from safetensors.torch import save_file

from peft_checkpoints import HERE, Conv, Linear, base, rounded

CASES = [
    ("lora", Linear, dict(algo="locon", linear_dim=3, linear_alpha=2)),
    ("lora_stabilized", Linear, dict(algo="locon", linear_dim=3, linear_alpha=2, rs_lora=True)),
    ("lora_decomposed", Linear, dict(algo="locon", linear_dim=3, linear_alpha=2, weight_decompose=True)),
    ("locon", Conv, dict(algo="locon", linear_dim=2, linear_alpha=1, conv_dim=3, conv_alpha=2)),
    ("locon_tucker", Conv, dict(algo="locon", linear_dim=2, linear_alpha=1, conv_dim=3, conv_alpha=2, use_tucker=True)),
    ("loha", Linear, dict(algo="loha", linear_dim=2, linear_alpha=3)),
    ("loha_tucker", Conv, dict(algo="loha", linear_dim=2, linear_alpha=3, conv_dim=2, conv_alpha=1, use_tucker=True)),
    ("lokr", Linear, dict(algo="lokr", linear_dim=1, linear_alpha=2, factor=3)),
    ("lokr_both", Conv, dict(algo="lokr", linear_dim=1, linear_alpha=2, conv_dim=1, conv_alpha=2, decompose_both=True)),
    ("lokr_whole", Linear, dict(algo="lokr", linear_dim=10000, linear_alpha=1, factor=2)),
    ("full", Linear, dict(algo="full")),
]


def run(index, name, kind, settings, outputs):
    torch.manual_seed(index)
    rng = np.random.default_rng(100 + index)
    LycorisNetwork.apply_preset({"target_module": ["Linear", "Conv2d"], "target_name": []})
    model = base(kind)
    network = create_lycoris(model, 1.0, **settings)
    network.apply_to()
    with torch.no_grad():
        for parameter_name, tensor in network.named_parameters():
            near = tensor if any(part in parameter_name for part in ["dora_scale", "diff"]) else 0.0
            tensor.copy_(rounded(rng, tuple(tensor.shape), 0.4) + (near if isinstance(near, float) else tensor))
    state = {key: value.detach().clone().contiguous() for key, value in network.state_dict().items()}
    save_file(state, HERE / "lycoris" / f"{name}.safetensors")
    shape = (3, 12) if kind is Linear else (2, 3, 9, 7)
    x = rounded(np.random.default_rng(3), shape, 2.0)
    network.eval()
    with torch.no_grad():
        outputs[f"{name}/output"] = model.eval()(x).contiguous()


if __name__ == "__main__":
    outputs = {}
    for index, (name, kind, settings) in enumerate(CASES):
        run(index, name, kind, settings, outputs)
    save_file(outputs, HERE / "lycoris" / "outputs.safetensors")
    print(len(CASES), "checkpoints")
