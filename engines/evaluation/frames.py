"""Where the frames of an evaluation come from: picture files, or a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from engines.errors import EvaluationError
from engines.types import UInt8Array

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that is still to be read; any thread may do that.

    Attributes:
        read: gives uint8 ``[height, width, 3]`` BGR; raises EvaluationError where the file is damaged.
    """

    name: str
    read: Callable[[], UInt8Array]


@dataclass(frozen=True, slots=True)
class Footage:
    """Frames without labels, which can be gone through as often as needed.

    Attributes:
        count: None where a video doesn't tell.
    """

    path: Path
    count: int | None
    frames: Callable[[], Iterator[Frame]]


def open_footage(path: Path, limit: int | None = None) -> Footage:
    """Find the pictures of a folder, by name, or the frames of a video; the first ``limit`` of them.

    Raises:
        EvaluationError: there is nothing that could be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)[:limit]
        if not files:
            raise EvaluationError(f"{path} has no images ({', '.join(sorted(SUFFIXES))}); name a folder that has some")
        for file in files:
            if not cv2.haveImageReader(str(file)):
                raise EvaluationError(f"{file} is no image that OpenCV knows; replace it or take it away")
        return Footage(path, len(files), lambda: (Frame(file.name, partial(read_picture, file)) for file in files))
    if not path.is_file():
        raise EvaluationError(f"{path} doesn't exist; name a folder of images or a video")
    next(_video(path, 1))
    return Footage(path, _length(path, limit), lambda: _video(path, limit))


def read_picture(path: Path, size: tuple[int, int] | None = None) -> UInt8Array:
    """Decode a picture as uint8 ``[height, width, 3]`` BGR, turned as its EXIF data say.

    Raises:
        EvaluationError: it doesn't decode, or isn't of ``size``, width and height.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise EvaluationError(f"can't read {path} ({error.strerror}); replace it") from error
    # Of a JPEG that is cut short cv2.imread gives the upper part, and grey below.
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if picture is None:
        raise EvaluationError(f"{path} does not decode; replace it")
    height, width = picture.shape[:2]
    if size is not None and size != (width, height):
        raise EvaluationError(
            f"{path} is {width}x{height}, but its labels are of {size[0]}x{size[1]}; replace one of the two"
        )
    return np.asarray(picture, np.uint8)


def _video(path: Path, limit: int | None) -> Iterator[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        number = 0
        while limit is None or number < limit:
            there, picture = capture.read()
            if not there:
                break
            yield Frame(f"frame {number}", partial(np.asarray, picture, np.uint8))
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise EvaluationError(f"{path} has no frame that OpenCV can decode; name a folder of images or another video")


def _length(path: Path, limit: int | None) -> int | None:
    capture = cv2.VideoCapture(str(path))
    # What the container claims, which may be nothing, or wrong.
    claimed = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return limit if claimed < 1 else min(claimed, limit or claimed)
