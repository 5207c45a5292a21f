"""A stream whose objects are followed moves to another process, and loses its process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.system.test_main_job import online
from tests.support.cluster import Raysight, run_raysight
from tests.support.media import WITHOUT_GPU
from tests.support.rtsp_server import RtspServer

FAKE = {"engine": "fake", "fake": {"width": 64, "height": 48}}
WHOLE = {"name": "whole", "kind": "polygon", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}


@pytest.fixture(scope="module")
def with_a_place(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Raysight]:
    """A system whose node offers a place on a GPU that it has not: who gives it up has to move to another process."""
    yield from run_raysight(tmp_path_factory.mktemp("tracks"), street_clip, FAKE, resources={"nvdec": 1})


@WITHOUT_GPU
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_planned_move_keeps_tracks_and_counts_and_a_kill_begins_anew(
    with_a_place: Raysight, camera: RtspServer
) -> None:
    raysight = with_a_place
    source = {"url": camera.url("street"), "hwaccel": "auto"}
    raysight.put("gate", {"source": source, "track": {"lost_s": 10}, "zones": [WHOLE]})
    before = raysight.wait("gate", lambda status: bool(status["zones"]) and status["zones"][0]["inside"] != {})
    assert before["epoch"] == 1
    numbers = {one["tracker_id"] for event in raysight.events("gate", 3) for one in event["detections"]} - {None}

    raysight.api.patch("/v1/streams/gate", json={"source": {"hwaccel": "none"}}).raise_for_status()
    after = raysight.wait("gate", lambda status: status["epoch"] == 2 and online(status), timeout_s=90)
    assert [zone["since"] for zone in after["zones"]] == [zone["since"] for zone in before["zones"]]
    assert after["zones"][0]["entered"].items() >= before["zones"][0]["entered"].items()
    assert {one["tracker_id"] for event in raysight.events("gate", 3) for one in event["detections"]} & numbers

    (actor,) = raysight.processes("ray::StreamActor")
    actor.kill()
    reborn = raysight.wait("gate", lambda status: status["epoch"] == 3 and online(status) and status["tracks"] > 0, 90)
    assert reborn["zones"][0]["since"] > after["zones"][0]["since"]
    ids = {one["tracker_id"] for event in raysight.events("gate", 3) for one in event["detections"]} - {None}
    assert min(ids) > 2_000_000_000
