"""What tracks do in zones: state machines, one for each zone, that turn foot points into events and counts.

Boxes tremble. So who stands on an edge is where it was before: it takes a margin beyond the edge to change sides, and
the same margin to come back. A zone remembers the label with which somebody entered, so that counts add up by label
though the detector changes its mind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from deployments.streams.tracking.geometry import Point, depth, inside_by, length, right_of, separates
from deployments.streams.tracking.spec import Counts, Direction, ZoneSpec, ZoneStatus

MARGIN_OF_PICTURE = 0.01
"""Of its height: what boxes of things far away tremble."""

MARGIN_OF_BOX = 0.05
"""Of its height: what boxes of things nearby tremble."""

MARGIN_OF_ZONE = 0.25
"""Of a polygon's depth or a line's length, at most: a small zone can be entered and crossed too."""

DIRECTIONS: tuple[Direction, Direction] = ("left_to_right", "right_to_left")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a track is now.

    Attributes:
        foot: the middle of the lower side of its box, in pixels.
        margin: how far beyond an edge it has to be, in pixels.
    """

    track: int
    label: str
    foot: Point
    margin: float


@dataclass(frozen=True, slots=True)
class ZoneEvent:
    """Something that happened in a zone.

    Attributes:
        seconds: `leave` and `dwell`: since it entered.
        reason: `leave`: it was seen outside, or is not seen any more.
        direction: `cross`.
    """

    event: Literal["enter", "leave", "cross", "dwell"]
    zone: str
    tracker_id: int
    label: str
    seconds: float | None = None
    reason: Literal["moved", "lost"] | None = None
    direction: Direction | None = None

    def shown(self) -> dict[str, Any]:
        """For JSON: what it has."""
        names = ("event", "zone", "tracker_id", "label", "reason", "direction")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        return found if self.seconds is None else {**found, "seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class Stay:
    """One track inside a polygon since ``since``, seconds on the stream's clock."""

    label: str
    since: float
    dwelled: bool = False


class Zone(Protocol):
    """One zone of a picture of some size."""

    spec: ZoneSpec

    def see(self, place: Place, at: float) -> Iterator[ZoneEvent]:
        """A track is seen ``at`` seconds on the stream's clock."""
        ...

    def pass_time(self, at: float) -> Iterator[ZoneEvent]:
        """So late it is."""
        ...

    def lose(self, track: int, at: float) -> Iterator[ZoneEvent]:
        """A track is given up."""
        ...

    def status(self) -> ZoneStatus: ...


@dataclass(slots=True)
class Polygon:
    """A polygon, its counts, and who is inside."""

    spec: ZoneSpec
    since: float
    size: tuple[int, int]
    inside: dict[int, Stay] = field(default_factory=dict)
    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    dwelled: Counter[str] = field(default_factory=Counter)
    _outline: Any = field(init=False)
    _most: float = field(init=False)

    def __post_init__(self) -> None:
        self._outline = np.array(self.spec.points, np.float32) * np.array(self.size, np.float32)
        self._most = MARGIN_OF_ZONE * depth(self._outline)

    def see(self, place: Place, at: float) -> Iterator[ZoneEvent]:
        by, margin = inside_by(self._outline, place.foot), min(place.margin, self._most)
        if place.track in self.inside:
            if by < -margin:
                yield self._leave(place.track, at, "moved")
        elif by > margin and _counts(self.spec, place.label):
            self.inside[place.track] = Stay(place.label, at)
            self.entered[place.label] += 1
            yield ZoneEvent("enter", self.spec.name, place.track, place.label)

    def pass_time(self, at: float) -> Iterator[ZoneEvent]:
        if self.spec.dwell_s is None:
            return
        for track, stay in self.inside.items():
            if not stay.dwelled and at - stay.since > self.spec.dwell_s:
                stay.dwelled = True
                self.dwelled[stay.label] += 1
                yield ZoneEvent("dwell", self.spec.name, track, stay.label, at - stay.since)

    def lose(self, track: int, at: float) -> Iterator[ZoneEvent]:
        if track in self.inside:
            yield self._leave(track, at, "lost")

    def status(self) -> ZoneStatus:
        now = Counter(stay.label for stay in self.inside.values())
        counts = {name: dict(getattr(self, name)) for name in ("entered", "left", "dwelled")}
        return ZoneStatus(name=self.spec.name, kind="polygon", since=self.since, inside=dict(now), **counts)

    def _leave(self, track: int, at: float, reason: Literal["moved", "lost"]) -> ZoneEvent:
        stay = self.inside.pop(track)
        self.left[stay.label] += 1
        return ZoneEvent("leave", self.spec.name, track, stay.label, at - stay.since, reason)


@dataclass(slots=True)
class Line:
    """A line, its counts, and where each track was last on a side of it for certain, positive on the right."""

    spec: ZoneSpec
    since: float
    size: tuple[int, int]
    sides: dict[int, tuple[float, Point]] = field(default_factory=dict)
    crossed: dict[Direction, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in DIRECTIONS})
    _ends: tuple[Point, Point] = field(init=False)
    _most: float = field(init=False)

    def __post_init__(self) -> None:
        width, height = self.size
        first, second = ((x * width, y * height) for x, y in self.spec.points)
        self._ends, self._most = (first, second), MARGIN_OF_ZONE * length(first, second)

    def see(self, place: Place, at: float) -> Iterator[ZoneEvent]:
        """An event where the way between two certain places leads through the line, not past its ends."""
        by = right_of(*self._ends, place.foot)
        if abs(by) <= min(place.margin, self._most):
            return
        before, self.sides[place.track] = self.sides.get(place.track), (by, place.foot)
        if before is None or before[0] * by > 0 or not _counts(self.spec, place.label):
            return
        if separates(before[1], place.foot, *self._ends):
            direction = DIRECTIONS[by < 0]
            self.crossed[direction][place.label] += 1
            yield ZoneEvent("cross", self.spec.name, place.track, place.label, direction=direction)

    def pass_time(self, at: float) -> Iterator[ZoneEvent]:
        return iter(())

    def lose(self, track: int, at: float) -> Iterator[ZoneEvent]:
        self.sides.pop(track, None)
        return iter(())

    def status(self) -> ZoneStatus:
        crossed: dict[Direction, Counts] = {name: dict(counts) for name, counts in self.crossed.items()}
        return ZoneStatus(name=self.spec.name, kind="line", since=self.since, crossed=crossed)


