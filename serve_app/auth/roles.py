"""Who somebody is: a role, the labels that limit what is seen, and quotas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from serve_app.auth.session import Session


class Role(StrEnum):
    """What somebody may do; each role may do what those before it may."""

    VIEWER = "viewer"
    """Read: streams, their pictures and detections, models, capacity."""
    OPERATOR = "operator"
    """Change streams, probe, detect, infer."""
    ADMIN = "admin"
    """Keys, models, the audit log."""

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what ``needed`` may."""
        return _ORDER.index(self) >= _ORDER.index(needed)


_ORDER = tuple(Role)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one key may take; None for as much as it likes.

    Attributes:
        streams: that there may be among those it sees, for it to create another.
        event_streams: detections and live videos open at once.
    """

    streams: int | None = None
    requests_per_minute: int | None = None
    event_streams: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever calls, once that is known.

    Attributes:
        id: unique and stable; ``key:`` and the key's id, or ``jwt:`` and the token's subject.
        name: for people.
        labels: a stream is seen where it has all of them; none: every stream.
        since: when the key was made, Unix time in seconds: a removed key may have a successor of the same id.
        expires_at: when the token or session ends that the caller came with, Unix time in seconds.
        session: that the caller came with.
    """

    id: str
    name: str
    role: Role
    labels: Mapping[str, str] = field(default_factory=dict)
    allowance: Allowance = Allowance()
    since: float = 0.0
    expires_at: float = math.inf
    session: Session | None = None

    def sees(self, labels: Mapping[str, str]) -> bool:
        """Whether a stream with these labels is in scope."""
        return all(labels.get(key) == value for key, value in self.labels.items())


ANYONE = Principal("anyone", "anyone on this machine", Role.ADMIN)
"""Whoever calls while the doors are open."""


def patched_labels(labels: Mapping[str, str], merge_patch: Mapping[str, Any]) -> dict[str, Any]:
    """The labels that a stream has once a JSON merge patch (RFC 7396) of its spec is applied.

    A value that is no text stays what it is: validation refuses it, and no scope has it.
    """
    if "labels" not in merge_patch:
        return dict(labels)
    change = merge_patch["labels"]
    if not isinstance(change, Mapping):
        return {}
    merged = {**labels, **change}
    return {key: value for key, value in merged.items() if value is not None}
