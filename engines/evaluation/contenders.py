"""The packages that an evaluation compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.choose import open_engine
from engines.errors import EvaluationError
from engines.package import load_package
from engines.protocol import Engine
from engines.types import EngineName


@dataclass(frozen=True, slots=True)
class Contender:
    """One package, not loaded yet: engines are opened one after the other, so that two needn't fit on a GPU.

    Attributes:
        label: what tables and plots call it; unique among those that are compared.
        path: the folder, as it was given.
        open: makes the engine, in the thread that uses it.
    """

    label: str
    path: Path
    class_names: tuple[str, ...]
    open: Callable[[], Engine]


def contenders(paths: Sequence[Path], allowed: Sequence[EngineName]) -> list[Contender]:
    """Check packages and name them: by their manifests, or by their folders where those are called alike.

    ``allowed``: the engines that may run them.

    Raises:
        EvaluationError: a package is there twice.
        PackageError: a package doesn't fit.
    """
    places = Counter(path.resolve() for path in paths)
    if twice := [path for path in paths if places[path.resolve()] > 1]:
        raise EvaluationError(f"model package {twice[0]} is given twice; name each once")
    found = []
    for path in paths:
        manifest = load_package(path).manifest
        found.append(Contender(manifest.name, path, manifest.class_names, _opener(path, allowed)))
    return distinct(found)


def distinct(found: Sequence[Contender]) -> list[Contender]:
    """Give each its own label, by the shortest names that tell all apart."""
    by_manifest, by_folder = [each.label for each in found], [each.path.resolve().name for each in found]
    by_path = [str(each.path.resolve()) for each in found]
    labels = next(names for names in (by_manifest, by_folder, by_path) if len(set(names)) == len(found))
    return [replace(each, label=label) for each, label in zip(found, labels, strict=True)]


def _opener(path: Path, allowed: Sequence[EngineName]) -> Callable[[], Engine]:
    return lambda: open_engine(load_package(path), allowed)
