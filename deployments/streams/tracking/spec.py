"""What a user wants of tracks and zones, and what zones have counted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from deployments.streams.naming import Name
from deployments.streams.tracking.geometry import area, crosses_itself, length

MAX_ZONES = 32
MAX_POINTS = 32

MIN_AREA = 0.001
"""Of the picture: a square of 3 % of its sides, below which a box that is a little off is in and out at random."""

MIN_LENGTH = 0.02
"""Of a line, where the picture's sides are 1."""

ZoneName = Annotated[
    str,
    Name(
        r"^[A-Za-z0-9]([A-Za-z0-9 _.-]{0,38}[A-Za-z0-9])?$",
        "take letters from a to z, digits, and inside also blanks, dots, _ and -, 40 at most",
    ),
]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Direction = Literal["left_to_right", "right_to_left"]
Counts = dict[str, int]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TrackSpec(_Strict):
    """How objects are followed from frame to frame."""

    tracker: Literal["bytetrack"] = "bytetrack"
    confidence: float = Field(
        default=0.1,
        ge=0.01,
        le=1.0,
        description="Boxes of less than `detect.confidence` begin no track, but from here on they continue one.",
    )
    lost_s: float = Field(
        default=2.0, gt=0, le=60, description="Seconds after which an object that is not seen any more is given up."
    )


class ZoneSpec(_Strict):
    """A polygon that objects enter and leave, or a line that they cross; their foot point counts."""

    name: ZoneName
    kind: Literal["polygon", "line"]
    points: tuple[tuple[Share, Share], ...] = Field(
        min_length=2,
        max_length=MAX_POINTS,
        description="x and y as parts of the picture's width and height, from its top left corner. A line has two.",
    )
    classes: tuple[str, ...] | None = Field(default=None, description="Labels that count; null: all.")
    dwell_s: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Polygons only: who is inside for longer makes a `dwell` event, once a stay; null: nobody.",
    )

    @field_validator("points")
    @classmethod
    def _make_sense(
        cls, points: tuple[tuple[float, float], ...], info: ValidationInfo
    ) -> tuple[tuple[float, float], ...]:
        if info.data.get("kind") == "line":
            if len(points) != 2:
                raise ValueError(f"a line has two points, not {len(points)}")
            if length(*points) < MIN_LENGTH:
                raise ValueError(f"the line is too short: its ends must be {MIN_LENGTH:g} of the picture apart")
            return points
        if len(set(points)) < len(points):
            raise ValueError("a polygon has each point once, and is closed by itself: leave the second one out")
        if len(points) < 3:
            raise ValueError("a polygon has at least three points")
        if crosses_itself(points):
            raise ValueError("the polygon crosses or touches itself: draw its points in the order of its outline")
        if area(points) < MIN_AREA:
            raise ValueError(f"the polygon is too small or flat: it must cover {MIN_AREA:g} of the picture")
        return points

    @field_validator("dwell_s")
    @classmethod
    def _of_polygons(cls, dwell_s: float | None, info: ValidationInfo) -> float | None:
        if dwell_s is not None and info.data.get("kind") == "line":
            raise ValueError("nobody dwells on a line: leave it out, or make a polygon")
        return dwell_s


class ZoneStatus(_Strict):
    """What one zone has counted, by label; `entered` less `left` is always `inside`."""

    name: ZoneName
    kind: Literal["polygon", "line"]
    since: float = Field(description="Unix time from which it counts.")
    inside: Counts = Field(default_factory=dict, description="Polygons: who is in it now.")
    entered: Counts = Field(default_factory=dict)
    left: Counts = Field(default_factory=dict)
    dwelled: Counts = Field(default_factory=dict, description="Stays of more than `dwell_s`.")
    crossed: dict[Direction, Counts] = Field(
        default_factory=dict, description="Lines: by direction, as seen from its first point to its second."
    )
