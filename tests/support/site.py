"""Streams on several nodes of a real Ray: the supervisor and its store without the API, a head and further nodes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from deployments.names import NAMESPACE
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import StreamSpec, StreamView
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.finding.actor import get_supervisor, stream_actor
from serve_app.local import HEALTH_CHECKS
from tests.support.further_node import FurtherNode
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

WAIT_S = 90.0
PASSWORD = "of-tests"
LOOPBACK = "127.0.0.1"


@dataclass
class Site:
    """A head and what was added to it.

    Attributes:
        address: of the head, where Redis is as well.
        folder: media root, output root and logs.
    """

    cluster: Cluster
    supervisor: Any
    redis: RedisServer
    address: str
    folder: Path
    names: list[str] = field(default_factory=list)

    def further_node(self, name: str, address: str | None = None, prefix: Sequence[str] = ()) -> FurtherNode:
        """One to be entered; its family ends with its context. ``address``: the head's where it is on this machine."""
        gcs = self.cluster.address
        return FurtherNode(gcs, self.folder / f"{name}.log", address or gcs.rpartition(":")[0], 2, prefix)

    def create(self, name: str, **spec: Any) -> None:
        """Register a test pattern, small and slow."""
        wanted = {"id": name, "source": {"url": "testsrc://?fps=5&size=160x120"}, **spec}
        ray.get(self.supervisor.create.remote(StreamSpec.model_validate(wanted)), timeout=60)
        self.names.append(name)

    def views(self) -> dict[str, StreamView]:
        found: list[StreamView] = ray.get(self.supervisor.list.remote(), timeout=30)
        return {view.spec.id: view for view in found}

    def wait(self, done: Callable[[dict[str, StreamView]], bool], timeout_s: float = WAIT_S) -> dict[str, StreamView]:
        """The first views that are ``done``."""
        pause, deadline, views = threading.Event(), time.monotonic() + timeout_s, {}
        while time.monotonic() < deadline:
            try:
                views = self.views()
            except ray.exceptions.RayActorError:  # it may have been on the lost node: Ray starts it again
                views = {}
            if views and done(views):
                return views
            pause.wait(0.1)
        raise AssertionError(
            f"not within {timeout_s} s: "
            f"{ {name: (view.status.state, view.status.node, view.status.reason) for name, view in views.items()} }"
        )

    def wait_for_nodes(self, count: int, timeout_s: float = WAIT_S) -> None:
        """Return once the supervisor places streams on so many nodes: it looks for them once a second."""

        def there() -> bool:
            nodes = ray.get(self.supervisor.survey.remote(), timeout=30).room.nodes
            return sum(node.cores > 0 for node in nodes) >= count  # a head without CPUs is no place for streams

        until(there, timeout_s)

    def sequence(self, name: str) -> int:
        """Number of a frame that the stream decodes now."""
        picture: Any = ray.get(stream_actor(name).picture.remote(False, None, 20.0), timeout=30)
        return int(picture.sequence)


@contextmanager
def running_site(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, cpus: int, address: str = LOOPBACK, keeps_tables: bool = False
) -> Iterator[Site]:
    """A head with ``cpus`` and the supervisor on it.

    Args:
        keeps_tables: the GCS keeps its tables in Redis and can be started anew.
    """
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in HEALTH_CHECKS.items():
        monkeypatch.setenv(name, value)
    # Redis serves other addresses than the loopback only with a password.
    with RedisServer(folder / "redis", host=address, password=None if address == LOOPBACK else PASSWORD) as redis:
        if keeps_tables:
            monkeypatch.setenv("RAY_REDIS_ADDRESS", f"{address}:{redis.port}")
        # The loopback is what Ray takes for itself here, and another address of this machine where it is told that one.
        own = {} if address == LOOPBACK else {"node_ip_address": address}
        head = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 100 * 2**20, **own}
        cluster = _cluster(head)
        site = None
        try:
            ray.init(
                address=cluster.address,
                namespace=NAMESPACE,
                log_to_driver=False,
                **{f"_{k}": v for k, v in own.items()},
            )
            policy = UrlPolicy(media_root=folder, output_root=folder)
            supervisor = get_supervisor(SupervisorConfig(), policy, redis.url)
            site = Site(cluster, supervisor, redis, address, folder)
            ray.get(supervisor.list.remote(), timeout=60)  # before another node could get it
            yield site
        finally:
            for name in site.names if site is not None else ():
                with suppress(Exception):
                    ray.kill(stream_actor(name))
            ray.shutdown()
            cluster.shutdown()


def _cluster(head: dict[str, Any]) -> Cluster:
    """Ray gives a head up that takes more than 30 s to begin, as on a busy machine it may: it has two tries."""
    try:
        return Cluster(initialize_head=True, head_node_args=head)
    except Exception:  # noqa: BLE001  # Ray raises no other
        return Cluster(initialize_head=True, head_node_args=head)


def all_online(views: dict[str, StreamView]) -> bool:
    """Whether every stream is."""
    return all(view.status.online for view in views.values())


def nodes_of(views: dict[str, StreamView]) -> set[str]:
    """Where the streams are."""
    return {view.status.node or "" for view in views.values()}
