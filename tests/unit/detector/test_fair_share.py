"""Who moves to which replica: only what is better served there, and in the end nobody."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.detector.fair_share import (
    GAIN,
    HEARD_S,
    NO_PLACE,
    SETTLE_S,
    SPEED_CHANGE,
    FairShare,
    Load,
    better_place,
)

RATES = st.sampled_from([1.0, 5.0, 12.5, 25.0, 30.0, 60.0])
SPEEDS = st.floats(20.0, 2000.0)
Cluster = list[tuple[float, list[float]]]
"""Replicas: engine speed, and the rates of the streams."""
CLUSTERS: st.SearchStrategy[Cluster] = st.lists(st.tuples(SPEEDS, st.lists(RATES, max_size=12)), min_size=2, max_size=5)
ORDERS = st.integers().map(random.Random)


def utilisations(cluster: Cluster) -> list[float]:
    return sorted((sum(streams) / engine for engine, streams in cluster), reverse=True)


def renew(cluster: Cluster, replica: int, stream: int) -> bool:
    """One renewal; whether the stream moved."""
    engine, streams = cluster[replica]
    peers = {str(n): Load(sum(s), e) for n, (e, s) in enumerate(cluster) if n != replica}
    to = better_place(str(stream), {str(n): rate for n, rate in enumerate(streams)}, engine, peers)
    if to is not None:
        cluster[int(to)][1].append(streams.pop(stream))
    return to is not None


def settle(cluster: Cluster, order: random.Random) -> None:
    """Renew whom chance picks until nobody moves any more."""
    for _ in range(1000):
        everyone = [(n, s) for n, (_, streams) in enumerate(cluster) for s in range(len(streams))]
        order.shuffle(everyone)
        if not any(renew(cluster, n, s) for n, s in everyone):
            return
    raise AssertionError("it never came to rest")


@given(CLUSTERS, ORDERS)
def test_each_move_lowers_the_busiest_and_all_come_to_rest(cluster: Cluster, order: random.Random) -> None:
    before = utilisations(cluster)
    for n, (_, streams) in enumerate(cluster):
        if streams and renew(cluster, n, order.randrange(len(streams))):
            after = utilisations(cluster)
            assert after[0] <= before[0]
            assert after < before, "compared busiest first"
            before = after
    settle(cluster, order)
    assert utilisations(cluster)[0] <= before[0]


@given(CLUSTERS, ORDERS)
def test_at_rest_nobody_above_the_fair_share_would_gain(cluster: Cluster, order: random.Random) -> None:
    settle(cluster, order)
    share = sum(sum(s) for _, s in cluster) / sum(e for e, _ in cluster)
    for n, (engine, streams) in enumerate(cluster):
        here = sum(streams) / engine
        for rate in streams if here > share * (1 + 1e-9) else []:
            there = min((sum(s) + rate * (1 + GAIN)) / e for m, (e, s) in enumerate(cluster) if m != n)
            assert here <= there * (1 + 1e-9)


@given(st.integers(2, 6), st.integers(0, 40), RATES, SPEEDS, ORDERS)
def test_equal_replicas_with_equal_streams_end_within_one(
    replicas: int, streams: int, rate: float, engine: float, order: random.Random
) -> None:
    cluster: Cluster = [(engine, []) for _ in range(replicas)]
    for _ in range(streams):
        cluster[order.randrange(replicas)][1].append(rate)
    settle(cluster, order)
    counts = [len(s) for _, s in cluster]
    assert max(counts) - min(counts) <= 1


def test_streams_of_5_and_60_are_not_alike() -> None:
    fast: Cluster = [(200.0, [60.0, 60.0]), (200.0, [5.0] * 4)]
    settle(fast, random.Random(0))
    assert sorted(sum(s) for _, s in fast) == [70.0, 70.0], "by number, a 60 would not have room"


def test_a_faster_engine_takes_more() -> None:
    cluster: Cluster = [(300.0, []), (100.0, [10.0] * 20)]
    settle(cluster, random.Random(0))
    assert len(cluster[0][1]) == pytest.approx(15, abs=1)


@pytest.mark.parametrize(
    ("engine_fps", "peers"),
    [
        (100.0, {}),
        (0.0, {"b": Load(0.0, 100.0)}),
        (100.0, {"b": NO_PLACE}),
        (100.0, {"b": Load(500.0, 0.0)}),
    ],
    ids=["alone", "own speed unknown", "peer leaves", "peer's speed unknown"],
)
def test_what_is_not_known_moves_nobody(engine_fps: float, peers: dict[str, Load]) -> None:
    assert better_place("a", {"a": 50.0, "b": 50.0}, engine_fps, peers) is None


def test_a_stream_that_sends_nothing_or_is_not_here_stays() -> None:
    peers = {"b": Load(0.0, 100.0)}
    assert better_place("idle", {"idle": 0.0, "busy": 90.0}, 100.0, peers) is None
    assert better_place("gone", {"busy": 90.0}, 100.0, peers) is None


def share_of(streams: int, fps: float = 10.0) -> FairShare:
    """A replica that has measured as many streams for a while, and heard of an idle peer at 4.0."""
    share = FairShare()
    for now in (0.0, 2.0, 4.0):
        load = share.measure({str(n): round(now * fps) for n in range(streams)}, 100.0, now)
    assert load == Load(streams * fps, 100.0)
    share.hear({"b": Load(0.0, 100.0)}, 4.0)
    return share


def test_those_on_their_way_count_for_where_they_go() -> None:
    """All of a replica's streams renew before the next report: half of them move."""
    share = share_of(10)
    moved = [share.elsewhere(str(n), 4.0) for n in range(10)]
    assert moved.count("b") == 5
    assert share.measure({str(n): 50 for n in range(10)}, 100.0, 5.0).offered_fps == pytest.approx(50.0)


def test_one_that_never_left_counts_again() -> None:
    share = share_of(2)
    assert share.elsewhere("0", 4.0) == "b"
    late = 4.0 + SETTLE_S
    assert share.measure({"0": 119, "1": 119}, 100.0, late - 0.1).offered_fps == pytest.approx(10.0)
    assert share.measure({"0": 121, "1": 121}, 100.0, late + 0.1).offered_fps == pytest.approx(20.0)


def test_old_news_move_nobody() -> None:
    assert share_of(10).elsewhere("0", 4.0 + HEARD_S) == "b"
    assert share_of(10).elsewhere("0", 4.1 + HEARD_S) is None


def test_rates_are_those_of_the_latest_frames() -> None:
    share = FairShare()
    frames = 0.0
    for second in range(0, 60, 2):
        frames += 2 * (30 if second < 40 else 5)
        load = share.measure({"a": round(frames)}, 100.0, float(second))
    assert load.offered_fps == pytest.approx(5.0)


def test_a_speed_that_wanders_is_told_as_it_was() -> None:
    share = FairShare()
    told = [share.measure({}, fps, float(n)).engine_fps for n, fps in enumerate([100, 110, 90, 120, 115, 0, 100])]
    assert told == [100, 100, 100, 120, 120, 0, 100]
    assert SPEED_CHANGE == 0.15
