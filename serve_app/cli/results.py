"""Files that commands write their results into."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def unwritable(*paths: Path | None, plot: Path | None = None) -> str | None:
    """Why the results of a measurement could not be written, to be known before it; None where they can.

    Args:
        paths: files that will be written; None for those that nobody asked for.
        plot: one more, which takes matplotlib.
    """
    for path in (*paths, plot):
        if path is not None and (why := _obstacle(path)) is not None:
            return f"{path} can't be written ({why}): name a file in a folder that exists"
    if plot is not None and find_spec("matplotlib") is None:
        return "--plot needs matplotlib: pip install 'raysight[evaluate]'"
    return None


def _obstacle(path: Path) -> str | None:
    """What is in the way, found by opening it; what is there stays as it is, and what isn't isn't there afterwards."""
    new = not path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        return error.strerror or type(error).__name__
    if new:
        path.unlink()
    return None
