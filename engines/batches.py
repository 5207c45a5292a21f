"""The check that every engine makes of the batch it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.types import EngineInfo, Thresholds, UInt8Array


def check_batch(frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds], info: EngineInfo) -> None:
    """Make sure that a batch is what `Engine.infer` takes.

    Raises:
        ValueError: it isn't; the message says what was expected.
    """
    if not 1 <= len(frames) <= info.max_batch_size:
        raise ValueError(f"{info.name} takes 1 to {info.max_batch_size} frames, got {len(frames)}")
    shape = (info.height, info.width, 3)
    for frame in frames:
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(f"{info.name} takes uint8 {list(shape)}, got {frame.dtype} {list(frame.shape)}")
    if len(thresholds) != len(frames):
        raise ValueError(f"{info.name} takes one Thresholds a frame, got {len(thresholds)} for {len(frames)} frames")
