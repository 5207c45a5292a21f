"""Ray's GCS dies and comes back with its tables from Redis; no running stream may notice, and none starts meanwhile."""

from __future__ import annotations

import random

import httpx

from tests.chaos.faults.churn import change
from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import PATTERN, Fleet

AWAY_S = 5.0
LATE = {"source": {"url": "testsrc://?fps=5&size=160x120"}}


def kill_gcs(fleet: Fleet, rng: random.Random) -> Outcome:
    """``kill -9``, and back after 5 s; a change and a new stream meanwhile are accepted, and the stream has to wait."""
    assert fleet.gcs is not None
    late = f"late-{rng.getrandbits(32)}"
    fleet.gcs.kill()
    try:
        if (status := change(fleet, PATTERN, late)) != httpx.codes.OK:
            fleet.journal.violation("online_again", PATTERN, f"PATCH without the GCS: {status}")
        fleet.system.put(late, LATE)
        last(AWAY_S)
        if (began := fleet.system.status(late)["epoch"]) != 0:
            fleet.journal.violation("nothing_forgotten", late, f"it was started without the GCS: epoch {began}")
    finally:
        fleet.gcs.start()

    def restored() -> bool:
        if not fleet.system.status(late)["online"]:
            return False
        fleet.system.api.delete(f"/v1/streams/{late}").raise_for_status()
        return True

    return Outcome(restored=restored)


def _unavailable(fleet: Fleet) -> str | None:
    return "the GCS keeps its tables in memory: use --store redis" if fleet.gcs is None else None


FAULTS = (Fault("GCS killed", kill_gcs, _unavailable),)
