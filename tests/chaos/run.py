"""One run of the suite: the fleet, the schedule, and a verdict after every fault and at the end."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Sequence, Set
from pathlib import Path

import httpx

from tests.chaos.desired import forgotten
from tests.chaos.faults import ALL, Fault, Outcome
from tests.chaos.fleet import Fleet, StoreKind, running_fleet
from tests.chaos.footprint import Footprint, footprint, growth
from tests.chaos.journal import Journal, Strike
from tests.chaos.judge import Recovery, frames_lost, interruptions
from tests.chaos.schedule import Planned, schedule

UNDISTURBED_S = 1.0
GIVE_UP_S = 60.0
"""A stream that is not back by then is given up, so that the run ends."""

RESTORED_S = 60.0
SETTLE_S = 45.0
"""Within this after the last fault the system has to be as small as it was."""

STEP_S = 0.05

WARM_UP_S = 15.0
"""From the first frames to the measure of what the system holds: threads and pools that come with use."""


def run(
    seed: int,
    minutes: float,
    journal: Journal,
    kind: StoreKind,
    only: Sequence[str] = (),
    warm_up_s: float = WARM_UP_S,
    patience: float = 1.0,
) -> None:
    """Strike a fleet for ``minutes``; all that is found is in ``journal``.

    Args:
        only: these faults, else all.
        patience: the limits of `online_again` and `others_undisturbed` are so many times as long.
    """
    with (
        tempfile.TemporaryDirectory(prefix="raysight-chaos-") as folder,
        running_fleet(Path(folder), journal, kind) as fleet,
    ):
        journal.note(f"the fleet is online; store: {'none' if fleet.store is None else kind}")
        faults = _available(fleet, only or tuple(ALL))
        _pause(warm_up_s)
        before = footprint(fleet.system.cluster.pid)
        journal.note(_words(before))
        began = time.monotonic()
        for planned in schedule(seed, minutes, faults):
            _pause(began + planned.at_s - time.monotonic())
            _strike(fleet, planned, patience)
        _compare(fleet, before)


def _available(fleet: Fleet, names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        if (why := ALL[name].unavailable(fleet)) is None:
            found.append(name)
        else:
            fleet.journal.note(f"left out: {name}: {why}")
    return found


def _strike(fleet: Fleet, planned: Planned, patience: float) -> None:
    fault, journal = ALL[planned.fault], fleet.journal
    began_wall = time.time()
    journal.note(f"FAULT {fault.name}")
    epochs = fleet.watcher.epochs()
    try:
        outcome = fault.does(fleet, random.Random(planned.seed))
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on and fails
        journal.fault_failed(fault.name, f"{type(error).__name__}: {error}")
        return
    recovery = Recovery(time.monotonic(), time.time())
    _await(fleet, recovery)
    replaced = {i for i, epoch in fleet.watcher.epochs().items() if i in epochs and epoch > epochs[i]}
    if outcome.struck is None and len(replaced) != 1:
        journal.fault_failed(fault.name, f"one actor was killed, and replaced were those of {sorted(replaced)}")
    struck = replaced if outcome.struck is None else outcome.struck
    _judge(fleet, fault, struck, recovery, outcome.began_wall or began_wall, patience)
    for stream_id in replaced - struck:
        journal.violation("others_undisturbed", stream_id, f"its actor was replaced by {fault.name!r}")
    _restored(fleet, fault, outcome)


def _await(fleet: Fleet, recovery: Recovery) -> None:
    """Until all streams are back, or given up."""
    while not recovery.observe(now := time.monotonic(), fleet.watcher.seen()):
        if now - recovery.ended > GIVE_UP_S:
            return
        _pause(STEP_S)


def _judge(
    fleet: Fleet, fault: Fault, struck: Set[str], recovery: Recovery, began_wall: float, patience: float
) -> None:
    now, now_wall = time.monotonic(), time.time()
    worst, lost = 0.0, 0
    for stream_id, wanted in fleet.desired.streams().items():
        back_s = recovery.seconds(stream_id, now)
        worst = max(worst, back_s)
        if back_s > (limit_s := fault.limit_s * patience):
            status = fleet.watcher.statuses().get(stream_id, {})
            told = {k: status.get(k) for k in ("state", "reason", "last_error", "epoch", "node")}
            seen = f"{back_s:.1f} s after {fault.name!r} ended, allowed are {limit_s:g}; now {told}"
            fleet.journal.violation("online_again", stream_id, f"{seen}; {_went_through(fleet, stream_id, began_wall)}")
        gaps = interruptions(fleet.watcher.captured(stream_id), wanted.fps, began_wall, now_wall)
        lost += frames_lost(gaps, wanted.fps)
        longest = max(gaps, default=0.0)
        if stream_id not in struck and longest > UNDISTURBED_S * patience:
            seen = f"{longest:.1f} s without detections at {fault.name!r}, which did not strike it"
            went = _went_through(fleet, stream_id, began_wall)
            fleet.journal.violation("others_undisturbed", stream_id, f"{seen}; {went}")
    fleet.journal.strikes.append(Strike(fault.name, worst, lost))
    by_stream = {i: round(recovery.seconds(i, now), 2) for i in sorted(fleet.streams)}
    fleet.journal.note(f"{fault.name}: back after {worst:.2f} s, {lost} frames lost; by stream {by_stream}")
    _check_desired(fleet)


def _went_through(fleet: Fleet, stream_id: str, since: float) -> str:
    """A stream's history since ``since``, in Unix time, and what became of the frames of its life, in words."""
    frames = fleet.watcher.statuses().get(stream_id, {}).get("frames")
    try:
        answer = fleet.system.api.get(f"/v1/streams/{stream_id}/history", timeout=10)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        return f"frames {frames}; no history: {type(error).__name__}"
    entries = [
        f"{entry['at'] - since:+.1f} s {entry['state']} {(entry['error'] or {}).get('code', '')}".rstrip()
        for entry in answer.json()["items"]
        if entry["last_at"] >= since
    ]
    return f"frames {frames}; history {entries}"


