#!/usr/bin/env python3
"""The standard's own backend node tests, as files the `onnx` suite reads.

    INGRAFT_ONNX_NODES=FOLDER python tests/onnx/node_tests.py
    INGRAFT_ONNX_NODES=FOLDER cargo test --test onnx -- --nocapture

Needs the pinned packages of `requirements.txt` beside this file, in an environment of their own. Writes
`FOLDER/cases.tsv`, one line per test: name, operator, relative and absolute tolerance, number of data sets. The
operator is that of the model's only node; a test of a function written out in other operators is marked
`expanded`. For each test there is `FOLDER/NAME/model.onnx` and, per data set I, `I_in.npz` and `I_out.npz` with
one array per input or output. A value that is no dense array of numbers NumPy itself has is left out: the suite
refuses its type when it reads the model.
"""

import os
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnx.version_converter

PINNED = "1.23.2"
OLDEST_OPSET = 7


def check_version():
    """Which tests there are is a property of this version: another one is refused, not tolerated."""
    if onnx.__version__ != PINNED:
        sys.exit(f"needs onnx {PINNED}, found {onnx.__version__}: install tests/onnx/requirements.txt")


def arrays(values, infos):
    """The values that are dense arrays of numbers, by name."""
    found = {}
    for value, info in zip(values, infos):
        if isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        if isinstance(value, (list, dict)) or value is None:
            continue
        value = np.asarray(value)
        if value.dtype.kind in "fiub" and value.dtype.isbuiltin == 1:
            found[info.name] = value
    return found


def operator(case):
    nodes = case.model.graph.node
    return nodes[0].op_type if len(nodes) == 1 and "_expanded" not in case.name else "expanded"


def current(model):
    """The model, raised to the oldest operator set that is read where it declares an older one."""
    declared = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if declared and declared[0] < OLDEST_OPSET:
        return onnx.version_converter.convert_version(model, OLDEST_OPSET)
    return model


def write(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(current(case.model).SerializeToString())
    graph = case.model.graph
    for i, (inputs, outputs) in enumerate(case.data_sets):
        np.savez(folder / f"{i}_in.npz", **arrays(inputs, graph.input))
        np.savez(folder / f"{i}_out.npz", **arrays(outputs, graph.output))


def main():
    if "INGRAFT_ONNX_NODES" not in os.environ:
        sys.exit("set INGRAFT_ONNX_NODES to the folder to write")
    check_version()
    # The generators overflow and divide by zero on purpose.
    warnings.filterwarnings("ignore")
    from onnx.backend.test.case.node import collect_testcases

    folder = pathlib.Path(os.environ["INGRAFT_ONNX_NODES"])
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for case in sorted(collect_testcases(None), key=lambda case: case.name):
        write(case, folder / case.name)
        fields = [case.name, operator(case), case.rtol, case.atol, len(case.data_sets)]
        lines.append("\t".join(map(str, fields)))
    (folder / "cases.tsv").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} tests in {folder}")


if __name__ == "__main__":
    main()
