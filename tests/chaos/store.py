"""The store of the specs, held in hand: a Redis server that can be stopped, or SQLite on a disk that can be filled.

Only where the application has a ``store`` in its arguments; where it has none, specs live in Ray's own control service.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Literal, Self

from serve_app.config import AppArgs
from serve_app.local import free_port
from tests.chaos.network import run

START_S = 10.0


def unavailable(kind: Literal["redis", "sqlite"]) -> str | None:
    """Why there can be no such store here; None where there can."""
    if "store" not in AppArgs.model_fields:
        return "the application has no `store` among its arguments"
    if kind == "redis" and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return None


@dataclass
class RedisStore:
    """A Redis server of our own that forgets nothing, also where it is killed: every write is on the disk."""

    folder: Path
    port: int = 0
    _server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For the application's ``store``."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it with what it held; returns once it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "appendonly": "yes"}
        options |= {"appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._server = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline, pause = time.monotonic() + START_S, Event()
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server did not start")
            pause.wait(0.05)

    def kill(self) -> None:
        """``kill -9``."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _answers(self) -> bool:
        import redis

        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@dataclass
class SqliteStore:
    """SQLite on a file system of 1 MB, where that can be mounted; else on the disk, which nobody fills."""

    folder: Path
    mounted: bool = False

    @property
    def url(self) -> str:
        """For the application's ``store``."""
        return f"sqlite://{self.folder / 'registry.db'}"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(subprocess.SubprocessError, OSError):
            run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(self.folder))
            self.mounted = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mounted:
            run("umount", "-l", str(self.folder))

    def fill(self) -> None:
        """Leave no byte free."""
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def empty(self) -> None:
        """Undo `fill`."""
        (self.folder / "filler").unlink()
