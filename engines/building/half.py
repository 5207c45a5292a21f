"""A network in float16, but for the parts that it would harm.

TensorRT 11 does in each layer what the types in the file say, so the file is where float16 is made. What stays in
float32, between casts:

- all that comes after the last layer with weights on the way to an output: boxes are worked out there, and float16
  has steps of half a pixel above 512;
- layers that sum or square over many values, and the normalisations made of them, whose squares overflow 65504;
- what is computed from shapes, where float16 miscounts above 2048.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from engines.building.graph import consumed, subgraphs
from engines.errors import PackageError
from engines.types import Float32Array

HALF_MAX = 65504.0

_WEIGHTY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "DeformConv"})
"""Layers with weights: only what comes after the last of them is left in float32 as a whole."""

_WIDE = frozenset(
    [
        "ConstantOfShape",
        "EyeLike",
        "Exp",
        "Log",
        "Pow",
        "Range",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "CumSum",
        "Sqrt",
        "LayerNormalization",
        "RMSNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "Softmax",
        "LogSoftmax",
        "NonMaxSuppression",
        "TopK",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
    ]
)
"""Layers that are in float32 wherever they are."""

_FOLLOWING = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Abs",
        "Floor",
        "Ceil",
        "Round",
        "Min",
        "Max",
        "Clip",
        "Identity",
        "Cast",
        "Concat",
        "Slice",
        "Split",
        "Gather",
        "GatherElements",
        "GatherND",
        "Unsqueeze",
        "Squeeze",
        "Reshape",
        "Transpose",
        "Expand",
        "Tile",
        "Flatten",
        "Where",
    ]
)
"""Layers that are in float32 when all they read but constants is: their results may be too large for float16."""

_KEEP_FLOAT32 = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs, by their place, that ONNX wants in float32 (scales), or that aren't worth a cast (roi)."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a network's layers and weights.

    Attributes:
        half, full: layers that compute with floats, in float16 and in float32.
        clamped: weights that were larger than float16 has room for, and are now the largest that it has.
    """

    half: int
    full: int
    clamped: int


