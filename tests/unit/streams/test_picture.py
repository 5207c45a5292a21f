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
from av.video.reformatter import ColorRange

from deployments.streams.media.picture import AvPicture
from deployments.streams.media.rotation import upright
from engines.types import Colour
from tests.support.media import SHIPPED_CLIP, make_clip, rotate_clip


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
    path = SHIPPED_CLIP if codec == "shipped" else make_clip(tmp_path / "clip.mp4", codec=codec)
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
    with av.open(SHIPPED_CLIP) as container:
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
    with av.open(SHIPPED_CLIP) as container:
        first, second = (AvPicture(frame) for frame in itertools.islice(container.decode(video=0), 2))
    earlier = first.writable()
    copy = second.writable(earlier)
    assert copy.frame is earlier.frame
    for plane, samples in zip(copy.frame.planes, second.frame.planes, strict=True):
        np.testing.assert_array_equal(np.frombuffer(plane, np.uint8), np.frombuffer(samples, np.uint8))
    for other in (av.VideoFrame(64, 48, "yuv420p"), av.VideoFrame(second.width, second.height, "yuv444p")):
        assert AvPicture(other).writable(copy).frame is not copy.frame


@pytest.mark.parametrize(("pixel_format", "off"), [("yuv420p", 1), ("yuvj420p", 1), ("nv12", 1), ("p010le", 3)])
@pytest.mark.parametrize("matrix", [1, 6])
def test_a_shrunk_picture_keeps_matrix_and_range(pixel_format: str, off: int, matrix: int) -> None:
    planar = av.VideoFrame(320, 240, "yuvj420p" if pixel_format == "yuvj420p" else "yuv420p")
    for plane, value in zip(planar.planes, (120, 90, 200), strict=True):
        np.frombuffer(plane, np.uint8)[:] = value  # type: ignore[call-overload]
    frame = planar.reformat(format=pixel_format)
    frame.colorspace = matrix
    picture = AvPicture(frame)
    whole, small = picture.to_array(320, 240), picture.to_array(160, 120)
    assert np.abs(small.astype(int) - whole[0, 0]).max() <= off


def downloaded(pixel_format: str, *, full: bool = False) -> tuple[AvPicture, AvPicture]:
    """A frame as software decodes it, and as it comes from NVDEC: with its colours stated."""
    with av.open(SHIPPED_CLIP) as container:
        software = next(container.decode(video=0))
    colours = {"color_range": ColorRange.JPEG if full else ColorRange.MPEG, "colorspace": 1}
    hardware = software.reformat(
        format=pixel_format,
        src_color_range=colours["color_range"],
        dst_color_range=colours["color_range"],
    )
    for frame in (software, hardware):
        for name, value in (*colours.items(), ("color_primaries", 1), ("color_trc", 1)):
            setattr(frame, name, value)
    return AvPicture(software), AvPicture(hardware)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(416, 312), (256, 192), (321, 243)])
def test_the_model_sees_the_same_pixels_whoever_decoded(size: tuple[int, int], full: bool) -> None:
    software, hardware = downloaded("nv12", full=full)
    np.testing.assert_array_equal(software.to_array(*size), hardware.to_array(*size))


def test_ten_bits_from_the_gpu_look_the_same() -> None:
    software, hardware = downloaded("p010le")
    for size in ((768, 576), (384, 288)):
        off = software.to_array(*size).astype(int) - hardware.to_array(*size)
        assert np.abs(off.mean(axis=(0, 1))).max() < 1


@pytest.mark.parametrize(("pixel_format", "drawn"), [("nv12", "nv12"), ("p010le", "yuv420p")])
def test_what_the_gpu_decoded_can_be_drawn_on(pixel_format: str, drawn: str) -> None:
    software, hardware = downloaded(pixel_format)
    copy = hardware.writable()
    tags = (copy.frame.colorspace, copy.frame.color_range, copy.primaries, copy.transfer)
    assert (copy.frame.format.name, tags) == (drawn, (1, ColorRange.MPEG, 1, 1))
    whole, drawable = software.planes(), copy.planes()
    for wanted, plane in ((whole.y, drawable.y), (whole.u, drawable.u), (whole.v, drawable.v)):
        assert np.abs(plane.astype(int) - wanted).max() <= 1
    before = hardware.to_array(384, 288)
    copy.planes().y[...] = 0
    np.testing.assert_array_equal(hardware.to_array(384, 288), before)


@pytest.mark.parametrize("pixel_format", ["nv12", "p010le"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_what_the_gpu_decoded_is_turned_upright(tmp_path: Path, pixel_format: str, degrees: int) -> None:
    path = rotate_clip(make_clip(tmp_path / "turned.mp4", frames=1), degrees)
    with av.open(path) as container:
        software = next(container.decode(video=0))
    hardware = software.reformat(format=pixel_format)
    assert hardware.rotation == software.rotation != 0
    wanted, seen = AvPicture(upright(software)), AvPicture(upright(hardware))
    assert (seen.width, seen.height) == (wanted.width, wanted.height)
    assert np.abs(seen.planes().y.astype(int) - wanted.planes().y).max() <= 1
