"""What is known of the objects in a set of pictures, as COCO's ``instances_*.json`` tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import EvaluationError

Length = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    # COCO's files hold much else: licences, outlines, addresses.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Picture(_Part):
    """One picture; sizes in pixels."""

    id: int
    file_name: str = Field(min_length=1)
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class Category(_Part):
    """What an object may be. The ids of COCO go from 1 to 90, with gaps."""

    id: int
    name: str = Field(min_length=1)


class Annotation(_Part):
    """One object, or a crowd of them, in which detections count neither as right nor as wrong.

    Attributes:
        bbox: left, top, width, height in pixels.
        area: of the object in square pixels, which sorts it by size; None for that of its box.
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, Length, Length]
    area: Length | None = None
    iscrowd: bool = False


class Labels(_Part):
    """All of it: ids are unique, and those that annotations name exist."""

    images: tuple[Picture, ...]
    categories: tuple[Category, ...]
    annotations: tuple[Annotation, ...]


def parse_labels(content: bytes) -> Labels:
    """Read COCO's JSON and make sure that it can be measured by.

    Raises:
        EvaluationError: it can't; the message lacks the file's name.
    """
    try:
        labels = Labels.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            raise EvaluationError(f"isn't JSON ({first['msg']}); mend it there, or download it again") from error
        raise EvaluationError(f"{field or 'the whole file'}: {first['msg']}; mend that field") from error
    _check(labels)
    return labels


def _check(labels: Labels) -> None:
    for kind in ("images", "categories", "annotations"):
        parts = getattr(labels, kind)
        if not parts:
            raise EvaluationError(f"has no {kind}; without labels, measure the agreement of two packages (--against)")
        if twice := _twice(part.id for part in parts):
            raise EvaluationError(f"{kind} have the id {twice[0]} twice; give each its own")
    if names := _twice(category.name for category in labels.categories):
        raise EvaluationError(f"categories have the name {names[0]!r} twice; give each its own")
    known = {category.id for category in labels.categories}
    pictures = {picture.id for picture in labels.images}
    for annotation in labels.annotations:
        if annotation.category_id not in known:
            raise EvaluationError(
                f"annotation {annotation.id} is of category {annotation.category_id}, which isn't in categories; "
                "add it there, or drop the annotation"
            )
        if annotation.image_id not in pictures:
            raise EvaluationError(
                f"annotation {annotation.id} is in image {annotation.image_id}, which isn't in images; "
                "add it there, or drop the annotation"
            )


def _twice(values: Iterable[int | str]) -> list[int | str]:
    return [value for value, times in Counter(values).items() if times > 1]
