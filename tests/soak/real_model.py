"""A fleet of the shipped model, on a CPU or a GPU, and of streams that need no camera.

Half of them play the shipped clip as a camera sends it, on a GPU decoded there as far as its places go, half are test
patterns; every fourth writes a file. No RTSP server is needed, which hosts with GPUs often can't install.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deployments.store.opening import sqlite_url
from tests.chaos.desired import Desired
from tests.chaos.journal import Journal
from tests.chaos.watcher import Watcher
from tests.support.cluster import Raysight, run_raysight
from tests.support.media import SHIPPED_CLIP

FPS = 25
NVDEC_PLACES = 8
START_S = 120.0


Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class RealFleet:
    """What runs."""

    system: Raysight
    watcher: Watcher
    streams: frozenset[str]


@contextmanager
def running_model(folder: Path, journal: Journal, device: Device, streams: int) -> Iterator[RealFleet]:
    """Start all, and return once every stream is online; end all at the end."""
    (home := folder / "raysight").mkdir()
    api = {"store": sqlite_url(folder / "registry.db")}
    gpus = int(device == "cuda")
    detector = {"engine": "auto", "device": device, "num_gpus": gpus}
    places = {"nvdec": NVDEC_PLACES * gpus}
    with contextmanager(run_raysight)(home, SHIPPED_CLIP, detector, resources=places, api_args=api) as system:
        desired = Desired()
        with Watcher(system, desired, journal) as watcher:
            ids = [f"stream-{number}" for number in range(streams)]
            for number, stream_id in enumerate(ids):
                answer = system.api.put(f"/v1/streams/{stream_id}", json=_spec(number, stream_id))
                answer.raise_for_status()
                desired.accept(stream_id, FPS, answer.json())
            for stream_id in ids:
                system.wait(stream_id, lambda s: s["online"] and s["frames"]["inferred"] > FPS, START_S)
                watcher.follow(stream_id)
            yield RealFleet(system, watcher, frozenset(ids))


def _spec(number: int, stream_id: str) -> dict[str, Any]:
    clip = {"url": "file:street.mp4", "loop": True}
    source = {"url": f"testsrc://?fps={FPS}&size=640x360"} if number % 2 else clip
    return {"source": source, **({} if number % 4 else {"outputs": [{"url": f"file:{stream_id}.mp4"}]})}
