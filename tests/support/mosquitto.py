"""A real Mosquitto on a free port of the loopback, which keeps sessions in a folder of its own."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.local import free_port
from tests.support.waiting import until


@dataclass
class Mosquitto:
    """Start, stop and start again. A context manager.

    Attributes:
        settings: further lines of its configuration.
        anonymous: whether it asks for no password.
    """

    folder: Path
    settings: tuple[str, ...] = ()
    anonymous: bool = True
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = (
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {str(self.anonymous).lower()}",
            "user root",
            "persistence true",
            f"persistence_location {self.folder}/",
            *self.settings,
        )
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(config)], stdout=log, stderr=log)
        until(self._answers)

    def stop(self) -> None:
        """End it in good order, with sessions kept."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def signal(self, number: int) -> None:
        """Such as SIGSTOP: connections are taken then, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
