"""Writes records.json: every case of every method, after all that their records say has been asserted.

python make.py            writes records.json beside this file
python make.py lora vera  only checks these methods
"""

import importlib
import json
import pathlib
import sys

from against_peft import compare
from case import METHODS, build

FAMILIES = (
    "low_rank",
    "shared",
    "pooled",
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
    "sparse",
    "scored",
    "selection",
    "kernelized",
    "procedure",
)


def main():
    here = pathlib.Path(__file__).parent
    for family in FAMILIES:
        importlib.import_module(family)
    names = sys.argv[1:]
    cases = []
    for method in METHODS:
        if not names or method.name in names:
            cases += [build(method, i, *case) for i, case in enumerate(method.cases)]
    if not names:
        print(f"{compare()} of HF PEFT's cases agree")
        text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        (here / "records.json").write_text(f"[\n{text}\n]\n")
    print(f"{len(cases)} cases of {len({case['method'] for case in cases})} methods")


if __name__ == "__main__":
    main()
