"""What a stream knows of its tracks and zones, as it goes from a process that ends in good order to the next one.

JSON of a stated version and of bounded size, so that processes of different releases may exchange it: what the next
one does not understand it does without, and begins anew.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from deployments.streams.tracking.spec import MAX_ZONES, Direction, ZoneSpec
from deployments.streams.tracking.tracker import TrackState
from deployments.streams.tracking.zones import DIRECTIONS, AnyZone, Line, Polygon, Stay

MAX_TRACKS = 256
"""Tracks that move; some 1.5 kB each. Of more, those seen last."""

MAX_LABELS = 1000

MAX_BYTES = 2**20

logger = logging.getLogger(__name__)

Label = Annotated[str, StringConstraints(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Counts = Annotated[dict[Label, int], Field(max_length=MAX_LABELS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CarriedTrack(_Strict):
    """A track and how surely it is of which label."""

    tracker_id: int
    state: Annotated[tuple[Number, ...], Field(min_length=8, max_length=8)]
    covariance: Annotated[tuple[Number, ...], Field(min_length=64, max_length=64)]
    unseen_s: Number
    votes: Annotated[dict[Label, Number], Field(max_length=MAX_LABELS)]


class CarriedStay(_Strict):
    """Somebody inside a polygon."""

    tracker_id: int
    label: Label
    since: Number
    dwelled: bool


class CarriedSide(_Strict):
    """Where somebody was last on a side of a line for certain."""

    tracker_id: int
    by: Number
    foot: tuple[Number, Number]


class CarriedZone(_Strict):
    """A zone with its counts and who is where."""

    spec: ZoneSpec
    since: Number
    stays: Annotated[tuple[CarriedStay, ...], Field(max_length=MAX_TRACKS)] = ()
    entered: Counts = Field(default_factory=dict)
    left: Counts = Field(default_factory=dict)
    dwelled: Counts = Field(default_factory=dict)
    sides: Annotated[tuple[CarriedSide, ...], Field(max_length=MAX_TRACKS)] = ()
    crossed: dict[Direction, Counts] = Field(default_factory=dict)


class Carried(_Strict):
    """All of it.

    Attributes:
        at: seconds on the stream's clock of the last frame.
        captured_at: Unix time of that frame.
        size: its width and height, to which all pixels belong.
        next_id: the number of the next object.
    """

    version: Literal[1] = 1
    at: Number
    captured_at: Number
    size: tuple[int, int]
    next_id: int = Field(ge=1)
    tracks: Annotated[tuple[CarriedTrack, ...], Field(max_length=MAX_TRACKS)]
    zones: Annotated[tuple[CarriedZone, ...], Field(max_length=MAX_ZONES)]

    def pack(self) -> bytes | None:
        """To be sent; None where it would be too large."""
        packed = self.model_dump_json().encode()
        if len(packed) <= MAX_BYTES:
            return packed
        logger.warning("tracks and zones do not move: they would take %d bytes, over %d", len(packed), MAX_BYTES)
        return None


def unpack(packed: bytes | None) -> Carried | None:
    """What `Carried.pack` made; None where there is nothing or it can't be understood."""
    if packed is None:
        return None
    if len(packed) > MAX_BYTES:
        logger.warning("tracks and zones of the stream's last process are too large: they begin anew")
        return None
    try:
        return Carried.model_validate_json(packed, strict=True)
    except ValidationError as error:
        logger.warning("tracks and zones of the stream's last process begin anew: %s", error.errors()[0]["msg"])
        return None


def carried_tracks(tracks: Iterable[TrackState], votes: Mapping[int, Mapping[str, float]]) -> tuple[CarriedTrack, ...]:
    """As they are sent."""
    return tuple(
        CarriedTrack(
            tracker_id=track.tracker_id,
            state=tuple(round(value, 4) for value in track.state),
            covariance=tuple(float(f"{value:.6g}") for value in track.covariance),
            unseen_s=track.unseen_s,
            votes={label: round(weight, 3) for label, weight in votes[track.tracker_id].items()},
        )
        for track in tracks
    )


def carried_zone(zone: AnyZone, moving: set[int]) -> CarriedZone:
    """As it is sent; ``moving`` are the tracks that go with it."""
    if isinstance(zone, Polygon):
        stays = tuple(
            CarriedStay(tracker_id=track, label=stay.label, since=stay.since, dwelled=stay.dwelled)
            for track, stay in zone.inside.items()
            if track in moving
        )
        left = zone.left + Counter(stay.label for track, stay in zone.inside.items() if track not in moving)
        counts = {"entered": dict(zone.entered), "left": dict(left), "dwelled": dict(zone.dwelled)}
        return CarriedZone(spec=zone.spec, since=zone.since, stays=stays, **counts)
    sides = tuple(
        CarriedSide(tracker_id=track, by=by, foot=foot) for track, (by, foot) in zone.sides.items() if track in moving
    )
    crossed: dict[Direction, dict[str, int]] = {name: dict(counts) for name, counts in zone.crossed.items()}
    return CarriedZone(spec=zone.spec, since=zone.since, sides=sides, crossed=crossed)


def zone_from(carried: CarriedZone, size: tuple[int, int]) -> AnyZone:
    """As it was."""
    if carried.spec.kind == "polygon":
        inside = {stay.tracker_id: Stay(stay.label, stay.since, stay.dwelled) for stay in carried.stays}
        counts = (Counter(carried.entered), Counter(carried.left), Counter(carried.dwelled))
        return Polygon(carried.spec, carried.since, size, inside, *counts)
    sides = {one.tracker_id: (one.by, one.foot) for one in carried.sides}
    return Line(
        carried.spec, carried.since, size, sides, {name: Counter(carried.crossed.get(name, {})) for name in DIRECTIONS}
    )
