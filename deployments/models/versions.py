"""What replicas tell of their model, and what they are told to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from engines.types import EngineInfo


@dataclass(frozen=True, slots=True)
class Version:
    """A package that replicas of a model run, or are to run.

    Attributes:
        number: 0 for the configured one, else rises with every swap; the Unix time in ms, so that it does so too where
            nobody remembers the last one.
        package: its folder; empty for an engine that has none.
    """

    number: int
    package: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that a replica can't run, and why, in one line."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica tells of itself.

    Attributes:
        configured: the package that its application's ``args`` name.
        engine_fps: frames a second that its engine was measured to manage; 0 unmeasured.
        ready: number of the version that lies ready beside the running one.
        refused: the version that it was told to prepare, and couldn't.
    """

    model: str
    replica: str
    node: str
    configured: str
    running: Version
    info: EngineInfo
    engine_fps: float
    ready: int | None = None
    refused: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Load this version beside the running one, and make sure that it infers."""

    version: Version


@dataclass(frozen=True, slots=True)
class Switch:
    """Run the version that lies ready."""

    number: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Close the version that lies ready."""


Order = Prepare | Switch | Discard


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """Where a replica runs, and what its engine was measured to manage, frames a second; 0 unmeasured."""

    node: str
    engine_fps: float


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that at least one replica runs.

    Attributes:
        package: its folder; None for an engine that has none.
        info: of the replicas that run the wanted version, where there are such.
    """

    name: str
    package: str | None
    info: EngineInfo
    replicas: tuple[ReplicaState, ...]
