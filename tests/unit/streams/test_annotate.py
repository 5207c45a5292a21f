from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from deployments.streams.annotate import Annotator
from deployments.streams.frame import Planes
from deployments.streams.media.picture import AvPicture
from deployments.streams.zone_marks import ZoneMark
from engines.types import Detections

FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12"]
DEEP = ["yuv420p10le", "yuv422p10le", "yuv444p10le"]
NAMES = ("person", "bicycle", "car", "motorcycle")


def grey(width: int, height: int, pix_fmt: str, full: bool = False) -> tuple[AvPicture, Planes]:
    frame: Any = av.VideoFrame(width, height, pix_fmt)
    frame.color_range = ColorRange.JPEG if full or pix_fmt.startswith("yuvj") else ColorRange.MPEG
    picture = AvPicture(frame)
    planes = picture.planes()
    for plane in (planes.y, planes.u, planes.v):
        plane[...] = 1 << (planes.depth - 1)
    return picture, planes


def found(*boxes: tuple[float, float, float, float], class_id: int = 0, confidence: float = 0.83) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, confidence, np.float32),
        np.full(count, class_id, np.int32),
    )


@pytest.mark.parametrize("pix_fmt", FORMATS + DEEP)
@pytest.mark.parametrize("height", [480, 1080])
def test_a_box_has_its_colour_in_every_format(pix_fmt: str, height: int) -> None:
    """Class 0 is red; the samples of the bottom line, away from the label, fill a picture that is then shown."""
    picture, planes = grey(640, height, pix_fmt)
    Annotator(NAMES).draw(planes, found((100, 100, 300, 300)))
    filled, area = grey(640, height, pix_fmt)
    area.y[...] = planes.y[299, 200]
    area.u[...], area.v[...] = (c[299 // planes.sub_y, 200 // planes.sub_x] for c in (planes.u, planes.v))
    blue, green, red = filled.to_array(640, height)[50, 50]
    assert red > 235
    assert green < 35
    assert blue < 35
    assert np.ptp(planes.y[110:290, 110:290]) == 0
    assert np.ptp(picture.planes().u[: 40 // planes.sub_y]) == 0


@pytest.mark.parametrize("full", [False, True])
def test_the_range_is_kept(full: bool) -> None:
    _, planes = grey(640, 480, "yuv420p", full)
    Annotator(NAMES).draw(planes, found((100, 100, 300, 300), class_id=3))
    assert planes.y.max() <= (255 if full else 235)
    assert planes.y.min() >= (0 if full else 16)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "yuv444p10le"])
@pytest.mark.parametrize("size", [(640, 480), (641, 481), (3, 3), (1, 1)])
def test_boxes_over_the_edge_or_absurd_are_harmless(pix_fmt: str, size: tuple[int, int]) -> None:
    _, planes = grey(*size, pix_fmt)
    nan, inf = float("nan"), float("inf")
    boxes = [(-50, -50, 20, 20), (size[0] - 1, size[1] - 1, 9e9, 9e9), (-9e9, 0, 9e9, 1), (0.2, 0.2, 0.9, 0.9)]
    Annotator(NAMES).draw(planes, found(*boxes, (nan, 0, 9, 9), (0, 0, inf, 9), class_id=99))
    assert planes.y.shape == (size[1], size[0])


def test_boxes_without_a_part_in_the_picture_leave_it_alone() -> None:
    _, planes = grey(640, 480, "yuv420p")
    nan = float("nan")
    boxes = [(700, 10, 900, 50), (10, -90, 50, -10), (50, 50, 20, 20), (nan, nan, nan, nan)]
    Annotator(NAMES).draw(planes, found(*boxes))
    Annotator(NAMES).draw(planes, Detections.empty())
    assert np.ptp(planes.y) == 0
    assert np.ptp(planes.u) == 0


def test_labels_are_readable_on_their_ground() -> None:
    for class_id in range(80):
        _, planes = grey(640, 480, "yuv420p")
        Annotator(NAMES).draw(planes, found((100, 100, 300, 300), class_id=class_id))
        label = planes.y[86:98, 102:140].astype(int)
        assert np.ptp(label) > 70, class_id


def test_a_class_keeps_its_colour_and_neighbours_differ() -> None:
    colours = []
    for class_id in (0, 1, 2, 3, 0):
        picture, planes = grey(640, 480, "yuv444p")
        Annotator(NAMES).draw(planes, found((100, 100, 300, 300), class_id=class_id))
        colours.append(picture.to_array(640, 480)[299, 200].astype(int))
    assert (colours[0] == colours[4]).all()
    for i in range(4):
        for j in range(i):
            assert np.abs(colours[i] - colours[j]).sum() > 100


def test_the_most_confident_lies_on_top() -> None:
    _, planes = grey(640, 480, "yuv420p")
    both = Detections(
        np.array([[100, 100, 300, 300]] * 2, np.float32), np.array([0.9, 0.4], np.float32), np.array([0, 1], np.int32)
    )
    Annotator(NAMES).draw(planes, both)
    _, alone = grey(640, 480, "yuv420p")
    Annotator(NAMES).draw(alone, found((100, 100, 300, 300), class_id=0))
    assert (planes.y[298, 100:300] == alone.y[298, 100:300]).all()


def test_labels_of_any_number_are_kept_in_bounds_and_twenty_boxes_are_cheap() -> None:
    _, planes = grey(1920, 1080, "yuv420p")
    annotator = Annotator(NAMES)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (20, 2)) * (1600, 800)
    boxes = np.hstack([corners, corners + rng.uniform(60, 280, (20, 2))]).astype(np.float32)
    costs = []
    for _ in range(60):
        detections = Detections(boxes, rng.random(20).astype(np.float32), rng.integers(0, 80, 20).astype(np.int32))
        started = time.thread_time()
        annotator.draw(planes, detections)
        costs.append(time.thread_time() - started)
    assert len(annotator._patches) <= 512
    assert min(costs) < 5e-3  # most labels are new here; with known ones it is 0.6 ms


@pytest.mark.parametrize("pix_fmt", FORMATS + DEEP)
def test_zones_are_drawn_in_every_format(pix_fmt: str) -> None:
    """Yellow, and nothing but the outline and its caption."""
    _, planes = grey(640, 480, pix_fmt)
    marks = (
        ZoneMark("polygon", ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)), "yard: 2"),
        ZoneMark("line", ((0.5, 0.3), (0.5, 0.7)), "door"),
    )
    annotator = Annotator(NAMES)
    for _ in range(2):  # worked out, and remembered
        annotator.draw(planes, Detections.empty(), marks)
    for row, column in ((383, 400), (240, 128), (300, 320)):
        filled, area = grey(640, 480, pix_fmt)
        area.y[...] = planes.y[row, column]
        area.u[...], area.v[...] = (c[row // planes.sub_y, column // planes.sub_x] for c in (planes.u, planes.v))
        blue, green, red = filled.to_array(640, 480)[50, 50].tolist()
        assert red > 225
        assert 180 < green < 240
        assert blue < 60
    assert np.ptp(planes.y[110:370, 140:280]) == 0
    assert np.ptp(planes.y[400:, :]) == 0


def test_the_arrow_of_a_line_points_to_its_right_side() -> None:
    _, planes = grey(640, 480, "yuv420p")
    Annotator(NAMES).draw(planes, Detections.empty(), (ZoneMark("line", ((0.5, 0.2), (0.5, 0.9)), "x"),))
    middle = planes.y[255:275]
    assert np.ptp(middle[:, 298:316]) > 0  # who looks down the picture has its left part on the right
    assert np.ptp(middle[:, 326:345]) == 0


def test_the_label_of_an_object_that_is_followed_has_its_number() -> None:
    """One of the third life of a stream looks like one of the first; who has none yet shows the confidence."""
    drawn = []
    for tracker_id in (17, 2_000_000_017, 18, -1, None):
        _, planes = grey(640, 480, "yuv420p")
        seen = found((100, 100, 300, 300))
        ids = None if tracker_id is None else np.array([tracker_id], np.int64)
        Annotator(NAMES).draw(planes, replace(seen, tracker_id=ids))
        drawn.append(planes.y.copy())
    first, again, other, unknown, alone = drawn
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(unknown, alone)
    assert not np.array_equal(first, unknown)
