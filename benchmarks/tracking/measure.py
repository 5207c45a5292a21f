"""MOTA, IDF1 and HOTA of the tracking stage on generated scenes, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tracking.scene import HEIGHT, WIDTH, SceneFrame, scene
from deployments.streams.frame import Frame
from deployments.streams.tracking.follower import Follower
from deployments.streams.tracking.spec import TrackSpec, ZoneSpec
from engines.types import Detections

SEEDS = (1, 2, 3)
FRAMES, PEOPLE = 500, 15
CONFIDENCE = 0.35
TICKS = 90_000

ZONES = (
    ZoneSpec(name="middle", kind="line", points=((0.5, 0.0), (0.5, 1.0))),
    ZoneSpec(name="left", kind="polygon", points=((0.05, 0.3), (0.45, 0.3), (0.45, 1.0), (0.05, 1.0)), dwell_s=2.0),
)

CASES: dict[str, Callable[[int], bool]] = {
    "every_frame": lambda number: True,
    "every_third_frame": lambda number: number % 3 == 0,
    "dropped_at_random": lambda number: _mixed(number) % 100 < 45,
}
"""Which of the decoded frames are inferred: 25 a second, 8.3 a second, and 11 a second at uneven distances."""


def _mixed(number: int) -> int:
    """Knuth's multiplicative hash: as if at random, the same everywhere."""
    return number * 2_654_435_761 % 2**32 >> 7


@dataclass(frozen=True, slots=True)
class Blank:
    """A picture without pixels."""

    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Tracked:
    """What was given out for one frame: the numbers, int64 ``[N]``, and boxes, float32 ``[N, 4]``."""

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]


def track(frames: Iterable[SceneFrame], zones: tuple[ZoneSpec, ...] = ()) -> tuple[list[Tracked], list[float]]:
    """What the stage makes of the frames, and the CPU seconds that each took."""
    follower, spec = Follower(1, None, replayed=False), TrackSpec()
    follower.load()
    found, seconds = [], []
    for number, frame in enumerate(frames):
        picture: Any = Blank()
        given = Frame(number, round(frame.at * TICKS), Fraction(1, TICKS), frame.at, frame.at, picture)
        began = time.thread_time()
        seen = follower.follow(given, _above(frame.found, spec.confidence), ("person",), CONFIDENCE, spec, zones)
        seconds.append(time.thread_time() - began)
        ids = seen.detections.tracker_id
        assert ids is not None
        found.append(Tracked(ids[ids >= 0], seen.detections.xyxy[ids >= 0]))
    return found, seconds


def metrics(frames: list[SceneFrame], tracked: list[Tracked]) -> dict[str, float]:
    """By the formulas of TrackEval, as ``trackers.eval`` has them; IoU 0.5 for MOTA and IDF1."""
    from trackers.eval import box_iou, compute_clear_metrics, compute_hota_metrics, compute_identity_metrics

    true, given = _counted([frame.ids for frame in frames]), _counted([one.ids for one in tracked])
    alike = [
        box_iou(frame.boxes, one.boxes) if len(frame.ids) and len(one.ids) else np.zeros((len(frame.ids), len(one.ids)))
        for frame, one in zip(frames, tracked, strict=True)
    ]
    clear = compute_clear_metrics(true, given, alike)
    return {
        "mota": float(clear["MOTA"]),
        "idf1": float(compute_identity_metrics(true, given, alike)["IDF1"]),
        "hota": float(compute_hota_metrics(true, given, alike)["HOTA"]),
        "id_switches": int(clear["IDSW"]),
    }


def case(inferred: Callable[[int], bool]) -> dict[str, float]:
    """The metrics' means over all `SEEDS`, and milliseconds of CPU a frame with two zones."""
    results, seconds, boxes = [], [], []
    for seed in SEEDS:
        frames = [frame for number, frame in enumerate(scene(seed, FRAMES, PEOPLE)) if inferred(number)]
        tracked, took = track(frames, ZONES)
        results.append(metrics(frames, tracked))
        seconds += took
        boxes += [len(frame.found) for frame in frames]
    means = {name: round(float(np.mean([result[name] for result in results])), 4) for name in results[0]}
    cost = {
        "boxes_per_frame": round(float(np.mean(boxes)), 1),
        "cpu_ms_per_frame": round(float(np.mean(seconds)) * 1e3, 2),
    }
    return {**means, **cost}


LOADING = """
import json, time
import psutil
import deployments.streams.runner
from deployments.streams.tracking.follower import Follower
follower, me = Follower(1, None, replayed=False), psutil.Process()
before, began = me.memory_full_info().uss, time.process_time()
follower.load()
spent = time.process_time() - began
print(json.dumps({"mib": round((me.memory_full_info().uss - before) / 2**20, 1), "cpu_s": round(spent, 2)}))
input()
"""


def loading() -> dict[str, float]:
    """What a process pays for having tracks: memory that it shares with no other that has them too, and CPU time."""
    command = [sys.executable, "-c", LOADING]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()  # it has loaded, and waits
    second = subprocess.run(command, input=b"\n", capture_output=True, check=True)
    first.communicate(b"\n")
    found: dict[str, float] = json.loads(second.stdout)
    return found


def _above(found: Detections, confidence: float) -> Detections:
    kept = found.confidence >= confidence
    return Detections(found.xyxy[kept], found.confidence[kept], found.class_id[kept])


def _counted(ids: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """With numbers from 0 on, as the metrics want them."""
    known: dict[int, int] = {}
    return [np.array([known.setdefault(one, len(known)) for one in frame.tolist()], np.int64) for frame in ids]
