"""The autoscaling benchmark, its short form; the long one is `python -m benchmarks.autoscale --json PATH`."""

from __future__ import annotations

import asyncio
import math
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.autoscale import control_plane
from benchmarks.autoscale.__main__ import run
from benchmarks.autoscale.costs import Sample, exponent, is_n_log_n
from benchmarks.autoscale.model import NODE_IDLE_S, NODE_START_S, STEP_S, Cluster, Costs, day, simulate
from benchmarks.autoscale.model import Settings as ModelSettings
from benchmarks.autoscale.plot import draw

SYSTEM = {
    "streams": 1000,
    "asked_at_once": 200,
    "pass": {"cpu_ms": {"p50": 20.0}},
    "passes_a_second": 2.0,
    "cores": 0.3,
}
ENGINE = {"name": "fake", "device": "none", "batches": [{"fps": 100.0}, {"fps": 250.0}]}
COSTS = Costs(engine_fps=250.0, frame_cores=0.00668, report_s=0.0005, pass_s=3e-5)


def test_the_control_plane_is_looked_at_with_few_streams() -> None:
    result = asyncio.run(control_plane.measure(20, 1.5, 200))
    assert result["streams"] == 20
    assert result["pass"]["cpu_ms"]["p50"] > 0
    assert result["list_1000_bytes"] > 20 * 200


def test_a_short_day_is_measured_modelled_and_drawn(tmp_path: Path) -> None:
    result = run(100, 0.5, SYSTEM, ENGINE)
    assert result["summary"]["most_streams"] == 100
    needed = math.ceil(100 * 25 / 250 / 0.8)
    assert needed <= result["summary"]["most_replicas"] <= 2 * needed, "so steep a day saturates: it doubles"
    assert result["summary"]["frames_not_inferred"] < 0.2
    assert result["summary"]["supervisor_was_full_at_streams_when_it_asked_all"] < 10_000
    draw(result, tmp_path / "day.png")
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")


def test_growth_is_told_apart() -> None:
    sizes = (100, 300, 1000, 3000)
    linear, square = ([Sample(n, 1e-6 * n**power) for n in sizes] for power in (1, 2))
    assert is_n_log_n(linear)
    assert not is_n_log_n(square)
    assert exponent(square) == pytest.approx(2)


@settings(max_examples=20)
@given(st.lists(st.integers(-40, 40), max_size=20), st.integers(1, 8))
def test_no_stream_is_lost_and_none_is_where_no_room_is(changes: list[int], per_node: int) -> None:
    cluster, there = Cluster(per_node), 0
    for number, change in enumerate(changes):
        change = max(change, -there)
        there += change
        cluster.add(max(0, change))
        cluster.remove(max(0, -change))
        cluster.step(number * STEP_S)
        assert cluster.running + cluster.waiting == there
        assert all(0 <= count <= per_node for count in cluster.nodes)
    for number in range(len(changes), len(changes) + round((NODE_START_S + NODE_IDLE_S) / STEP_S) + 2):
        cluster.step(number * STEP_S)
    assert cluster.waiting == 0
    assert 0 not in cluster.nodes


def test_replicas_follow_the_day_up_and_down_once() -> None:
    wanted = day(10, 400, hours=2.0)
    assert (wanted[0], max(wanted), wanted[-1]) == (10, 400, 10)
    replicas = simulate(wanted, COSTS, ModelSettings())["replicas"]
    top = replicas.index(max(replicas))
    assert replicas[top] == math.ceil(400 * 25 / 250 / 0.8)
    assert replicas[:top] == list(accumulate(replicas[:top], max)), "never fewer on the way up"
    assert replicas[-1] < 0.3 * replicas[top]
