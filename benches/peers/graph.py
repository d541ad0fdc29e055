"""An ONNX model as plain Python values, for machines without the `onnx` package.

    python benches/peers/graph.py MODEL.onnx MODEL.pickle
"""

import pickle
import sys


def read(path):
    """Constants, nodes, inputs and outputs with their last extents, of an ONNX file or of what this script made of one."""
    if str(path).endswith(".pickle"):
        with open(path, "rb") as file:
            return pickle.load(file)
    import onnx.numpy_helper

    def plain(attribute):
        value = onnx.helper.get_attribute_value(attribute)
        return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value

    def width(extents):
        """Networks of ours say nothing of their outputs."""
        return extents[-1].dim_value if extents else None

    graph = onnx.load(path).graph
    return {
        "constants": {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer},
        "nodes": [
            (node.op_type, list(node.input), node.output[0], {a.name: plain(a) for a in node.attribute})
            for node in graph.node
        ],
        "inputs": {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in graph.input},
        "widths": {o.name: width(o.type.tensor_type.shape.dim) for o in graph.output},
    }


if __name__ == "__main__":
    with open(sys.argv[2], "wb") as out:
        pickle.dump(read(sys.argv[1]), out)
