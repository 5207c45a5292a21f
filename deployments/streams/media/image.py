"""Child process that decodes one foreign image: ``python -m deployments.streams.media.image``.

Reads a JPEG or PNG on stdin, and writes ``width height`` in one line and the raw BGR pixels to stdout, or one line
``error: ...``. The size is taken from the header before anything is decoded: a few kilobytes can claim gigapixels.
"""

from __future__ import annotations

import struct
import sys

from deployments.errors import InvalidSpec

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
FIELD = "image"

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers (ITU-T T.81, table B.1) that carry the size; the three left out are DHT, JPG and DAC."""

_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, RST0 to RST7 and SOI."""


def check(data: bytes) -> tuple[int, int]:
    """Width and height as the header states them.

    Raises:
        InvalidSpec: not a JPEG or PNG, animated, damaged or too large.
    """
    if not data:
        raise InvalidSpec(FIELD, "The image is empty.")
    if len(data) > MAX_BYTES:
        raise InvalidSpec(FIELD, f"The image has more than {MAX_BYTES // 1_000_000} MB.")
    if data.startswith(_PNG):
        width, height = _png_size(data)
    elif data.startswith(_JPEG):
        width, height = _jpeg_size(data)
    else:
        raise InvalidSpec(FIELD, "The image must be a JPEG or a PNG.")
    if width < 1 or height < 1:
        raise _damaged()
    if width * height > MAX_PIXELS:
        raise InvalidSpec(FIELD, f"The image has more than {MAX_PIXELS // 1_000_000} megapixels.")
    return width, height


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise _damaged()
    width, height = struct.unpack(">II", data[16:24])
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"acTL":
            raise InvalidSpec(FIELD, "The image is animated: send a single picture.")
        if name == b"IDAT":
            break
        at += 12 + length
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _START_OF_FRAME:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise _damaged()


def _damaged() -> InvalidSpec:
    return InvalidSpec(FIELD, "The image is damaged and can't be decoded.")


def _decode(data: bytes) -> bytes:
    import cv2  # after the checks: most refusals then cost no import
    import numpy as np

    cv2.setNumThreads(1)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError):
        pixels = None
    if pixels is None:
        raise _damaged()
    height, width = pixels.shape[:2]
    return b"%d %d\n" % (width, height) + pixels.tobytes()


def main() -> None:
    """Decode the image on stdin."""
    from deployments.streams.media.limits import limit_memory

    limit_memory()
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        check(data)
        sys.stdout.buffer.write(_decode(data))
    except InvalidSpec as error:
        sys.stdout.buffer.write(f"error: {error.message}\n".encode())


if __name__ == "__main__":
    main()
