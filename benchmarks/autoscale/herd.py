"""A supervisor whose streams' actors live together in a few processes: all else of the control plane is the real one.

A stream's actor is a process of some 90 MiB, so a thousand don't fit on a small machine. Here the real `Supervisor`
keeps the real store, registry, lives, entrance and heartbeat, and the real API asks it over Serve. It calls Ray actors
for each report, as ever: only that one process answers for many streams, with a report as an online stream gives it.
Left out is what a stream's own process costs, and what a process each costs Ray.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import ray

from benchmarks.autoscale.reports import report_of
from deployments.names import NAMESPACE, SUPERVISOR
from deployments.streams.actor import Report
from deployments.streams.hardware import Grant
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import StreamSpec
from deployments.supervisor import actor as supervisor_module
from deployments.supervisor.actor import Supervisor
from deployments.supervisor.config import SupervisorConfig
from serve_app.config import AppArgs

HERDS = 2
"""Processes that answer for all streams."""


class Herd:
    """The far side of many streams."""

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._streams: dict[str, tuple[StreamSpec, int, int, float]] = {}

    async def begin(self, spec: StreamSpec, generation: int, epoch: int) -> None:
        """A stream lives here from now on."""
        self._streams[spec.id] = (spec, generation, epoch, time.monotonic())

    async def report(self, stream_id: str) -> Report:
        """As `StreamActor.report`."""
        spec, generation, epoch, began = self._streams[stream_id]
        return report_of(spec, generation, epoch, self._node, time.monotonic() - began)


class _Id:
    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id

    def hex(self) -> str:
        return self._stream_id


@dataclass(frozen=True)
class _Call:
    """A method of an actor that stands in, as Ray's handles have them."""

    herd: Any
    stream_id: str

    def remote(self, *_: Any) -> Any:
        return self.herd.report.remote(self.stream_id)


class HerdedActor:
    """What the supervisor takes for the handle of a stream's actor."""

    def __init__(self, herd: Any, stream_id: str) -> None:
        self._actor_id = _Id(stream_id)
        self.report = _Call(herd, stream_id)


class HerdSupervisor(Supervisor):
    """The supervisor, with stand-ins for its stream actors; it tells how long its passes took."""

    def __init__(self, config: SupervisorConfig, policy: UrlPolicy, store: str) -> None:
        herd: Any = ray.remote(Herd)
        self._herds = [herd.options(num_cpus=0, max_concurrency=1000).remote() for _ in range(HERDS)]
        self._passes: list[tuple[float, float]] = []
        setattr(supervisor_module, "stream_actor_class", self._stand_in)  # noqa: B010 - mypy knows its type
        super().__init__(config, policy, store)

    async def measured(self) -> dict[str, list[Any]]:
        """Wall and CPU seconds of each pass since the last call, and how old all reports are."""
        passes, self._passes = self._passes, []
        now = asyncio.get_running_loop().time()
        ages = [now - life.heard_at for life in self._lives if life.report is not None]
        return {"passes_s": passes, "ages_s": ages}

    async def _pass(self) -> None:
        began, cpu = time.monotonic(), time.process_time()
        await super()._pass()
        self._passes.append((time.monotonic() - began, time.process_time() - cpu))

    def _stand_in(
        self, stream_id: str, cpus: float, memory: int, grant: Grant, node: str | None, lost: Collection[str]
    ) -> Any:
        herd = self._herds[hash(stream_id) % HERDS]

        class Create:
            @staticmethod
            def remote(
                _supervisor: int, spec: StreamSpec, generation: int, _policy: UrlPolicy, epoch: int, *_rest: Any
            ) -> HerdedActor:
                herd.begin.remote(spec, generation, epoch)
                return HerdedActor(herd, stream_id)

        return Create


def main() -> None:
    """Start it under the real one's name: the API that is deployed next takes it for its own.

    A program of its own, since Ray reads its environment when it is imported. Answers each line with what was measured
    since the one before it.
    """
    asked = json.loads(sys.argv[1])
    ray.init(address=asked["address"], namespace=NAMESPACE, log_to_driver=False)
    args = AppArgs.model_validate(asked["args"])
    remote: Any = ray.remote(HerdSupervisor)
    options = remote.options(
        name=SUPERVISOR, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_restarts=0, max_concurrency=256
    )
    supervisor = options.remote(args.streams, args.policy(), args.store_url)
    ray.get(supervisor.identity.remote())
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(ray.get(supervisor.measured.remote())), flush=True)


if __name__ == "__main__":
    main()
