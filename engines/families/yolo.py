"""YOLO models whose boxes come out in input pixels and still overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from engines.errors import PackageError
from engines.families.boxes import counts, from_centres, listed, objectness_times_classes
from engines.families.decoder import Candidates
from engines.manifest import Manifest
from engines.types import Float32Array, TensorSpec

_BOX = 4
_ANCHORS = 3


@dataclass(frozen=True, slots=True)
class Yolo:
    """Decodes one output of YOLOv5 to YOLOv12, of either layout.

    Anchor-free, ``[B, 4 + C, N]``: centre x, y, width, height, then sigmoided scores. With anchors, as YOLOv5 and
    YOLOv7 have them, ``[B, N, 5 + C]``: the same with the sigmoided objectness before the scores, which it multiplies.
    The order of the sides tells them apart, and N, which is three for each cell with anchors.
    """

    output: str
    anchors: bool = False

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        seen = listed(outputs)
        if len(outputs) != 1 or len(outputs[0].shape) != 3:
            raise PackageError(
                f"a yolo model has one output [batch, 4 + classes, boxes], but this one has {seen}; "
                "export it with that output alone, without NMS and without auxiliary heads, "
                "or name the family yolov9 if it is the training graph of that"
            )
        _, rows, columns = outputs[0].shape
        classes = len(manifest.class_names)
        anchors = [_ANCHORS * cells for cells in counts(manifest.input)]
        anchored = rows in anchors and columns == _BOX + 1 + classes
        if rows == _BOX + classes and anchored:
            raise PackageError(
                f"{seen} reads as {columns} boxes without objectness and as {rows} with it; "
                "export the model for a larger input"
            )
        if rows == _BOX + classes or anchored:
            return cls(outputs[0].name, anchored)
        if columns in (_BOX + classes, _BOX + 1 + classes, 6):
            raise PackageError(
                f"a yolo model's output is [batch, {_BOX + classes}, boxes] for {classes} classes, or "
                f"[batch, {anchors[0]}, {_BOX + 1 + classes}] as YOLOv5 has it for an input of "
                f"{manifest.input.width}x{manifest.input.height}, but {seen} has the boxes first, and "
                "another number of them; put the model's real input size in manifest.json, export it without NMS, "
                "or name the family yolox or yolo-nms-free"
            )
        raise _wrong_classes("yolo", seen, classes)

    def decode(self, outputs: Mapping[str, Float32Array], floors: Sequence[float]) -> list[Candidates]:
        """Decode a batch; see `Decoder.decode`."""
        decode = _anchored if self.anchors else _anchor_free
        return decode(outputs[self.output], floors)


@dataclass(frozen=True, slots=True)
class YoloV9:
    """Decodes YOLOv9: ``[B, 4 + C, N]`` as in `Yolo`, once, or twice when the training graph was exported.

    Of two, the first is the auxiliary branch, which only training needs, and the second the main one. The exporter
    calls the first ``output0`` and leaves the second to PyTorch, which makes a number of it.
    """

    output: str

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        seen, classes = listed(outputs), len(manifest.class_names)
        shapes = {output.shape[1:] for output in outputs}
        if len(outputs) not in (1, 2) or len(shapes) != 1 or len(outputs[0].shape) != 3:
            raise PackageError(
                "a yolov9 model has one output [batch, 4 + classes, boxes], or two of the same shape of which the "
                f"second is the main branch, but this one has {seen}; export it so, without NMS"
            )
        if outputs[0].shape[1] != _BOX + classes:
            raise _wrong_classes("yolov9", seen, classes)
        if len(outputs) == 2 and outputs[1].name == "output0":
            raise PackageError(
                f"the second output of a yolov9 model is the main branch, but this one has {seen}, and output0 is "
                "what the exporter calls the auxiliary one; export it again, or convert it to the main branch alone"
            )
        return cls(outputs[-1].name)

    def decode(self, outputs: Mapping[str, Float32Array], floors: Sequence[float]) -> list[Candidates]:
        """Decode a batch; see `Decoder.decode`."""
        return _anchor_free(outputs[self.output], floors)


def _wrong_classes(family: str, seen: str, classes: int) -> PackageError:
    return PackageError(
        f"manifest.json lists {classes} class_names, so a {family} output is [batch, {_BOX + classes}, boxes], "
        f"but the model has {seen}; list one name for each class, in the model's order"
    )


def _anchor_free(output: Float32Array, floors: Sequence[float]) -> list[Candidates]:
    best = output[:, _BOX:].max(axis=1)
    frames = []
    for index, floor in enumerate(floors):
        rows = np.flatnonzero(best[index] >= floor)
        kept = np.ascontiguousarray(output[index][:, rows].T)
        frames.append(Candidates(from_centres(kept), kept[:, _BOX:]))
    return frames


def _anchored(output: Float32Array, floors: Sequence[float]) -> list[Candidates]:
    frames = []
    for frame, floor in zip(output, floors, strict=False):
        rows, scores = objectness_times_classes(frame, floor)
        frames.append(Candidates(from_centres(frame[rows, :_BOX]), scores))
    return frames
