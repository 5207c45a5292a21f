"""The store of the specs, held in hand: SQLite on a disk that can be filled; `RedisServer` is the other."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.chaos.network import run


def unavailable(kind: Literal["redis", "sqlite"]) -> str | None:
    """Why there can be no such store here; None where there can."""
    return "redis-server is not installed" if kind == "redis" and shutil.which("redis-server") is None else None


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
