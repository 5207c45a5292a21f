"""What follows from measured levels, and what the circumstances of a measurement are made of."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from serve_app.cli.app import app
from serve_app.load_test.closed_loop import Failed, closed_loop
from serve_app.load_test.levels import Level, LoadTestError, percentile, read_concurrency, streams_that_fit
from serve_app.load_test.plot import write_plot


def level(fps: float, p99_ms: float | None, failed: int = 0, over: str = "http", concurrency: int = 1) -> Level:
    """One level; its other latencies lie below."""
    times = (None, None, None) if p99_ms is None else (p99_ms / 3, p99_ms / 2, p99_ms)
    return Level(over, concurrency, fps, 100, *times, {"timeout": failed} if failed else {}, 0.5, 0.2)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("1", (1,)),
        ("1,2,4..256", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ("8, 2,2", (2, 8)),
        ("3..20", (3, 6, 12)),
        ("1024", (1024,)),
    ],
)
def test_concurrency(text: str, levels: tuple[int, ...]) -> None:
    assert read_concurrency(text) == levels


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1,,2", "4..2", "1025", "1..x", "1.5", "9" * 5000, "1..2..3"])
def test_concurrency_that_cannot_be(text: str) -> None:
    with pytest.raises(LoadTestError):
        read_concurrency(text)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_a_percentile_has_its_part_at_or_below_it_and_is_the_least_such(values: list[float], part: float) -> None:
    found = percentile(sorted(values), part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values) - 1e-9
    assert sum(value < found for value in values) < part * len(values) + 1e-9
    assert percentile([], part) is None


@given(st.lists(st.tuples(st.floats(0, 1e5), st.none() | st.floats(0, 200), st.integers(0, 2)), max_size=8))
def test_streams_that_fit(measured: list[tuple[float, float | None, int]]) -> None:
    fit = streams_that_fit([level(*one) for one in measured])
    speeds = [fps for fps, p99, failed in measured if p99 is not None and p99 <= 75 and not failed]
    for rate, streams in fit.items():
        assert streams == math.floor(max(speeds, default=0.0) / int(rate))


def test_a_closed_loop_keeps_as_many_requests_under_way_and_stops_by_itself() -> None:
    under_way = most = 0

    async def send() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    measured = asyncio.run(closed_loop(send, 5, 0.3))
    assert (most, under_way, measured.failed) == (5, 0, {})
    assert 0 < measured.completed <= len(measured.latencies_s)
    assert measured.latencies_s[0] >= 0.0099
    assert measured.completed / 0.3 <= 5 / 0.0099


def test_failures_are_counted_and_do_not_spin() -> None:
    asked = 0

    async def send() -> None:
        nonlocal asked
        asked += 1
        raise Failed("HTTP 503")

    measured = asyncio.run(closed_loop(send, 2, 0.25))
    assert measured.failed == {"HTTP 503": asked}
    assert asked <= 2 * 5
    assert measured.latencies_s == []


def test_requests_that_outlast_the_measurement_are_in_its_latencies() -> None:
    async def send() -> None:
        await asyncio.sleep(0.3)

    measured = asyncio.run(closed_loop(send, 3, 0.1))
    assert (measured.completed, len(measured.latencies_s)) == (0, 3)


@pytest.mark.parametrize("ways", [("http",), ("http", "grpc")])
def test_a_plot_is_a_picture_of_each_way(tmp_path: Path, ways: tuple[str, ...]) -> None:
    path = tmp_path / "plot.png"
    levels = [level(100.0 * n, 5.0 * n, failed=n == 4, over=over, concurrency=n) for over in ways for n in (1, 2, 4)]
    write_plot(path, [*levels, level(0, None, 3, ways[-1], 8)], "CPU", "a model")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == round((1.6 + 5.6 * len(ways)) * 150)


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://127.0.0.1"],
        ["127.0.0.1:8000"],
        ["http://user:secret@127.0.0.1"],
        ["http://127.0.0.1:99999"],
        ["http://127.0.0.1", "--concurrency", "none"],
        ["http://127.0.0.1", "--image", "no-such-file.jpg"],
        ["http://127.0.0.1", "--json", "no-such-folder/x.json"],
        ["http://127.0.0.1", "--plot", "/"],
        ["http://127.0.0.1", "--grpc", "nowhere"],
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[Any]) -> None:
    result = CliRunner().invoke(app, ["load-test", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("raysight: ")
    assert "secret" not in result.stderr
