"""Which version each model should run, and what each replica is to do about it; no clock, no Ray.

A swap is tried first: every replica prepares the new version beside the running one, and only when all have, is it
wanted. From then on each replica that runs another one is told to catch up, whenever it comes; so is one that started
while a swap was on its way. What is wanted holds for the configuration it was asked under: replicas with another
package in their ``args`` are a redeployment, and theirs is wanted from then on.

Nothing here is stored elsewhere. Whoever begins anew learns from the replicas' reports which version is the newest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from deployments.errors import DetectorUnavailable, ModelNotFound, SwapInProgress
from deployments.models.versions import (
    Discard,
    ModelState,
    Order,
    Prepare,
    Refusal,
    ReplicaState,
    Report,
    Switch,
    Version,
)

HEARD_S = 15.0
"""A replica that told nothing for so long is gone: it reports every five seconds, and may be busy loading."""

FORGET_S = 600.0
"""After which a replica that is gone would count as a new one, if it came back."""


class Verdict(Enum):
    """How a trial stands."""

    WAIT = "wait"
    READY = "ready"
    GONE = "gone"
    """There is no replica left to try it."""


@dataclass(slots=True)
class _Model:
    configured: str
    wanted: Version | None = None
    trial: Version | None = None
    last: int = 0  # number of the newest version, wanted or not
    reports: dict[str, tuple[float, Report]] = field(default_factory=dict)

    def fresh(self, now: float) -> list[Report]:
        """Of the replicas that are there and not about to be replaced by a redeployment."""
        return [
            report
            for at, report in self.reports.values()
            if now - at < HEARD_S and report.configured == self.configured
        ]


class ModelBoard:
    """All models, by name. ``now`` is monotonic time throughout."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def hear(self, report: Report, now: float) -> None:
        """Take a replica's report over."""
        model = self._models.setdefault(report.model, _Model(report.configured))
        if report.replica not in model.reports and report.configured != model.configured:
            model.configured, model.wanted, model.trial = report.configured, None, None
        running = report.running
        newest = 0 if model.wanted is None else model.wanted.number
        if report.configured == model.configured and running.number > newest:
            model.wanted = running  # it was wanted before this board began
        model.last = max(model.last, running.number)
        model.reports[report.replica] = now, report
        model.reports = {name: told for name, told in model.reports.items() if now - told[0] < FORGET_S}

    def order(self, report: Report) -> Order | None:
        """What the replica of a report that was heard is to do; None: go on."""
        model = self._models[report.model]
        if report.configured != model.configured:
            return None
        if model.trial is not None:
            return _towards(model.trial, report, commit=False)
        if model.wanted is not None and report.running.number != model.wanted.number:
            return _towards(model.wanted, report, commit=True)
        return None if report.ready is None else Discard()

    def wanted(self, model: str, configured: str) -> Version | None:
        """What a replica that starts should run instead of what its ``args`` name."""
        known = self._models.get(model)
        return known.wanted if known is not None and known.configured == configured else None

    def begin(self, model: str, package: str, now: float, unix_ms: int) -> Version:
        """Have a version tried by all replicas. Raises ModelNotFound, SwapInProgress, DetectorUnavailable."""
        known = self._found(model)
        if known.trial is not None:
            raise SwapInProgress(f"model {model!r} is being swapped already: wait until that has ended")
        if not known.fresh(now):
            raise DetectorUnavailable(f"no replica of model {model!r} runs now: try again once one does")
        known.last = max(unix_ms, known.last + 1)
        known.trial = Version(known.last, package)
        return known.trial

    def verdict(self, model: str, version: Version, now: float) -> Verdict | Refusal:
        """How the trial of a version stands; one refusal is enough."""
        known = self._found(model)
        fresh = known.fresh(now)
        if not fresh or known.trial != version:
            return Verdict.GONE
        for report in fresh:
            if report.refused is not None and report.refused.number == version.number:
                return report.refused
        return Verdict.READY if all(report.ready == version.number for report in fresh) else Verdict.WAIT

    def commit(self, model: str, version: Version) -> None:
        """Make a version that was tried the wanted one."""
        known = self._found(model)
        known.wanted, known.trial = version, None

    def abandon(self, model: str, version: Version) -> None:
        """End a trial without effect."""
        known = self._found(model)
        if known.trial == version:
            known.trial = None

    def switched(self, model: str, version: Version, now: float) -> bool:
        """Whether all replicas run a version that was committed."""
        return all(report.running.number >= version.number for report in self._found(model).fresh(now))

    def state(self, model: str, now: float) -> ModelState:
        """Raises ModelNotFound."""
        for state in self.states(now):
            if state.name == model:
                return state
        raise self._unknown(model)

    def states(self, now: float) -> tuple[ModelState, ...]:
        """The models that replicas run, by name."""
        found = []
        for name, model in sorted(self._models.items()):
            reports = sorted(model.fresh(now), key=lambda report: -report.running.number)
            if reports:
                newest = reports[0]
                replicas = tuple(ReplicaState(report.node, report.engine_fps) for report in reports)
                found.append(ModelState(name, newest.running.package or None, newest.info, replicas))
        return tuple(found)

    def _found(self, model: str) -> _Model:
        if model not in self._models:
            raise self._unknown(model)
        return self._models[model]

    def _unknown(self, model: str) -> ModelNotFound:
        known = ", ".join(sorted(self._models)) or "none yet"
        return ModelNotFound(f"no replica runs a model {model!r}; there are: {known}")


def _towards(version: Version, report: Report, *, commit: bool) -> Order | None:
    if report.ready == version.number:
        return Switch(version.number) if commit else None
    if report.refused is not None and report.refused.number == version.number:
        return None
    return Prepare(version)
