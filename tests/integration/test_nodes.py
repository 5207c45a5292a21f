"""Streams on several nodes of a real Ray: spread, moved off a node that drains, back when one is lost or cut off."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray

from deployments.streams.lease import HOLD_S, WAIT_S
from tests.chaos import network
from tests.chaos.network import Network
from tests.support.further_node import FurtherNode, family, relays_of, stream_actors_of
from tests.support.site import all_online, nodes_of, running_site

STREAMS = [f"camera-{number}" for number in range(4)]

BACK_S = 10.0
"""Within which all streams are online again after a node is lost."""

CLOSING_S = 5.0
"""What a lease leaves its holder to close its outputs in."""


@pytest.mark.long
@pytest.mark.timeout(420)
def test_streams_are_spread_and_find_another_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running_site(tmp_path, monkeypatch, cpus=0) as site,
        site.further_node("first"),
        site.further_node("second") as second,
    ):
        site.wait_for_nodes(2)
        for name in STREAMS:
            site.create(name)
        views = site.wait(lambda views: len(views) == len(STREAMS) and all_online(views))
        spread = Counter(view.status.node or "" for view in views.values())
        assert len(spread) == 2, spread
        assert max(spread.values()) <= 3, spread
        lost = node_of(second)
        (drained,) = set(spread) - {lost}

        with site.further_node("third") as third:
            before = {name: (view.status.epoch, site.sequence(name)) for name, view in views.items()}
            there = {name for name, view in views.items() if view.status.node == drained}
            gcs = ray._raylet.GcsClient(address=site.cluster.address)
            assert gcs.drain_node(drained, 2, "test", 0)[0]
            views = site.wait(lambda views: all_online(views) and drained not in nodes_of(views))
            for name, (epoch, number) in before.items():
                assert views[name].status.epoch == epoch + (name in there), name
                assert site.sequence(name) > number

            before = {name: (view.status.epoch, site.sequence(name)) for name, view in views.items()}
            there = {name for name, view in views.items() if view.status.node == lost}
            assert there
            second.kill()
            killed = time.monotonic()
            views = site.wait(lambda views: all_online(views) and nodes_of(views) == {node_of(third)})
            assert_back(there, killed)
            for name, (epoch, number) in before.items():
                assert views[name].status.epoch == epoch + (name in there), name
                assert site.sequence(name) > number


def node_of(node: FurtherNode) -> str:
    """Ray's id of a node: its raylet is told it."""
    for process in family(node.pid):
        words = process.cmdline()
        if words and words[0].endswith("/raylet"):
            return next(word for word in words if word.startswith("--node_id=")).partition("=")[2]
    raise AssertionError("there is no raylet")


def assert_back(struck: set[str], since: float) -> None:
    """That was soon enough, and how soon."""
    took = time.monotonic() - since
    print(f"{len(struck)} streams were back {took:.1f} s after their node was lost")
    assert took <= BACK_S


class Publishers:
    """Looks ten times a second who publishes, here and there; every stream has one output, which is a process."""

    def __init__(self, here: int, there: int) -> None:
        self._pids = here, there
        self.seen: list[tuple[float, int, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @contextmanager
    def looking(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join(10)

    def _look(self) -> None:
        here, there = self._pids
        while not self._stopping.wait(0.1):
            with suppress(psutil.Error):
                self.seen.append((time.monotonic(), len(relays_of(here)), len(relays_of(there))))

    def last_there(self) -> float:
        return max(at for at, _, there in self.seen if there)


@contextmanager
def silence(net: Network) -> Iterator[None]:
    """Nothing passes between the nodes, and neither is told."""
    net.in_router("nft", "add table ip cut")
    try:
        net.in_router("nft", "add chain ip cut way { type filter hook forward priority 0 ; policy drop ; }")
        yield
    finally:
        net.in_router("nft", "delete table ip cut")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(network.unavailable() is not None, reason=str(network.unavailable()))
@pytest.mark.parametrize("cut_s", [18.0, 45.0], ids=["shorter than Ray notices", "longer"])
def test_a_node_that_is_cut_off_stops_before_others_publish_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_s: float
) -> None:
    with (
        Network() as net,
        running_site(tmp_path, monkeypatch, cpus=2, address=net.here) as site,
        site.further_node("cut-off", net.address, net.prefix) as far,
    ):
        site.wait_for_nodes(2)
        for name in STREAMS:
            site.create(name, outputs=[{"url": f"file:{name}.mp4"}])
        views = site.wait(lambda views: len(views) == len(STREAMS) and all_online(views))
        home = ray.get_runtime_context().get_node_id()
        there = {name for name, view in views.items() if view.status.node != home}
        assert there
        assert len(there) < len(STREAMS)
        before = {name: (view.status.epoch, site.sequence(name)) for name, view in views.items()}
        head = site.cluster.head_node.all_processes["raylet"][0].process.pid
        publishers = Publishers(head, far.pid)
        site.wait(lambda _: len(relays_of(far.pid)) == len(there))
        with publishers.looking():
            with silence(net):
                cut = time.monotonic()
                views = site.wait(lambda views: all_online(views) and nodes_of(views) == {home})
                assert_back(there, cut)
                threading.Event().wait(cut + cut_s - time.monotonic())
            site.wait(lambda _: settled(head, far))
        for name, (epoch, number) in before.items():
            assert views[name].status.epoch == epoch + (name in there), name
            assert site.sequence(name) > number
        assert all(there_now + here_now <= len(STREAMS) for _, here_now, there_now in publishers.seen)
        assert publishers.last_there() < cut + HOLD_S + CLOSING_S
        print(f"published there until {publishers.last_there() - cut:.1f} s after the cut")
        first_here = min(at for at, here_now, _ in publishers.seen if here_now == len(STREAMS))
        print(f"all published here from {first_here - cut:.1f} s after the cut on")
        assert cut + WAIT_S < first_here
        assert first_here > publishers.last_there()


def settled(head: int, far: FurtherNode) -> bool:
    """One actor for each stream, all on the head, each with its output."""
    here, there = stream_actors_of(head), stream_actors_of(far.pid)
    return len(here) == len(relays_of(head)) == len(STREAMS) and not there
