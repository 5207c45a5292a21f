"""Whether a stream should attach to another replica: decided when its lease is to be renewed; no clock, no Ray.

Serve's router spreads attachments by their number. But a stream of 60 frames a second is twelve of 5, engines differ,
and a replica that comes up is empty. So each replica measures what its streams offer and what its engine manages,
hears the same of its peers, and sends a stream to another one where it has more than its fair share: its part of all
frames, by the part of its engine in all engines.

A stream moves only where it will be served better, by more than `GAIN` of it. The place that it leaves was then
busier than the one that it makes busier is afterwards, so each move lowers the busiest of the two: moves come to an
end, and none is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

GAIN = 0.25
"""Part of a stream by which its new place must be better than its old one: a balanced system is at rest, although
measured rates are never quite alike."""

SPEED_CHANGE = 0.15
"""A measured engine speed is taken over once it differs by more: it wanders by some per cent, and streams would
wander with it."""

WINDOW_S = 6.0
"""Frames are counted over so long: a rate of 5 frames a second is known to a thirtieth."""

SETTLE_S = 8.0
"""A stream that was sent away counts for its new place until that one's own report must have it: it is counted there
after two reports, and told here after another."""

HEARD_S = 6.0
"""What was heard of peers is no ground for a move once it is older: three reports."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one replica's streams offer and what its engine manages, frames a second.

    ``engine_fps`` 0: not known, or it takes no more streams.
    """

    offered_fps: float
    engine_fps: float


NO_PLACE = Load(0.0, 0.0)
"""Of a replica that is leaving: nothing moves there."""


def better_place(lease: str, rates: Mapping[str, float], engine_fps: float, peers: Mapping[str, Load]) -> str | None:
    """The peer to which the stream of ``lease`` should move; None where it is well where it is.

    Args:
        rates: frames a second of this replica's streams, by lease.
        engine_fps: of this replica.
        peers: all other replicas, by name.
    """
    rate, here = rates.get(lease, 0.0), sum(rates.values())
    known = {name: peer for name, peer in peers.items() if peer.engine_fps > 0}
    if rate <= 0 or engine_fps <= 0 or not known:
        return None
    offered = here + sum(peer.offered_fps for peer in known.values())
    engines = engine_fps + sum(peer.engine_fps for peer in known.values())
    if here <= offered * engine_fps / engines:
        return None  # no more than the fair share

    filled = {name: (peer.offered_fps + rate * (1 + GAIN)) / peer.engine_fps for name, peer in known.items()}
    best = min(known, key=lambda name: filled[name])
    return best if filled[best] < here / engine_fps else None


@dataclass(frozen=True, slots=True)
class _Moved:
    to: str
    rate: float
    at: float


class FairShare:
    """What one replica knows of the loads, and whom it has sent away; the caller holds a lock.

    ``now`` is monotonic time throughout.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()
        self._rates: dict[str, float] = {}
        self._engine_fps = 0.0
        self._peers: Mapping[str, Load] = {}
        self._heard_at = 0.0
        self._moved: dict[str, _Moved] = {}

    def measure(self, frames: Mapping[str, int], engine_fps: float, now: float) -> Load:
        """Take this replica's counters over: frames so far by lease. Returns what to tell the others."""
        self._samples.append((now, frames))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()
        self._rates = {lease: self._rate(lease, count, now) for lease, count in frames.items()}
        self._moved = {lease: moved for lease, moved in self._moved.items() if now - moved.at < SETTLE_S}
        if abs(engine_fps - self._engine_fps) > SPEED_CHANGE * self._engine_fps:
            self._engine_fps = engine_fps
        return Load(sum(self._staying().values()), self._engine_fps)

    def by_stream(self, streams: Mapping[str, str]) -> dict[str, float]:
        """Frames a second of each stream, also of those that were sent away and are here still.

        Args:
            streams: whose lease it is.
        """
        rates: dict[str, float] = {}
        for lease, rate in self._rates.items():
            stream = streams.get(lease, lease)
            rates[stream] = max(rate, rates.get(stream, 0.0))
        return rates

    def hear(self, peers: Mapping[str, Load], now: float) -> None:
        """Take over what the other replicas told of themselves."""
        self._peers, self._heard_at = peers, now

    def elsewhere(self, lease: str, now: float) -> str | None:
        """The replica to which the stream of ``lease`` should move; it counts as moved from then on."""
        if now - self._heard_at > HEARD_S:
            return None
        peers = {name: self._expected(name, load, now) for name, load in self._peers.items()}
        rates = self._staying()
        to = better_place(lease, rates, self._engine_fps, peers)
        if to is not None:
            self._moved[lease] = _Moved(to, rates[lease], now)
        return to

    def _rate(self, lease: str, count: int, now: float) -> float:
        """Over the time that the lease has been there, within the window; 0 where that is no time yet."""
        began, before = next((at, frames[lease]) for at, frames in self._samples if lease in frames)
        return (count - before) / (now - began) if now > began else 0.0

    def _staying(self) -> dict[str, float]:
        return {lease: rate for lease, rate in self._rates.items() if lease not in self._moved}

    def _expected(self, name: str, load: Load, now: float) -> Load:
        coming = sum(m.rate for m in self._moved.values() if m.to == name and now - m.at < SETTLE_S)
        return Load(load.offered_fps + coming, load.engine_fps)
