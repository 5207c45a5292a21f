"""`raysight up` on this machine, what it starts, and `raysight down`, as they are typed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deployments.store.sqlite import SqliteStore
from serve_app import background
from serve_app.local import free_port
from tests.support.cluster import CONFIG

CODE = "from serve_app.cli.app import main; main()"


class Shell:
    """Commands with a state folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state-of-up"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("RAYSIGHT_")}
        self._environment |= {"RAYSIGHT_STATE": str(self.state)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CODE, *words]
        return subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=-1, stderr=-1, text=True)

    def run(self, *words: str, status: int = 0) -> str:
        """What it says on standard output, or, where it fails, on both."""
        started = self.start(*words)
        said, errors = started.communicate(timeout=150)
        assert started.returncode == status, said + errors
        return said if status == 0 else said + errors

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", status=status))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    system = background.read(found.state) if found.state.exists() else None
    if system is not None:
        background.down(found.state, None, print)


def alive(processes: list[psutil.Process]) -> list[str]:
    """Of these, who still runs."""
    return [str(one) for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.timeout(240)
@pytest.mark.long
def test_a_system_is_started_used_and_ended_without_a_process_left(shell: Shell) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    (shell.folder / "serve_config.yaml").write_text(yaml.safe_dump(config))
    ports = ("--api-port", str(free_port()), "--dashboard-port", str(free_port()))
    assert "nothing runs" in shell.run("down")
    started = shell.json("up", *ports)
    assert started["started"]
    file = shell.state / "system.json"
    assert (stat.S_IMODE(shell.state.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    head = psutil.Process(started["pid"])
    family = [head, *head.children(recursive=True)]
    assert any("raylet" in process.name() for process in family)

    assert "runs already" in shell.run("up", *ports)
    assert shell.run("streams", "add", "testsrc://?fps=10&size=320x240", "--id", "pattern", "--loop").startswith("pat")
    clip = "file:pedestrians-768x576-25fps.mp4"
    shell.run("streams", "add", clip, "--id", "street", "--loop", "--max-fps", "5")
    shell.run("streams", "watch", "street", "pattern", "--until", "online", "--every", "0.3", "--timeout", "60")
    found = shell.json("status")
    assert (found["server"], found["ready"]) == (started["server"], True)
    assert found["streams"] == {"total": 2, "by_state": {"online": 2}}
    following = shell.start("events", "street", "--follow", "--count", "10", "--json")
    lines = [json.loads(line) for line in following.communicate(timeout=60)[0].splitlines()]
    assert [line["type"] for line in lines] == ["detections"] * 10
    assert any(one["label"] == "person" for line in lines for one in line["detections"])

    family = [head, *head.children(recursive=True)]
    assert shell.json("down") == {"ended": True, "server": started["server"]}
    assert alive(family) == []
    assert not file.exists()
    assert not Path(started["logs"]).exists()
    copy = shell.folder / "copy.db"
    copy.write_bytes((shell.folder / "state" / "registry.db").read_bytes())  # a backup: that file alone
    assert SqliteStore(copy).all("stream").keys() == {"pattern", "street"}
    assert "does not answer" in shell.run("status", status=3)


def test_what_can_not_be_started_is_said_and_leaves_nothing(shell: Shell) -> None:
    assert "--config" in shell.run("up", status=2)
    file = shell.folder / "serve_config.yaml"
    file.write_text("[]")
    assert "no configuration" in shell.run("up", status=2)
    file.write_text(CONFIG.read_text())
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = shell.run("up", "--api-port", port, "--dashboard-port", str(free_port()), status=1)
    assert f"port {port} (--api-port) is taken" in said
    assert not (shell.state / "system.json").exists()


def test_another_process_with_the_same_pid_is_left_alone(shell: Shell) -> None:
    """What `up` started is long gone, and its pid belongs to somebody else."""
    folder = shell.folder / "ray"
    (logs := folder / "ray" / "session_2026-11-01" / "logs").mkdir(parents=True)
    (logs / "raylet.err").write_text("why it died")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    try:
        shell.state.mkdir()
        (shell.state / "system.json").write_text(
            json.dumps(
                {
                    "pid": other.pid,
                    "born": f"{background.born(other.pid)}0",
                    "folder": str(folder),
                    "server": "http://127.0.0.1:1",
                    "dashboard": "http://127.0.0.1:2",
                    "token": "t",
                    "config": "c",
                    "since": 1.0,
                }
            )
        )
        assert shell.json("down") == {"ended": False, "server": None}
        assert other.poll() is None
        assert not folder.exists()
        assert (shell.state / "crashed" / "raylet.err").read_text() == "why it died"
    finally:
        other.kill()
        other.communicate()


def test_a_process_is_known_by_its_birth() -> None:
    first = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    mine = background.born(os.getpid())
    assert mine == background.born(os.getpid()) is not None
    assert background.born(first.pid) not in (None, mine)
    first.kill()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    assert background.born(first.pid) is None  # ended, though nobody asked how
    first.communicate()
    assert background.born(first.pid) is None
