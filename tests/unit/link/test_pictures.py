"""I420 on the way, packed channels in the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.link.messages import Layout
from deployments.link.pictures import even, layout_of, shape_of, shapes, to_i420, unpacked
from engines.letterbox import Letterbox
from engines.types import Colour, EngineInfo, Placement, UInt8Array


def info(width: int, height: int, colour: Colour = "bgr") -> EngineInfo:
    return EngineInfo("fake", "fake", width, height, colour, ("thing",), 8, "cpu")


def smooth() -> UInt8Array:
    ramp = np.linspace(0, 255, 64)
    red, blue = np.meshgrid(ramp, ramp)
    return np.stack([blue, (red + blue) / 2, red], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("colour", ["bgr", "rgb"])
def test_colours_survive(colour: Colour) -> None:
    image, row = smooth(), np.zeros((64, 64, 3), np.uint8)
    assert unpacked(to_i420(image, colour), row, info(64, 64, colour)) is row
    assert np.abs(row.astype(int) - image).max() <= 6


def test_packed_pictures_stay_where_they_are() -> None:
    image, row = smooth(), np.zeros((64, 64, 3), np.uint8)
    assert unpacked(image, row, info(64, 64)) is image
    assert not row.any()


def test_i420_goes_straight_into_the_batch() -> None:
    batch = np.zeros((2, 64, 64, 3), np.uint8)
    picture = to_i420(smooth(), "bgr")
    picture.flags.writeable = False
    unpacked(picture, batch[1], info(64, 64))
    assert batch[1].any()
    assert not batch[0].any()


def test_layouts_are_told_by_shape() -> None:
    both = shapes(info(64, 32))
    assert both == {Layout.PACKED: (32, 64, 3), Layout.I420: (48, 64)}
    assert shapes(info(63, 32)) == {Layout.PACKED: (32, 63, 3)}
    assert layout_of(np.zeros((48, 64), np.uint8), both) is Layout.I420
    assert layout_of(np.zeros((32, 64, 3), np.uint8), both) is Layout.PACKED
    assert layout_of(np.zeros((32, 64), np.uint8), both) is None
    assert layout_of(np.zeros((48, 64), np.int8), both) is None  # type: ignore[arg-type]


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["centre", "top_left"]))
def test_what_is_padding_need_not_travel(width: int, height: int, placement: Placement) -> None:
    """A letterboxed picture arrives with the same pixels as if all of it had travelled, and exact padding around it."""
    letterbox = Letterbox.fit(width, height, 64, 64, placement, 114)
    image = letterbox.place(np.ascontiguousarray(smooth()[: letterbox.inner_height, : letterbox.inner_width]))
    rows = even((letterbox.top, letterbox.inner_height), 64)
    travels = to_i420(image, "bgr", rows)
    assert travels.shape == shape_of(Layout.I420, rows, shapes(info(64, 64)))
    into, whole = np.zeros((2, 64, 64, 3), np.uint8)
    unpacked(travels, into, info(64, 64), rows)
    unpacked(to_i420(image, "bgr"), whole, info(64, 64))
    top, count = rows or (0, 64)
    np.testing.assert_array_equal(into[top : top + count], whole[top : top + count])
    assert (into[:top] == 114).all()
    assert (into[top + count :] == 114).all()
    assert count <= letterbox.inner_height + 2


@pytest.mark.parametrize("rows", [(0, 0), (-2, 4), (62, 4), (1, 2), (2, 1), (64, 2)])
def test_rows_that_there_are_not_have_no_shape(rows: tuple[int, int]) -> None:
    layouts = shapes(info(64, 64))
    assert shape_of(Layout.I420, rows, layouts) is None
    assert layout_of(np.zeros((3, 64), np.uint8), layouts, rows) is None


@pytest.mark.parametrize(
    ("rows", "widened"), [((3, 4), (2, 6)), ((2, 4), (2, 4)), ((0, 64), None), ((1, 63), None), ((0, 66), None)]
)
def test_rows_are_widened_to_even_ones(rows: tuple[int, int], widened: tuple[int, int] | None) -> None:
    assert even(rows, 64) == widened
