"""Fixtures that every kind of test may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.media import SHIPPED_CLIP

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what runs in its background, and what the tests start would inherit it: Ctrl-C is tested too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def street_clip() -> Path:
    """The shipped clip."""
    return SHIPPED_CLIP
