"""Ray's GCS, held in hand: killed, and started again as it was."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

NAME = "gcs_server"
DIES_WITHIN_S = 5.0


class Gcs:
    """Of the cluster whose first process is ``pid``; a context that ends what it has started."""

    def __init__(self, pid: int) -> None:
        self._watchdog = psutil.Process(pid)
        (self._running,) = (p for p in self._watchdog.children() if p.name() == NAME)
        self._command, self._environment = self._running.cmdline(), self._running.environ()
        self._folder = self._running.cwd()
        self._own: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self.kill()

    def kill(self) -> None:
        """At once. What watches over Ray's processes would end the whole node, so it sleeps from now on."""
        with suppress(psutil.NoSuchProcess):
            self._watchdog.suspend()
        self._running.kill()
        if self._own is not None:
            self._own.wait(DIES_WITHIN_S)

    def start(self) -> None:
        """With the same port, and the tables that Redis kept."""
        silent = subprocess.DEVNULL
        self._own = subprocess.Popen(
            self._command, env=self._environment, cwd=self._folder, stdin=silent, stdout=silent, stderr=silent
        )
        self._running = psutil.Process(self._own.pid)
