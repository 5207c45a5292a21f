"""What the chaos suite and the soak reckon with: schedules, recoveries, interruptions, what was accepted, slopes."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.desired import MARK, Desired, forgotten
from tests.chaos.footprint import Footprint, growth
from tests.chaos.journal import INVARIANTS, Journal, Strike
from tests.chaos.judge import Recovery, Seen, frames_lost, interruptions, ledger_errors
from tests.chaos.schedule import SLOT_S, schedule
from tests.chaos.table import table, verdicts
from tests.soak.report import passes, report
from tests.soak.samples import Sample
from tests.soak.slope import fit, student_t

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=20, unique=True)
SEEDS = st.integers(0, 2**32)
MINUTES = st.floats(0, 60)


@given(SEEDS, MINUTES, NAMES)
def test_a_schedule_is_fair_and_in_time(seed: int, minutes: float, names: list[str]) -> None:
    planned = schedule(seed, minutes, names)
    assert planned == schedule(seed, minutes, list(reversed(names)))
    times = [one.at_s for one in planned]
    assert times == sorted(times)
    assert all(0 <= at_s < minutes * 60 for at_s in times)
    assert len(planned) == int(minutes * 60 // SLOT_S)
    counts = Counter(one.fault for one in planned)
    assert set(counts) <= set(names)
    assert max((counts[name] for name in names), default=0) - min(counts[name] for name in names) <= 1


@given(SEEDS, NAMES)
def test_a_longer_schedule_begins_as_the_shorter_one(seed: int, names: list[str]) -> None:
    assert schedule(seed, 20, names)[: len(schedule(seed, 5, names))] == schedule(seed, 5, names)


def test_another_seed_is_another_schedule_and_no_fault_is_none() -> None:
    names = [str(number) for number in range(10)]
    assert [one.fault for one in schedule(1, 5, names)] != [one.fault for one in schedule(2, 5, names)]
    assert schedule(1, 5, []) == ()


@given(st.integers(2, 60), st.lists(st.booleans(), min_size=20, max_size=200))
def test_lost_frames_are_counted(fps: int, arrive: list[bool]) -> None:
    arrive = [True, *arrive, True]
    captured = [number / fps for number, arrives in enumerate(arrive) if arrives]
    random.Random(0).shuffle(captured)
    gaps = interruptions(captured, fps, 0.0, (len(arrive) - 1) / fps)
    # Two missing in a row make three periods; one makes two, which is no interruption.
    runs = "".join("x" if arrives else "." for arrives in arrive).split("x")
    assert frames_lost(gaps, fps) == sum(len(run) for run in runs if len(run) >= 2)


@pytest.mark.parametrize("captured", [[], [5.0, 25.0]])
def test_a_stream_without_frames_is_interrupted_all_the_time(captured: list[float]) -> None:
    assert interruptions(captured, 10, 10.0, 20.0) == [10.0]


def seen(now: float, *, online: bool | None = True, captured_at: float = 1001.0) -> Seen:
    return Seen(online, status_at=now, event_at=now, captured_at=captured_at)


def test_a_recovery_is_over_when_the_last_stream_stays_healthy() -> None:
    recovery = Recovery(ended=100.0, ended_wall=1000.0)
    assert not recovery.observe(100.5, {"a": seen(100.5), "b": seen(100.5, online=False)})
    assert not recovery.observe(101.6, {"a": seen(101.6), "b": seen(101.6)})
    assert recovery.observe(102.7, {"a": seen(102.7), "b": seen(102.7)})
    assert recovery.seconds("a", 102.7) == pytest.approx(0.5)
    assert recovery.seconds("b", 102.7) == pytest.approx(1.6)


def test_a_relapse_begins_a_recovery_anew() -> None:
    recovery = Recovery(ended=100.0, ended_wall=1000.0)
    recovery.observe(100.2, {"a": seen(100.2)})
    recovery.observe(100.4, {"a": seen(100.4, online=False)})
    assert not recovery.observe(103.0, {"a": seen(103.0)})
    assert recovery.seconds("a", 103.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "one",
    [
        seen(101.0, online=None),
        seen(101.0, captured_at=999.9),
        Seen(True, status_at=99.9, event_at=101.0, captured_at=1001.0),
        Seen(True, status_at=101.0, event_at=99.0, captured_at=1001.0),
    ],
)
def test_what_is_old_or_unknown_is_no_recovery(one: Seen) -> None:
    recovery = Recovery(ended=100.0, ended_wall=1000.0)
    recovery.observe(101.0, {"a": one})
    assert recovery.seconds("a", 103.0) == 3.0


FRAMES: dict[str, Any] = {"decoded": 10, "inferred": 5, "dropped": {"stale": 2, "superseded": 1}, "in_flight": 2}
SHOWN = {"published": 7, "video_dropped": 1, "queued": 2}


def test_ledgers_that_do_not_add_up_are_found() -> None:
    assert ledger_errors({**FRAMES, **SHOWN}) == []
    assert len(ledger_errors({**FRAMES, **SHOWN, "inferred": 6})) == 1
    assert len(ledger_errors({**FRAMES, **SHOWN, "decoded": 11})) == 2
    assert len(ledger_errors({**FRAMES, **SHOWN, "queued": -1, "published": 10})) == 1


def view(mark: str | None, generation: int) -> dict[str, Any]:
    labels = {} if mark is None else {MARK: mark}
    return {"spec": {"labels": labels}, "status": {"generation": generation}}


def test_what_was_accepted_and_is_not_there_is_found() -> None:
    desired = Desired()
    desired.accept("a", 10, view(None, 1))
    assert forgotten(desired.streams(), {"a": view(None, 1)}) == []
    assert [stream for stream, _ in forgotten(desired.streams(), {})] == ["a"]
    desired.sent("a", "x")  # no answer yet: both are possible
    assert forgotten(desired.streams(), {"a": view(None, 1)}) == forgotten(desired.streams(), {"a": view("x", 2)}) == []
    desired.accepted("a", "x", 2)
    assert len(forgotten(desired.streams(), {"a": view(None, 1)})) == 2
    desired.sent("a", "y")
    desired.refused("a", "y")
    assert len(forgotten(desired.streams(), {"a": view("y", 3)})) == 1
    desired.drop("a")
    assert forgotten(desired.streams(), {}) == []


def test_a_journal_tells_which_invariant_broke_and_when(tmp_path: Path) -> None:
    journal = Journal(say=lambda line: None)
    journal.strikes += [Strike("kill", 1.0, 3), Strike("kill", 2.5, 4), Strike("cut", 0.5, 0)]
    assert journal.passed
    journal.violation("sequence", "gate", "7 came after 9")
    assert not journal.passed
    journal.write(tmp_path / "result.json", 7)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {
        "seed": 7,
        "invariants": {name: name != "sequence" for name in INVARIANTS},
        "faults": [
            {"name": "kill", "times": 2, "worst_recovery_s": 2.5, "frames_lost": 7},
            {"name": "cut", "times": 1, "worst_recovery_s": 0.5, "frames_lost": 0},
        ],
    }
    (line,) = (tmp_path / "result.log").read_text().splitlines()
    assert line.endswith("VIOLATION sequence  gate: 7 came after 9")
    assert "| kill | 4 | 2.5 | 14 |" in table([result, result])
    assert verdicts([result]) == "- seed 7: broken: sequence\n"


def test_a_fault_that_could_not_be_done_fails_the_run() -> None:
    journal = Journal(say=lambda line: None)
    journal.fault_failed("cut", "no network")
    assert not journal.passed


def held(**changes: Any) -> Footprint:
    base = {"threads": 100, "descriptors": 200, "shared": 4, "actors": Counter({"ray::A": 2}), "rss_mb": 1000.0}
    return Footprint(**{**base, **changes})


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, set()),
        ({"threads": 90, "rss_mb": 1049.0}, set()),
        ({"threads": 106}, {"threads"}),
        ({"descriptors": 211}, {"descriptors"}),
        ({"shared": 5}, {"shared_memory"}),
        ({"actors": Counter({"ray::A": 3})}, {"actors"}),
        ({"actors": Counter({"ray::A": 1})}, {"actors"}),
        ({"rss_mb": 1051.0}, {"rss"}),
    ],
)
def test_growth_is_found(changes: dict[str, Any], broken: set[str]) -> None:
    assert set(growth(held(), held(**changes))) == broken


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(-1e3, 1e3)), min_size=4, max_size=50, unique_by=lambda p: round(p[0])
    )
)
def test_a_slope_is_that_of_least_squares(points: list[tuple[float, float]]) -> None:
    hours, values = (list(column) for column in zip(*points, strict=True))
    found = fit(hours, values)
    (expected, _), covariance = np.polyfit(hours, values, 1, cov="unscaled")
    residuals = np.array(values) - np.polyval(np.polyfit(hours, values, 1), hours)
    error = float(np.sqrt(covariance[0, 0] * (residuals @ residuals) / (len(points) - 2)))
    assert found.slope == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found.high - found.slope == pytest.approx(student_t(len(points) - 2) * error, rel=1e-6, abs=1e-6)
    assert found.high - found.slope == pytest.approx(found.slope - found.low)


@pytest.mark.parametrize(
    ("freedom", "expected", "within"),
    # From the table of Student's distribution, two-sided 95 %.
    [
        (1, 12.706, 1e-3),
        (2, 4.3027, 1e-3),
        (3, 3.1824, 1e-2),
        (5, 2.5706, 1e-3),
        (30, 2.0423, 1e-4),
        (1000, 1.9623, 1e-4),
    ],
)
def test_students_quantile(freedom: int, expected: float, within: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, rel=within)


def test_the_bounds_hold_the_true_slope_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    hours = np.linspace(0, 1, 12)
    inside = 0
    for _ in range(2000):
        found = fit(list(hours), list(3 * hours + rng.normal(0, 1, hours.size)))
        inside += found.low <= 3 <= found.high
    assert 0.93 < inside / 2000 < 0.97


@pytest.mark.parametrize(("hours", "values"), [([0.0, 1.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])])
def test_too_few_points_have_no_slope(hours: list[float], values: list[float]) -> None:
    with pytest.raises(ValueError, match="three points"):
        fit(hours, values)


def samples(mb_per_hour: float) -> list[Sample]:
    hours = [number / 100 for number in range(101)]
    return [Sample(h, 1000 + 4 * mb_per_hour * h + (500 if h < 0.2 else 0), None, 300.0, 20.0) for h in hours]


def test_a_soak_leaves_out_its_warm_up_and_judges_a_streams_memory() -> None:
    result = report(samples(4.0), streams=4, warm_up_hours=0.2)
    slopes = result["slopes_an_hour"]
    assert slopes["rss_mb_a_stream"] == {"slope": 4.0, "low": 4.0, "high": 4.0}
    assert slopes["vram_mb"] is None
    assert slopes["descriptors"] == {"slope": 0.0, "low": 0.0, "high": 0.0}
    assert passes(result, 5.0)
    assert not passes(result, 3.9)
    assert not passes(report([], 4, 0.0), 5.0)
