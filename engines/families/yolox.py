"""YOLOX: one output of all strides, boxes relative to their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engines.errors import PackageError
from engines.families.boxes import STRIDES, cells, count, from_centres, listed, objectness_times_classes
from engines.families.decoder import Candidates
from engines.manifest import Manifest
from engines.types import Float32Array, TensorSpec


@dataclass(frozen=True, slots=True)
class YoloX:
    """Decodes one output ``[B, N, 5 + C]`` of cells, those of stride 8 first, row by row.

    Sides are x, y, width, height, objectness and scores, the last two sigmoided in the model. The centre is
    ``(cell + xy) * stride`` and the size ``exp(wh) * stride``: exports leave that to the caller, unless made with
    ``--decode_in_inference``, which nothing in the file tells.
    """

    output: str
    corners: Float32Array
    strides: Float32Array

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        size, classes = manifest.input, len(manifest.class_names)
        wanted = (count(STRIDES, size), 5 + classes)
        if len(outputs) != 1 or outputs[0].shape[1:] != wanted:
            raise PackageError(
                f"a yolox model has one output [batch, {wanted[0]}, {wanted[1]}] for {classes} class_names and an "
                f"input of {size.width}x{size.height}, but this one has {listed(outputs)}; put the model's classes "
                "and its real input size in manifest.json, and export it without --decode_in_inference and NMS, "
                "or name the family yolo if it is YOLOv5"
            )
        grids = [cells(stride, size) for stride in STRIDES]
        strides = [np.full((len(grid), 1), stride, np.float32) for grid, stride in zip(grids, STRIDES, strict=True)]
        return cls(outputs[0].name, np.concatenate(grids), np.concatenate(strides))

    def decode(self, outputs: Mapping[str, Float32Array], floors: Sequence[float]) -> list[Candidates]:
        """Decode a batch; see `Decoder.decode`."""
        frames = []
        for frame, floor in zip(outputs[self.output], floors, strict=False):
            rows, scores = objectness_times_classes(frame, floor)
            frames.append(Candidates(self._boxes(frame[rows, :4], rows), scores))
        return frames

    def _boxes(self, sides: Float32Array, rows: NDArray[np.intp]) -> Float32Array:
        centres = (sides[:, :2] + self.corners[rows]) * self.strides[rows]
        # Infinite sides are dropped with the other boxes that have no area.
        with np.errstate(over="ignore"):
            sizes = np.exp(sides[:, 2:]) * self.strides[rows]
        return from_centres(np.concatenate([centres, sizes], axis=1))
