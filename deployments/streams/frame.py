"""A decoded frame on its way through the pipeline, and the picture it carries."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
LumaPlane = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Planes:
    """Writable YUV planes of one picture; writing changes the picture.

    Attributes:
        y: ``[height, width]``.
        u, v: ``[ceil(height / sub_y), ceil(width / sub_x)]``; for NV12 strided views of one plane.
        sub_x, sub_y: chroma subsampling (2, 2 for 4:2:0).
        depth: bits a sample, 8 (uint8) or 10 (uint16, low bits).
        full_range: whether 0..255 (yuvj420p) rather than 16..235.
    """

    y: LumaPlane
    u: LumaPlane
    v: LumaPlane
    sub_x: int
    sub_y: int
    depth: int
    full_range: bool


class Picture(Protocol):
    """The pixels of one frame, in whatever format the decoder gave; upright (rotation is undone)."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def to_array(self, width: int, height: int, colour: Literal["bgr", "rgb"] = "bgr") -> UInt8Array:
        """Scaled to uint8 ``[height, width, 3]`` with the picture's own matrix and range."""
        ...

    def writable(self, earlier: Picture | None = None) -> Picture:
        """A copy that shares nothing with the decoder: its frames are references for later ones.

        ``earlier``: a copy that nobody reads any more, whose memory may be written again.
        """
        ...

    def planes(self) -> Planes:
        """The planes of a `writable` picture, for drawing in place."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        sequence: number of the decoded frame in its stream; gaps later on are drops, it never goes back.
        pts: presentation time in ``time_base`` units, as the source gave it (made monotonic over reconnects).
        captured_at: Unix time in seconds at which the frame was decoded.
        decoded_at: the same instant on the monotonic clock, for latencies.
        stretch: changes where the source began anew, by a reconnect, a loop or a leap of its clock: what is seen then
            does not go on from the frame before.
    """

    sequence: int
    pts: int
    time_base: Fraction
    captured_at: float
    decoded_at: float
    picture: Picture
    stretch: int = 0
