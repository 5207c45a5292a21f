"""The fleet: four small streams, their cameras, networks and sinks, and the system that runs them.

| stream | source | output |
|---|---|---|
| `gate` | RTSP, over the network that can be cut | RTSP, to a sink of its own |
| `yard` | RTSP, over the proxy | |
| `shelf` | a file in a loop | a file |
| `pattern` | the test pattern | |

They are 320x240 at 10 frames a second, so that two cores have room for them beside what the faults cost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.chaos import clocks, network, store
from tests.chaos.desired import Desired
from tests.chaos.gcs import Gcs
from tests.chaos.journal import Journal
from tests.chaos.network import Network
from tests.chaos.proxy import Proxy
from tests.chaos.store import SqliteStore
from tests.chaos.watcher import Watcher
from tests.support.cluster import Raysight, run_raysight
from tests.support.media import make_clip
from tests.support.redis_server import RedisServer
from tests.support.rtsp_server import RtspServer

FPS = 10
GATE, YARD, SHELF, PATTERN = "gate", "yard", "shelf", "pattern"
START_S = 60.0

REPLICAS = 2
"""Of the detector: whoever wants streams that outlive one without a cold start has two, and so has the API."""

DETECTOR = {
    "engine": "fake",
    "fake": {"fixed_ms": 3.0, "per_frame_ms": 1.0, "width": 320, "height": 320, "max_batch_size": 8, "stride": 8},
    "num_cpus": 0.2,
    "num_replicas": REPLICAS,
}

API = {"num_replicas": 2}

CPUS = 1
"""That Ray may hand out on the first node, where all of the fleet has room."""

StoreKind = Literal["redis", "sqlite"]


@dataclass(frozen=True)
class Fleet:
    """Everything that runs, for the faults to strike."""

    system: Raysight
    desired: Desired
    watcher: Watcher
    journal: Journal
    gate_camera: RtspServer
    yard_camera: RtspServer
    clocks: Path
    sink: RtspServer
    proxy: Proxy
    network: Network | None
    store: RedisServer | SqliteStore | None
    gcs: Gcs | None

    @property
    def streams(self) -> frozenset[str]:
        """The ids of those that stay from the beginning to the end."""
        return frozenset((GATE, YARD, SHELF, PATTERN))

    def put(self, stream_id: str, spec: dict[str, Any], fps: float = FPS) -> None:
        """Create a stream that is desired from now on."""
        answer = self.system.api.put(f"/v1/streams/{stream_id}", json=spec)
        answer.raise_for_status()
        self.desired.accept(stream_id, fps, answer.json())


@contextmanager
def running_fleet(folder: Path, journal: Journal, kind: StoreKind) -> Iterator[Fleet]:
    """Start all, and return once every stream is online; end all at the end."""
    clip = make_clip(folder / "clip.mp4", fps=FPS, frames=100, options={"preset": "ultrafast", "bf": "0", "g": "10"})
    with ExitStack() as stack:
        why = network.unavailable()
        net = stack.enter_context(Network()) if why is None else None
        gate = RtspServer(clips={"street": clip})
        if net is not None:
            gate.address, gate.prefix = net.address, net.prefix
        yard = RtspServer(clips={"street": clip})
        sink = RtspServer(recordings={"gate": folder / "gate.h264"})
        for server in (gate, yard, sink):
            stack.enter_context(server)
        proxy = stack.enter_context(Proxy(("127.0.0.1", yard.port)))
        kept = _store(folder / "store", kind) if store.unavailable(kind) is None else None
        if kept is not None:
            stack.enter_context(kept)
        tables = stack.enter_context(RedisServer(folder / "tables")) if isinstance(kept, RedisServer) else None
        of_ray = {} if tables is None else {"RAY_REDIS_ADDRESS": f"127.0.0.1:{tables.port}"}
        offsets = stack.enter_context(_clocks(folder / "clocks", of_ray))
        (home := folder / "raysight").mkdir()
        args = {**API, **({"store": kept.url} if kept else {})}
        system = stack.enter_context(contextmanager(run_raysight)(home, clip, DETECTOR, api_args=args, num_cpus=CPUS))
        desired = Desired()
        watcher = stack.enter_context(Watcher(system, desired, journal))
        gcs = stack.enter_context(Gcs(system.cluster.pid)) if tables is not None else None
        fleet = Fleet(system, desired, watcher, journal, gate, yard, offsets, sink, proxy, net, kept, gcs)
        fleet.put(GATE, {"source": {"url": gate.url("street")}, "outputs": [{"url": sink.url("gate")}]})
        fleet.put(YARD, {"source": {"url": f"rtsp://127.0.0.1:{proxy.port}/street"}})
        fleet.put(SHELF, {"source": {"url": "file:street.mp4", "loop": True}, "outputs": [{"url": "file:shelf.mp4"}]})
        fleet.put(PATTERN, {"source": {"url": f"testsrc://?fps={FPS}&size=320x240"}})
        for stream_id in sorted(fleet.streams):
            system.wait(stream_id, lambda s: s["online"] and s["frames"]["inferred"] > FPS, START_S)
            watcher.follow(stream_id)
        yield fleet


def _store(folder: Path, kind: StoreKind) -> RedisServer | SqliteStore:
    return RedisServer(folder) if kind == "redis" else SqliteStore(folder)


@contextmanager
def _clocks(folder: Path, further: dict[str, str]) -> Iterator[Path]:
    """Processes that are started meanwhile take their Unix time's offset from ``folder``, and have ``further``."""
    folder.mkdir()
    before = dict(os.environ)
    paths = [str(Path(clocks.__file__ or "").parent), *filter(None, [before.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "CHAOS_CLOCKS": str(folder), **further}
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
