"""Which streams decode on NVDEC and encode on NVENC: a budget for each node, counted in streams; pure.

Every process that uses either owns a CUDA context of its own, which takes GPU memory from the detector, so there is
nothing to have by default. A node offers places as resources of Ray, named `NVDEC` and `NVENC`; the stream's actor
holds its places from its start to its end, as Ray takes no resource back from a living actor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zlib import crc32

from deployments.streams.spec import StreamSpec

NVDEC = "nvdec"
NVENC = "nvenc"


@dataclass(frozen=True, slots=True)
class Grant:
    """The hardware that a stream's process may use, one place of each kind at most."""

    nvdec: bool = False
    nvenc: bool = False

    @property
    def resources(self) -> dict[str, float]:
        """What Ray must set aside for the process."""
        return {name: 1.0 for name, held in ((NVDEC, self.nvdec), (NVENC, self.nvenc)) if held}


NOTHING = Grant()


@dataclass(frozen=True, slots=True)
class Budget:
    """Places that all nodes together offer, and how many of them are taken."""

    nvdec: int = 0
    nvenc: int = 0
    nvdec_taken: int = 0
    nvenc_taken: int = 0

    @classmethod
    def of(cls, offered: Mapping[str, float], grants: Iterable[Grant]) -> Budget:
        """From Ray's resources and what the running streams hold."""
        held = list(grants)
        return cls(
            nvdec=int(offered.get(NVDEC, 0)),
            nvenc=int(offered.get(NVENC, 0)),
            nvdec_taken=sum(grant.nvdec for grant in held),
            nvenc_taken=sum(grant.nvenc for grant in held),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start a stream.

    Attributes:
        grant: None where the stream has to wait for a place.
        notes: what it does without, and why, for the log.
    """

    grant: Grant | None
    notes: tuple[str, ...] = ()


def plan(spec: StreamSpec, budget: Budget, *, patient: bool = True) -> Plan:
    """The places that a stream gets when it starts.

    Args:
        patient: False for a stream that was granted a place which no node then had room to give: it gets none, unless
            it can't do without.
    """
    notes = []
    nvdec = nvenc = False
    if wants_nvdec(spec):
        lack = _lack(NVDEC, budget.nvdec, budget.nvdec_taken)
        if needs_nvdec(spec) and lack:
            return Plan(None, (f"{lack}, or set source.hwaccel to auto",))
        nvdec = not lack and (patient or needs_nvdec(spec))
        notes += [] if nvdec else [f"decodes in software: {lack or _NO_ROOM}"]
    if spec.encodes:
        lack = _lack(NVENC, budget.nvenc, budget.nvenc_taken)
        nvenc = not lack and patient
        notes += [] if nvenc else [f"encodes in software: {lack or _NO_ROOM}"]
    return Plan(Grant(nvdec, nvenc), tuple(notes))


_NO_ROOM = "the nodes that have a place have no CPUs or memory left for it"


def _lack(name: str, offered: int, taken: int) -> str:
    """Why there is no place; empty where there is one."""
    if offered <= 0:
        return f"no node offers {name}: start Ray with --resources='{{\"{name}\": N}}' where there is a GPU"
    if taken >= offered:
        return f"all {offered} places of {name} are taken: raise the number in Ray's --resources"
    return ""


def wants_nvdec(spec: StreamSpec) -> bool:
    """Whether the stream may be decoded on the GPU."""
    return spec.source.hwaccel != "none" and spec.source.decoded


def needs_nvdec(spec: StreamSpec) -> bool:
    """Whether the stream may be decoded nowhere else."""
    return spec.source.hwaccel == "cuda" and spec.source.decoded


def fits(spec: StreamSpec, grant: Grant) -> bool:
    """Whether a process with these places can follow ``spec``; else another has to take over, with others."""
    return wants_nvdec(spec) if grant.nvdec else not needs_nvdec(spec)


def device_of(stream_id: str, nodes: Iterable[str], visible: str | None) -> int:
    """The CUDA device of a stream: each of a node's GPUs gets its part of the streams.

    Args:
        nodes: names below ``/dev``, of which ``nvidia0`` and the like are GPUs.
        visible: ``CUDA_VISIBLE_DEVICES``, which hides all others where it is set.
    """
    if visible:
        count = len(visible.split(","))
    else:
        count = sum(name.removeprefix("nvidia").isdigit() for name in nodes if name.startswith("nvidia"))
    return crc32(stream_id.encode()) % max(1, count)
