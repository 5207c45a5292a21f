"""20 streams a minute come and go, and 200 changes a minute are made; no stream may notice, no change may be lost."""

from __future__ import annotations

import random
import threading
import time
from zlib import crc32

import httpx

from tests.chaos.desired import MARK
from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import Fleet

LENGTH_S = 12.0
ADDS_A_MINUTE = 20
PATCHES_A_MINUTE = 200


def churn(fleet: Fleet, rng: random.Random) -> Outcome:
    """For a fifth of a minute."""
    seed = rng.getrandbits(32)
    adding = threading.Thread(target=_add_and_delete, args=(fleet, seed), daemon=True)
    adding.start()
    pace = _Pace(60 / PATCHES_A_MINUTE)
    streams = sorted(fleet.streams)
    for number in range(round(LENGTH_S / 60 * PATCHES_A_MINUTE)):
        pace.wait()
        change(fleet, rng.choice(streams), f"{seed}-{number}")
    adding.join(60)
    if adding.is_alive():
        raise RuntimeError("adds and deletes did not end")
    return Outcome()


def change(fleet: Fleet, stream_id: str, mark: str) -> int | None:
    """PATCH a label and the confidence, and note what was accepted; the answer's status, None without one."""
    fleet.desired.sent(stream_id, mark)
    patch = {"labels": {MARK: mark}, "detect": {"confidence": 0.3 + crc32(mark.encode()) % 10 / 100}}
    try:
        answer = fleet.system.api.patch(f"/v1/streams/{stream_id}", json=patch, timeout=10)
    except httpx.HTTPError as error:
        fleet.journal.note(f"PATCH {stream_id}: no answer, {type(error).__name__}")
        return None
    if answer.status_code == httpx.codes.OK:
        fleet.desired.accepted(stream_id, mark, answer.json()["status"]["generation"])
        return answer.status_code
    if answer.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.CONFLICT):
        fleet.desired.refused(stream_id, mark)
    fleet.journal.note(f"PATCH {stream_id}: {answer.status_code} {answer.text[:200]}")
    return answer.status_code


def _add_and_delete(fleet: Fleet, seed: int) -> None:
    """Each is deleted when the next but one comes, whether it runs by then or not."""
    pace, alive = _Pace(60 / ADDS_A_MINUTE), []
    spec = {"source": {"url": "testsrc://?fps=5&size=160x120"}}
    with httpx.Client(base_url=fleet.system.cluster.api_url, timeout=30) as api:
        for number in range(round(LENGTH_S / 60 * ADDS_A_MINUTE)):
            pace.wait()
            alive.append(f"churn-{seed}-{number}")
            _expect(fleet, api.put(f"/v1/streams/{alive[-1]}", json=spec), alive[-1], 201)
            if len(alive) > 2:
                _delete(fleet, api, alive.pop(0))
        for stream_id in alive:
            _delete(fleet, api, stream_id)


def _delete(fleet: Fleet, api: httpx.Client, stream_id: str) -> None:
    _expect(fleet, api.delete(f"/v1/streams/{stream_id}"), stream_id, 204)
    if api.get(f"/v1/streams/{stream_id}").status_code != httpx.codes.NOT_FOUND:
        fleet.journal.violation("nothing_forgotten", stream_id, "deleted, and still there")


def _expect(fleet: Fleet, answer: httpx.Response, stream_id: str, status: int) -> None:
    if answer.status_code != status:
        seen = f"{answer.request.method}: {answer.status_code} {answer.text[:200]}"
        fleet.journal.violation("nothing_forgotten", stream_id, seen)


class _Pace:
    """Lets through once every ``period_s``, and catches up after what took longer."""

    def __init__(self, period_s: float) -> None:
        self._period_s, self._next = period_s, time.monotonic()

    def wait(self) -> None:
        last(max(0.0, self._next - time.monotonic()))
        self._next += self._period_s


FAULTS = (Fault("churn", churn),)
