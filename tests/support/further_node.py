"""A further Ray node as a process with its family, which can be killed as one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import psutil

UP_WITHIN_S = 60.0
TRIES = 3
"""Ray gives a node up that takes more than 30 s to begin, as on a busy machine it may."""

RELAY = "deployments.streams.media.relay"


@dataclass
class FurtherNode:
    """Up as long as its context.

    Args:
        gcs: address and port of the cluster's GCS.
        address: its own.
        log: file of what it says.
        prefix: runs a command where the node is, such as in a network namespace.
    """

    gcs: str
    log: Path
    address: str = "127.0.0.1"
    cpus: int = 8
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _ray: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._ray is not None
        return self._ray.pid

    def start(self) -> None:
        """Return once it says that it is up. Raises RuntimeError."""
        for _ in range(TRIES):
            if (told := self._try()) is None:
                return
            self.kill()
        raise RuntimeError(f"the further node did not come up: {told[-1000:]}")

    def _try(self) -> str | None:
        """What it says instead."""
        command = [sys.executable, "-m", "tests.support.ray_node", self.gcs, self.address, str(self.cpus)]
        with self.log.open("wb") as log:
            self._ray = subprocess.Popen(
                [*self.prefix, *command],
                stdin=subprocess.PIPE,  # which it ends with, should this process die
                stdout=log,
                stderr=log,
                env=dict(self.environment),
            )
        deadline = time.monotonic() + UP_WITHIN_S
        while "up" not in (told := self.log.read_text()).splitlines():
            if self._ray.poll() is not None or time.monotonic() > deadline:
                return told
            Event().wait(0.2)
        return None

    def kill(self) -> None:
        """Its whole family at once, as a power cut would."""
        if self._ray is None:
            return
        for process in family(self._ray.pid):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._ray.communicate(timeout=10)
        self._ray = None


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none where it has ended."""
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    return []


def relays_of(pid: int) -> list[psutil.Process]:
    """The processes among a family that send the outputs of streams."""
    return [process for process in family(pid) if RELAY in _words(process)]


def stream_actors_of(pid: int) -> list[psutil.Process]:
    """The processes among a family that run a stream."""
    return [process for process in family(pid) if _words(process)[:1] and "ray::StreamActor" in _words(process)[0]]


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
