"""A camera's network: two namespaces of Linux, a router between this machine and the camera, joined by veth pairs.

    this machine [198.18.N.1] -- [.2] router [.5] -- [.6] camera

Addresses are from 198.18.0.0/15, which is set apart for tests of networks (RFC 2544). The faults act on the router, so
that neither end is told of them.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


def unavailable() -> str | None:
    """Why no network can be made here; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"rs-chaos-{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", probe)
        run("ip", "netns", "del", probe)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces can't be made here: {getattr(error, 'stderr', None) or error}".strip()
    return None


def run(*command: str) -> str:
    """Run a command. Raises CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@dataclass
class Network:
    """Up as long as its context."""

    number: int = field(default_factory=lambda: os.getpid() % 250)

    @property
    def address(self) -> str:
        """Of the camera."""
        return f"198.18.{self.number}.6"

    @property
    def here(self) -> str:
        """Of this machine, towards the camera."""
        return f"198.18.{self.number}.1"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a command where the camera is."""
        return ("ip", "netns", "exec", self._camera)

    @property
    def _camera(self) -> str:
        return f"rs-chaos-{os.getpid()}-camera"

    @property
    def _router(self) -> str:
        return f"rs-chaos-{os.getpid()}-router"

    @property
    def _here(self) -> str:
        return f"rsc{os.getpid() % 10**8}"  # an interface's name has 15 characters at most

    def in_router(self, *command: str) -> None:
        """Run a command in the router."""
        run("ip", "netns", "exec", self._router, *command)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _build(self) -> None:
        net = f"198.18.{self.number}"
        for namespace in (self._camera, self._router):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "link", "add", self._here, "type", "veth", "peer", "name", "north", "netns", self._router)
        run(
            "ip",
            "-n",
            self._router,
            "link",
            "add",
            "south",
            "type",
            "veth",
            "peer",
            "name",
            "eth",
            "netns",
            self._camera,
        )
        run("ip", "addr", "add", f"{net}.1/30", "dev", self._here)
        run("ip", "-n", self._router, "addr", "add", f"{net}.2/30", "dev", "north")
        run("ip", "-n", self._router, "addr", "add", f"{net}.5/30", "dev", "south")
        run("ip", "-n", self._camera, "addr", "add", f"{net}.6/30", "dev", "eth")
        run("ip", "link", "set", self._here, "up")
        for namespace, device in ((self._router, "north"), (self._router, "south"), (self._camera, "eth")):
            run("ip", "-n", namespace, "link", "set", device, "up")
        run("ip", "route", "add", f"{net}.4/30", "via", f"{net}.2")
        run("ip", "-n", self._camera, "route", "add", "default", "via", f"{net}.5")
        self.in_router("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def _remove(self) -> None:
        with suppress(subprocess.SubprocessError):
            run("ip", "link", "del", self._here)
        for namespace in (self._camera, self._router):
            with suppress(subprocess.SubprocessError):
                run("ip", "netns", "del", namespace)
