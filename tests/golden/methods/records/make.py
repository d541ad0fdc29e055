"""Writes records.json: every case of every method, after all that their records say has been asserted.

python make.py            writes records.json beside this file
python make.py lora vera  only checks these methods
"""

import importlib
import json
import pathlib
import sys

import numpy as np

from case import METHODS, build

FAMILIES = (
    "low_rank",
    "shared",
    "direction",
    "scale",
    "quantized",
    "product",
    "tensor_train",
    "structured",
    "spectral",
    "transform",
    "orthogonal",
    "block",
)


def main():
    here = pathlib.Path(__file__).parent
    for family in FAMILIES:
        importlib.import_module(family)
    names = sys.argv[1:]
    cases = []
    for method in METHODS:
        if not names or method.name in names:
            cases += [build(method, s, dict(h), i) for i, (s, h) in enumerate(method.cases)]
    if not names:
        text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        (here / "records.json").write_text(f"[\n{text}\n]\n")
    with np.printoptions(precision=3):
        print(f"{len(cases)} cases of {len({case['method'] for case in cases})} methods")


if __name__ == "__main__":
    main()
