"""``python -m tests.soak --minutes N --json PATH``: the fleet, left alone, and how what it holds grows."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.report import write
from tests.chaos.fleet import running_fleet
from tests.chaos.journal import Journal
from tests.soak.real_model import running_model
from tests.soak.report import passes, report
from tests.soak.samples import Fleet, Sample, sampler

PERIOD_S = 5.0
MAX_MB_PER_HOUR = 5.0
WARM_UP_SHARE = 0.25
WARM_UP_MINUTES = 10.0


def main() -> int:
    """Exit status 1 where the upper bound of a stream's memory is over the limit, or the fleet breaks an invariant."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--hours", type=float)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--max-mb-per-hour", type=float, default=MAX_MB_PER_HOUR, help="of a stream's resident memory")
    parser.add_argument("--warm-up", type=float, metavar="MINUTES", help="left out: a quarter, at most ten minutes")
    parser.add_argument("--store", choices=("redis", "sqlite"), default="sqlite", help="what the specs are kept in")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="the shipped model there, on streams without cameras")
    parser.add_argument("--streams", type=int, default=4, help="how many of those")
    arguments = parser.parse_args()
    minutes = arguments.minutes if arguments.minutes is not None else arguments.hours * 60
    warm_up = arguments.warm_up if arguments.warm_up is not None else min(WARM_UP_MINUTES, WARM_UP_SHARE * minutes)
    journal = Journal()
    samples: list[Sample] = []
    with (
        tempfile.TemporaryDirectory(prefix="raysight-soak-") as folder,
        _running(Path(folder), journal, arguments) as fleet,
    ):
        sample, pause = sampler(fleet), threading.Event()
        while not samples or samples[-1].hours * 60 < minutes:
            pause.wait(PERIOD_S)
            samples.append(sample())
        result = report(samples, len(fleet.streams), warm_up / 60)
    write(arguments.json, "tests.soak", result)
    print(json.dumps(result["slopes_an_hour"], indent=1))
    return 0 if journal.passed and passes(result, arguments.max_mb_per_hour) else 1


def _running(folder: Path, journal: Journal, arguments: argparse.Namespace) -> AbstractContextManager[Fleet]:
    if arguments.device is None:
        return running_fleet(folder, journal, arguments.store)
    return running_model(folder, journal, arguments.device, arguments.streams)


if __name__ == "__main__":
    sys.exit(main())
