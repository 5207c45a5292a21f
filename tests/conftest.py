"""Fixtures that every kind of test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.streams.media.clips import CLIPS


@pytest.fixture(scope="session")
def street_clip() -> Path:
    """The shipped clip: 796 frames of people, 768x576 at 25 fps."""
    return CLIPS / "pedestrians-768x576-25fps.mp4"
