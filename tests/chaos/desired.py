"""What the fleet should be: every change that the API has accepted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MARK = "mark"
"""The label that changes write."""


@dataclass
class Wanted:
    """One stream.

    Attributes:
        fps: of its source.
        generation: the newest that a response named.
        marks: values that its label `MARK` may have: one, and more where an answer was lost on its way.
    """

    fps: float
    generation: int
    marks: set[str | None] = field(default_factory=lambda: {None})


class Desired:
    """Streams by id; several threads change and read it."""

    def __init__(self) -> None:
        self._streams: dict[str, Wanted] = {}
        self._lock = threading.Lock()

    def accept(self, stream_id: str, fps: float, view: Mapping[str, Any]) -> None:
        """The API has accepted a spec and shows it."""
        with self._lock:
            generation = view["status"]["generation"]
            self._streams[stream_id] = Wanted(fps, generation, {view["spec"]["labels"].get(MARK)})

    def sent(self, stream_id: str, mark: str) -> None:
        """A change is on its way: whether it is accepted is not known yet."""
        with self._lock:
            self._streams[stream_id].marks.add(mark)

    def accepted(self, stream_id: str, mark: str, generation: int) -> None:
        """The API has accepted a change."""
        with self._lock:
            wanted = self._streams[stream_id]
            wanted.marks = {mark}
            wanted.generation = max(wanted.generation, generation)

    def refused(self, stream_id: str, mark: str) -> None:
        """The API has said that a change is not made."""
        with self._lock:
            self._streams[stream_id].marks.discard(mark)

    def drop(self, stream_id: str) -> None:
        """The stream is to be deleted."""
        with self._lock:
            self._streams.pop(stream_id, None)

    def streams(self) -> dict[str, Wanted]:
        """As of now."""
        with self._lock:
            return {i: Wanted(w.fps, w.generation, set(w.marks)) for i, w in self._streams.items()}


def forgotten(wanted: Mapping[str, Wanted], shown: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Streams that the API shows otherwise than it accepted them, with what is wrong.

    ``shown``: by id, as ``GET /v1/streams`` gives them.
    """
    found = []
    for stream_id, want in wanted.items():
        view = shown.get(stream_id)
        if view is None:
            found.append((stream_id, "accepted, and not there"))
            continue
        mark, generation = view["spec"]["labels"].get(MARK), view["status"]["generation"]
        if mark not in want.marks:
            found.append((stream_id, f"label {MARK!r} is {mark!r}, accepted was {sorted(map(str, want.marks))}"))
        if generation < want.generation:
            found.append((stream_id, f"generation {generation}, accepted was {want.generation}"))
    return found
