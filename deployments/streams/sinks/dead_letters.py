"""Events that a server refused, kept in a file until somebody sends them again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.rotating import RotatingFile

NAME = "dead-letters.jsonl"
MAX_BYTES, KEEP = 16_000_000, 3
"""64 MB for each stream; beyond that the oldest ones go."""


class DeadLetters:
    """For the threads of one stream."""

    def __init__(self, folder: Path) -> None:
        self._file = RotatingFile(folder / NAME, MAX_BYTES, KEEP)
        self._lock = threading.Lock()

    def add(self, sink: str, error: str, letter: Letter) -> None:
        """Keep a letter, with the sink's URL (without its secrets) and what was wrong. Raises OSError."""
        about = json.dumps({"sink": sink, "at": round(time.time(), 3), "error": error}, separators=(",", ":"))
        with self._lock:
            self._file.append(about[:-1].encode() + b',"event":' + letter.body + b"}")


def read_letters(lines: Iterable[bytes]) -> Iterator[Letter]:
    """From a file of dead letters, or of events as a file sink writes it. Raises ValueError, with the line's number."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            event = found["event"] if isinstance(found, dict) and "sink" in found else found
            yield Letter.parse(json.dumps(event).encode())
        except (ValueError, KeyError) as error:
            raise ValueError(f"line {number}: {error}") from None
