"""How well the main job runs: a minute of two live streams, and many viewers at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import live
from tests.integration.system.test_main_job import online
from tests.support.cluster import Raysight

pytestmark = pytest.mark.long

VIEWERS_EACH = 25
ROOT = Path(__file__).resolve().parents[3]
WATCHERS = [sys.executable, "-m", "tests.support.watchers"]


@pytest.mark.timeout(120)
def test_fifty_viewers_leave_the_api_quick(raysight: Raysight) -> None:
    for number in range(2):
        raysight.put(f"cam-{number}", {"source": {"url": "file:street.mp4", "loop": True}})
    for number in range(2):
        raysight.wait(f"cam-{number}", online)
    api = raysight.cluster.api_url
    urls = [
        f"{api}/v1/streams/cam-{n % 2}/{kind}" for n in range(VIEWERS_EACH) for kind in ("detections", "live.mjpeg")
    ]
    alone_p99 = p99_of_listing(raysight)
    with subprocess.Popen(WATCHERS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as watchers:
        assert watchers.stdin is not None
        assert watchers.stdout is not None
        print(*urls, "", sep="\n", file=watchers.stdin, flush=True)
        assert watchers.stdout.readline() == "watching\n"
        # 200 ms where the machine is as fast as two cores of a server; in proportion where it is not.
        allowed = max(0.2, 6 * alone_p99)
        with_viewers: list[float] = []
        while len(with_viewers) < 3 and min(with_viewers, default=allowed) >= allowed:  # others may use the machine too
            with_viewers.append(p99_of_listing(raysight))
        watchers.stdin.close()
        assert int(watchers.stdout.readline()) > 1000, "each of them went on receiving"
    assert min(with_viewers) < allowed, f"p99 {with_viewers} s, without viewers {alone_p99} s"


def p99_of_listing(raysight: Raysight) -> float:
    """Seconds within which 99 of 100 listings of the streams are answered."""
    latencies = []
    for _ in range(150):
        started = time.perf_counter()
        assert raysight.api.get("/v1/streams").status_code == 200
        latencies.append(time.perf_counter() - started)
    return sorted(latencies)[int(len(latencies) * 0.99)]


@pytest.mark.timeout(240)
def test_two_live_streams_stay_near_the_engines_time_and_do_not_lag() -> None:
    result = live.measure(streams=2, seconds=60, max_fps=None, video=True)
    print(result)
    assert result["ratio_to_engine"] <= 3.0, result
    # What lags grows by seconds within a minute; the 10 % that are aimed at is for the benchmark, on a steady machine.
    assert result["p50_second_half_ms"] <= 1.5 * result["p50_first_half_ms"], result
    for row in result["rows"]:
        assert row["frames"]["video_dropped"] == 0
        (output,) = row["outputs"]
        assert output["dropped_packets"] <= 75, "only what came before the file was open"
        assert row["fps"]["published"] > 20
