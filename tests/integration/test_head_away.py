"""Ray's GCS is killed and comes back with its tables from Redis: running streams go on, and none starts meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray import serve

from deployments.detector.config import DetectorConfig
from deployments.detector.deployment import build_detector
from deployments.names import DEFAULT_MODEL, application_of
from deployments.streams.events import EventBatch
from deployments.supervisor.finding.actor import stream_actor
from deployments.supervisor.reason import HEAD_AWAY
from tests.support.further_node import stream_actors_of
from tests.support.site import Site, all_online, running_site

FPS = 10
STREAMS = ["gate", "yard"]
LATE = "late"
SOURCE = {"source": {"url": f"testsrc://?fps={FPS}&size=160x120"}}

AWAY_S = 5.0

GAP_S = 1.0
"""Longest time without detections: frames of 0.1 s, and what a busy machine adds."""

DETECTOR = DetectorConfig.model_validate(
    {
        "engine": "fake",
        "fake": {"fixed_ms": 3.0, "per_frame_ms": 1.0, "width": 320, "height": 320, "max_batch_size": 8, "stride": 8},
        "num_cpus": 0.2,
    }
)


class Follower:
    """Takes every detection of a stream by calls of its actor."""

    def __init__(self, name: str) -> None:
        self.captured: list[float] = []
        self._actor = stream_actor(name)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        after: int | None = None
        while not self._stopping.is_set():
            batch: EventBatch = ray.get(self._actor.events.remote(after, 2.0), timeout=30)
            self.captured += [json.loads(event)["captured_at"] for _, event in batch.events]
            after = batch.newest


@contextmanager
def following(names: list[str]) -> Iterator[dict[str, Follower]]:
    followers = {name: Follower(name) for name in names}
    try:
        yield followers
    finally:
        for follower in followers.values():
            follower.stop()


@contextmanager
def gcs_away(site: Site) -> Iterator[None]:
    """``kill -9``, and back on the same port."""
    head: Any = site.cluster.head_node
    (gcs,) = (one.process for one in head.all_processes["gcs_server"])
    psutil.Process(gcs.pid).kill()
    gcs.wait(10)
    head.kill_gcs_server(check_alive=False)
    try:
        yield
    finally:
        head.start_gcs_server()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_without_the_gcs_running_streams_go_on_and_none_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_site(tmp_path, monkeypatch, cpus=3, keeps_tables=True) as site:
        serve.start(proxy_location="Disabled")
        serve.run(build_detector(DETECTOR), name=application_of(DEFAULT_MODEL), route_prefix=None)
        for name in STREAMS:
            site.create(name, **SOURCE)
        before = site.wait(
            lambda views: all_online(views) and all(view.status.frames.inferred > FPS for view in views.values())
        )
        head = site.cluster.head_node.all_processes["raylet"][0].process.pid
        with following(STREAMS) as followers:
            with gcs_away(site):
                site.create(LATE, **SOURCE)
                told = site.wait(lambda views: views[LATE].status.reason == HEAD_AWAY)
                assert told[LATE].status.epoch == 0
                threading.Event().wait(AWAY_S)
                assert len(stream_actors_of(head)) == len(STREAMS)
                counts = {name: len(follower.captured) for name, follower in followers.items()}
            after = site.wait(lambda views: len(views) == 3 and all_online(views))
            site.wait(lambda _: all(len(f.captured) > counts[name] + 3 * FPS for name, f in followers.items()))
        for name, follower in followers.items():
            gaps = [later - earlier for earlier, later in pairwise(sorted(follower.captured))]
            assert max(gaps) < GAP_S, (name, max(gaps))
            assert after[name].status.epoch == before[name].status.epoch
        with suppress(Exception):
            serve.shutdown()
