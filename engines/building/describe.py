"""What an exported network doesn't say of itself: its family, its classes, and how its frames are normalised."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import PackageError
from engines.families import FAMILIES
from engines.families.boxes import counts, listed
from engines.manifest import Manifest, ManifestInput
from engines.models import DEFAULT_PACKAGE
from engines.types import TensorSpec

AUTO = "auto"

_PLAIN: dict[str, Any] = {"colour": "rgb", "mean": (0, 0, 0), "std": (255, 255, 255), "letterbox": "centre", "pad": 114}
_FRAMES: Mapping[str, dict[str, Any]] = {
    "nanodet": _PLAIN | {"colour": "bgr", "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)},
    "rfdetr": _PLAIN | {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    "rtdetr": _PLAIN,
    "yolo": _PLAIN,
    "yolo-nms-free": _PLAIN,
    "yolov9": _PLAIN,
    "yolox": _PLAIN | {"colour": "bgr", "std": (1, 1, 1), "letterbox": "top_left"},
}
"""How each family's own programs make the network's input of a frame. Frames are letterboxed for all."""

_UNUSED_OF_91 = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""Slots of models of COCO with 91 that stand for none of its 80 classes."""

_MOST_CLASSES = 2000
"""More than data sets have: rows of boxes must not be taken for those of classes."""

_GUESSED = "guessed"


@dataclass(frozen=True, slots=True)
class Description:
    """What the user says of a network. ``size`` is width and height; ``classes`` a file with a name a line."""

    family: str = AUTO
    size: tuple[int, int] | None = None
    classes: Path | None = None
    name: str | None = None
    licence: str | None = None


def describe(
    path: Path,
    source: TensorSpec,
    outputs: Sequence[TensorSpec],
    size: tuple[int, int],
    metadata: Mapping[str, str],
    said: Description,
) -> Manifest:
    """Make the manifest of the network in ``path``, with the input ``source``.

    Raises:
        PackageError: its outputs fit no family or several, or the class names aren't known or don't fit.
    """
    names = _given_names(said.classes, metadata)
    family = said.family
    if family not in (AUTO, *FAMILIES):
        raise PackageError(f"--family is {family!r}, which isn't known; use one of {', '.join(sorted(FAMILIES))}")
    if family == AUTO:
        family = _only_family(outputs, source.name, size, names)
    scored = _class_counts(family, outputs, size)
    if names is not None and scored and min(scored) > 0 and len(names) not in scored:
        # Another number of names is what is wrong only where all else fits.
        with_others = _manifest(family, source.name, size, [_GUESSED] * scored[0])
        if not _fits(family, outputs, with_others):
            FAMILIES[family].check(outputs, _manifest(family, source.name, size, names))
    classes = _class_names(scored, names, said.classes, listed(outputs))
    return _manifest(
        family, source.name, size, classes, said.name or path.stem, said.licence or metadata.get("license"), path.name
    )


def _manifest(
    family: str,
    source: str,
    size: tuple[int, int],
    classes: Sequence[str],
    name: str = _GUESSED,
    licence: str | None = None,
    file: str = _GUESSED,
) -> Manifest:
    frame = ManifestInput(name=source, width=size[0], height=size[1], **_FRAMES[family])
    return Manifest(
        name=name,
        family=family,
        input=frame,
        class_names=tuple(classes),
        licence=licence or "not stated: ask whoever made the model",
        source=f"built from {file}",
    )


def _only_family(outputs: Sequence[TensorSpec], source: str, size: tuple[int, int], names: Sequence[str] | None) -> str:
    """The one family that the outputs fit; where classes are named, those that score so many come first."""
    fitting: dict[str, set[int]] = {}
    for family in FAMILIES:
        scored = _class_counts(family, outputs, size)
        for count in (len(names or "") or 80,) if scored is None else scored:
            if 1 <= count <= _MOST_CLASSES and _fits(
                family, outputs, _manifest(family, source, size, [_GUESSED] * count)
            ):
                fitting.setdefault(family, set()).add(count)
    named = [family for family, scored in fitting.items() if names is not None and len(names) in scored]
    families = named or list(fitting)
    if len(families) != 1:
        said = (
            f"fit {' and '.join(families)}" if families else f"fit none of the families {', '.join(sorted(FAMILIES))}"
        )
        raise PackageError(f"the outputs {listed(outputs)} {said}; say which the model is by --family")
    return families[0]


