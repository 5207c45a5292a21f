"""``python -m benchmarks.tracking --json PATH``: how well objects keep their numbers; half a minute.

``tests/unit/tracking/test_baseline.py`` compares with the committed result.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path

from benchmarks import report
from benchmarks.tracking.measure import CASES, FRAMES, PEOPLE, SEEDS, case, loading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    cases = {name: case(inferred) for name, inferred in CASES.items()}
    scenes = {"seeds": SEEDS, "frames": FRAMES, "people": PEOPLE}
    paid = loading()
    result = {"trackers": version("trackers"), "scenes": scenes, "cases": cases, "loading": paid}
    report.write(arguments.json, "benchmarks.tracking", result)
    for name, found in cases.items():
        print(name, found)
    print("loading", paid)


if __name__ == "__main__":
    main()
