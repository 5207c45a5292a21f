"""NanoDet: one pair of outputs a stride, boxes as distributions over distances from the cell's centre."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from engines.errors import PackageError
from engines.families.boxes import cells, count, other_classes
from engines.families.decoder import Candidates
from engines.manifest import Manifest
from engines.types import Float32Array, TensorSpec

_SIDES = 4


@dataclass(frozen=True, slots=True)
class _Level:
    """One stride's grid; ``centres`` is float32 ``[N, 2]``, x and y in input pixels, row by row."""

    stride: int
    centres: Float32Array


@dataclass(frozen=True, slots=True)
class NanoDet:
    """Decodes ``cls_s<stride>`` ``[B, N, C]`` and ``reg_s<stride>`` ``[B, N, 4 * bins]``.

    Scores are sigmoided in the model. A distance is the mean of its softmaxed bins, in strides, as in Generalized
    Focal Loss (Li et al. 2020, arXiv:2006.04388, section 3.2); left, top, right, bottom are measured from the centre
    of the cell, ``(column + 0.5) * stride`` and ``(row + 0.5) * stride``.
    """

    levels: tuple[_Level, ...]

    @classmethod
    def check(cls, outputs: Sequence[TensorSpec], manifest: Manifest) -> Self:
        """Make the decoder; see `Decoder.check`."""
        by_name = {output.name: output for output in outputs}
        strides = sorted(int(match[1]) for name in by_name if (match := re.fullmatch(r"cls_s([1-9]\d*)", name)))
        wanted = {f"{kind}_s{stride}" for stride in strides for kind in ("cls", "reg")}
        if not strides or wanted != set(by_name):
            raise PackageError(
                "a nanodet model has a cls_s<stride> and a reg_s<stride> output for each stride and no other, "
                f"but this one has {', '.join(by_name)}; export it so, or name another family in manifest.json"
            )
        for stride in strides:
            _check_level(by_name[f"cls_s{stride}"], by_name[f"reg_s{stride}"], stride, manifest)
        return cls(tuple(_level(stride, manifest) for stride in strides))

    def decode(self, outputs: Mapping[str, Float32Array], floors: Sequence[float]) -> list[Candidates]:
        """Decode a batch; see `Decoder.decode`."""
        best = [outputs[f"cls_s{level.stride}"].max(axis=2) for level in self.levels]
        frames = []
        for index, floor in enumerate(floors):
            boxes, scores = [], []
            for level, level_best in zip(self.levels, best, strict=True):
                rows = np.flatnonzero(level_best[index] >= floor)
                scores.append(outputs[f"cls_s{level.stride}"][index, rows])
                boxes.append(_boxes(outputs[f"reg_s{level.stride}"][index, rows], level.centres[rows], level.stride))
            frames.append(Candidates(np.concatenate(boxes), np.concatenate(scores)))
        return frames


def _level(stride: int, manifest: Manifest) -> _Level:
    corners = cells(stride, manifest.input)
    return _Level(stride, (corners + np.float32(0.5)) * np.float32(stride))


def _check_level(scores: TensorSpec, sides: TensorSpec, stride: int, manifest: Manifest) -> None:
    wanted, classes = count((stride,), manifest.input), len(manifest.class_names)
    for output in (scores, sides):
        if len(output.shape) != 3 or output.shape[1] != wanted:
            raise PackageError(
                f"{output} should have {wanted} cells ([?, {wanted}, ...]) for an input of "
                f"{manifest.input.width}x{manifest.input.height}; put the model's real input size in manifest.json"
            )
    if scores.shape[2] != classes:
        raise other_classes(scores, classes)
    width = sides.shape[2]
    if width is None or width % _SIDES or width < 2 * _SIDES:
        raise PackageError(
            f"{sides} should end in 4 sides x at least 2 bins; export the box logits as the head makes them"
        )


def _boxes(logits: Float32Array, centres: Float32Array, stride: int) -> Float32Array:
    """Boxes ``[K, 4]`` of ``[K, 4 * bins]`` logits."""
    bins = logits.shape[1] // _SIDES
    logits = logits.reshape(-1, _SIDES, bins)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    distances = weights @ np.arange(bins, dtype=np.float32) / weights.sum(axis=2) * np.float32(stride)
    return np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
