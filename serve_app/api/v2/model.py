"""The detector as the protocol describes a model: metadata, configuration, and what a request of it may say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.types import Detections, EngineInfo, Thresholds, UInt8Array
from serve_app.api.v2.requests import InferRequest, InputTensor, OutputTensor, Parameters, invalid
from serve_app.api.v2.tensors import read_bytes, read_uint8

MAX_FRAMES = 64
"""Frames or images of one request."""

VERSION = "1"
"""A package has no versions; the protocol wants one."""

EXTENSIONS = ("binary_tensor_data", "model_configuration", "parameters")

FRAMES, IMAGE = "frames", "image"
NO_CLASS = -1
"""In ``classes`` behind the last object of a frame; boxes and scores are 0 there."""

_CONFIG_TYPES = {"UINT8": "TYPE_UINT8", "BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT32": "TYPE_INT32"}

_NOT_OURS = frozenset({"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output"})
"""Parameters of the protocol and its extensions that change nothing here."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """A tensor of the model; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What a request asks for: frames, or encoded images."""

    frames: UInt8Array | None
    images: tuple[bytes, ...]
    thresholds: Thresholds | None


OUTPUTS = (
    TensorFacts("num_detections", "INT32", (-1,)),
    TensorFacts("boxes", "FP32", (-1, -1, 4)),
    TensorFacts("scores", "FP32", (-1, -1)),
    TensorFacts("classes", "INT32", (-1, -1)),
)


def inputs(info: EngineInfo) -> tuple[TensorFacts, ...]:
    """The inputs, of which a request gives one."""
    return (
        TensorFacts(FRAMES, "UINT8", (-1, info.height, info.width, 3)),
        TensorFacts(IMAGE, "BYTES", (-1,)),
    )


def metadata(info: EngineInfo) -> dict[str, Any]:
    """The protocol's model metadata."""

    def told(facts: TensorFacts) -> dict[str, Any]:
        return {"name": facts.name, "datatype": facts.datatype, "shape": list(facts.shape)}

    return {
        "name": info.name,
        "versions": [VERSION],
        "platform": "raysight",
        "inputs": [told(facts) for facts in inputs(info)],
        "outputs": [told(facts) for facts in OUTPUTS],
    }


def config(info: EngineInfo) -> dict[str, Any]:
    """The model configuration extension's answer.

    ``max_batch_size`` 0 says that ``dims`` hold the first dimension too; frames are batched across requests anyway.
    """

    def told(facts: TensorFacts) -> dict[str, Any]:
        return {"name": facts.name, "data_type": _CONFIG_TYPES[facts.datatype], "dims": list(facts.shape)}

    facts = {
        "max_frames": str(MAX_FRAMES),
        "colour": info.colour,
        "letterbox": info.letterbox,
        "pad": str(info.pad),
        "family": info.family,
        "class_names": "\n".join(info.class_names),
    }
    return {
        "name": info.name,
        "platform": "raysight",
        "backend": "raysight",
        "max_batch_size": 0,
        "input": [{**told(facts), "optional": True} for facts in inputs(info)],
        "output": [told(facts) for facts in OUTPUTS],
        "parameters": {name: {"string_value": value} for name, value in facts.items()},
    }


def read_work(request: InferRequest, info: EngineInfo) -> Work:
    """What a request asks for.

    Raises:
        Refused: a name, datatype, shape, element or parameter can't be used.
    """
    thresholds = read_thresholds(request.parameters or {})
    known = {facts.name: facts for facts in OUTPUTS}
    for output in request.outputs:
        if output.name not in known:
            raise invalid(f"There is no output of that name; there are {', '.join(known)}.")
    if len({output.name for output in request.outputs}) < len(request.outputs):
        raise invalid("An output is asked for twice.")
    if len(request.inputs) != 1:
        raise invalid(f"Send exactly one input: {FRAMES} or {IMAGE}.")
    (tensor,) = request.inputs
    facts = next((facts for facts in inputs(info) if facts.name == tensor.name), None)
    if facts is None:
        raise invalid(f"There is no input of that name; send {FRAMES} or {IMAGE}.")
    _require_fit(tensor, facts)
    if facts.name == FRAMES:
        return Work(read_uint8(tensor), (), thresholds)
    return Work(None, tuple(read_bytes(tensor)), thresholds)


def _require_fit(tensor: InputTensor, facts: TensorFacts) -> None:
    wanted = [MAX_FRAMES if side < 0 else side for side in facts.shape]
    if tensor.datatype != facts.datatype:
        raise invalid(f"{facts.name} must be {facts.datatype}.")
    shape = tensor.shape[:1] if facts.name == IMAGE and tensor.shape[1:] == (1,) else tensor.shape
    if len(shape) != len(wanted) or list(shape[1:]) != wanted[1:] or not 1 <= shape[0] <= MAX_FRAMES:
        rest = "".join(f", {side}" for side in wanted[1:])
        raise invalid(f"The shape of {facts.name} must be [1 to {MAX_FRAMES}{rest}], not {_shown(tensor.shape)}.")
    if tensor.raw is None and tensor.values is None:
        raise invalid(f"{facts.name} has no data.")


def _shown(shape: Sequence[int]) -> str:
    return f"[{', '.join(str(side) if abs(side) < 10**12 else '...' for side in shape)}]"


def read_thresholds(parameters: Parameters) -> Thresholds | None:
    """The thresholds that parameters name, None where they name none. Raises Refused."""
    readers: dict[str, Callable[[str, Any], Any]] = {
        "confidence": lambda name, value: _number(name, value, 0.01, 1.0),
        "iou": lambda name, value: _number(name, value, 0.0, 1.0),
        "max_detections": lambda name, value: _whole(name, value, 1, 1000),
    }
    for name in parameters:
        if name not in readers and name not in _NOT_OURS and not name.startswith("triton_"):
            raise invalid(f"There is a parameter that is none of {', '.join(readers)}.")
    chosen = {name: read(name, parameters[name]) for name, read in readers.items() if name in parameters}
    return Thresholds(**chosen) if chosen else None


def _number(name: str, value: Any, least: float, most: float) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number <= most:
        raise invalid(f"{name} must be a number from {least:g} to {most:g}.")
    return number


def _whole(name: str, value: Any, least: int, most: int) -> int:
    number = _number(name, value, least, most)
    if number != int(number):
        raise invalid(f"{name} must be a whole number from {least} to {most}.")
    return int(number)


def outputs(found: Sequence[Detections], names: Sequence[str]) -> tuple[OutputTensor, ...]:
    """Detections as padded tensors: as many places for each frame as the one with most objects needs, at least one.

    ``names``: those that are asked for, in order; empty for all.
    """
    places = max([1, *(len(objects) for objects in found)])
    counts = np.array([len(objects) for objects in found], np.int32)
    boxes = np.zeros((len(found), places, 4), np.float32)
    scores = np.zeros((len(found), places), np.float32)
    classes = np.full((len(found), places), NO_CLASS, np.int32)
    for row, objects in enumerate(found):
        boxes[row, : len(objects)] = objects.xyxy
        scores[row, : len(objects)] = objects.confidence
        classes[row, : len(objects)] = objects.class_id
    all_of_them = {
        "num_detections": OutputTensor("num_detections", counts),
        "boxes": OutputTensor("boxes", boxes),
        "scores": OutputTensor("scores", scores),
        "classes": OutputTensor("classes", classes),
    }
    return tuple(all_of_them[name] for name in (names or all_of_them))
