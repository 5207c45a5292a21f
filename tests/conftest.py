"""Fixtures that every kind of test may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from deployments.streams.media.clips import CLIPS

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what runs in its background, and what the tests start would inherit it: Ctrl-C is tested too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def street_clip() -> Path:
    """The shipped clip: 796 frames of people, 768x576 at 25 fps."""
    return CLIPS / "pedestrians-768x576-25fps.mp4"
