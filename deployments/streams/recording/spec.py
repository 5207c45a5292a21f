"""What a user wants of the clips of a stream, what a clip is, and how recording is doing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deployments.streams.addressed import Strict

NAME = r"[0-9]{8}T[0-9]{6}-[0-9]{1,20}"
"""UTC time at which a clip was begun, and the sequence of the frame whose event did it."""


class RecordSpec(Strict):
    """Which events make a clip, how long it is, and how long it is kept."""

    events: tuple[Literal["detection", "zone"], ...] = Field(
        default=("detection", "zone"), min_length=1, description="What is found on a frame, what happens in zones."
    )
    classes: tuple[str, ...] | None = Field(default=None, description="Labels that count; null: all.")
    confidence: float | None = Field(default=None, ge=0.0, le=1.0, description="Least confidence of what counts.")
    zones: tuple[str, ...] | None = Field(
        default=None,
        description="Only what happens in these zones, and objects whose foot point is in them; null: all.",
    )
    before_s: float = Field(
        default=5.0, ge=0.0, le=30.0, description="Seconds before the event; a clip begins with the key frame before."
    )
    after_s: float = Field(default=5.0, ge=0.5, le=60.0, description="Seconds after the last event.")
    longest_s: float = Field(
        default=60.0, ge=1.0, le=600.0, description="What goes on for longer is continued in a further clip."
    )
    keep_days: float = Field(default=7.0, gt=0.0, le=3650.0, description="Older clips are removed.")
    keep_mb: int = Field(
        default=1000, ge=1, le=10_000_000, description="Megabytes of the stream's clips; the oldest are removed."
    )


class Clip(Strict):
    """One clip that is there."""

    name: str = Field(pattern=f"^{NAME}$")
    started_at: float = Field(description="Unix time of its first picture, seconds.")
    seconds: float
    size_bytes: int
    label: str | None = Field(description="What was found first, or went through the zone.")
    key: str = Field(description="Of the event that began it, as sinks send it.")


class RecordingStatus(Strict):
    """How the recording of a stream is doing."""

    state: Literal["waiting", "recording", "failing"] = "waiting"
    clips: int = Field(default=0, description="Made in this epoch.")
    dropped_packets: int = Field(default=0, description="That the disk was too slow for.")
    last_error: str | None = None
