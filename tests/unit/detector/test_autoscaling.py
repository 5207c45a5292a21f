"""How many replicas: by frames a second, never on what is not known, and never back and forth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.detector.actor import DetectorLoads
from deployments.detector.autoscaling import (
    ATTACHED_FPS,
    BAND,
    COUNTED,
    ENGINE_FPS,
    FRESH_S,
    SATURATED,
    FramesPolicy,
    Told,
    counted_once,
    wanted_replicas,
)
from deployments.detector.fair_share import Load

DEMANDS = st.floats(0, 3_000)
SPEEDS = st.floats(50, 2_000)
TARGETS = st.integers(1, 60)
BUSY = st.floats(0.3, 0.9)


def wanted(
    demand: float, speed: float, target: int, utilisation: float = 0.8, least: int = 1, most: int = 1_000_000
) -> int:
    """The decision where as many replicas run as were asked for, and all have told."""
    told = [Told(demand, speed, target)] * target
    return wanted_replicas(told, target, target, utilisation, least, most)


@given(DEMANDS, SPEEDS, TARGETS, BUSY, st.integers(1, 20), st.integers(0, 40))
def test_it_stays_within_the_bounds(
    demand: float, speed: float, target: int, busy: float, least: int, more: int
) -> None:
    assert least <= wanted(demand, speed, target, busy, least, least + more) <= least + more


@given(DEMANDS, SPEEDS, TARGETS, BUSY)
@example(demand=431.936, speed=431.936, target=47, busy=1 / 3)
def test_there_are_always_enough_and_never_far_too_many(demand: float, speed: float, target: int, busy: float) -> None:
    """The bounds leave room for rounding: a third, as a float, is less, so at its edge one replica more is right."""
    found = wanted(demand, speed, target, busy)
    needed = demand / speed / busy
    assert found >= needed * (1 - 1e-9)
    saturated = demand >= SATURATED * speed * target
    assert found <= max(1, math.ceil(needed / (1 - BAND) * (1 + 1e-9)), 2 * target * saturated)


@given(DEMANDS, SPEEDS, TARGETS, BUSY, st.floats(1 - BAND + 0.02, 1.0))
def test_after_more_it_takes_a_fall_by_the_band_for_fewer(
    demand: float, speed: float, target: int, busy: float, change: float
) -> None:
    found = wanted(demand, speed, target, busy)
    if found > target and demand < SATURATED * speed * target:
        assert wanted(demand * change, speed, found, busy) == found


@given(DEMANDS, SPEEDS, TARGETS, BUSY, st.floats(1.0, 1 / (1 - BAND) - 0.02))
def test_after_fewer_it_takes_a_rise_by_the_band_for_more(
    demand: float, speed: float, target: int, busy: float, change: float
) -> None:
    found = wanted(demand, speed, target, busy)
    rose = demand * change
    if found < target and rose < SATURATED * speed * found:
        assert wanted(rose, speed, found, busy) == found


@given(DEMANDS, SPEEDS, st.integers(1, 60))
def test_saturated_streams_are_found_out_and_then_it_rests(demand: float, speed: float, target: int) -> None:
    """Replicas that can't keep up are sent no more than they manage: the true load shows only as they become more."""
    moves = [target]
    for _ in range(20):
        sent = min(demand, moves[-1] * speed)
        moves.append(wanted(sent, speed, moves[-1]))
    assert moves[-1] >= demand / speed / 0.8 * (1 - 1e-9)
    assert len({*moves[-8:]}) == 1
    signs = [math.copysign(1, b - a) for a, b in itertools.pairwise(moves) if a != b]
    assert signs in (sorted(signs, reverse=True), sorted(signs)), "up and then down once, or one of them"


@given(st.lists(st.none() | st.floats(0, 5_000), min_size=1, max_size=6), SPEEDS, st.integers(0, 2), st.integers(0, 2))
def test_what_is_not_told_is_no_load_of_zero(
    demands: list[float | None], speed: float, silent: int, starting: int
) -> None:
    running = len(demands) + silent
    told = [Told(demand, speed, running) for demand in demands]
    if None in demands or silent or starting:
        assert wanted_replicas(told, running, running + starting, 0.8, 1, 1000) >= running + starting


@pytest.mark.parametrize(
    "told",
    [
        [],
        [Told(None, 100.0, 0)] * 3,
        [Told(10.0, 0.0, 3)] * 3,
        [Told(10.0, 100.0, 3)] * 2,
        [Told(10.0, 100.0, 2)] * 3,
    ],
    ids=["nobody", "nobody knows the streams", "no engine is measured", "one is silent", "one is not counted yet"],
)
def test_nothing_is_taken_away_while(told: list[Told]) -> None:
    assert wanted_replicas(told, 3, 3, 0.8, 1, 10) == 3


def test_nothing_is_taken_away_while_another_starts() -> None:
    assert wanted_replicas([Told(10.0, 100.0, 2)] * 2, 2, 3, 0.8, 1, 10) == 3


def test_a_known_load_that_is_too_much_is_enough_to_start_more() -> None:
    assert wanted_replicas([Told(500.0, 100.0, 1)], 3, 3, 0.8, 1, 10) == 7


RATES = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.floats(0, 60), max_size=4)


@settings(max_examples=50)
@given(st.lists(RATES, max_size=5))
def test_each_stream_counts_once_and_with_its_higher_rate(replicas: list[dict[str, float]]) -> None:
    streams = {stream for rates in replicas for stream in rates}
    expected = sum(max(rates.get(stream, 0.0) for rates in replicas) for stream in streams)
    assert counted_once(replicas) == pytest.approx(expected)


def test_a_stream_that_moves_counts_once_and_fully_at_every_moment() -> None:
    loads, load = DetectorLoads(), Load(0.0, 100.0)
    staying = {"a": 10.0}
    assert loads.exchange("m", "old", load, {**staying, "moves": 30.0}) == ({}, 40.0, 1)
    assert loads.exchange("m", "new", load, {"moves": 0.0}).attached_fps == 40.0, "attached anew, no rate yet"
    assert loads.exchange("m", "new", load, {"moves": 30.0}).attached_fps == 40.0, "attached to both"
    assert loads.exchange("m", "old", load, staying).attached_fps == 40.0, "it has left"
    assert loads.exchange("m", "old", load, staying).replicas == 2
    assert loads.exchange("other", "x", load, {}).attached_fps == 0.0, "models are apart"


# As Serve asks it -----------------------------------------------------------------------------------------------

DEPLOYMENT = DeploymentID("Detector", "detector")


class Controller:
    """Serve's own wrapping of a policy, over time: delays, factors and bounds are the real ones."""

    def __init__(self, replicas: int, up_s: float = 30.0, down_s: float = 600.0) -> None:
        self.now = 1000.0
        self.skew = -500.0
        self.target = replicas
        self.config = AutoscalingConfig(min_replicas=1, max_replicas=50, upscale_delay_s=up_s, downscale_delay_s=down_s)
        self.state: dict[str, Any] = {}
        self.ask = _apply_autoscaling_config(FramesPolicy(0.8, clock=lambda: self.now))

    def tick(self, told: Callable[[int], dict[str, float] | None], sampled_at: float | None = None) -> int:
        """One decision; ``told`` gives the newest numbers of each replica, None for one that never told any."""
        ids = [ReplicaID(f"r{n}", DEPLOYMENT) for n in range(self.target)]
        at = (self.now if sampled_at is None else sampled_at) + self.skew
        metrics: dict[str, dict[ReplicaID, list[TimeStampedValue]]] = {}
        for n, replica in enumerate(ids):
            for name, value in (told(n) or {}).items():
                metrics.setdefault(name, {})[replica] = [TimeStampedValue(at, value)]
        context = AutoscalingContext(
            deployment_id=DEPLOYMENT,
            deployment_name="Detector",
            app_name="detector",
            current_num_replicas=self.target,
            target_num_replicas=self.target,
            running_replicas=ids,
            total_num_requests=0.0,
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics=metrics,
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=50,
            policy_state=self.state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self.now,
            config=self.config,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ray.serve.autoscaling_policy.time.time", lambda: self.now)
            self.target, self.state = self.ask(context)
        return self.target


def numbers(demand: float, speed: float, counted: int) -> dict[str, float]:
    return {ATTACHED_FPS: demand, ENGINE_FPS: speed, COUNTED: float(counted)}


@settings(max_examples=50)
@given(st.lists(st.floats(0, 3_000), min_size=1, max_size=40), st.floats(50, 400))
def test_whatever_the_load_does_a_replica_lives_for_the_delay(demands: Sequence[float], speed: float) -> None:
    controller = Controller(replicas=3, up_s=30, down_s=300)
    grown_at = -math.inf
    for demand in demands:
        for _ in range(4):
            before = controller.target
            sent = min(demand, speed * before)
            after = controller.tick(lambda n: numbers(sent, speed, before))  # noqa: B023 - called at once
            if after > before:
                grown_at = controller.now
            if after < before:
                assert controller.now - grown_at >= 300
            controller.now += 10


def test_a_replica_that_falls_silent_holds_all_where_they_are() -> None:
    controller = Controller(replicas=2, down_s=60)
    heard_at = controller.now
    for _ in range(40):
        controller.tick(lambda n: numbers(300.0, 200.0, 2), heard_at)
        controller.now += 10
    assert controller.now - heard_at > FRESH_S
    assert controller.target == 2


def test_replicas_that_never_told_hold_all_where_they_are() -> None:
    controller = Controller(replicas=3, down_s=0)
    assert controller.tick(lambda n: None) == 3
    assert controller.tick(lambda n: {ENGINE_FPS: 100.0}) == 3, "the loads are not known"


def test_a_load_that_goes_away_takes_replicas_along_after_the_delay() -> None:
    controller = Controller(replicas=3, down_s=60)
    seen = []
    for _ in range(8):
        seen.append(controller.tick(lambda n: numbers(20.0, 100.0, controller.target)))
        controller.now += 10
    assert seen == [3, 3, 3, 3, 3, 3, 1, 1]
