"""A file of lines that grows to a size, then gets a number, while a new one is begun; the oldest is removed."""

from __future__ import annotations

import os
from pathlib import Path


class RotatingFile:
    """Appends to ``path``; of ``name.jsonl``, full ones are ``name.1.jsonl``, the newest, to ``name.<keep>.jsonl``.

    For one thread of one process. A line is never split over two files; one longer than ``max_bytes`` gets a file of
    its own.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, line: bytes) -> None:
        """Write ``line`` and its end, handed over to the kernel on return. Raises OSError."""
        whole = line + b"\n"
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(whole) > self._max_bytes:
                os.close(descriptor)
                descriptor = -1
                self._rotate()
                descriptor = self._open()
                size = 0
            _write_all(descriptor, whole, size)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o640)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self._path
            if newer.exists():
                newer.replace(older)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number}{self._path.suffix}")


def _write_all(descriptor: int, data: bytes, size: int) -> None:
    """All of it or, on a full disk, nothing: half a line would spoil the next one."""
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise
