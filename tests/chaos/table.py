"""``python -m tests.chaos.table PATH...``: the results of several runs as one table in Markdown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HEAD = "| fault | times tried | worst recovery, s | frames lost |\n|---|---:|---:|---:|\n"


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """A row for each fault by name: times and frames added up, the worst recovery of all."""
    rows: dict[str, tuple[int, float, int]] = {}
    for result in results:
        for fault in result["faults"]:
            times, worst, lost = rows.get(fault["name"], (0, 0.0, 0))
            worst = max(worst, fault["worst_recovery_s"])
            rows[fault["name"]] = times + fault["times"], worst, lost + fault["frames_lost"]
    lines = [f"| {name} | {times} | {worst:.1f} | {lost} |\n" for name, (times, worst, lost) in sorted(rows.items())]
    return HEAD + "".join(lines)


def verdicts(results: Iterable[Mapping[str, Any]]) -> str:
    """A line for each run: its seed, and the invariants that did not hold."""
    lines = []
    for result in results:
        broken = [name for name, held in result["invariants"].items() if not held]
        lines.append(
            f"- seed {result['seed']}: {'broken: ' + ', '.join(broken) if broken else 'all invariants held'}\n"
        )
    return "".join(lines)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.table", description=__doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="JSON of `python -m tests.chaos`")
    results = [json.loads(path.read_text()) for path in parser.parse_args().paths]
    print(table(results))
    print(verdicts(results), end="")


if __name__ == "__main__":
    main()
