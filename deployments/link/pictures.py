"""Pictures as the link carries them: the engine's packed channels, or I420 with half the bytes.

I420 rather than NV12, which has the same bytes in another order, as both swscale and OpenCV make I420 directly.
Its colours are BT.601, limited range: a stream that has other YUV converts it when it scales.
Each of the two conversions costs about 0.25 ms of CPU for 640x640 (one core of a 2024 EPYC).
"""

from __future__ import annotations

import cv2
import numpy as np

from deployments.link.messages import Layout
from engines.types import Colour, EngineInfo, UInt8Array

# OpenCV would start a thread for each core on every conversion: ten times the CPU for a picture this small.
cv2.setNumThreads(1)

_TO_I420 = {"bgr": cv2.COLOR_BGR2YUV_I420, "rgb": cv2.COLOR_RGB2YUV_I420}
_FROM_I420 = {"bgr": cv2.COLOR_YUV2BGR_I420, "rgb": cv2.COLOR_YUV2RGB_I420}


def shapes(info: EngineInfo) -> dict[Layout, tuple[int, ...]]:
    """The layouts in which an engine's frames may travel; I420 needs even sides."""
    packed: dict[Layout, tuple[int, ...]] = {Layout.PACKED: (info.height, info.width, 3)}
    if info.width % 2 == info.height % 2 == 0:
        packed[Layout.I420] = (info.height * 3 // 2, info.width)
    return packed


def layout_of(image: UInt8Array, shapes: dict[Layout, tuple[int, ...]]) -> Layout | None:
    """Which of the layouts an image has; None where it is none of them."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return None
    return next((layout for layout, shape in shapes.items() if image.shape == shape), None)


def to_i420(image: UInt8Array, colour: Colour) -> UInt8Array:
    """Packed channels as I420; both sides must be even."""
    return np.asarray(cv2.cvtColor(image, _TO_I420[colour]), np.uint8)


def unpacked(image: UInt8Array, row: UInt8Array, colour: Colour) -> UInt8Array:
    """An image of either layout as packed channels: itself, or converted into ``row``, ``[height, width, 3]``."""
    if image.ndim == 3:
        return image
    cv2.cvtColor(image, _FROM_I420[colour], dst=row)
    return row