def _check_desired(fleet: Fleet) -> None:
    """Everything accepted is there."""
    wanted = fleet.desired.streams()
    try:
        answer = fleet.system.api.get("/v1/streams?limit=1000", timeout=10)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        fleet.journal.violation("online_again", "API", f"{type(error).__name__}: {error}")
        return
    for stream_id, wrong in forgotten(wanted, {item["spec"]["id"]: item for item in answer.json()["items"]}):
        fleet.journal.violation("nothing_forgotten", stream_id, wrong)


def _restored(fleet: Fleet, fault: Fault, outcome: Outcome) -> None:
    """What was struck has to be whole before the next fault, or two would come at once."""
    began = time.monotonic()
    while not outcome.restored():
        if time.monotonic() - began > RESTORED_S:
            fleet.journal.violation("online_again", fault.name, f"not restored within {RESTORED_S:g} s")
            return
        _pause(0.5)
    if (took := time.monotonic() - began) > 1:
        fleet.journal.note(f"{fault.name}: whole again {took:.1f} s later")


def _compare(fleet: Fleet, before: Footprint) -> None:
    deadline = time.monotonic() + SETTLE_S
    while grown := growth(before, after := footprint(fleet.system.cluster.pid)):
        if time.monotonic() > deadline:
            break
        _pause(2.0)
    fleet.journal.note(_words(after))
    for invariant, seen in grown.items():
        fleet.journal.violation(invariant, "system", seen)


def _words(now: Footprint) -> str:
    counts = f"{now.threads} threads, {now.descriptors} descriptors, {now.shared} pieces of shared memory"
    return f"holds {counts}, {sum(now.actors.values())} actors, {now.rss_mb:.0f} MiB"


def _pause(seconds: float) -> None:
    if seconds > 0:
        threading.Event().wait(seconds)
