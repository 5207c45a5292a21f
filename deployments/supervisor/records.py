"""How a stream lies in the store: JSON with everything that has to be found again, credentials included."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from deployments.streams.hardware import NOTHING, Grant
from deployments.streams.spec import StreamSpec
from deployments.supervisor.registry import Entry


@dataclass(frozen=True, slots=True)
class Kept:
    """A stream that users want, and the last life that was begun for it.

    Attributes:
        epoch: lives of its actor so far.
        reserved: numbers of frames below it may have been used.
        grant: the places on GPUs that were asked for.
        accepted_at: Unix time, seconds; of streams that wait for room the older go first.
    """

    entry: Entry
    epoch: int = 0
    reserved: int = 0
    grant: Grant = NOTHING
    accepted_at: float = 0.0

    @property
    def rank(self) -> tuple[float, float, str]:
        """Of streams that are to start the lower comes first: by priority, then by age."""
        return -self.entry.spec.priority, self.accepted_at, self.entry.spec.id


def pack(kept: Kept) -> bytes:
    """To be stored; it shows the credentials."""
    spec = kept.entry.spec
    shown: dict[str, Any] = spec.model_dump(mode="json")
    parts = (
        (spec.source, shown["source"]),
        *zip(spec.outputs + spec.sinks, shown["outputs"] + shown["sinks"], strict=True),
    )
    for part, stored in parts:
        if part.credentials is not None:
            stored["credentials"] = part.credentials.revealed()
    fields = {
        "spec": shown,
        "generation": kept.entry.generation,
        "epoch": kept.epoch,
        "reserved": kept.reserved,
        "grant": asdict(kept.grant),
        "accepted_at": kept.accepted_at,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def unpack(record: bytes) -> Kept:
    """What `pack` made. Raises ValueError."""
    try:
        fields = json.loads(record)
        entry = Entry(StreamSpec.model_validate(fields["spec"]), int(fields["generation"]))
        grant, accepted_at = Grant(**fields["grant"]), float(fields.get("accepted_at", 0.0))
        return Kept(entry, int(fields["epoch"]), int(fields["reserved"]), grant, accepted_at)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the record lacks {error}") from None
