"""A detector that costs nothing, for benchmarks of everything else."""

from __future__ import annotations

import itertools

import numpy as np

from deployments.detector.port import DetectReply, DetectRequest
from deployments.link.pending import LinkReply
from engines.types import Detections, EngineInfo, UInt8Array


class InstantDetector:
    """A `DetectorPort` with a place for a picture, which answers at once with five boxes that wander."""

    INFO = EngineInfo("stand-in", "none", 640, 640, "bgr", ("person", "bicycle", "car"), 1, "none")

    def __init__(self) -> None:
        self._slot = np.zeros((self.INFO.height, self.INFO.width, 3), np.uint8)
        corners = np.array([[30, 200], [150, 190], [300, 260], [380, 300], [520, 210]], np.float32)
        boxes = np.hstack((corners, corners + np.array([50, 90], np.float32)))
        confidence, class_id = np.array([0.95, 0.8, 0.7, 0.6, 0.5], np.float32), np.array([0, 0, 1, 2, 0], np.int32)
        self._found = itertools.cycle(
            [Detections(boxes + np.float32(i), confidence - np.float32(i / 200), class_id) for i in range(30)]
        )

    def info(self, timeout_s: float) -> EngineInfo:
        return self.INFO

    def place(self) -> UInt8Array | None:
        return self._slot

    def submit(self, request: DetectRequest) -> LinkReply:
        reply = LinkReply()
        reply.settle(DetectReply(next(self._found), wait_s=0.0, infer_s=0.0, batch_size=1))
        return reply
