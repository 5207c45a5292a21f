"""Modules and functions stay small enough to be read at one sitting."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("serve_app", "deployments", "engines")


@dataclass(frozen=True)
class Limits:
    """Lines at most."""

    module: int = 400
    function: int = 60
    median_module: float = 150
    median_function: float = 12


def oversized(modules: dict[str, str], limits: Limits) -> list[str]:
    """What is too large in ``modules``, sources by path."""
    lengths = {path: len(source.splitlines()) for path, source in modules.items()}
    functions = {place: lines for path, source in modules.items() for place, lines in _functions(path, source).items()}
    found = [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > limits.module]
    found += [f"{place}: {lines} lines" for place, lines in functions.items() if lines > limits.function]
    for what, sizes, limit in (
        ("module", lengths, limits.median_module),
        ("function", functions, limits.median_function),
    ):
        if sizes and median(sizes.values()) > limit:
            found.append(f"median {what}: {median(sizes.values()):g} lines")
    return found


def _functions(path: str, source: str) -> dict[str, int]:
    return {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_nothing_is_too_large() -> None:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    # Empty `__init__.py` files would pull the median down.
    modules = {path.relative_to(ROOT).as_posix(): text for path in paths if (text := path.read_text()).strip()}
    assert len(modules) > 50
    found = oversized(modules, Limits())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(module=3), "m.py: 4 lines"),
        (Limits(function=3), "m.py:1 f: 4 lines"),
        (Limits(median_module=3), "median module: 4 lines"),
        (Limits(median_function=3), "median function: 4 lines"),
    ],
)
def test_what_is_too_large_is_found(limits: Limits, what: str) -> None:
    assert oversized({"m.py": "async def f():\n    a = 1\n    b = 2\n    return a + b\n"}, limits) == [what]
