"""JSON Lines under the output root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.rotating import RotatingFile
from deployments.streams.sinks.spec import SinkSpec

MEGABYTE = 1_000_000


class FileSender:
    """`Sender` to a file; ``path`` checks it anew for each event, as its folder may have become a link."""

    def __init__(self, spec: SinkSpec, path: Callable[[], Path]) -> None:
        self._spec = spec
        self._path = path

    def send(self, letter: Letter) -> None:
        RotatingFile(self._path(), self._spec.rotate_mb * MEGABYTE, self._spec.keep).append(letter.body)

    def interrupt(self) -> None:
        """A write ends by itself."""

    def close(self) -> None:
        """Nothing stays open."""
