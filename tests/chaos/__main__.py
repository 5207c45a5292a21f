"""``python -m tests.chaos --seed S --minutes M --json PATH``; the log of what was seen lies beside it, as ``.log``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.chaos.faults import ALL
from tests.chaos.journal import Journal
from tests.chaos.run import run


def main() -> int:
    """Exit status 1 where an invariant does not hold, or a fault could not be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--minutes", type=float, required=True, help="how long to strike; starting and ending come on top"
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--store", choices=("redis", "sqlite"), default="sqlite", help="what the specs are kept in")
    parser.add_argument("--faults", help=f"only these, by commas, of: {', '.join(ALL)}")
    arguments = parser.parse_args()
    only = arguments.faults.split(",") if arguments.faults else ()
    if unknown := set(only) - set(ALL):
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}")
    journal = Journal()
    try:
        run(arguments.seed, arguments.minutes, journal, arguments.store, only)
    finally:
        journal.write(arguments.json, arguments.seed)
    return 0 if journal.passed else 1


if __name__ == "__main__":
    sys.exit(main())
