"""One event on its way to a sink, and which events a sink takes; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np

from deployments.streams.sinks.spec import EventType
from deployments.streams.tracking.geometry import inside_by
from deployments.streams.tracking.spec import ZoneSpec


@dataclass(frozen=True, slots=True)
class Letter:
    """What a server gets.

    Attributes:
        key: ``stream_id/sequence``, for what happened in a zone ``stream_id/sequence/index``: who gets an event
            again finds the same one.
        body: one line of JSON: the event as readers of the API get it, with ``key`` and ``type``.
    """

    key: str
    type: EventType
    body: bytes

    @staticmethod
    def of(event: Mapping[str, Any], type_: EventType, index: int | None = None) -> Letter:
        """The ``index`` is that among the zone events of one frame."""
        key = f"{event['stream_id']}/{event['sequence']}" + ("" if index is None else f"/{index}")
        body = json.dumps({"key": key, "type": type_, **event}, separators=(",", ":")).encode()
        return Letter(key, type_, body)

    @staticmethod
    def parse(body: bytes) -> Letter:
        """What had this body. Raises ValueError."""
        try:
            event = json.loads(body)
            key, type_ = event["key"], event["type"]
        except (TypeError, KeyError, RecursionError):
            raise ValueError("no event: it needs a key and a type") from None
        if not isinstance(key, str) or type_ not in get_args(EventType):
            raise ValueError("no event: its key or type can't be read")
        return Letter(key, type_, json.dumps(event, separators=(",", ":")).encode())


Event = dict[str, Any]


class Wanted(Protocol):
    """Which events count, as `SinkSpec` has it."""

    @property
    def events(self) -> tuple[EventType, ...]: ...

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    @property
    def confidence(self) -> float | None: ...

    @property
    def zones(self) -> tuple[str, ...] | None: ...


def letters(spec: Wanted, zones: Sequence[ZoneSpec], event: Event, in_zones: Sequence[Event]) -> Iterator[Letter]:
    """What a sink, or who records, takes of one frame: a detection event without a detection is not sent."""
    if "detection" in spec.events:
        found = [detection for detection in event["detections"] if _wanted(spec, zones, event, detection)]
        if found:
            yield Letter.of({**event, "detections": found}, "detection")
    if "zone" in spec.events:
        for index, happened in enumerate(in_zones):
            named = spec.zones is None or happened["zone"] in spec.zones
            if named and (spec.classes is None or happened["label"] in spec.classes):
                yield Letter.of(happened, "zone", index)


def _wanted(spec: Wanted, zones: Sequence[ZoneSpec], event: Event, detection: Event) -> bool:
    if spec.classes is not None and detection["label"] not in spec.classes:
        return False
    if spec.confidence is not None and detection["confidence"] < spec.confidence:
        return False
    if spec.zones is None:
        return True
    left, _, right, bottom = detection["box"]
    foot = (left + right) / 2, bottom
    size = event["width"], event["height"]
    return any(
        inside_by(np.array(zone.points, np.float32) * np.array(size, np.float32), foot) >= 0
        for zone in zones
        if zone.name in spec.zones and zone.kind == "polygon"
    )
