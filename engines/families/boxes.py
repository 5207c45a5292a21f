"""What several families share: grids of cells, boxes by their centres, objectness, and outputs in errors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engines.errors import PackageError
from engines.manifest import ManifestInput
from engines.types import Float32Array, TensorSpec

STRIDES = (8, 16, 32)
"""Of YOLO models, but for the few that add 64."""


def cells(stride: int, size: ManifestInput) -> Float32Array:
    """Column and row of each cell, float32 ``[N, 2]``, row by row.

    Sides that the stride doesn't divide are rounded up, as convolutions do.
    """
    columns, rows = -(-size.width // stride), -(-size.height // stride)
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    return np.stack([x, y], axis=1).astype(np.float32)


def count(strides: Iterable[int], size: ManifestInput) -> int:
    """Cells of all strides."""
    return sum(-(-size.width // stride) * -(-size.height // stride) for stride in strides)


def counts(size: ManifestInput) -> tuple[int, int]:
    """Cells of a YOLO model: of `STRIDES`, and with 64 besides."""
    return count(STRIDES, size), count((*STRIDES, 64), size)


def other_classes(output: TensorSpec, classes: int) -> PackageError:
    """The refusal of an ``output`` ``[batch, rows, classes]`` that scores another number of classes than are named."""
    return PackageError(
        f"manifest.json lists {classes} class_names, but {output} scores {output.shape[2]} classes; "
        "list one name for each, in the model's order"
    )


def from_centres(boxes: Float32Array) -> Float32Array:
    """Left, top, right, bottom of boxes ``[N, 4]`` that are given as centre x, y, width, height."""
    centres, halves = boxes[:, :2], boxes[:, 2:4] / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def objectness_times_classes(frame: Float32Array, floor: float) -> tuple[NDArray[np.intp], Float32Array]:
    """Rows of ``[N, 5 + C]`` whose best product is at least ``floor``, and their products ``[K, C]``.

    No class scores above 1, so a row whose objectness is below the floor needs none of its products.
    """
    rows = np.flatnonzero(frame[:, 4] >= floor)
    scores = frame[rows, 5:] * frame[rows, 4:5]
    above = scores.max(axis=1) >= floor
    return rows[above], scores[above]


def listed(outputs: Iterable[TensorSpec]) -> str:
    """Outputs, for an error."""
    return ", ".join(str(output) for output in outputs) or "none"
