#!/usr/bin/env python3
"""Writes `lora.onnx_adapter` as ONNX Runtime's own tool does, from the tensors of the golden `lora`.

Factors as a graph multiplies by them, A as `[in, r]`, B as `[r, out]` with α/r folded in; the second module in half precision.
Needs onnxruntime 1.32.0, safetensors and numpy.

    python tests/golden/import/onnx_adapter.py
"""

import json
import pathlib

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).parent
held = load_file(HERE / "lora" / "adapter_model.safetensors")
config = json.loads((HERE / "lora" / "adapter_config.json").read_text())
values = {}
for name, tensor in held.items():
    module, leaf = name.removeprefix("base_model.model.").rsplit(".lora_", 1)
    scaled = tensor.T * (config["lora_alpha"] / config["r"] if leaf.startswith("B") else 1.0)
    kind = np.float16 if "lin1" in module else np.float32
    array = np.ascontiguousarray(scaled.astype(kind))
    values[f"{module}.lora_{leaf[0]}.MatMul.weight"] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
adapter = onnxruntime.AdapterFormat()
adapter.set_adapter_version(1)
adapter.set_model_version(3)
adapter.set_parameters(values)
adapter.export_adapter(str(HERE / "lora.onnx_adapter"))
print(len(values), "tensors")
