"""What a model package says about its model, as it stands in ``manifest.json``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from engines.types import Colour, Placement

Precision = Literal["fp16", "fp32"]

Text = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=1)]
Deviation = Annotated[float, Field(gt=0)]


class ManifestInput(BaseModel):
    """How a frame becomes the model's float32 ``[B, 3, height, width]`` input, inside a wrapped network too.

    A channel value x of 0 to 255 becomes ``(x - mean) / std``. ``mean`` and ``std`` follow the order of ``colour``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Text
    width: Side
    height: Side
    colour: Colour
    mean: tuple[float, float, float]
    std: tuple[Deviation, Deviation, Deviation]
    letterbox: Placement
    pad: int = Field(ge=0, le=255)


class Built(BaseModel):
    """What ``raysight engine build`` made of the network: it is wrapped, from uint8 frames to the best boxes.

    Attributes:
        precision: of the network's weights and sums; the boxes are worked out in float32 all the same.
        top_k: boxes that a frame gets, the best first.
        max_batch: frames that it takes at once, at most.
        suppress: whether those boxes still overlap, so that they have to suppress each other class by class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Precision
    top_k: Side
    max_batch: Side
    suppress: bool


class Manifest(BaseModel):
    """A model's description. ``class_names`` are in the order of the model's scores.

    ``built`` is None for a network as it was exported, whose outputs are the family's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    family: Text
    input: ManifestInput
    class_names: tuple[Text, ...] = Field(min_length=1)
    licence: Text
    source: Text
    built: Built | None = None
