"""What a run has found: violations by invariant, strikes by fault, and a log that explains them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INVARIANTS = {
    "online_again": "every desired stream is online again in time, with no hand laid on",
    "others_undisturbed": "no stream but the struck one loses more than 1 s",
    "ledgers": "both ledgers add up in every status",
    "sequence": "sequence never goes back",
    "one_publisher": "at most one publisher for each stream",
    "nothing_forgotten": "every accepted change is there",
    "threads": "threads are back where they were",
    "descriptors": "file descriptors are back where they were",
    "shared_memory": "shared memory is back where it was",
    "actors": "actors are back where they were",
    "rss": "resident memory is back where it was, within 5 %",
}


@dataclass(frozen=True, slots=True)
class Strike:
    """How one fault went: the slowest stream's way back in seconds, and frames without detections of all streams."""

    fault: str
    recovery_s: float
    frames_lost: int


@dataclass
class Journal:
    """Takes notes from several threads; every line has the seconds since the beginning."""

    say: Callable[[str], None] = print
    violations: list[tuple[str, str]] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, text: str) -> None:
        """Something that is no violation and helps to understand one."""
        line = f"{time.monotonic() - self._began:8.2f} s  {text}"
        with self._lock:
            self._lines.append(line)
        self.say(line)

    def violation(self, invariant: str, subject: str, seen: str) -> None:
        """An invariant does not hold: of which stream or process, and what was seen."""
        assert invariant in INVARIANTS, invariant
        with self._lock:
            self.violations.append((invariant, subject))
        self.note(f"VIOLATION {invariant}  {subject}: {seen}")

    def fault_failed(self, fault: str, why: str) -> None:
        """The suite itself could not do a fault: the run proves nothing about it and fails."""
        self.broken.append(fault)
        self.note(f"FAULT NOT DONE {fault}: {why}")

    @property
    def passed(self) -> bool:
        """Whether every fault was done and every invariant held."""
        return not self.violations and not self.broken

    def result(self, seed: int) -> dict[str, Any]:
        """The JSON: invariants, and faults by name with the worst recovery and all frames lost."""
        violated = {invariant for invariant, _ in self.violations}
        names = dict.fromkeys(strike.fault for strike in self.strikes)
        return {
            "seed": seed,
            "invariants": {invariant: invariant not in violated for invariant in INVARIANTS},
            "faults": [_summary(name, [s for s in self.strikes if s.fault == name]) for name in names],
        }

    def write(self, path: Path, seed: int) -> None:
        """The result as JSON at ``path``, the log beside it."""
        path.write_text(json.dumps(self.result(seed), indent=1) + "\n")
        path.with_suffix(".log").write_text("\n".join(self._lines) + "\n")


def _summary(name: str, strikes: list[Strike]) -> dict[str, Any]:
    return {
        "name": name,
        "times": len(strikes),
        "worst_recovery_s": round(max(strike.recovery_s for strike in strikes), 2),
        "frames_lost": sum(strike.frames_lost for strike in strikes),
    }
