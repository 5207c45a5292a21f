"""The arithmetic of the serving benchmark; its run on a cluster is `python -m benchmarks.serving --quick`."""

from __future__ import annotations

import argparse
import time

import pytest

from benchmarks.serving.__main__ import Load, default_loads, engine_alone, percentiles
from benchmarks.serving.cost import cpu_seconds, spent_between
from benchmarks.serving.producer import Producer
from deployments.detector.config import DetectorConfig


def test_a_load_is_streams_by_rate() -> None:
    assert Load.parse("24x45") == Load(24, 45.0)
    assert Load.parse("1x0.5") == Load(1, 0.5)


@pytest.mark.parametrize("text", ["", "24", "x", "24x", "0x5", "2x0", "2x-1", "axb"])
def test_what_is_no_load_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        Load.parse(text)


@pytest.mark.parametrize("cores", [2, 16])
def test_every_default_has_a_load_that_a_first_version_cannot_carry(cores: int) -> None:
    quick, full = default_loads(cores, quick=True), default_loads(cores, quick=False)
    assert len(quick) == 1
    assert max(load.streams * load.fps for load in quick) >= 360
    assert Load(1, 5) in full


def test_percentiles_are_milliseconds() -> None:
    assert percentiles([]) == (None, None, None)
    assert percentiles([n / 1000 for n in range(101)]) == (50.0, 95.0, 99.0)


def test_cpu_is_counted_from_the_first_look_on() -> None:
    assert spent_between({1: 2.0, 2: 1.0}, {1: 2.5, 3: 0.25}) == 0.75  # 2 has ended, 3 is new
    before = cpu_seconds()
    sum(range(3_000_000))
    assert spent_between(before, cpu_seconds()) > 0


def test_the_engine_alone_is_as_fast_as_it_was_told() -> None:
    fake = {"fixed_ms": 2.0, "per_frame_ms": 1.0, "max_batch_size": 4, "width": 64, "height": 48}
    alone = engine_alone(DetectorConfig.model_validate({"engine": "fake", "fake": fake}), seconds=0.6)
    assert 0.5 * 4 / 0.006 < alone["fps"] <= 4 / 0.006
    assert alone["one_frame_ms"] >= 3.0
    assert alone["full_batch_ms"][0] >= 6.0


def test_a_producer_hands_its_frames_over_at_its_rate() -> None:
    tally = Producer(0, 64, 48).run(fps=100.0, start=time.monotonic(), seconds=0.5)
    assert 48 <= len(tally.latencies_s) <= 50  # one that is due at the very end may be late
    assert tally.batches == len(tally.latencies_s)
    assert not +tally.dropped
