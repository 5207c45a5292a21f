"""``make demo`` as a new user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import av
import httpx
import psutil
import pytest

from deployments.store.sqlite import SqliteStore
from serve_app.local import free_port
from tests.support.cluster import wait_until

ROOT = Path(__file__).resolve().parents[2]


def free_among_rays() -> int:
    """A port that nobody listens on, of those that Ray gives to workers by default: people choose these too."""
    for port in range(18266, 19999):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def start_demo(**variables: str) -> subprocess.Popen[str]:
    ports = {"API_PORT": str(free_port()), "DASHBOARD_PORT": str(free_among_rays())}
    environment = {**os.environ, **ports, **variables}
    return subprocess.Popen(
        ["make", "--no-print-directory", "demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def summary(output: str) -> Mapping[str, tuple[int, int]]:
    """Frames inferred and detections of each stream, as the demo printed them."""
    found = re.findall(r"(\w+): \d+ frames decoded, (\d+) inferred, .* (\d+) detections", output)
    return {name: (int(frames), int(detections)) for name, frames, detections in found}


@pytest.mark.timeout(180)
def test_the_demo_ends_by_itself_and_says_what_it_found(tmp_path: Path) -> None:
    demo = start_demo(DEMO_SECONDS="15", STATE=str(tmp_path))
    output, errors = demo.communicate(timeout=170)
    assert demo.returncode == 0, output + errors
    found = summary(output)
    assert set(found) == {"street", "pattern"}
    assert found["street"][0] > 50
    assert found["street"][1] > 100
    assert re.search(r"street: [1-9]\d+ times a person", output)
    for address in ("page ", "API ", "Ray dashboard "):
        assert re.search(rf"{address}\s+http://127\.0\.0\.1:\d+", output), output


@pytest.mark.timeout(180)
@pytest.mark.long
def test_ctrl_c_stops_everything_and_forgets_nothing_that_the_user_registered(tmp_path: Path) -> None:
    demo = start_demo(STATE=str(tmp_path))
    assert demo.stdout is not None
    api, name = "", f"ctrl-c-{os.getpid()}"
    for line in demo.stdout:
        if found := re.search(r"API +(http\S+/v1/streams)", line):
            api = found[1]
        if "Ctrl-C" in line:
            break
    record = {"source": {"url": "testsrc://?fps=10&size=320x240"}, "outputs": [{"url": f"file:{name}.mp4"}]}
    httpx.put(f"{api}/recorded", json=record, timeout=30).raise_for_status()
    wait_until(lambda: any(o["packets"] > 20 for o in httpx.get(f"{api}/recorded").json()["status"]["outputs"]))
    started = family(demo)
    assert any("raylet" in process.name() for process in started)
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=60)
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert set(SqliteStore(tmp_path / "registry.db").all("stream")) == {"recorded"}
    files = sorted((ROOT / "recordings").glob(f"{name}*"))
    try:
        assert len(files) == 1, files  # no second one was begun
        with av.open(files[0]) as recorded:
            assert sum(1 for _ in recorded.decode(video=0)) > 15
    finally:
        for file in files:
            file.unlink()


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start_demo(API_PORT=str(port))
        errors = demo.communicate(timeout=60)[1]
    assert demo.returncode != 0
    assert f"port {port} (API_PORT) is taken" in errors
    assert "API_PORT=" in errors.split("taken", 1)[1]
