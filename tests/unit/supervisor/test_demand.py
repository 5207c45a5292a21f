"""What streams ask for: measured where they ran, like their kind where not, as stated where nothing was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.cpu import LEAST_S, CpuMeter, CpuUse
from deployments.streams.hardware import NOTHING, Grant
from deployments.streams.spec import SourceInfo, StreamSpec, StreamStatus
from deployments.supervisor.demand import STATED_FRAME_S, UNSEEN, Costs, Kind, Seen, demand_of, kind_of

SOFTWARE = Kind("software", "nothing")
NO_COSTS = Costs({}, {})


def spec(url: str = "rtsp://camera/1", **changes: Any) -> StreamSpec:
    return StreamSpec.model_validate({"id": "gate", "source": {"url": url}, **changes})


def test_what_was_measured_goes_before_its_kind_on_the_node_and_before_what_is_stated() -> None:
    costs = Costs.of([("a", SOFTWARE, 0.004), ("b", SOFTWARE, 0.010), ("b", SOFTWARE, 0.012)])
    seen = Seen(30.0, CpuUse(0.6, 0.02), SOFTWARE)
    asked = [
        demand_of(spec(), SOFTWARE, seen, costs, "a"),
        demand_of(spec(), SOFTWARE, UNSEEN, costs, "a"),
        demand_of(spec(), SOFTWARE, UNSEEN, costs, "c"),
        demand_of(spec(), SOFTWARE, UNSEEN, NO_COSTS),
        demand_of(spec(), Kind("gpu", "nothing"), seen, costs),
    ]
    expected = [30 * 0.02, 25 * 0.004, 25 * 0.010, 25 * STATED_FRAME_S[SOFTWARE], 30 * 2.3e-3]
    assert [each.cores for each in asked] == pytest.approx(expected)
    assert [each.measured for each in asked] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("wanted", "seen", "fps"),
    [
        (spec(), UNSEEN, 25.0),
        (spec("testsrc://?fps=12"), UNSEEN, 12.0),
        (spec(detect={"max_fps": 5}), Seen(30.0), 5.0),
        (spec(detect={"max_fps": 50}), Seen(30.0), 30.0),
        (spec(paused=True), Seen(30.0), 0.0),
        (StreamSpec.model_validate({"id": "x", "source": {"url": "file:a.mp4", "realtime": False}}), Seen(400.0), 25.0),
    ],
)
def test_frames_that_an_engine_gets(wanted: StreamSpec, seen: Seen, fps: float) -> None:
    assert demand_of(wanted, SOFTWARE, seen, NO_COSTS).engine_fps == fps


def test_decoding_costs_what_comes_in_whatever_is_inferred() -> None:
    slow = demand_of(spec(detect={"max_fps": 1}), SOFTWARE, Seen(30.0), NO_COSTS)
    assert slow.cores == demand_of(spec(), SOFTWARE, Seen(30.0), NO_COSTS).cores


def test_a_source_that_is_away_is_expected_back_as_it_was() -> None:
    info = SourceInfo(codec="h264", width=64, height=48, fps=15.0)
    connected = UNSEEN.then(StreamStatus(online=True, source=info, fps={"decoded": 0.0}), None, SOFTWARE, 100.0)
    assert connected.fps == 15.0
    online = connected.then(StreamStatus(online=True, fps={"decoded": 14.0}), CpuUse(0.1, 0.007), SOFTWARE, 100.0)
    away = online.then(StreamStatus(online=False, fps={"decoded": 0.0}), None, SOFTWARE, 100.0)
    assert away == Seen(14.0, CpuUse(0.1, 0.007), SOFTWARE)
    back = away.then(StreamStatus(online=True, since=98.0, fps={"decoded": 2.0}), None, SOFTWARE, 100.0)
    assert back.fps == 14.0, "the rate of its first seconds is none"


def test_kinds() -> None:
    output = [{"url": "file:a.mp4"}]
    assert kind_of(spec(outputs=output), Grant(nvdec=True)) == Kind("gpu", "software")
    assert kind_of(spec(outputs=output), Grant(nvenc=True)) == Kind("software", "gpu")
    assert kind_of(spec("testsrc://"), NOTHING) == Kind("nothing", "nothing")


@given(st.floats(0.01, 2), st.floats(1, 60), st.floats(0, 100), st.integers(8, 60))
def test_a_steady_process_is_measured_as_it_is(cores: float, fps: float, startup_s: float, seconds: int) -> None:
    meter = CpuMeter()
    meter.sample(0.0, startup_s, 0)  # before the first frame: what a start costs
    for second in range(1, seconds):
        meter.sample(float(second), startup_s + cores * second, round(fps * 1000 * second))
    use = meter.use
    assert use is not None
    assert use.cores == pytest.approx(cores, rel=1e-6)
    assert use.frame_s == pytest.approx(cores / (round(fps * 1000)), rel=1e-2)


def test_nothing_is_told_too_early_nor_without_frames() -> None:
    meter = CpuMeter()
    meter.sample(0.0, 1.0, 1)
    meter.sample(LEAST_S / 2, 2.0, 100)
    assert meter.use is None
    meter = CpuMeter()
    for second in range(30):
        meter.sample(float(second), float(second), 10)
    assert meter.use is None
