"""A small writer of ONNX graphs whose weights lie in a data file beside the graph.

`onnx.save` would keep every tensor in memory twice and cannot let two initializers share bytes, so
weights are appended to the data file as they come and only their places are kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 8
DATA_FILE = "model.onnx.data"
# Smaller tensors stay in the graph. A page boundary before each of the others lets a runtime map them.
EXTERNAL_BYTES_MIN = 4096
PAGE_BYTES = 4096


class Graph:
    """Collects nodes, inputs, outputs and weights; `save` writes `model.onnx`."""

    def __init__(self, folder: Path, name: str, activations: str = "f32") -> None:
        self._folder = folder
        self._name = name
        self._activations = activations
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._data = open(folder / DATA_FILE, "wb")

    def input(self, name: str, kind: int, shape: list[str | int]) -> str:
        """Declares an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: list[str | int]) -> str:
        """Declares an output of the graph; some node must write a tensor of this name."""
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def node(self, op: str, name: str, inputs: list[str], outputs: list[str] | None = None, **attributes) -> str:
        """Adds a node and returns its first output, named after the node where not said."""
        outputs = outputs or [name]
        self._nodes.append(helper.make_node(op, inputs, outputs, name=f"/{name}", **attributes))
        return outputs[0]

    def microsoft(self, op: str, name: str, inputs: list[str], outputs: list[str] | None = None, **attributes) -> str:
        """Like `node`, for an operator of ONNX Runtime's own domain."""
        return self.node(op, name, inputs, outputs, domain="com.microsoft", **attributes)

    def constant(self, value: int | float | list[int], dtype: type = np.int64) -> str:
        """A small constant, stored once for each value and type."""
        array = np.array(value, dtype)
        label = str(value).strip("[]").replace(", ", "_")
        name = f"constant.{array.dtype}.{array.ndim}d.{label}"
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, array: np.ndarray) -> str:
        """Stores a weight, in the data file unless it is small."""
        if array.nbytes < EXTERNAL_BYTES_MIN:
            self._initializers[name] = numpy_helper.from_array(array, name)
            return name
        self._data.write(bytes(-self._data.tell() % PAGE_BYTES))
        tensor = TensorProto(name=name, data_location=TensorProto.EXTERNAL, dims=array.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        place = {"location": DATA_FILE, "offset": self._data.tell(), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(np.ascontiguousarray(array).data)
        self._initializers[name] = tensor
        return name

    def alias(self, name: str, of: str, shape: list[int]) -> str:
        """A second view, of another shape, of the bytes of a weight in the data file."""
        tensor = TensorProto()
        tensor.CopyFrom(self._initializers[of])
        assert tensor.data_location == TensorProto.EXTERNAL, f"{of} is too small to be shared"
        tensor.name = name
        tensor.ClearField("dims")
        tensor.dims.extend(shape)
        self._initializers[name] = tensor
        return name

    def save(self) -> None:
        """Closes the data file and writes `model.onnx`.

        No `onnx.checker`: it does not know ONNX Runtime's operators. Loading the graph is the check.
        """
        self._data.close()
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        domains = {node.domain for node in self._nodes}
        opsets = [helper.make_opsetid("", OPSET)]
        if "com.microsoft" in domains:
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="motorbrain")
        # What MotorBrain's own products are to do, whatever level those of a runtime have.
        helper.set_model_props(model, {"motorbrain.activations": self._activations})
        onnx.save(model, self._folder / "model.onnx")
