"""Letterboxing: where pictures land, and that boxes come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.letterbox import Letterbox
from engines.types import Placement

SIDES = st.integers(1, 8000)
TARGETS = st.integers(1, 1280)
PLACEMENTS = st.sampled_from(("centre", "top_left"))
FRACTIONS = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)


def test_a_wide_frame_gets_bars_above_and_below() -> None:
    box = Letterbox.fit(800, 400, 416, 416, "centre", 114)
    assert (box.inner_width, box.inner_height, box.left, box.top) == (416, 208, 0, 104)


def test_top_left_puts_all_bars_after_the_picture() -> None:
    box = Letterbox.fit(400, 800, 416, 416, "top_left", 114)
    assert (box.inner_width, box.inner_height, box.left, box.top) == (208, 416, 0, 0)


@pytest.mark.parametrize(("width", "height"), [(8000, 1), (1, 8000), (1, 1), (10**6, 3)])
def test_extreme_frames_keep_at_least_a_pixel(width: int, height: int) -> None:
    box = Letterbox.fit(width, height, 416, 416, "centre", 0)
    assert min(box.inner_width, box.inner_height) >= 1
    assert max(box.inner_width, box.inner_height) == 416


@pytest.mark.parametrize("sides", [(0, 10, 10, 10), (10, 10, 10, 0), (-1, 10, 10, 10)])
def test_sides_below_a_pixel_are_refused(sides: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel"):
        Letterbox.fit(*sides, "centre", 0)


@pytest.mark.parametrize("placement", ["centre", "top_left"])
def test_apply_fills_the_picture_and_pads_the_rest(placement: Placement) -> None:
    box = Letterbox.fit(200, 100, 64, 64, placement, 114)
    canvas = box.apply(np.full((100, 200, 3), 9, np.uint8))
    expected = np.full((64, 64, 3), 114, np.uint8)
    expected[box.top : box.top + 32, :64] = 9
    np.testing.assert_array_equal(canvas, expected)
    assert canvas.dtype == np.uint8


def test_place_keeps_the_picture_as_it_is() -> None:
    box = Letterbox.fit(30, 60, 20, 20, "centre", 7)
    inner = np.random.default_rng(0).integers(0, 256, (20, 10, 3), np.uint8)
    canvas = box.place(inner)
    np.testing.assert_array_equal(canvas[:, 5:15], inner)
    assert (canvas[:, :5] == 7).all()
    assert (canvas[:, 15:] == 7).all()


def test_pictures_of_another_size_or_dtype_are_refused() -> None:
    box = Letterbox.fit(30, 60, 20, 20, "centre", 7)
    with pytest.raises(ValueError, match=r"uint8 \[20, 10, 3\].*uint8 \[10, 20, 3\]"):
        box.place(np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r"uint8 \[60, 30, 3\].*float32"):
        box.apply(np.zeros((60, 30, 3), np.float32))


def test_a_mark_is_found_where_undo_says() -> None:
    frame = np.zeros((300, 500, 3), np.uint8)
    frame[100:200, 50:150] = 255
    box = Letterbox.fit(500, 300, 416, 416, "centre", 0)
    rows, columns = np.nonzero(box.apply(frame)[..., 0] > 127)
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_allclose(box.undo(seen), [[50, 100, 150, 200]], atol=1.5)


@given(SIDES, SIDES, TARGETS, TARGETS, PLACEMENTS, FRACTIONS)
def test_boxes_come_back(
    width: int, height: int, target_width: int, target_height: int, placement: Placement, fractions: list[float]
) -> None:
    box = Letterbox.fit(width, height, target_width, target_height, placement, 114)
    source = np.array([fractions]) * [width, height, width, height]
    scale = np.array([box.inner_width / width, box.inner_height / height] * 2)
    placed = source * scale + [box.left, box.top, box.left, box.top]
    tolerance = 1e-6 * max(target_width, target_height) / scale.min() + 1e-3
    np.testing.assert_allclose(box.undo(placed.astype(np.float32)), source, atol=tolerance)


@given(
    SIDES,
    SIDES,
    TARGETS,
    TARGETS,
    PLACEMENTS,
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
)
def test_nothing_lies_outside(
    width: int, height: int, target_width: int, target_height: int, placement: Placement, corners: list[float]
) -> None:
    box = Letterbox.fit(width, height, target_width, target_height, placement, 114)
    assert 1 <= box.inner_width <= target_width - box.left
    assert 1 <= box.inner_height <= target_height - box.top
    assert min(box.left, box.top) >= 0
    left, top, right, bottom = box.undo(np.array([corners], np.float32))[0]
    assert 0 <= min(left, right) <= max(left, right) <= width
    assert 0 <= min(top, bottom) <= max(top, bottom) <= height


def test_no_box_stays_no_box() -> None:
    assert Letterbox.fit(30, 60, 20, 20, "centre", 7).undo(np.zeros((0, 4), np.float32)).shape == (0, 4)
