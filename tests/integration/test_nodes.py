"""Streams on several nodes of a real Ray: spread, moved off a node that drains, back when a node is lost."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from deployments.names import NAMESPACE
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import StreamSpec, StreamView
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.finding.actor import get_supervisor, stream_actor
from tests.support.redis_server import RedisServer

STREAMS = [f"camera-{number}" for number in range(6)]
WAIT_S = 90.0


@dataclass(frozen=True)
class Site:
    """Three nodes that run streams, beside a head that runs none."""

    cluster: Cluster
    nodes: dict[str, Any]
    supervisor: Any

    def views(self) -> dict[str, StreamView]:
        found: list[StreamView] = ray.get(self.supervisor.list.remote(), timeout=30)
        return {view.spec.id: view for view in found}

    def wait(self, done: Callable[[dict[str, StreamView]], bool]) -> dict[str, StreamView]:
        """The first views that are ``done``."""
        pause, deadline, views = threading.Event(), time.monotonic() + WAIT_S, {}
        while time.monotonic() < deadline:
            try:
                views = self.views()
            except ray.exceptions.RayActorError:  # it may have been on the lost node: Ray starts it again
                views = {}
            if views and done(views):
                return views
            pause.wait(0.3)
        raise AssertionError({name: (view.status.state, view.status.node) for name, view in views.items()})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    with RedisServer(tmp_path / "redis") as redis:
        try:
            nodes = [cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20) for _ in range(3)]
            ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
            policy = UrlPolicy(media_root=tmp_path, output_root=tmp_path)
            supervisor = get_supervisor(SupervisorConfig(), policy, redis.url)
            yield Site(cluster, {node.node_id: node for node in nodes}, supervisor)
        finally:
            for name in STREAMS:
                with_actor(name, lambda actor: ray.kill(actor))
            ray.shutdown()
            cluster.shutdown()


def with_actor(name: str, act: Callable[[Any], None]) -> None:
    try:
        act(stream_actor(name))
    except Exception:  # noqa: BLE001  # there is none, or no Ray any more
        return


def sequence(name: str) -> int:
    picture: Any = ray.get(stream_actor(name).picture.remote(False, None, 20.0), timeout=30)
    return int(picture.sequence)


def all_online(views: dict[str, StreamView]) -> bool:
    return all(view.status.online for view in views.values())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_streams_are_spread_and_find_another_node(site: Site) -> None:
    for name in STREAMS:
        spec = {"id": name, "source": {"url": "testsrc://?fps=5&size=160x120"}}
        ray.get(site.supervisor.create.remote(StreamSpec.model_validate(spec)), timeout=60)
    views = site.wait(lambda views: len(views) == len(STREAMS) and all_online(views))
    spread = Counter(view.status.node for view in views.values())
    assert set(spread) == set(site.nodes), spread
    assert max(spread.values()) <= 3, spread

    states = actors(site.supervisor._actor_id.hex())
    home = states["Address"]["NodeID"]
    drained, lost = [node for node in site.nodes if node != home][:2]
    before = {name: (view.status.epoch, sequence(name)) for name, view in views.items()}
    there = {name for name, view in views.items() if view.status.node == drained}
    gcs = ray._raylet.GcsClient(address=site.cluster.address)
    assert gcs.drain_node(drained, 2, "test", 0)[0]
    views = site.wait(lambda views: all_online(views) and all(v.status.node != drained for v in views.values()))
    for name, (epoch, number) in before.items():
        assert views[name].status.epoch == epoch + (name in there), name
        assert sequence(name) > number

    there = {name for name, view in views.items() if view.status.node == lost}
    assert there
    site.cluster.remove_node(site.nodes[lost], allow_graceful=False)
    rest = {node for node in site.nodes if node not in (drained, lost)}
    site.wait(lambda views: all_online(views) and {view.status.node for view in views.values()} <= rest)
    assert all(sequence(name) > before[name][1] for name in STREAMS)
