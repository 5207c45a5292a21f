"""What a stream's process takes of its node's CPU; no clock of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 20.0
"""CPU time is counted over so long: a stream's second with a key frame is unlike the next."""

LEAST_S = 6.0
"""Nothing is told of a shorter time."""


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU time of one process by the clock of its threads; the relays of its outputs are processes of their own.

    Attributes:
        cores: seconds of CPU a second.
        frame_s: seconds of CPU for each decoded frame, all that the process does beside it included.
    """

    cores: float
    frame_s: float


class CpuMeter:
    """Takes the process's counters now and then; begins with its first frame, since a start costs seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float, int]] = deque()

    def sample(self, now: float, cpu_s: float, frames: int) -> None:
        """At monotonic time ``now`` the process had taken ``cpu_s`` and decoded ``frames``."""
        if frames <= 0:
            return
        self._samples.append((now, cpu_s, frames))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()

    @property
    def use(self) -> CpuUse | None:
        """Over the newest samples; None before `LEAST_S`, and while nothing is decoded."""
        if not self._samples:
            return None
        (began, cpu_before, frames_before), (now, cpu_s, frames) = self._samples[0], self._samples[-1]
        if now - began < LEAST_S or frames <= frames_before:
            return None
        return CpuUse((cpu_s - cpu_before) / (now - began), (cpu_s - cpu_before) / (frames - frames_before))
