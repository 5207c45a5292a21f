"""What has to be done so that a server has the streams of a file: a pure comparison, and its doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from deployments.errors import RaysightError
from serve_app.fleet.errors import FleetError
from serve_app.fleet.file import Wanted, variable_of


class Verdict(StrEnum):
    """What becomes of a stream."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(slots=True)
class Step:
    """One stream; each difference is a line such as ``detect.confidence: 0.35 -> 0.5``."""

    stream_id: str
    verdict: Verdict
    differences: tuple[str, ...] = ()


class FleetServer(Protocol):
    """What `carry_out` needs of a server. Both raise RaysightError where it refuses."""

    def put(self, stream_id: str, body: Mapping[str, Any]) -> bool:
        """Create or replace a stream; whether that changed anything."""
        ...

    def delete(self, stream_id: str) -> None:
        """Delete a stream; one that isn't there is fine."""
        ...


def make_plan(wanted: Mapping[str, Wanted], present: Mapping[str, dict[str, Any]], *, prune: bool) -> list[Step]:
    """By id, the deleted last. Raises FleetError where credentials are needed that nobody knows.

    Args:
        present: what the server exports.
    """
    steps = []
    for stream_id, want in sorted(wanted.items()):
        have = present.get(stream_id)
        if want.unknown and (have is None or _without_credentials(have) != want.spec):
            _require_kept(stream_id, want, have)
        if have is None:
            steps.append(Step(stream_id, Verdict.CREATED))
            continue
        differences = tuple(_differences(_without_credentials(have), want.spec))
        steps.append(Step(stream_id, Verdict.CHANGED if differences else Verdict.UNCHANGED, differences))
    gone = sorted(set(present) - set(wanted)) if prune else []
    return steps + [Step(stream_id, Verdict.DELETED) for stream_id in gone]


def carry_out(plan: list[Step], wanted: Mapping[str, Wanted], server: FleetServer) -> dict[str, str]:
    """Do it, in order; returns why the server refused what it refused, by id.

    What is unchanged is sent all the same, as its credentials may be others; the step then says so.
    """
    refused = {}
    for at, step in enumerate(plan):
        try:
            if step.verdict is Verdict.DELETED:
                server.delete(step.stream_id)
            elif server.put(step.stream_id, wanted[step.stream_id].body) and step.verdict is Verdict.UNCHANGED:
                plan[at] = replace(step, verdict=Verdict.CHANGED, differences=("credentials",))
        except RaysightError as error:
            refused[step.stream_id] = str(error)
    return refused


def _require_kept(stream_id: str, want: Wanted, have: Mapping[str, Any] | None) -> None:
    """Credentials that are not given are kept for the same server only, which a change of URLs can't rely on."""
    if have is None or _urls(have) != _urls(want.spec):
        names = ", ".join(want.unknown)
        variables = ", ".join(map(variable_of, want.unknown))
        raise FleetError(f"stream {stream_id}: nobody knows {names}: put it into --secrets FILE, or set {variables}")


def _urls(spec: Mapping[str, Any]) -> list[str]:
    return [part["url"] for part in (spec["source"], *spec.get("outputs", ()), *spec.get("sinks", ()))]


def _without_credentials(spec: Mapping[str, Any]) -> dict[str, Any]:
    def bare(part: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in part.items() if name != "credentials"}

    lists = {name: [bare(part) for part in spec[name]] for name in ("outputs", "sinks") if name in spec}
    return {**spec, "source": bare(spec["source"]), **lists}


def _differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    if isinstance(old or {}, Mapping) and isinstance(new or {}, Mapping) and (old or new):
        before, after = old or {}, new or {}
        for name in sorted({*before, *after}):
            yield from _differences(before.get(name), after.get(name), f"{place}.{name}" if place else name)
    elif old != new:
        yield f"{place}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    return "default" if value is None else str(value)
