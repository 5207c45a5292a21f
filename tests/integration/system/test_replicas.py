"""Replicas of the detector come and go, and streams hardly notice: real Ray, real Serve, a small engine."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.detector.health import STUCK_S
from tests.integration.system.test_main_job import assert_ledgers, online
from tests.support.cluster import Raysight, attached, run_raysight, wait_until

pytestmark = pytest.mark.long

FPS = 10
"""The API keeps 512 events of a stream: 50 s, within which a test must ask for what happened."""

STREAMS = ("cam-0", "cam-1", "cam-2", "cam-3")
LEASE_S = 6.0
"""Renewed after four seconds, so that a test needn't wait twenty for a stream to move."""


@dataclass
class Pair:
    """A system whose detector has one replica or two, and an engine that hangs while ``hang`` exists."""

    raysight: Raysight
    hang: Path
    seen: dict[str, int] = field(default_factory=dict)
    before: dict[str, dict[str, Any]] = field(default_factory=dict)

    def deploy(self, replicas: int, engine: dict[str, Any] | None = None) -> None:
        """Scale the detector; with another engine also replace all of its replicas."""
        config = copy.deepcopy(self.raysight.config)
        config["applications"][0]["args"]["fake"].update(engine or {})
        config["applications"][0]["deployments"][0]["num_replicas"] = replicas
        self.raysight.cluster.deploy(config)
        self.raysight.config.update(config)
        wait_until(lambda: len(self.raysight.replicas()) == replicas)

    def play(self, replicas: int) -> None:
        """All streams play, spread over so many replicas; those of the test before play on."""
        self.deploy(replicas)
        for stream_id in STREAMS:
            self.raysight.put(stream_id, {"source": {"url": f"testsrc://?fps={FPS}&size=160x120"}})
        for stream_id in STREAMS:
            self.raysight.wait(stream_id, online)
        wait_until(lambda: self.spread() == [len(STREAMS) // replicas] * replicas)
        self.look()

    def spread(self) -> list[int]:
        """Attached streams of each replica."""
        return [attached(replica) for replica in self.raysight.replicas()]

    def look(self) -> None:
        """From now on, see how long streams are blind."""
        self.before = {stream_id: self.raysight.status(stream_id) for stream_id in STREAMS}
        self.seen = {stream_id: self.raysight.events(stream_id, 1)[0]["sequence"] - 1 for stream_id in STREAMS}

    def blind_s(self, stream_id: str) -> float:
        """The longest time between two detections, from `look` to a second from now."""
        found: list[float] = []
        until = time.time() + 1.0
        with closing(self.raysight.follow(stream_id, after=self.seen[stream_id])) as events:
            while not found or found[-1] < until:
                event = next(events)
                found.append(event["captured_at"] + event["latency_ms"] / 1e3)
        return max(later - earlier for earlier, later in itertools.pairwise(found))

    def assert_blind_for(self, less_than_s: float) -> None:
        """No stream had no detections for longer, every frame is accounted for, and the video is whole."""
        blind = {stream_id: self.blind_s(stream_id) for stream_id in STREAMS}
        print("seconds without detections:", {stream_id: round(seconds, 3) for stream_id, seconds in blind.items()})
        assert max(blind.values()) < less_than_s, blind
        for stream_id in STREAMS:
            status, before = self.raysight.status(stream_id), self.before[stream_id]
            assert_ledgers(status)
            assert status["epoch"] == before["epoch"]
            assert status["frames"]["video_dropped"] == before["frames"]["video_dropped"]

    def gained(self, stream_id: str, of: str) -> int:
        """Frames that were published, or inferred, or decoded since `look`."""
        gained: int = self.raysight.status(stream_id)["frames"][of] - self.before[stream_id]["frames"][of]
        return gained


@pytest.fixture(scope="module")
def system_of_two(tmp_path_factory: pytest.TempPathFactory, street_clip: Path) -> Iterator[Pair]:
    """The running system."""
    folder = tmp_path_factory.mktemp("replicas")
    engine = {"fixed_ms": 5, "per_frame_ms": 1, "width": 160, "height": 120, "hang_while": str(folder / "hang")}
    engines = {"engine": "fake", "fake": engine, "stuck_after_s": STUCK_S}  # as on a GPU, which the engine plays
    detector = {**engines, "num_cpus": 0.1, "num_replicas": 2, "lease_s": LEASE_S}
    for raysight in run_raysight(folder, street_clip, detector):
        yield Pair(raysight, folder / "hang")


@pytest.fixture
def pair(system_of_two: Pair) -> Iterator[Pair]:
    """The running system, with an engine that is well."""
    yield system_of_two
    system_of_two.hang.unlink(missing_ok=True)


def test_a_killed_replica_of_two_is_hardly_missed_and_its_successor_gets_its_share(pair: Pair) -> None:
    pair.play(replicas=2)
    victim, other = pair.raysight.replicas()
    victim.kill()
    wait_until(lambda: attached(other) == len(STREAMS))
    pair.assert_blind_for(less_than_s=1.0)

    pair.look()
    wait_until(lambda: pair.spread() == [2, 2])
    pair.assert_blind_for(less_than_s=1.0)


def test_a_redeploy_and_a_drain_are_not_noticed(pair: Pair) -> None:
    pair.play(replicas=2)
    before = {replica.pid for replica in pair.raysight.replicas()}
    pair.deploy(replicas=2, engine={"per_frame_ms": 1.5})
    assert before.isdisjoint(replica.pid for replica in pair.raysight.replicas())
    pair.assert_blind_for(less_than_s=1.0)

    wait_until(lambda: pair.spread() == [2, 2])
    pair.look()
    pair.deploy(replicas=1)
    wait_until(lambda: pair.spread() == [len(STREAMS)])
    pair.assert_blind_for(less_than_s=1.0)


def test_a_killed_broker_takes_no_attachment_along_and_the_next_one_attaches(pair: Pair) -> None:
    pair.play(replicas=2)
    brokers = pair.raysight.processes("ray::AttachBroker")
    for broker in brokers:
        broker.kill()
    assert psutil.wait_procs(brokers, timeout=10)[1] == []
    assert sum(pair.spread()) == len(STREAMS)
    pair.assert_blind_for(less_than_s=1.0)

    victim, other = pair.raysight.replicas()
    victim.kill()
    wait_until(lambda: attached(other) == len(STREAMS))
    wait_until(lambda: pair.spread() == [2, 2])


@pytest.mark.timeout(400)
def test_load_brings_a_second_replica_and_when_it_is_gone_one_drains_unnoticed(pair: Pair) -> None:
    pair.play(replicas=1)
    config = copy.deepcopy(pair.raysight.config)
    del config["applications"][0]["deployments"][0]["num_replicas"]
    args = config["applications"][0]["args"]
    args.update(num_replicas=1, max_replicas=2, upscale_delay_s=1, downscale_delay_s=5)
    args["fake"]["per_frame_ms"] = 30  # 29 frames a second, where the four streams have 40
    pair.raysight.cluster.deploy(config)
    try:
        wait_until(lambda: pair.spread() == [2, 2], timeout_s=150)
        for stream_id in STREAMS:
            spec = {"source": {"url": f"testsrc://?fps={FPS}&size=160x120"}, "detect": {"max_fps": 4}}
            pair.raysight.put(stream_id, spec)
        pair.look()
        wait_until(lambda: pair.spread() == [4], timeout_s=150)
        pair.assert_blind_for(less_than_s=1.0)
    finally:
        pair.deploy(replicas=1)


def test_video_goes_on_without_any_replica_and_detections_are_back_with_the_next(pair: Pair) -> None:
    pair.play(replicas=1)
    (victim,) = pair.raysight.replicas()
    killed_at = time.monotonic()
    victim.kill()
    cold_s = until_another_runs(pair.raysight, victim) - killed_at
    gained = {stream_id: pair.gained(stream_id, "published") for stream_id in STREAMS}
    pair.assert_blind_for(less_than_s=cold_s + 3.0)
    for stream_id in STREAMS:
        dropped = pair.raysight.status(stream_id)["frames"]["dropped"]
        blind = dropped["no_detector"] - pair.before[stream_id]["frames"]["dropped"]["no_detector"]
        assert gained[stream_id] > 0.5 * FPS * cold_s, "video goes on meanwhile"
        assert blind > 0.5 * FPS * cold_s, "and what is not inferred is counted"


def until_another_runs(raysight: Raysight, gone: psutil.Process) -> float:
    """When Serve says, on the monotonic clock, that a successor of ``gone`` runs: the end of its cold start."""
    url, token = f"{raysight.cluster.dashboard_url}/api/serve/applications/", raysight.cluster.token

    def runs() -> bool:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
        replicas = answer["applications"]["detector"]["deployments"]["Detector"]["replicas"]
        return any(replica["state"] == "RUNNING" and replica["pid"] not in (None, gone.pid) for replica in replicas)

    wait_until(runs)
    return time.monotonic()


def test_a_replica_whose_engine_hangs_ends_itself(pair: Pair) -> None:
    pair.play(replicas=1)
    (stuck,) = pair.raysight.replicas()
    hung_at = time.monotonic()
    pair.hang.touch()
    assert psutil.wait_procs([stuck], timeout=30)[1] == []
    lasted = time.monotonic() - hung_at
    pair.hang.unlink()
    assert lasted < 5.0
    assert min(pair.gained(stream_id, "published") for stream_id in STREAMS) > 0.5 * FPS * lasted, "video goes on"
    inferred = pair.gained(STREAMS[0], "inferred")
    wait_until(lambda: pair.gained(STREAMS[0], "inferred") > inferred + FPS)
    assert_ledgers(pair.raysight.status(STREAMS[0]))
