"""A COCO data set on disk: where its labels and pictures lie, and that they are all there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from engines.errors import EvaluationError
from engines.evaluation.frames import Frame, read_picture
from engines.evaluation.labels import Labels, parse_labels

_PREFIX = "instances_"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labels, and the folder that holds all of their pictures."""

    annotations: Path
    folder: Path
    labels: Labels

    def frames(self) -> list[Frame]:
        """The pictures in the order of the labels; reading one whose size isn't as labelled is refused."""
        return [
            Frame(
                picture.file_name,
                partial(read_picture, self.folder / picture.file_name, (picture.width, picture.height)),
            )
            for picture in self.labels.images
        ]


def open_dataset(root: Path, annotations: Path | None = None, limit: int | None = None) -> Dataset:
    """Find and check a data set.

    Labels are ``annotations/instances_*.json``, or the file that is named; pictures of ``instances_val2017.json`` lie
    in ``val2017/``, ``images/val2017/``, ``images/``, ``root`` itself, or another folder in it.

    Args:
        limit: take the first so many pictures only.

    Raises:
        EvaluationError: labels or pictures are missing or don't fit; the message is one line with the first fault.
    """
    if not root.is_dir():
        raise EvaluationError(f"data set {root} is no folder; name the one that holds annotations/ and the images")
    file = annotations or _find_annotations(root)
    try:
        labels = parse_labels(file.read_bytes())
    except OSError as error:
        raise EvaluationError(f"can't read {file} ({error.strerror}); name the labels with --annotations") from error
    except EvaluationError as error:
        raise EvaluationError(f"{file} {error}") from error
    labels = _first(labels, limit, file)
    folder = _find_pictures(root, file.stem.removeprefix(_PREFIX), labels)
    _check_pictures(folder, (picture.file_name for picture in labels.images))
    return Dataset(file, folder, labels)


def _find_annotations(root: Path) -> Path:
    found = sorted((root / "annotations").glob(f"{_PREFIX}*.json"))
    # Who downloads COCO gets those of the training set in the same archive.
    chosen = [file for file in found if file.name.startswith(f"{_PREFIX}val")] or found
    if len(chosen) != 1:
        seen = ", ".join(file.name for file in chosen) or "none"
        raise EvaluationError(
            f"data set {root} should have one annotations/{_PREFIX}*.json, but has {seen}; name one with --annotations"
        )
    return chosen[0]


def _first(labels: Labels, limit: int | None, file: Path) -> Labels:
    if limit is None or limit >= len(labels.images):
        return labels
    images = labels.images[:limit]
    kept = {picture.id for picture in images}
    annotations = tuple(each for each in labels.annotations if each.image_id in kept)
    if not annotations:
        raise EvaluationError(f"the first {limit} images of {file} have no annotations; raise --limit")
    return labels.model_copy(update={"images": images, "annotations": annotations})


def _find_pictures(root: Path, split: str, labels: Labels) -> Path:
    usual = list(dict.fromkeys([root / split, root / "images" / split, root / "images", root]))
    # Labels of a name of their own may be of pictures in any folder.
    for folder in [*usual, *sorted(folder for folder in root.iterdir() if folder.is_dir())]:
        if any((folder / picture.file_name).is_file() for picture in labels.images):
            return folder
    places = ", ".join(f"{folder}/" for folder in usual)
    raise EvaluationError(f"{labels.images[0].file_name} and the other images are in none of {places}; put them there")


def _check_pictures(folder: Path, names: Iterable[str]) -> None:
    names = list(names)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(names)} images are missing in {folder}, the first is {missing[0]}; add them"
        )
    for name in names:
        # Looks at the first bytes: decoding all of COCO here would take a minute.
        if not cv2.haveImageReader(str(folder / name)):
            raise EvaluationError(
                f"{folder / name} is no image that OpenCV knows; replace it, or drop it from the labels"
            )
