"""A whole raysight on loopback, and what tests ask of it through its public surface."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from deployments.names import application_of
from serve_app.local import LocalCluster, Ports, free_port
from tests.support.further_node import relays_of

CONFIG = Path(__file__).resolve().parents[2] / "serve_config.yaml"


@dataclass(frozen=True)
class Raysight:
    """A running system: its API, its folders, its processes.

    Attributes:
        further: first processes of the nodes that a test has added.
    """

    cluster: LocalCluster
    api: httpx.Client
    media_root: Path
    output_root: Path
    config: dict[str, Any]
    further: list[int] = field(default_factory=list)

    def status(self, stream_id: str) -> dict[str, Any]:
        """The status part of one stream."""
        status: dict[str, Any] = self.view(stream_id)["status"]
        return status

    def view(self, stream_id: str) -> dict[str, Any]:
        """One stream as the API shows it."""
        response = self.api.get(f"/v1/streams/{stream_id}")
        assert response.status_code == 200, response.text
        view: dict[str, Any] = response.json()
        return view

    def put(self, stream_id: str, spec: dict[str, Any]) -> None:
        """Create or replace a stream."""
        response = self.api.put(f"/v1/streams/{stream_id}", json=spec)
        assert response.status_code in (200, 201), response.text

    def wait(self, stream_id: str, done: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0) -> dict[str, Any]:
        """The first status that is ``done``."""
        pause, deadline = threading.Event(), time.monotonic() + timeout_s
        while not done(status := self.status(stream_id)):
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {json.dumps(status)}"
            pause.wait(0.2)
        return status

    def events(self, stream_id: str, count: int, after: int | None = None) -> list[dict[str, Any]]:
        """The next ``count`` detection events."""
        with closing(self.follow(stream_id, after)) as events:
            return list(itertools.islice(events, count))

    def follow(self, stream_id: str, after: int | None = None) -> Generator[dict[str, Any]]:
        """Detection events, those after a sequence first; close it at the end."""
        params = {} if after is None else {"after": after}
        with self.api.stream("GET", f"/v1/streams/{stream_id}/detections", params=params, timeout=30) as response:
            assert response.status_code == 200
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line[6:])

    def processes(self, title: str) -> list[psutil.Process]:
        """Ray's processes with this title, such as ``ray::StreamActor``."""
        found = []
        for process in psutil.Process(self.cluster.pid).children(recursive=True):
            try:
                if " ".join(process.cmdline()).startswith(title):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def replicas(self) -> list[psutil.Process]:
        """The detector's replicas, those that are just starting or ending included."""
        return self.processes("ray::ServeReplica:detector:Detector")

    def relays(self) -> list[psutil.Process]:
        """The processes that send the outputs of streams, on all nodes."""
        return [relay for pid in (self.cluster.pid, *self.further) for relay in relays_of(pid)]

    def delete_all(self) -> None:
        """Leave no stream behind."""
        for item in self.api.get("/v1/streams?limit=1000").json()["items"]:
            self.api.delete(f"/v1/streams/{item['spec']['id']}")


def attached(replica: psutil.Process) -> int:
    """How many streams share memory with a replica: each maps one segment there."""
    try:
        return Path(f"/proc/{replica.pid}/maps").read_text().count("memfd:raysight-link")
    except OSError:
        return 0


def wait_until(done: Callable[[], bool], timeout_s: float = 40.0) -> None:
    """Return once ``done``; a bounded poll, for what announces itself to nobody."""
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        pause.wait(0.2)


def run_raysight(
    folder: Path,
    clip: Path,
    detector: dict[str, Any] | None = None,
    *,
    further: dict[str, dict[str, Any]] | None = None,
    models_root: Path | None = None,
    resources: dict[str, int] | None = None,
    grpc_port: int | None = None,
    api_args: dict[str, Any] | None = None,
    num_cpus: int | None = None,
) -> Iterator[Raysight]:
    """Start a system whose media root holds ``clip``; ends it when the generator is closed.

    ``detector``: its ``args``, instead of those in ``serve_config.yaml``; ``further``: those of further models;
    ``resources``: what Ray may hand out besides; ``grpc_port``: for the inference protocol, which has none by default;
    ``api_args``: of the API, besides its folders; ``num_cpus``: that Ray may hand out, all there are by default.
    """
    media_root, output_root = folder / "media", folder / "out"
    media_root.mkdir()
    output_root.mkdir()
    (media_root / "street.mp4").write_bytes(clip.read_bytes())
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    if detector is not None:
        config["applications"][0]["args"] = detector
    config["applications"][1]["args"] = {
        "media_root": str(media_root),
        "output_root": str(output_root),
        "models_root": None if models_root is None else str(models_root),
        **(api_args or {}),
    }
    for model, args in (further or {}).items():
        config["applications"].append(
            {
                "name": application_of(model),
                "route_prefix": None,
                "import_path": "deployments.detector.deployment:build_detector",
                "args": args,
            }
        )
    if grpc_port is not None:
        functions = ["serve_app.api.v2.servicer:add_inference_service"]
        config["grpc_options"] = {"port": grpc_port, "grpc_servicer_functions": functions}
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    cluster = LocalCluster(path, Ports(free_port(), free_port()), num_cpus=num_cpus, resources=resources or {})
    with cluster, httpx.Client(base_url=cluster.api_url, timeout=30) as api:
        yield Raysight(cluster, api, media_root, output_root, config)
