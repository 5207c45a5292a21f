"""The main job as its user has it: live streams of the shipped clip through the whole system, for a minute.

``python -m benchmarks.live --streams 2 --seconds 60 --json PATH``

Each stream plays the clip at 25 frames a second and writes annotated video to a file, unless ``--detections-only``,
as where a client only wants to know what is there. The latency of a frame is the
``latency_ms`` of its event: from decoded to detections out. It is set against the engine's own time for one frame,
measured in the same run on the idle system before the streams start, and under their load.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from benchmarks import report
from deployments.store.opening import sqlite_url
from serve_app.local import LocalCluster, Ports, free_port

CLIP = "file:pedestrians-768x576-25fps.mp4"
CONFIG = Path(__file__).resolve().parent.parent / "serve_config.yaml"
WARM_UP_S = 5.0
"""Streams connect, queues fill, the first key frames pass."""


@dataclass
class Follower(threading.Thread):
    """Takes one stream's events as a client does: (when it came, latency in ms)."""

    url: str
    samples: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        with urllib.request.urlopen(self.url, timeout=30) as response:
            for line in response:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    if "latency_ms" in event:
                        self.samples.append((time.monotonic(), event["latency_ms"]))

    def __hash__(self) -> int:
        return id(self)


def call(method: str, url: str, body: Any = None, content_type: str = "application/json") -> Any:
    """One request; the JSON of its answer."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read()
    return json.loads(text) if text else None


def engine_alone(api: str, frames: int = 40) -> float:
    """Median milliseconds of the engine for one frame, with nothing else to do."""
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (576, 768, 3), np.uint8))[1].tobytes()
    times = [call("POST", f"{api}/v1/detect", picture, "image/jpeg")["timing_ms"]["infer"] for _ in range(frames)]
    return float(np.median(times[5:]))


@contextmanager
def whole_system() -> Iterator[LocalCluster]:
    """raysight as its configuration has it, on ports of its own; files that it writes go when it ends."""
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_load(CONFIG.read_text())
        config["applications"][1]["args"]["output_root"] = folder
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        store = sqlite_url(Path(folder) / "registry.db")  # of its own: streams of an earlier run would come back
        with LocalCluster(path, Ports(free_port(), free_port()), store=store) as cluster:
            yield cluster


def measure(streams: int, seconds: float, max_fps: float | None, *, video: bool) -> dict[str, Any]:
    """Run the system and return the result."""
    with whole_system() as cluster:
        return _measure(cluster.api_url, streams, seconds, max_fps, video=video)


def _measure(api: str, streams: int, seconds: float, max_fps: float | None, *, video: bool) -> dict[str, Any]:
    alone_ms = engine_alone(api)
    ids = [f"cam-{number}" for number in range(streams)]
    for stream_id in ids:
        spec = {
            "source": {"url": CLIP, "loop": True},
            "detect": {"max_fps": max_fps},
            "outputs": [{"url": f"file:{stream_id}.mp4"}] if video else [],
        }
        call("PUT", f"{api}/v1/streams/{stream_id}", spec)
    wait_inferred(api, ids, 60.0)
    followers = [Follower(f"{api}/v1/streams/{stream_id}/detections") for stream_id in ids]
    for follower in followers:
        follower.start()
    pause = threading.Event()
    pause.wait(WARM_UP_S)
    started = time.monotonic()
    pause.wait(seconds)
    ended = time.monotonic()
    rows = [
        _row(call("GET", f"{api}/v1/streams/{stream_id}"), follower, started, ended)
        for stream_id, follower in zip(ids, followers, strict=True)
    ]
    samples = [sample for follower in followers for sample in follower.samples if started <= sample[0] < ended]
    engine_ms = float(np.median([row["stages_ms"]["infer"] for row in rows]))
    first, second = _halves(samples, (started + ended) / 2)
    return {
        "streams": streams,
        "seconds": seconds,
        "max_fps": max_fps,
        "video": video,
        "engine_alone_ms": round(alone_ms, 2),
        "whole_ms": percentiles([latency for _, latency in samples]),
        "engine_ms": engine_ms,
        "ratio_to_engine": round(float(np.median([latency for _, latency in samples])) / engine_ms, 2),
        "ratio_to_engine_alone": round(float(np.median([latency for _, latency in samples])) / alone_ms, 2),
        "p50_first_half_ms": first,
        "p50_second_half_ms": second,
        "rows": rows,
    }


def wait_inferred(api: str, ids: list[str], timeout_s: float) -> None:
    """Return once each stream has detections. Raises TimeoutError."""

    def inferred() -> bool:
        return all(call("GET", f"{api}/v1/streams/{i}")["status"]["frames"]["inferred"] for i in ids)

    wait_until(inferred, "the streams had no detections", timeout_s)


def wait_until(done: Callable[[], bool], otherwise: str, timeout_s: float) -> None:
    """Ask three times a second. Raises TimeoutError, which says ``otherwise``."""
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {timeout_s:g} s")
        pause.wait(0.3)


def _row(view: dict[str, Any], follower: Follower, started: float, ended: float) -> dict[str, Any]:
    status = view["status"]
    latencies = [latency for at, latency in follower.samples if started <= at < ended]
    return {
        "stream": view["spec"]["id"],
        "fps": status["fps"],
        "whole_ms": percentiles(latencies),
        "stages_ms": {stage: values["p50"] for stage, values in status["latency_ms"].items()},
        "frames": status["frames"],
        "outputs": [
            {name: output[name] for name in ("state", "packets", "dropped_packets")} for output in status["outputs"]
        ],
    }


def _halves(samples: list[tuple[float, float]], middle: float) -> tuple[float, float]:
    first = [latency for at, latency in samples if at < middle]
    second = [latency for at, latency in samples if at >= middle]
    return round(float(np.median(first)), 2), round(float(np.median(second)), 2)


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99, in the unit of the values."""
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--max-fps", type=float, default=None)
    parser.add_argument("--detections-only", action="store_true", help="no annotated video")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    args = parser.parse_args()
    result = measure(args.streams, args.seconds, args.max_fps, video=not args.detections_only)
    print(json.dumps(result, indent=2))
    if args.json is not None:
        report.write(args.json, "benchmarks.live", result)


if __name__ == "__main__":
    main()