AnyZone = Polygon | Line


def zone_of(spec: ZoneSpec, since: float, size: tuple[int, int]) -> AnyZone:
    """A zone that begins to count; ``since`` is Unix time, ``size`` the picture's width and height."""
    return Polygon(spec, since, size) if spec.kind == "polygon" else Line(spec, since, size)


def moved_to(zone: AnyZone, spec: ZoneSpec, size: tuple[int, int]) -> AnyZone:
    """The zone with another shape or picture, and the counts that it had. Who was inside is so until seen outside."""
    if isinstance(zone, Polygon):
        return Polygon(spec, zone.since, size, zone.inside, zone.entered, zone.left, zone.dwelled)
    return Line(spec, zone.since, size, {}, zone.crossed)


def adapt(zones: Iterable[AnyZone], wanted: Iterable[ZoneSpec], size: tuple[int, int], now: float) -> list[AnyZone]:
    """The zones of a changed spec: those of a name and kind that were there go on counting. ``now`` is Unix time."""
    known = {(zone.spec.name, zone.spec.kind): zone for zone in zones}
    found: list[AnyZone] = []
    for spec in wanted:
        old = known.get((spec.name, spec.kind))
        if old is None:
            found.append(zone_of(spec, now, size))
        elif (old.spec.points, old.size) == (spec.points, size):
            old.spec = spec
            found.append(old)
        else:
            found.append(moved_to(old, spec, size))
    return found


def margin_of(picture_height: int, box_height: float) -> float:
    """How far beyond an edge a box of that height has to be, in pixels."""
    return max(MARGIN_OF_PICTURE * picture_height, MARGIN_OF_BOX * box_height)


def _counts(spec: ZoneSpec, label: str) -> bool:
    return spec.classes is None or label in spec.classes
