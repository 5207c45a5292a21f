"""What waits for a sink: a bounded queue in memory, and behind it, where that is wanted, a bounded file."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from deployments.streams.sinks.letter import Letter

logger = logging.getLogger(__name__)

MODE = 0o640
"""As of all files of events."""


class Spill:
    """Letters in a file, first in, first out; for one thread at a time. What it holds outlives the process.

    Raises OSError where the disk is full or broken, or another one has the file: a life that has not ended yet.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE), "ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise
        left = path.read_bytes()
        self._end = left.rfind(b"\n") + 1  # whoever was killed may have left half a line
        self._file.truncate(self._end)
        self._count = left.count(b"\n")
        self._start = 0

    def __len__(self) -> int:
        return self._count

    def put(self, letter: Letter) -> bool:
        """Whether there was room."""
        line = letter.body + b"\n"
        if self._end + len(line) > self._max_bytes:
            return False
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError("the disk is full")
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(line)
        self._count += 1
        return True

    def take(self, most: int) -> list[Letter]:
        """The oldest; a line that can't be read is left out."""
        found: list[Letter] = []
        with self._path.open("rb") as reader:
            reader.seek(self._start)
            while self._count and len(found) < most:
                line = reader.readline()
                self._start += len(line)
                self._count -= 1
                with suppress(ValueError):
                    found.append(Letter.parse(line))
        if not self._count:
            self._file.truncate(0)
            self._start = self._end = 0
        return found

    def close(self, before: list[Letter]) -> None:
        """Keep ``before`` and what it holds for the next life, in this order."""
        rest = b""
        with self._path.open("rb") as reader:
            reader.seek(self._start)
            rest = reader.read()
        whole = b"".join(letter.body + b"\n" for letter in before) + rest
        with self._file:  # locked until all is done
            if not whole:
                self._path.unlink()
                return
            fresh = self._path.with_suffix(".new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, MODE), "wb") as file:
                file.write(whole)
            fresh.replace(self._path)


class Backlog:
    """Letters in their order, for one consumer. Where there is no room one is dropped, and counted.

    Without a ``spill`` the oldest goes. With one, what memory has no room for waits in the file, and once that is full
    too, new ones go.
    """

    def __init__(self, size: int, spill: Spill | None = None) -> None:
        self._size = size
        self._spill = spill
        self._memory: deque[Letter] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many were lost."""
        with self._changed:
            return self._dropped

    def __len__(self) -> int:
        with self._changed:
            return len(self._memory) + (len(self._spill) if self._spill is not None else 0)

    @property
    def spills(self) -> bool:
        """Whether it has a file."""
        return self._spill is not None

    def adopt(self, spill: Spill) -> None:
        """Have a file from now on. What it holds is older than all there is here, which therefore goes behind it."""
        with self._changed:
            for letter in self._memory:
                self._dropped += not self._put_on_disk(spill, letter)
            self._memory.clear()
            self._spill = spill
            self._changed.notify_all()

    def put(self, letter: Letter) -> None:
        """Add the newest; never waits for a server, though for the disk where there is a spill."""
        with self._changed:
            if self._closed:
                self._dropped += 1
            elif self._spill is not None and (len(self._memory) >= self._size or len(self._spill)):
                self._dropped += not self._put_on_disk(self._spill, letter)
            else:
                if len(self._memory) >= self._size:
                    self._memory.popleft()
                    self._dropped += 1
                self._memory.append(letter)
            self._changed.notify_all()

    @staticmethod
    def _put_on_disk(spill: Spill, letter: Letter) -> bool:
        try:
            return spill.put(letter)
        except OSError as error:
            logger.warning("an event can't be kept on disk: %s", error.strerror or error)
            return False

    def take(self) -> Letter | None:
        """The oldest, waiting for one; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._memory or self._spill)
            while not self._memory and self._spill:
                try:
                    self._memory.extend(self._spill.take(self._size))
                except OSError as error:
                    logger.warning("events can't be read from disk: %s", error.strerror or error)
                    self._dropped += len(self._spill)
                    self._spill = None
            return self._memory.popleft() if self._memory else None

    def close(self) -> None:
        """Take no more; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def leave(self, unsent: Letter | None) -> None:
        """End with ``unsent``, the oldest, and all that is inside: kept by the spill, else dropped."""
        with self._changed:
            self._closed = True
            left = [*([unsent] if unsent is not None else []), *self._memory]
            self._memory.clear()
            self._changed.notify_all()
            if self._spill is None:
                self._dropped += len(left)
                return
            try:
                self._spill.close(left)
            except OSError as error:
                self._dropped += len(left)
                logger.warning("events can't be kept on disk: %s", error.strerror or error)
            self._spill = None
