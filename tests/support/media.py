"""Clips made for tests with PyAV: small, of any codec, size and orientation."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deployments.streams.media.clips import CLIPS

SHIPPED_CLIP = CLIPS / "pedestrians-768x576-25fps.mp4"
"""796 frames of people, 768x576 at 25 a second."""

WITHOUT_GPU = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="shows what happens where there is no GPU")

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg"}
_OPTIONS = {
    "h264": {"preset": "ultrafast", "tune": "zerolatency", "g": "12"},
    "hevc": {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none:keyint=12:bframes=0"},
    "mjpeg": {"q:v": "5"},
}


def frame(number: int, width: int, height: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    """A grey ramp with a bright block in the upper left quarter, dark below, that changes with ``number``."""
    luma = np.linspace(40, 120, height, dtype=np.uint8)[:, None] + np.arange(width, dtype=np.uint8)[None] % 8
    luma[: height // 4, : width // 4] = 220 - number % 20
    picture = av.VideoFrame(width, height, pixel_format)
    for index, plane in enumerate(picture.planes):
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        if index == 0:
            samples[:height, :width] = luma
        else:
            samples[:] = 128
    return picture


def make_clip(
    path: Path,
    *,
    codec: str = "h264",
    size: tuple[int, int] = (320, 240),
    fps: int = 25,
    frames: int = 50,
    audio: bool = False,
    options: dict[str, str] | None = None,
    draw: Callable[..., av.VideoFrame] | None = None,
) -> Path:
    """Write a clip of ``frames`` frames; ``audio`` adds AAC of the same length, ``draw`` is instead of `frame`."""
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if codec == "h264" and (size[0] % 2 or size[1] % 2):
        pixel_format = "yuv444p"
    with av.open(path, "w") as container:
        stream = container.add_stream(_ENCODERS[codec], fps, options=options or _OPTIONS[codec])
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        sound = container.add_stream("aac", 16_000, layout="mono") if audio else None
        for number in range(frames):
            picture = draw(number, *size) if draw is not None else frame(number, *size, pixel_format)
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(picture))
            if sound is not None:
                _tone(container, sound, number, fps)
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def _tone(container: av.container.OutputContainer, sound: av.AudioStream, number: int, fps: int) -> None:
    count = 16_000 // fps
    at = np.arange(number * count, (number + 1) * count)
    samples = (np.sin(at * 0.1) * 0.3).astype(np.float32)[None]
    piece = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    piece.sample_rate = 16_000
    piece.pts, piece.time_base = number * count, Fraction(1, 16_000)
    container.mux(sound.encode(piece))


_MATRIX = {
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}
"""Degrees clockwise that a player turns the picture, as the first two rows of the matrix in an MP4's track header."""


def rotate_clip(path: Path, degrees: int) -> Path:
    """Set the display matrix of an MP4's first track in place."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    at = header + 4 + 4 + 20 + 8 + 8  # type, version and flags, times and ids (version 0), reserved, layer to volume
    a, b, c, d = (value << 16 for value in _MATRIX[degrees])
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path
