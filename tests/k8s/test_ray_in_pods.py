"""Ray, Serve and raysight come up from the manifest alone: its flags, variables, secrets, users, closed file systems.

The overlay `local` runs for real, in `pods_here.Cluster`: head and worker, two Redis with their shipped configuration,
a stream. Then the head is lost, and the stream goes on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.network import unavailable
from tests.k8s.cluster import serve_config
from tests.k8s.kustomize import K8S
from tests.k8s.pods_here import GCS, STORE, Cluster
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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if (why := unavailable()) is not None:
        pytest.skip(why)
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    secrets = new_secrets()
    with ExitStack() as stack:
        started = stack.enter_context(Cluster(tmp_path / "pods", "local", secrets))
        stack.enter_context(redis(tmp_path / "store", STORE, secrets["raysight-store"]))
        stack.enter_context(redis(tmp_path / "gcs", GCS, secrets["raysight-gcs"], "--appendfsync", "everysec"))
        for name in ("head", "cpu"):
            started.start(name)
        yield started


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


@pytest.mark.timeout(600)
def test_a_stream_runs_and_outlives_the_head(cluster: Cluster) -> None:
    head, worker = (f"http://{cluster.address(name)}" for name in ("head", "cpu"))

    def probed(pod: str) -> bool:
        cluster.replace_ended()
        return healthy(f"{pod}:52365/api/healthz")

    for pod in (head, worker):  # the probes carry no token
        wait(lambda pod=pod: probed(pod), START_S)
    deploy(cluster)
    for pod in (head, worker):  # what the operator asks of the head, and kubelets of pods with a replica
        wait(lambda pod=pod: healthy(f"{pod}:8000/-/healthz"), 60)
        wait(lambda pod=pod: healthy(f"{pod}:8080/metrics"), 60)
    store = "redis://raysight-store:6379?prefix=raysight"
    key = cluster.execute("cpu", "raysight", "keys", "add", "me", "--role", "admin", "--store", store).strip()

    api = httpx.Client(
        base_url=f"{worker}:8000", headers={"Host": "localhost", "Authorization": f"Bearer {key}"}, timeout=20
    )
    assert httpx.get(f"{head}:8000/v1/streams", headers={"Host": "localhost"}, timeout=20).status_code == 401
    spec = {"source": {"url": "testsrc://?fps=5&size=320x240"}}
    assert wait(lambda: api.put("/v1/streams/gate-3", json=spec).status_code in (200, 201), 60)

    def inferred() -> Any:
        return api.get("/v1/streams/gate-3").json()["status"].get("frames", {}).get("inferred", 0)

    def status() -> Any:
        return api.get("/v1/streams/gate-3").json()["status"]

    before = wait(lambda: (now := status())["state"] == "running" and inferred() > 3 and now, 90)
    asked = {"action": "read", "path": "whep/gate-3", "token": key, "password": "", "protocol": "webrtc"}
    question = httpx.post(
        f"{head}:8000/v1/media/authorize", json=asked, headers={"Host": "raysight-api:8000"}, timeout=20
    )
    assert question.status_code == 204

    cluster.kill("head")
    assert wait(lambda: inferred() > before["frames"]["inferred"] + 3, 60), (
        "the API and the stream go on without a head"
    )
    cluster.start("head")
    wait(lambda: probed(head), START_S)
    wait(lambda: healthy(f"{head}:8000/-/healthz"), START_S)
    after = wait(lambda: (now := status())["state"] == "running" and now, 60)
    assert after["epoch"] == before["epoch"], "the same life"
    assert after["generation"] == before["generation"]
