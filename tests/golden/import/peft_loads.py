#!/usr/bin/env python3
"""Has HF PEFT load adapters that `ingraft export --layout peft` wrote, and compares what they compute.

    python tests/golden/import/peft_loads.py FOLDER

FOLDER is what `INGRAFT_PEFT_EXPORTS=FOLDER cargo test -p ingraft-import --test checkpoints` leaves: a checkpoint per folder,
with `output.json`, what Ingraft computes on the input of the goldens. The gate leaves this out, for PEFT needs gigabytes of PyTorch.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import peft
import torch

from peft_checkpoints import Linear, base, rounded


def main(folder):
    x = rounded(np.random.default_rng(3), (3, 12), 2.0)
    checked = 0
    for case in sorted(path for path in folder.iterdir() if (path / "output.json").exists()):
        want = torch.tensor(json.loads((case / "output.json").read_text())).reshape(3, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = peft.PeftModel.from_pretrained(base(Linear), case).eval()
        missing = [str(w.message) for w in caught if "missing" in str(w.message).lower()]
        with torch.no_grad():
            got, untouched = model(x), base(Linear)(x)
        apart = ((got - want).abs().max() / want.abs().max()).item()
        moved = ((got - untouched).abs().max() / untouched.abs().max()).item()
        if missing or apart > 1e-5 or moved < 1e-3:
            raise SystemExit(f"{case.name}: {apart:.1e} apart, moved by {moved:.1e}, {missing}")
        checked += 1
    if checked < 10:
        raise SystemExit(f"only {checked} exports in {folder}")
    print(f"PEFT {peft.__version__} loads {checked} exports and agrees")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
