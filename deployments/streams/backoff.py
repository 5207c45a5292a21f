"""How long to wait before the next try at something remote: longer each time, never in step with others."""

from __future__ import annotations

import random


class Backoff:
    """Exponential back-off with jitter that forgives while it goes well.

    The nth delay lies in ``[(1 - jitter) * step, step]`` with ``step = min(cap_s, initial_s * factor ** n)``: jitter
    only shortens, so that ``cap_s`` is a bound, and spreads the streams of one server that went away. What was away for
    a while is thus tried again within about ``factor - 1`` of that while, and where chance makes all tries but the last
    early, within that while and ``initial_s``.

    A connection that breaks at once keeps the delays growing. One that works shrinks the step again, at a rate that
    leads from ``cap_s`` to ``initial_s`` in ``healthy_after_s``.

    Args:
        initial_s, cap_s: first and longest step in seconds.
        factor: growth from one step to the next.
        jitter: share of a step, 0 to 1, that chance may take off.
        healthy_after_s: seconds of work after which the next failure counts as the first, whatever was before.
        rng: source of chance.
    """

    def __init__(
        self,
        initial_s: float = 0.5,
        cap_s: float = 30.0,
        factor: float = 1.5,
        jitter: float = 0.5,
        healthy_after_s: float = 60.0,
        rng: random.Random | None = None,
    ) -> None:
        self._initial_s = initial_s
        self._cap_s = cap_s
        self._factor = factor
        self._jitter = jitter
        self._healthy_after_s = healthy_after_s
        self._rng = rng or random.Random()
        self._step_s = initial_s
        self._healthy_at: float | None = None

    def next_delay(self) -> float:
        """Seconds to wait before the next try; each call counts as one failure."""
        step = min(self._cap_s, self._step_s)
        self._step_s = min(self._cap_s, self._step_s * self._factor)
        self._healthy_at = None
        return step * (1.0 - self._jitter * self._rng.random())

    def healthy(self, now: float) -> None:
        """Say that it works at ``now``, seconds on the monotonic clock; call again and again while it does."""
        if self._healthy_at is not None:
            share = (now - self._healthy_at) / self._healthy_after_s
            self._step_s = max(self._initial_s, self._step_s * (self._initial_s / self._cap_s) ** share)
        self._healthy_at = now
