"""A system on this machine that outlives who started it: `raysight up` and `raysight down`.

What was started is written into a folder of the user's own before it comes up, so that whatever becomes of `up`, `down`
finds it. A process is known by its pid and the moment at which it began: pids come again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deployments.errors import RaysightError
from serve_app.client.server import Server
from serve_app.local import DRAIN_TIMEOUT_S, START_TIMEOUT_S, LocalCluster, Ports, StartError, end_family, free_port

STATE_VARIABLE = "RAYSIGHT_STATE"
_FILE = "system.json"
_POLL_S = 0.3

CRASHED = "crashed"
"""Folder of the state's with the logs of the last system that ended by itself."""

Say = Callable[[str], None]


class StateBusy(RaysightError):
    """Somebody else starts or ends the system of this state folder right now."""


class StateUnusable(RaysightError):
    """What the state folder holds can't be read."""


@dataclass(frozen=True, slots=True)
class System:
    """What `up` started.

    Attributes:
        pid: of Ray's first process, from which all others descend.
        born: when that began, as `born` says it.
        folder: Ray's own, with its logs.
        token: closes Ray and its dashboard.
        since: Unix time.
    """

    pid: int
    born: str
    folder: str
    server: str
    dashboard: str
    token: str
    config: str
    since: float

    @property
    def runs(self) -> bool:
        """Whether that very process still runs."""
        return born(self.pid) == self.born


def born(pid: int) -> str | None:
    """Boot and moment in which a process began; None where none of this pid runs."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if state in "ZX":  # it ended, and nobody asked how
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {fields[18]}"


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where a user's system is written down unless told otherwise."""
    if named := environment.get(STATE_VARIABLE):
        return Path(named)
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "raysight"


def read(state: Path) -> System | None:
    """What was started and not ended, whether it runs or not. Raises StateUnusable."""
    try:
        found = json.loads((state / _FILE).read_text())
        return System(**found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StateUnusable(f"{state / _FILE} can't be read: {error}") from None


def up(config: Path, ports: Ports, state: Path, say: Say) -> tuple[System, bool]:
    """The system, once it is ready, and whether this started it. Raises StartError, StateBusy, StateUnusable."""
    with _alone(state):
        found = read(state)
        if found is not None and found.runs:
            return found, False
        if found is not None:
            _keep_logs(found, state, say)
            _forget(found, state)
        _refuse_taken(ports)
        cluster = LocalCluster(config.resolve(), ports, say=say)
        try:
            cluster.launch()
            system = _written(cluster, state)
            cluster.bring_up()
            _wait_until_ready(system, say)
        except BaseException:
            cluster.stop()
            (state / _FILE).unlink(missing_ok=True)
            raise
        return system, True


def down(state: Path, key: str | None, say: Say) -> System | None:
    """End what `up` started, its streams first; None where nothing runs. Raises StateBusy, StateUnusable."""
    with _alone(state):
        found = read(state)
        if found is None:
            return None
        ran = found.runs
        if ran:
            say("ending the streams")
            try:
                Server(found.server, key).ask("POST", "/v1/drain", timeout_s=DRAIN_TIMEOUT_S)
            except RaysightError as error:
                say(f"the streams end with the rest: {error}")
            say("ending Ray")
            end_family(found.pid)
        for pid in _left(found.folder):  # of a Ray whose first process was killed
            end_family(pid)
        if not ran:
            _keep_logs(found, state, say)
        _forget(found, state)
        return found if ran else None


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateBusy(f"another `raysight up` or `down` works on {state}: wait until it has ended") from None
        yield


def _written(cluster: LocalCluster, state: Path) -> System:
    start = born(cluster.pid)
    if start is None:
        raise StartError("Ray ended as soon as it was started")
    system = System(
        pid=cluster.pid,
        born=start,
        folder=str(cluster.folder),
        server=cluster.api_url,
        dashboard=cluster.dashboard_url,
        token=cluster.token,
        config=str(cluster.config),
        since=time.time(),
    )
    part = state / f"{_FILE}.part"
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(system), file)
    part.replace(state / _FILE)
    return system


def _left(folder: str) -> list[int]:
    """Ray's processes that write their logs into this folder, which no other Ray has."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::"):
                logs = [file.path for file in process.open_files()]
                found += [process.pid] if any(path.startswith(f"{folder}/") for path in logs) else []
    return found


def _keep_logs(system: System, state: Path, say: Say) -> None:
    """Of a system that nobody ended: they may tell why it did."""
    kept = state / CRASHED
    shutil.rmtree(kept, ignore_errors=True)
    for logs in Path(system.folder).glob("ray/session_2*/logs"):
        with suppress(OSError):  # what can't be kept must not keep the next one from starting
            shutil.copytree(logs, kept, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        say(f"what ran before ended by itself; its logs are in {kept}")


def _forget(system: System, state: Path) -> None:
    shutil.rmtree(system.folder, ignore_errors=True)
    (state / _FILE).unlink(missing_ok=True)


def _refuse_taken(ports: Ports) -> None:
    names = {ports.api: "--api-port", ports.dashboard: "--dashboard-port"}
    if taken := ports.taken():
        busy = " and ".join(f"{port} ({names[port]})" for port in taken)
        example = " ".join(f"{names[port]} {free_port()}" for port in taken)
        raise StartError(f"port {busy} is taken: end what listens there, or choose others: raysight up {example}")


def _wait_until_ready(system: System, say: Say) -> None:
    say("waiting until it is ready")
    server, pause, deadline = Server(system.server), threading.Event(), time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.ask("GET", "/readyz")
            return
        except RaysightError as error:
            if not system.runs:
                raise StartError("Ray ended by itself") from None
            if time.monotonic() > deadline:
                raise StartError(f"not ready within {START_TIMEOUT_S:g} s: {error}") from None
        pause.wait(_POLL_S)
