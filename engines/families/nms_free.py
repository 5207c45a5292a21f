"""YOLO models that give each object once: YOLOv10, YOLO26, and others exported with NMS in the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from engines.errors import PackageError
from engines.families.boxes import counts, listed
from engines.families.decoder import Objects
from engines.manifest import Manifest
from engines.types import Float32Array, TensorSpec

_WIDTH = 6


@dataclass(frozen=True, slots=True)
class YoloNmsFree:
    """Decodes one output ``[B, K, 6]``: left, top, right, bottom in input pixels, score, class.

    The shape doesn't tell how many classes the model has: an object of one that manifest.json doesn't name is dropped.
    """

    output: str
    classes: int

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        seen, classes = listed(outputs), len(manifest.class_names)
        if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != _WIDTH:
            raise PackageError(
                "a yolo-nms-free model has one output [batch, objects, 6] of corners, score and class, but this one "
                f"has {seen}; export it end to end, or name the family yolo if it needs NMS"
            )
        grids = counts(manifest.input)
        if classes <= 2 and outputs[0].shape[1] in (*grids, *(3 * cells for cells in grids)):
            raise PackageError(
                f"{seen} has a row for each cell of the input, as models of {classes} classes have that need NMS; "
                "export it end to end, or name the family yolo or yolox"
            )
        return cls(outputs[0].name, classes)

    def decode(self, outputs: Mapping[str, Float32Array], floors: Sequence[float]) -> list[Objects]:
        """Decode a batch; see `Decoder.decode`."""
        frames = []
        for frame, floor in zip(outputs[self.output], floors, strict=False):
            kept = frame[(frame[:, 4] >= floor) & (frame[:, 5] >= 0) & (frame[:, 5] < self.classes)]
            frames.append(Objects(kept[:, :4], kept[:, 4], kept[:, 5].astype(np.int32)))
        return frames
