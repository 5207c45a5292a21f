"""The newest picture of a stream, small, with boxes: what a clip is known by."""

from __future__ import annotations

import cv2

from deployments.streams.annotate import Annotator
from deployments.streams.live import JPEG_QUALITY
from deployments.streams.pipeline import Pipeline

WIDTH = 320


def thumbnail(pipeline: Pipeline) -> bytes | None:
    """A JPEG `WIDTH` pixels wide; None before the first picture."""
    newest = pipeline.live.newest
    if newest is None:
        return None
    frame, detections = newest
    picture = frame.picture.writable()
    Annotator(pipeline.annotator.names).draw(picture.planes(), detections, pipeline.marks)
    small = picture.to_array(WIDTH, max(1, round(WIDTH * picture.height / picture.width)))
    return bytes(cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes())
