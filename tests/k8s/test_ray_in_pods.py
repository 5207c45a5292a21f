"""Ray, Serve and raysight come up from the manifest alone: its flags, variables, secrets, users, closed file systems.

The overlay `local` runs for real, in `pods_here.Cluster`: head and worker, two Redis with their shipped configuration,
a stream. Then the head is lost, and the stream goes on.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.streams.media.clips import CLIPS
from tests.chaos.network import unavailable
from tests.k8s.cluster import serve_config
from tests.k8s.kustomize import K8S
from tests.k8s.pods_here import GCS, STORE, Cluster
from tests.k8s.test_operations import SECTION
from tests.k8s.test_pods import new_secrets

pytestmark = pytest.mark.long

START_S = 150.0
"""A busy machine of two cores starts Ray, Serve and the applications in a third of that."""


@contextmanager
def redis(folder: Path, address: str, secret: dict[str, str], *arguments: str) -> Iterator[None]:
    """A Redis as its StatefulSet starts it, in a folder of its own."""
    folder.mkdir()
    (folder / "auth.conf").write_text(secret["auth.conf"] + "\n")
    text = (
        (K8S / "base/redis.conf")
        .read_text()
        .replace("/etc/redis-auth", str(folder))
        .replace("dir /data", f"dir {folder}")
    )
    (folder / "redis.conf").write_text(text)
    command = ["redis-server", str(folder / "redis.conf"), *arguments, "--bind", address]
    with (folder / "redis.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait(lambda: b"Ready to accept connections" in (folder / "redis.log").read_bytes(), 15)
            yield
        finally:
            process.kill()


def wait(done: Callable[[], Any], timeout_s: float) -> Any:
    """The first true answer; connections that fail are tried again."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if last := done():
                return last
        except (httpx.HTTPError, subprocess.SubprocessError) as error:
            last = error
        time.sleep(0.3)
    raise AssertionError(f"not within {timeout_s:g} s: {last}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Ray's pods with both applications in them."""
    if (why := unavailable()) is not None:
        pytest.skip(why)
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    tmp_path, secrets = tmp_path_factory.mktemp("cluster"), new_secrets()
    with ExitStack() as stack:
        started = stack.enter_context(Cluster(tmp_path / "pods", "local", secrets))
        stack.enter_context(redis(tmp_path / "store", STORE, secrets["raysight-store"]))
        stack.enter_context(redis(tmp_path / "gcs", GCS, secrets["raysight-gcs"], "--appendfsync", "everysec"))
        for name in ("head", "cpu"):
            started.start(name)
        for name in ("head", "cpu"):  # the probes carry no token
            wait(partial(probed, started, name), START_S)
        deploy(started)
        yield started


def probed(cluster: Cluster, name: str) -> bool:
    """By a kubelet."""
    cluster.replace_ended()
    return healthy(f"http://{cluster.address(name)}:52365/api/healthz")


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[httpx.Client]:
    """Of the worker's proxy, with a key; the stream `gate-3` is registered."""
    headers = {"Host": "localhost", "Authorization": f"Bearer {first_stream(cluster)}"}
    with httpx.Client(base_url=f"http://{cluster.address('cpu')}:8000", headers=headers, timeout=20) as client:
        yield client


def healthy(url: str) -> bool:
    return httpx.get(url, timeout=5).status_code == 200


def deploy(cluster: Cluster) -> None:
    """As the operator does: through the dashboard, with the token."""
    url = f"http://{cluster.address('head')}:8265/api/serve/applications/"
    wait(lambda: httpx.get(url, timeout=5).status_code in (401, 403), START_S)
    token = {"Authorization": f"Bearer {cluster.secrets['raysight-ray-token']['auth_token']}"}
    wait(lambda: httpx.put(url, json=serve_config("local"), headers=token, timeout=30).status_code == 200, START_S)

    def running() -> bool:
        told = httpx.get(url, headers=token, timeout=10).json()["applications"]
        states = {name: application["status"] for name, application in told.items()}
        assert "DEPLOY_FAILED" not in states.values(), json.dumps(told)[:3000]
        return states == {"detector": "RUNNING", "raysight": "RUNNING"}

    wait(running, START_S)


def first_stream(cluster: Cluster) -> str:
    """The key that the README's last command makes, which registers a stream with it; the clip is its camera."""
    (told,) = re.findall(r"svc/raysight-api -- bash -c '(.*)'$", SECTION, re.MULTILINE)
    camera = "rtsp://10.0.0.7/ch1"
    assert camera in told
    (clip,) = CLIPS.glob("*.mp4")
    printed = cluster.execute("head", "bash", "-c", told.replace(camera, f"file:{clip.name}, loop: true"))
    found = re.search(r"^your key: (\S+)$", printed, re.MULTILINE)
    assert found is not None, printed
    return found[1]


def detections(api: httpx.Client) -> Iterator[dict[str, Any]]:
    """Frames as a client gets them that follows the stream."""
    with api.stream("GET", "/v1/streams/gate-3/detections", timeout=30) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def status(api: httpx.Client) -> Any:
    """Of the stream."""
    answer = api.get("/v1/streams/gate-3")
    return answer.json()["status"] if answer.status_code == 200 else None


@pytest.mark.timeout(400)
def test_a_stream_runs_in_the_pods(cluster: Cluster, api: httpx.Client) -> None:
    for name in ("head", "cpu"):  # what the operator asks of the head, kubelets of pods with a replica, and Prometheus
        pod = f"http://{cluster.address(name)}"
        wait(partial(healthy, f"{pod}:8000/-/healthz"), 60)
        wait(partial(healthy, f"{pod}:8080/metrics"), 60)
        refused = httpx.get(f"{pod}:8000/v1/streams", headers={"Host": "localhost"}, timeout=20)
        assert refused.status_code == 401
    found = next(frame for frame in detections(api) if frame["detections"])
    assert {"person"} <= {one["label"] for one in found["detections"]}
    assert (found["stream_id"], found["width"], found["height"]) == ("gate-3", 768, 576)
    wait(lambda: (now := status(api)) and now["state"] == "online", 30)

    key = api.headers["Authorization"].removeprefix("Bearer ")
    asked = {"action": "read", "path": "whep/gate-3", "token": key, "password": "", "protocol": "webrtc"}
    media = {"Host": "raysight-api:8000"}
    answer = httpx.post(
        f"http://{cluster.address('head')}:8000/v1/media/authorize", json=asked, headers=media, timeout=20
    )
    assert answer.status_code == 204


@pytest.mark.timeout(300)
def test_a_stream_and_who_follows_it_outlive_the_head(cluster: Cluster, api: httpx.Client) -> None:
    before = wait(lambda: (now := status(api)) and now["state"] == "online" and now, 30)
    frames = detections(api)
    next(frames)
    cluster.kill("head")
    killed_at = time.time()
    assert any(frame["captured_at"] > killed_at + 5 for frame in frames)
    refused = api.get("/v1/streams", timeout=30.0)
    assert (refused.status_code, refused.json()["code"]) == (503, "supervisor_unavailable")
    cluster.start("head")
    wait(partial(probed, cluster, "head"), START_S)
    wait(lambda: healthy(f"http://{cluster.address('head')}:8000/-/healthz"), START_S)
    after = wait(lambda: (now := status(api)) and now["state"] == "online" and now, 60)
    assert (after["epoch"], after["generation"]) == (before["epoch"], before["generation"])
    back_at = time.time()
    assert any(frame["captured_at"] > back_at for frame in frames)
