"""What a model package says about its model, as it stands in ``manifest.json``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from engines.types import Colour, Placement

Text = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=1)]
Deviation = Annotated[float, Field(gt=0)]


class ManifestInput(BaseModel):
    """How a frame becomes the model's float32 ``[B, 3, height, width]`` input.

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


class Manifest(BaseModel):
    """A model's description. ``class_names`` are in the order of the model's scores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    family: Text
    input: ManifestInput
    class_names: tuple[Text, ...] = Field(min_length=1)
    licence: Text
    source: Text
