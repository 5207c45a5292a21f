"""How a build goes on, as bars in the terminal."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """An `engines.building.build.Watcher` that draws on standard error: a line a stage, and a bar a TensorRT phase."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        console = console or Console(stderr=True)
        # Where nobody watches, not even an empty line.
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[TaskID, int]] = {}
        self._stage: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def tasks(self) -> list[Task]:
        """What is shown, from above."""
        return list(self._progress.tasks)

    def stage(self, what: str) -> None:
        """Another stage begins."""
        if self._stage is not None:
            self._progress.update(self._stage, total=1, completed=1)
        self._stage = self._progress.add_task(what, total=None)

    def started(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""
        with self._lock:
            depth = self._phases[parent][1] + 1 if parent in self._phases else 1
            self._phases[phase] = self._progress.add_task(f"{'  ' * depth}{phase}", total=steps), depth

    def stepped(self, phase: str, step: int) -> None:
        """A step is done."""
        with self._lock:
            if phase in self._phases:
                self._progress.update(self._phases[phase][0], completed=step + 1)

    def finished(self, phase: str) -> None:
        """A phase is over, and its bar goes."""
        with self._lock:
            if phase in self._phases:
                self._progress.remove_task(self._phases.pop(phase)[0])
