"""One running raysight for all tests of this folder: starting Ray takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Raysight, run_raysight
from tests.support.rtsp_server import RtspServer


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Raysight]:
    """The running system."""
    yield from run_raysight(tmp_path_factory.mktemp("raysight"), street_clip)


@pytest.fixture
def raysight(system: Raysight) -> Iterator[Raysight]:
    """The running system, without streams before and after."""
    yield system
    system.delete_all()


@pytest.fixture(scope="session")
def camera(street_clip: Path) -> Iterator[RtspServer]:
    """A real RTSP camera that shows the clip at ``/street``, password wanted."""
    with RtspServer(clips={"street": street_clip}, user="viewer", password="s3cr3t-Pa55") as server:
        yield server
