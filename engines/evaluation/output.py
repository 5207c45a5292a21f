"""The folder that an evaluation leaves: whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines import circumstances
from engines.errors import EvaluationError
from engines.evaluation.coco import Result

PACKAGES = ("faster-coco-eval", "matplotlib")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder that becomes ``target`` at the end, or vanishes when something fails.

    Raises:
        EvaluationError: ``target`` has something in it, or can't be written; found out before anything is measured.
    """
    if target.is_dir() and not any(target.iterdir()):
        pass
    elif target.exists() or target.is_symlink():
        raise EvaluationError(f"output {target} exists; name a new folder with --output")
    above = next(parent for parent in target.absolute().parents if parent.exists())
    folder = above / f".{target.name}.{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield folder
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_report(path: Path, command: str, report: Mapping[str, Any]) -> None:
    """Write ``report`` with its circumstances as JSON."""
    document = {**circumstances.of(command, PACKAGES), **report}
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write results as COCO's own tools read them."""
    path.write_text(json.dumps(results, separators=(",", ":"), allow_nan=False) + "\n")


def file_names(labels: Sequence[str]) -> list[str]:
    """A file name for each label: what file systems may not like becomes a dash, and equal names get a number."""
    plain = [
        "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in label).lstrip(".") for label in labels
    ]
    return [f"{name}-{index}" if plain.count(name) > 1 else name for index, name in enumerate(plain, 1)]


def _unwritable(target: Path, error: OSError) -> EvaluationError:
    return EvaluationError(f"can't write output {target} ({error.strerror}); name another folder with --output")
