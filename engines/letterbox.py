"""Letterboxing: a frame scaled into the model's input with its aspect ratio kept, and boxes brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from engines.types import Float32Array, Placement, UInt8Array


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a source frame lies in a target canvas; all numbers are pixels.

    The inner picture is the scaled source. Each axis has its own exact scale (inner / source), so that rounding
    the inner sides to whole pixels, at least one, moves no box.
    """

    source_width: int
    source_height: int
    target_width: int
    target_height: int
    inner_width: int
    inner_height: int
    left: int
    top: int
    pad: int

    @classmethod
    def fit(
        cls,
        source_width: int,
        source_height: int,
        target_width: int,
        target_height: int,
        placement: Placement,
        pad: int,
    ) -> Self:
        """Make the source as large as the target holds; ``pad`` (0 to 255) fills the rest.

        Raises:
            ValueError: a side is less than one pixel.
        """
        sides = (source_width, source_height, target_width, target_height)
        if min(sides) < 1:
            raise ValueError(f"sides must be at least 1 pixel, not {source_width}x{source_height} in {sides[2:]}")
        scale = min(target_width / source_width, target_height / source_height)
        inner_width = min(target_width, max(1, round(source_width * scale)))
        inner_height = min(target_height, max(1, round(source_height * scale)))
        centred = placement == "centre"
        left = (target_width - inner_width) // 2 if centred else 0
        top = (target_height - inner_height) // 2 if centred else 0
        return cls(*sides, inner_width, inner_height, left, top, pad)

    def place(self, inner: UInt8Array, canvas: UInt8Array | None = None) -> UInt8Array:
        """Put an already scaled uint8 ``[inner_height, inner_width, 3]`` picture on a canvas, or on a new one.

        Raises:
            ValueError: ``inner`` or ``canvas`` has another shape or dtype.
        """
        _require(inner, self.inner_height, self.inner_width)
        if canvas is None:
            canvas = np.empty((self.target_height, self.target_width, 3), np.uint8)
        _require(canvas, self.target_height, self.target_width)
        bottom, right = self.top + self.inner_height, self.left + self.inner_width
        for margin in (canvas[: self.top], canvas[bottom:], canvas[:, : self.left], canvas[:, right:]):
            margin[:] = self.pad
        canvas[self.top : bottom, self.left : right] = inner
        return canvas

    def apply(self, image: UInt8Array) -> UInt8Array:
        """Scale a uint8 ``[source_height, source_width, 3]`` frame onto a new canvas.

        Raises:
            ValueError: ``image`` has another shape or dtype.
        """
        _require(image, self.source_height, self.source_width)
        inner = cv2.resize(image, (self.inner_width, self.inner_height), interpolation=cv2.INTER_LINEAR)
        return self.place(np.asarray(inner, np.uint8))

    def undo(self, xyxy: Float32Array) -> Float32Array:
        """Bring float32 ``[N, 4]`` boxes in target pixels to source pixels, clipped to the source."""
        offset = np.array([self.left, self.top] * 2, np.float32)
        scale = np.array([self.source_width / self.inner_width, self.source_height / self.inner_height] * 2, np.float32)
        limit = np.array([self.source_width, self.source_height] * 2, np.float32)
        source: Float32Array = np.clip((xyxy - offset) * scale, np.float32(0), limit)
        return source


def _require(image: UInt8Array, height: int, width: int) -> None:
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ValueError(f"expected a uint8 [{height}, {width}, 3] picture, got {image.dtype} {list(image.shape)}")
