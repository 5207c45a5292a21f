"""Which of a data set's categories each class of a package is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.errors import EvaluationError
from engines.evaluation.labels import Category
from engines.types import Int32Array

NO_CATEGORY = -1


def category_of_class(categories: Sequence[Category], class_names: Sequence[str]) -> Int32Array:
    """Map classes to categories by name; case, and what parts words, don't matter.

    Returns int32 ``[classes]``: the place in ``categories``, or `NO_CATEGORY` for a class that the data set doesn't
    know and whose detections no label can judge.

    Raises:
        EvaluationError: a category is no class of the package, or several; the message names all of the first kind.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(class_names):
        places.setdefault(_plain(name), []).append(place)
    missing = [category.name for category in categories if _plain(category.name) not in places]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(categories)} categories are no class of the package: {', '.join(missing)}; "
            "name the classes alike in manifest.json and in the data set, or drop those categories"
        )
    mapped = np.full(len(class_names), NO_CATEGORY, np.int32)
    for index, category in enumerate(categories):
        found = places[_plain(category.name)]
        if len(found) > 1 or mapped[found[0]] != NO_CATEGORY:
            raise EvaluationError(
                f"category {category.name!r} has more than one counterpart among the package's classes and the "
                "categories; give each its own name"
            )
        mapped[found[0]] = index
    return mapped


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
