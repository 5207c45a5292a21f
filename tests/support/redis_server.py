"""A real Redis on a free port of the loopback, with its files in a folder of its own."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis

from serve_app.local import free_port

START_S = 10.0

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


@dataclass
class RedisServer:
    """Start, stop and start again: what was stored comes back. A context manager."""

    folder: Path
    settings: tuple[str, ...] = DURABLE
    password: str | None = None
    tls: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is, its password included."""
        scheme, word = ("rediss" if self.tls else "redis"), f":{self.password}@" if self.password else ""
        return f"{scheme}://{word}{self.host}:{self.port}"

    def start(self) -> None:
        """Return once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = ("--port", "0", "--tls-port", str(self.port), *self.tls) if self.tls else ("--port", str(self.port))
        word = ("--requirepass", self.password) if self.password else ()
        command = ["redis-server", "--bind", self.host, "--save", "", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen([*command, *ports, *word, *self.settings], stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while b"Ready to accept connections" not in (self.folder / "redis.log").read_bytes():
            assert self._process.poll() is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < deadline, "Redis did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def signal(self, number: int) -> None:
        """Such as SIGSTOP: connections are taken then, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(number)

    def client(self) -> redis.Redis:
        """A plain client, for what tests do behind the store's back."""
        return redis.Redis.from_url(self.url)