def to_half(model: onnx.ModelProto) -> Conversion:
    """Convert a network in place. Its inputs and outputs stay float32.

    Raises:
        PackageError: it has weights that are no numbers, or layers that this can't convert.
    """
    graph = model.graph
    nested = sorted({node.op_type for node in graph.node if any(subgraphs(node))})
    if nested:
        raise PackageError(
            f"the network has {', '.join(nested)} layers, whose parts can't be converted to fp16; "
            "simplify it, such as with onnxsim, or build with --precision fp32"
        )
    _constants_to_initializers(graph)
    floats = _float_tensors(model)
    full = _full_nodes(graph, floats)
    return _Caster(graph, floats, full).convert()


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            value.name = node.output[0]
            graph.initializer.append(value)
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors."""
    # Only types matter, which large weights say nothing about.
    inferred = shape_inference.infer_shapes(model).graph
    infos = [*inferred.value_info, *inferred.input, *inferred.output]
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    unknown = [
        f"{node.op_type} {node.name}".strip()
        for node in inferred.node
        if any(name and not types.get(name) for name in node.output)
    ]
    if unknown:
        raise PackageError(
            f"the types of what {unknown[0]} gives can't be told, and of {len(unknown) - 1} more layers; "
            "build with --precision fp32"
        )
    return {name for name, kind in types.items() if kind == TensorProto.FLOAT}


def _full_nodes(graph: onnx.GraphProto, floats: set[str]) -> set[int]:
    """Places of the layers that stay in float32."""
    constants = {tensor.name for tensor in graph.initializer}
    distributions = {t.name for t in graph.initializer if _counts_up(t)}
    full = _tails(graph, distributions)
    made_full: set[str] = set()
    for place, node in enumerate(graph.node):
        inputs = [name for name in node.input if name and name not in constants]
        from_shapes = node.op_type == "Cast" and not floats.intersection(inputs)
        follows = (
            node.op_type in _FOLLOWING
            and bool(floats.intersection(node.output))
            and all(name in made_full for name in inputs if name in floats)
        )
        if place in full or node.op_type in _WIDE or from_shapes or follows:
            full.add(place)
            made_full.update(node.output)
    return full


def _tails(graph: onnx.GraphProto, distributions: set[str]) -> set[int]:
    """Places of the layers after which no layer with weights comes."""
    feeds_weights: set[str] = set()
    tails = set()
    for place in range(len(graph.node) - 1, -1, -1):
        node = graph.node[place]
        weighty = node.op_type in _WEIGHTY and not distributions.intersection(node.input)
        if weighty or feeds_weights.intersection(node.output):
            feeds_weights.update(consumed(node))
        if not weighty and not feeds_weights.intersection(node.output):
            tails.add(place)
    return tails


def _counts_up(tensor: onnx.TensorProto) -> bool:
    """Whether a Conv's weights are 0, 1, 2 ...: it gives a distribution's mean, which is part of decoding a box."""
    if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 4 or tensor.dims[0] != 1 or tensor.dims[1] < 2:
        return False
    values = numpy_helper.to_array(tensor).ravel()
    return len(values) == tensor.dims[1] and bool((values == np.arange(len(values))).all())


def _halved(values: Float32Array, name: str) -> tuple[NDArray[np.float16], int]:
    if np.isnan(values).any():
        raise PackageError(f"the weights {name} have values that are no numbers; export the model again")
    beyond = np.isfinite(values) & (np.abs(values) > HALF_MAX)
    return np.where(beyond, np.copysign(HALF_MAX, values), values).astype(np.float16), int(beyond.sum())


@dataclass(slots=True)
class _Caster:
    """Rewrites the nodes of a graph for the types that they are to have, with casts in between."""

    graph: onnx.GraphProto
    floats: set[str]
    full: set[int]
    weights: dict[str, onnx.TensorProto] = field(init=False)
    halves: set[str] = field(default_factory=set)
    """Tensors that are float16 now."""
    casts: dict[str, str] = field(default_factory=dict)
    """The other version of a tensor, by its name."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    clamped: int = 0

    def __post_init__(self) -> None:
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}

    def convert(self) -> Conversion:
        half = full = 0
        results = {output.name for output in self.graph.output}
        for place, node in enumerate(self.graph.node):
            computes = self.floats.intersection((*node.input, *node.output))
            if place in self.full or not computes:
                full += bool(computes)
                self._keep(node)
            else:
                half += 1
                self._halve(node, results)
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self._drop_unread_weights(results)
        return Conversion(half, full, self.clamped)

    def _keep(self, node: onnx.NodeProto) -> None:
        for place, name in enumerate(node.input):
            if name in self.halves:
                node.input[place] = self._cast(name, TensorProto.FLOAT)
        self.nodes.append(node)

    def _halve(self, node: onnx.NodeProto, results: set[str]) -> None:
        for place, name in enumerate(node.input):
            if place in _KEEP_FLOAT32.get(node.op_type, ()):
                node.input[place] = self._cast(name, TensorProto.FLOAT) if name in self.halves else name
            elif name in self.weights and name in self.floats:
                node.input[place] = self._half_weights(name)
            elif name in self.floats and name not in self.halves:
                node.input[place] = self._cast(name, TensorProto.FLOAT16)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        self.nodes.append(node)
        for place, name in enumerate(node.output):
            if name in self.floats and name in results:
                # An output keeps its name and its type.
                node.output[place] = f"{name}/half"
                self.nodes.append(_cast_node(node.output[place], name, TensorProto.FLOAT))
                self.casts[name] = node.output[place]
            elif name in self.floats:
                self.halves.add(name)

    def _cast(self, name: str, kind: int) -> str:
        if name not in self.casts:
            self.casts[name] = f"{name}/{'half' if kind == TensorProto.FLOAT16 else 'full'}"
            self.nodes.append(_cast_node(name, self.casts[name], kind))
        return self.casts[name]

    def _half_weights(self, name: str) -> str:
        if name not in self.casts:
            values, clamped = _halved(numpy_helper.to_array(self.weights[name]), name)
            self.clamped += clamped
            self.casts[name] = f"{name}/half"
            self.graph.initializer.append(numpy_helper.from_array(values, self.casts[name]))
        return self.casts[name]

    def _drop_unread_weights(self, results: set[str]) -> None:
        read = results.union(*(consumed(node) for node in self.graph.node))
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)


def _cast_node(name: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [result], name=result, to=kind)
