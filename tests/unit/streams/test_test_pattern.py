"""The test pattern: bounds, pace, movement, and what it costs."""

from __future__ import annotations

import functools
import itertools
import operator
import threading
import time
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import InvalidSpec
from deployments.streams.media.items import VideoItem
from deployments.streams.media.test_pattern import CODE_CELLS, PatternSource, parse, time_code
from deployments.streams.media.timeline import Timeline


def video(url: str, count: int) -> list[VideoItem]:
    with PatternSource(url, Timeline()) as source:
        return [item for item in itertools.islice(source.items(), count) if isinstance(item, VideoItem)]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("testsrc://", (30, 1280, 720)),
        ("testsrc:", (30, 1280, 720)),
        ("testsrc://?fps=240&size=16x16", (240, 16, 16)),
        ("testsrc://?size=3840x2160", (30, 3840, 2160)),
    ],
)
def test_parameters(url: str, expected: tuple[int, int, int]) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("fps=0", "fps"),
        ("fps=241", "fps"),
        ("fps=x", "fps"),
        ("fps=", "fps"),
        ("size=1280", "size"),
        ("size=15x16", "width"),
        ("size=16x2161", "height"),
        ("rate=3", "rate"),
    ],
)
def test_a_bad_parameter_is_named(query: str, named: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        PatternSource(f"testsrc://?{query}", Timeline())
    assert caught.value.field == "source.url"
    assert named in caught.value.message


@pytest.mark.parametrize("size", ["16x16", "17x19", "321x241", "1280x720"])
def test_pictures_move_and_have_the_size_that_was_asked_for(size: str) -> None:
    first, second = video(f"testsrc://?fps=240&size={size}", 2)
    width, height = (int(side) for side in size.split("x"))
    assert (first.picture.width, first.picture.height) == (width, height)
    assert not np.array_equal(first.picture.planes().y, second.picture.planes().y)


def test_it_keeps_its_pace_and_its_timestamps() -> None:
    began = time.monotonic()
    items = video("testsrc://?fps=50&size=64x64", 26)
    assert 0.49 <= time.monotonic() - began < 0.95
    assert [item.pts for item in items] == [1800 * n for n in range(26)]


def test_interrupt_ends_a_waiting_reader() -> None:
    source = PatternSource("testsrc://?fps=1&size=16x16", Timeline())
    done = threading.Event()

    def read() -> None:
        list(source.items())
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    source.interrupt()
    assert done.wait(1)
    thread.join()


def test_a_720p_picture_costs_less_than_two_milliseconds() -> None:
    source = PatternSource("testsrc://?fps=240&size=1280x720", Timeline())
    costs = []
    items = source.items()
    for _ in range(60):
        began = time.thread_time()
        next(items)
        costs.append(time.thread_time() - began)
    assert median(costs) < 0.002


def test_programs_can_read_when_a_picture_was_drawn() -> None:
    before = time.time()
    (item,) = video("testsrc://?fps=240&size=640x360", 1)
    strip = item.picture.planes().y[-15]
    bits = [int(strip[cell * 20 + 10] > 128) for cell in range(CODE_CELLS)]
    found = int("".join(map(str, bits)), 2)
    assert found in {time_code(before + ms / 1000) for ms in range(1000)}


@given(st.floats(0, 2e9))
def test_a_time_code_tells_its_millisecond_and_no_single_bit_passes_for_another(at: float) -> None:
    code = time_code(at)
    assert code >> 4 == int(at * 1000) % 2**28
    nibbles = [code >> shift & 15 for shift in range(0, 32, 4)]
    assert functools.reduce(operator.xor, nibbles) == 0
