#!/usr/bin/env python3
"""Has HF PEFT load adapters that `ingraft export --layout peft` wrote, and compares what they compute.

    python tests/golden/import/peft_loads.py FOLDER

FOLDER is what `INGRAFT_PEFT_EXPORTS=FOLDER cargo test -p ingraft-import --test checkpoints` leaves: a checkpoint per folder,
with `output.json`, the model it is of and what Ingraft computes on the input of the goldens. The gate leaves this out, for PEFT
needs gigabytes of PyTorch.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import peft
import torch
from safetensors.torch import load_file

from peft_checkpoints import SHAPES, Conv, Groups, Linear, Norm, base, rounded

MODELS = {"linear": Linear, "conv": Conv, "norm": Norm, "groups": Groups}


def model(name, case):
    """The base that `case` was made for: with a last layer of as many classes as the file has one for."""
    found = base(MODELS[name])
    last = "fc" if name in ("conv", "groups") else "score"
    held = load_file(case / "adapter_model.safetensors").get(f"base_model.model.{last}.weight")
    if held is not None:
        setattr(found, last, torch.nn.Linear(held.shape[1], held.shape[0]))
    return found


def main(folder):
    checked = 0
    for case in sorted(path for path in folder.iterdir() if (path / "output.json").exists()):
        made = json.loads((case / "output.json").read_text())
        shape = SHAPES[MODELS[made["model"]]]
        x = rounded(np.random.default_rng(3), shape, 2.0)
        want = torch.tensor(made["output"]).reshape(shape[0], -1)
        untouched = model(made["model"], case)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = peft.PeftModel.from_pretrained(model(made["model"], case), case).eval()
        missing = [str(w.message) for w in caught if "missing" in str(w.message).lower()]
        with torch.no_grad():
            if "task" in made:
                # Skills take sequences, here of one.
                tasks = torch.full((len(x),), made["task"])
                got, before = loaded.base_model(x[:, None], task_ids=tasks)[:, 0], untouched(x)
            else:
                got, before = loaded(x), untouched(x)
        apart = ((got - want).abs().max() / want.abs().max()).item()
        moved = ((got - before).abs().max() / before.abs().max()).item()
        print(f"{case.name}: {apart:.1e} apart")
        if missing or apart > 1e-5 or moved < 1e-3:
            raise SystemExit(f"{case.name}: {apart:.1e} apart, moved by {moved:.1e}, {missing}")
        checked += 1
    if checked < 68:
        raise SystemExit(f"only {checked} exports in {folder}")
    print(f"PEFT {peft.__version__} loads {checked} exports and agrees")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
