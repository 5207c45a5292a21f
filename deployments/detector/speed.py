"""How long a batch of n frames takes, to be made ready or to be inferred, learnt from the batches that ran."""

from __future__ import annotations

import threading
from collections import deque

SAMPLES = 31
"""Times kept for each batch size: the median of them ignores a batch that the operating system held up."""


class BatchTimes:
    """Times by batch size; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[int, deque[float]] = {}
        self._medians: dict[int, float] = {}
        self._uppers: dict[int, float] = {}

    def learn(self, frames: int, seconds: float) -> None:
        """A batch of ``frames`` took ``seconds``."""
        with self._lock:
            times = self._times.setdefault(frames, deque(maxlen=SAMPLES))
            times.append(seconds)
            ordered = sorted(times)
            self._medians[frames] = ordered[len(ordered) // 2]
            self._uppers[frames] = ordered[3 * len(ordered) // 4]

    def seconds(self, frames: int) -> float:
        """Time within which three of four batches of this size end; 0 unlearnt.

        Sizes that never ran are drawn straight between the measured ones around them. A batch that is released too
        early waits and grows old, one that is released late leaves the engine idle only for the hand-over: hence the
        upper quartile, which on a steady engine is the median.
        """
        with self._lock:
            known = sorted(self._uppers.items())
        if not known:
            return 0.0
        below = max((k for k in known if k[0] <= frames), default=None)
        above = min((k for k in known if k[0] >= frames), default=None)
        if below is None or above is None:
            size, took = (below or above) or known[0]
            return took if above else took * frames / size
        if below[0] == above[0]:
            return below[1]
        share = (frames - below[0]) / (above[0] - below[0])
        return below[1] + share * (above[1] - below[1])

    def frames_per_second(self) -> float:
        """The most that the engine was seen to manage, over all batch sizes; 0 unlearnt."""
        with self._lock:
            return max((size / took for size, took in self._medians.items() if took > 0), default=0.0)
