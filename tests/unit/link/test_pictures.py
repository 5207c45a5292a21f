"""I420 on the way, packed channels in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.link.messages import Layout
from deployments.link.pictures import layout_of, shapes, to_i420, unpacked
from engines.types import Colour, EngineInfo, UInt8Array


def info(width: int, height: int) -> EngineInfo:
    return EngineInfo("fake", "fake", width, height, "bgr", ("thing",), 8, "cpu")


def smooth() -> UInt8Array:
    ramp = np.linspace(0, 255, 64)
    red, blue = np.meshgrid(ramp, ramp)
    return np.stack([blue, (red + blue) / 2, red], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("colour", ["bgr", "rgb"])
def test_colours_survive(colour: Colour) -> None:
    image, row = smooth(), np.zeros((64, 64, 3), np.uint8)
    assert unpacked(to_i420(image, colour), row, colour) is row
    assert np.abs(row.astype(int) - image).max() <= 6


def test_packed_pictures_stay_where_they_are() -> None:
    image, row = smooth(), np.zeros((64, 64, 3), np.uint8)
    assert unpacked(image, row, "bgr") is image
    assert not row.any()


def test_i420_goes_straight_into_the_batch() -> None:
    batch = np.zeros((2, 64, 64, 3), np.uint8)
    picture = to_i420(smooth(), "bgr")
    picture.flags.writeable = False
    unpacked(picture, batch[1], "bgr")
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
