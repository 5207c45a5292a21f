"""A whole running system answers whatever is sent to it as its OpenAPI document says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Raysight, run_raysight
from tests.support.openapi import ask


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Raysight]:
    """A system of its own: among all that is asked is that it stop all streams for good."""
    yield from run_raysight(tmp_path_factory.mktemp("asked"), street_clip)


@pytest.mark.timeout(180)
@pytest.mark.long
def test_every_answer_is_a_documented_one(asked: Raysight) -> None:
    ask(asked.api, 8)
