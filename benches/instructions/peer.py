"""Inferences on zeros by a peer, on one thread: peer.py MODEL.onnx|MODEL.tflite COUNT "NAME=EXTENT ..."; for benches/instructions/peers."""

import sys

import numpy as np

ELEMENTS = {"float": np.float32, "int8": np.int8, "uint8": np.uint8, "int32": np.int32, "int64": np.int64}


def onnx_runtime(path: str, dims: dict[str, int]):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.zeros(
            [extent if isinstance(extent, int) else dims.get(extent, 1) for extent in value.shape],
            ELEMENTS[value.type.removeprefix("tensor(").removesuffix(")")],
        )
        for value in session.get_inputs()
    }
    return lambda: session.run(None, feeds)


def litert(path: str):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    for value in interpreter.get_input_details():
        interpreter.set_tensor(value["index"], np.zeros(value["shape"], value["dtype"]))
    return interpreter.invoke


path, count, dims = sys.argv[1:]
extents = {name: int(extent) for name, extent in (dim.split("=") for dim in dims.split())}
run = litert(path) if path.endswith(".tflite") else onnx_runtime(path, extents)
for _ in range(int(count)):
    run()
