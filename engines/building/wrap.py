"""Wrapping a network: uint8 frames in, each frame's best boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from engines.building.graph import GraphWriter, drop_empty_regions, prune
from engines.building.half import Conversion, to_half
from engines.building.heads import Head, Outputs, attach, used
from engines.building.source import Source
from engines.families.wrapped import BATCH, BOXES, CLASSES, FRAMES, SCORES
from engines.manifest import Built, Manifest, ManifestInput, Precision

_NETWORK = "network/"
"""What the network's own names begin with, so that none of them clashes with those of the wrapping."""


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A wrapped network, its package's manifest, and how its weights were converted, where they were."""

    model: onnx.ModelProto
    manifest: Manifest
    conversion: Conversion | None


def wrap(source: Source, precision: Precision, max_batch: int, top_k: int) -> Wrapping:
    """Wrap a network; `engines.manifest.Built` says what that is.

    Raises:
        PackageError: the network can't have this precision.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    graph, spec = model.graph, source.manifest.input
    drop_empty_regions(graph)
    prune(graph, used(source.decoder, [output.name for output in graph.output]))
    conversion = to_half(model) if precision == "fp16" else None
    compose.add_prefix_graph(graph, _NETWORK, inplace=True)
    network = list(graph.node)
    for field in (graph.node, graph.input, graph.output, graph.value_info):
        del field[:]
    writer = GraphWriter(graph, source.opset)
    _normalise(writer, spec, _NETWORK + spec.name)
    graph.node.extend(network)
    outputs = Outputs({output.name: output for output in source.outputs}, _NETWORK)
    head = attach(source.decoder, writer, outputs, top_k)
    _finish(writer, graph, spec, head)
    built = Built(precision=precision, top_k=head.top_k, max_batch=max_batch, suppress=head.suppress)
    changed = source.manifest.model_dump() | {"built": built, "input": spec.model_copy(update={"name": FRAMES})}
    return Wrapping(model, Manifest.model_validate(changed), conversion)


def _normalise(writer: GraphWriter, spec: ManifestInput, name: str) -> None:
    """From ``frames`` to the network's input ``name``.

    TensorRT takes uint8 only to cast it: that comes first.
    """
    values = writer.cast(FRAMES, TensorProto.FLOAT)
    if any(spec.mean):
        values = writer.node("Sub", values, writer.constant(np.array(spec.mean, np.float32)))
    if any(side != 1 for side in spec.std):
        values = writer.node("Div", values, writer.constant(np.array(spec.std, np.float32)))
    writer.named("Transpose", [values], name, perm=[0, 3, 1, 2])


def _finish(writer: GraphWriter, graph: onnx.GraphProto, spec: ManifestInput, head: Head) -> None:
    writer.named("Identity", [head.boxes], BOXES)
    writer.named("Identity", [head.scores], SCORES)
    writer.named("Cast", [head.classes], CLASSES, to=TensorProto.INT32)
    frames: Sequence[str | int] = [BATCH, spec.height, spec.width, 3]
    graph.input.append(helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, frames))
    row: list[str | int] = [BATCH, head.top_k]
    for name, kind, shape in (
        (BOXES, TensorProto.FLOAT, [*row, 4]),
        (SCORES, TensorProto.FLOAT, row),
        (CLASSES, TensorProto.INT32, row),
    ):
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
