"""Drawing on a picture's copy never reaches the frames that the decoder still refers to."""

from __future__ import annotations

import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from deployments.streams.media.picture import AvPicture
from engines.types import Colour
from tests.support.media import make_clip

SHIPPED = Path(__file__).parents[3] / "deployments/streams/media/clips/pedestrians-768x576-25fps.mp4"


def digest(picture: AvPicture) -> str:
    whole = hashlib.sha256()
    planes = picture.planes()
    for plane in (planes.y, planes.u, planes.v):
        whole.update(np.ascontiguousarray(plane).tobytes())
    return whole.hexdigest()


def decoded(path: Path, *, draw: bool, limit: int = 150) -> list[str]:
    digests = []
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == limit:
                break
            picture = AvPicture(frame)
            digests.append(digest(picture))
            if draw:
                copy = picture.writable()
                assert digest(copy) == digests[-1]
                planes = copy.planes()
                for plane in (planes.y, planes.u, planes.v):
                    plane[...] = 255 - number % 200
                assert digest(picture) == digests[-1]
    return digests


@pytest.mark.parametrize("codec", ["shipped", "h264", "hevc", "mjpeg"])
def test_drawing_leaves_every_later_frame_as_it_is(tmp_path: Path, codec: str) -> None:
    path = SHIPPED if codec == "shipped" else make_clip(tmp_path / "clip.mp4", codec=codec)
    untouched = decoded(path, draw=False)
    assert len(set(untouched)) > 10
    assert decoded(path, draw=True) == untouched


@pytest.mark.parametrize("size", [(320, 240), (321, 241), (17, 33)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    with av.open(make_clip(tmp_path / "odd.mp4", size=size, frames=2)) as container:
        picture = AvPicture(next(container.decode(video=0)))
    assert picture.writable().planes().y.shape == (size[1], size[0])
    assert picture.to_array(64, 48).shape == (48, 64, 3)


@pytest.mark.parametrize("colour", ["bgr", "rgb"])
@pytest.mark.parametrize("size", [(640, 480), (416, 312), (322, 242), (256, 192), (256, 576)])
def test_a_shrunk_picture_is_what_the_same_frame_gives_as_an_image(size: tuple[int, int], colour: Colour) -> None:
    with av.open(SHIPPED) as container:
        picture = AvPicture(next(container.decode(video=0)))
    whole = picture.to_array(picture.width, picture.height, colour)
    wanted = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_LINEAR), np.int16)
    off = picture.to_array(*size, colour) - wanted
    assert np.abs(off).mean() < 1.5
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.5, "no channel is brighter or darker on the whole"


@pytest.mark.parametrize("pixel_format", ["gray", "yuv420p10le", "nv12"])
def test_both_branches_read_one_picture_side_by_side(pixel_format: str) -> None:
    """PyAV keeps the state of a conversion with the frame, and hides its tags from itself meanwhile."""
    with ThreadPoolExecutor(3) as pool:
        for _ in range(30):
            frame = av.VideoFrame(1280, 720, pixel_format)
            for plane in frame.planes:
                np.frombuffer(plane, np.uint8)[:] = 1  # type: ignore[call-overload]
            frame.color_primaries = frame.color_trc = 1
            picture = AvPicture(frame)
            small = [pool.submit(picture.to_array, 416, 234) for _ in range(2)]
            copy = pool.submit(picture.writable).result(20)
            assert (copy.primaries, copy.transfer) == (1, 1)
            assert (int(copy.frame.color_primaries), int(copy.frame.color_trc)) == (1, 1)
            np.testing.assert_array_equal(small[0].result(20), small[1].result(20))


def test_a_copy_may_lie_where_an_earlier_one_lay() -> None:
    with av.open(SHIPPED) as container:
        first, second = (AvPicture(frame) for frame in itertools.islice(container.decode(video=0), 2))
    earlier = first.writable()
    copy = second.writable(earlier)
    assert copy.frame is earlier.frame
    for plane, samples in zip(copy.frame.planes, second.frame.planes, strict=True):
        np.testing.assert_array_equal(np.frombuffer(plane, np.uint8), np.frombuffer(samples, np.uint8))
    for other in (av.VideoFrame(64, 48, "yuv420p"), av.VideoFrame(second.width, second.height, "yuv444p")):
        assert AvPicture(other).writable(copy).frame is not copy.frame


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("matrix", [1, 6])
def test_a_shrunk_picture_keeps_matrix_and_range(pixel_format: str, matrix: int) -> None:
    frame = av.VideoFrame(320, 240, pixel_format)
    for plane, value in zip(frame.planes, (120, 90, 200), strict=True):
        np.frombuffer(plane, np.uint8)[:] = value  # type: ignore[call-overload]
    frame.colorspace = matrix
    picture = AvPicture(frame)
    whole, small = picture.to_array(320, 240), picture.to_array(160, 120)
    assert np.abs(small.astype(int) - whole[0, 0]).max() <= 1
