"""How the age of a picture is read that was played without a browser."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest

from benchmarks.glass import age_ms
from deployments.streams.media.items import VideoItem
from deployments.streams.media.test_pattern import PatternSource
from deployments.streams.media.timeline import Timeline

THREE_DAYS_MS = 1 << 28


@pytest.mark.parametrize("size", ["1280x720", "322x240"])
def test_the_age_of_the_test_pattern_is_read(size: str) -> None:
    with PatternSource(f"testsrc://?fps=100&size={size}", Timeline()) as source:
        for item in itertools.islice(source.items(), 5):
            assert isinstance(item, VideoItem)
            for later_s in (0.0, 0.25, THREE_DAYS_MS / 1e3 + 0.25):
                read = age_ms(item.picture.frame, item.captured_at + later_s)
                assert read == pytest.approx(later_s * 1e3 % THREE_DAYS_MS, abs=1.01)


def test_another_picture_has_no_age() -> None:
    luma = np.full((360, 640), 16, np.uint8)
    luma[:, -20:] = 235  # a check that does not fit the time before it, which is 0
    picture = av.VideoFrame.from_ndarray(np.vstack([luma, np.full((180, 640), 128, np.uint8)]), "yuv420p")
    assert age_ms(picture, 1e9) is None
