"""Writing ONNX graphs: nodes and constants with names of their own, and what the operator set changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OLDEST_OPSET, NEWEST_OPSET = 13, 26
"""From 13 on operators take their axes as this module writes them; 26 is the newest that ONNX Runtime 1.31 loads."""

_REDUCE_MAX_BY_INPUT = 18
"""From this operator set on ReduceMax takes its axes as an input."""


class GraphWriter:
    """Adds nodes to the end of ``graph``; methods are named after what they compute and return a tensor's name."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self._graph = graph
        self._opset = opset
        self._made = 0

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes(operator, *inputs, outputs=1, **attributes)[0]

    def nodes(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        names = [self._name(operator) for _ in range(outputs)]
        self._graph.node.append(helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        return names

    def named(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Add a node whose output has a name already."""
        self._graph.node.append(helper.make_node(operator, inputs, [output], name=self._name(operator), **attributes))

    def constant(self, values: NDArray[Any]) -> str:
        """Add a constant."""
        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant of int64, for axes and shapes."""
        return self.constant(np.array(values, np.int64))

    def cut(self, tensor: str, axis: int, start: int, end: int) -> str:
        """Indices ``start`` to ``end``, excluded, of an axis."""
        return self.node("Slice", tensor, self.integers(start), self.integers(end), self.integers(axis))

    def reshape(self, tensor: str, *shape: int) -> str:
        """Another shape; 0 keeps a side, -1 is what remains."""
        return self.node("Reshape", tensor, self.integers(*shape))

    def largest(self, tensor: str, axis: int) -> str:
        """The maximum over an axis, which goes."""
        if self._opset < _REDUCE_MAX_BY_INPUT:
            return self.node("ReduceMax", tensor, axes=[axis], keepdims=0)
        return self.node("ReduceMax", tensor, self.integers(axis), keepdims=0)

    def summed(self, tensor: str, axis: int) -> str:
        """The sum over an axis, which goes."""
        return self.node("ReduceSum", tensor, self.integers(axis), keepdims=0)

    def top(self, tensor: str, count: int) -> tuple[str, str]:
        """The ``count`` largest of each row of ``[B, N]``, falling, and their indices: ``[B, count]`` each."""
        values, indices = self.nodes("TopK", tensor, self.integers(count), outputs=2, axis=1, largest=1, sorted=1)
        return values, indices

    def gather(self, tensor: str, indices: str, axis: int, width: int) -> str:
        """Of ``[B, N, width]`` the rows, or of ``[B, width, N]`` the columns, that ``indices`` ``[B, K]`` name.

        ``axis`` is that of N: 1 or 2.
        """
        other = 3 - axis
        wide = self.node("Unsqueeze", indices, self.integers(other))
        repeats = [1, 1, 1]
        repeats[other] = width
        if width > 1:
            wide = self.node("Tile", wide, self.integers(*repeats))
        return self.node("GatherElements", tensor, wide, axis=axis)

    def cast(self, tensor: str, dtype: int) -> str:
        """Another element type, of ``onnx.TensorProto``."""
        return self.node("Cast", tensor, to=dtype)

    def _name(self, what: str) -> str:
        self._made += 1
        return f"raysight/{what}_{self._made}"


def consumed(node: onnx.NodeProto) -> Iterator[str]:
    """All tensors that a node reads, and those that its subgraphs, such as of an If, read."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from consumed(inner)
        yield from (output.name for output in graph.output)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def drop_empty_regions(graph: onnx.GraphProto) -> None:
    """Leave out the region of a Resize where it is an empty constant, of which TensorRT complains."""
    empty = {tensor.name for tensor in graph.initializer if 0 in tensor.dims}
    for node in graph.node:
        if node.op_type == "Resize" and len(node.input) > 1 and node.input[1] in empty:
            node.input[1] = ""


def prune(graph: onnx.GraphProto, outputs: list[str]) -> None:
    """Keep what ``outputs`` are computed from; an auxiliary branch goes, with its weights."""
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(consumed(node))
            kept.append(node)
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    results = [output for output in graph.output if output.name in outputs]
    for field, values in ((graph.node, kept[::-1]), (graph.initializer, initializers), (graph.output, results)):
        del field[:]
        field.extend(values)