def _fits(family: str, outputs: Sequence[TensorSpec], manifest: Manifest) -> bool:
    try:
        FAMILIES[family].check(outputs, manifest)
    except PackageError:
        return False
    return True


def _class_counts(family: str, outputs: Sequence[TensorSpec], size: tuple[int, int]) -> tuple[int, ...] | None:
    """How many classes the outputs score, read as a family's; none when they can't be, None when they don't say."""
    if family == "yolo-nms-free":
        return None
    if not outputs or any(len(output.shape) != 3 for output in outputs):
        return ()
    rows, columns = (side or 0 for side in outputs[-1].shape[1:])
    if family in ("yolo", "yolov9"):
        frame = ManifestInput(name=_GUESSED, width=size[0], height=size[1], **_PLAIN)
        anchored = family == "yolo" and rows in [3 * cells for cells in counts(frame)]
        return (columns - 5,) if anchored else (rows - 4,)
    if family == "yolox":
        return (columns - 5,)
    if family == "nanodet":
        return tuple({output.shape[2] or 0 for output in outputs if output.name.startswith("cls_")})
    slots = [output.shape[2] or 0 for output in outputs if "box" not in output.name.lower() and output.name != "dets"]
    if family == "rfdetr":
        return tuple(each for count in slots for each in ((count,) if count == 91 else (count, count - 1)))
    return tuple(count for count in slots if count != 4 or len(slots) == 1)


def _class_names(
    scored: tuple[int, ...] | None, names: Sequence[str] | None, file: Path | None, seen: str
) -> Sequence[str]:
    if scored and max(scored) < 1:
        raise PackageError(f"the model scores 0 classes in {seen}; export one that was trained on some")
    if names is not None:
        if scored and len(names) not in scored:
            where = str(file) if file else "the model's metadata"
            raise PackageError(
                f"{where} has {len(names)} class names, but the model scores {scored[0]} classes in {seen}; "
                "give one name a line for each, in the model's order, by --classes"
            )
        return names
    coco = _coco_names()
    if scored == ():
        return coco
    if scored is not None and len(coco) in scored:
        return coco
    if scored is not None and 91 in scored:
        rest = iter(coco)
        return [f"unused {slot}" if slot in _UNUSED_OF_91 else next(rest) for slot in range(91)]
    count = f"its {scored[0]} classes" if scored else "its classes"
    raise PackageError(f"the model doesn't name {count}; give --classes FILE with a name a line, in the model's order")


def _coco_names() -> list[str]:
    names: list[str] = json.loads((DEFAULT_PACKAGE / "manifest.json").read_bytes())["class_names"]
    return names


def _given_names(file: Path | None, metadata: Mapping[str, str]) -> Sequence[str] | None:
    """Class names from the user's file, or from the metadata, where Ultralytics' exporter leaves them."""
    if file is not None:
        try:
            names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise PackageError(f"can't read the class names in {file} ({error}); give a text file") from error
        if not names:
            raise PackageError(f"{file} holds no class name; write one a line")
        return names
    try:
        named = ast.literal_eval(metadata.get("names", "None"))
    except (ValueError, SyntaxError):
        return None
    if isinstance(named, dict):
        if sorted(named) != list(range(len(named))):
            raise PackageError(f"its metadata numbers its classes {list(named)}; give all of them by --classes")
        named = [named[number] for number in range(len(named))]
    names = [str(name).strip() for name in named or ()]
    if "" in names:
        raise PackageError(f"its metadata has no name for class {names.index('')}; give all of them by --classes")
    return names or None
