"""How commands show what they found: tables for people, JSON for programs.

Colour is left out where nobody watches, and where NO_COLOR is set.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDTH_IN_A_FILE = 160
"""Columns of a table that goes into a file or a pipe."""

_STYLES = {
    "online": "green",
    "pending": "yellow",
    "connecting": "yellow",
    "reconnecting": "yellow",
    "retrying": "yellow",
    "held": "yellow",
    "failed": "bold red",
    "paused": "dim",
    "stopping": "dim",
    "idle": "dim",
}
NOTHING = "-"


def console(*, err: bool = False) -> Console:
    """For people, on standard output or error."""
    from rich.console import Console

    watched = (sys.stderr if err else sys.stdout).isatty()
    return Console(stderr=err, width=None if watched else WIDTH_IN_A_FILE, highlight=False, markup=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Without lines; columns in ``right`` hold numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def state_text(state: str) -> Text:
    """A state in its colour."""
    from rich.text import Text

    return Text(state, _STYLES.get(state, ""))


def number(value: float | None, digits: int = 1) -> str:
    """A number that may not be known."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def document(found: Any) -> None:
    """One JSON document."""
    print(json.dumps(found, indent=2, ensure_ascii=False), flush=True)


def line(found: Any) -> None:
    """One line of JSON, at once."""
    print(json.dumps(found, separators=(",", ":"), ensure_ascii=False), flush=True)


def notice(text: str) -> None:
    """For people who watch a command whose output may go elsewhere."""
    print(text, file=sys.stderr, flush=True)
