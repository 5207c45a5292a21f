"""Registry, supervisor and API with many streams, in one process: ``python -m benchmarks.autoscale.control_plane``.

Real are the store (SQLite), the supervisor with its book, lives, entrance, heartbeat and loop, and the API, asked by
HTTP without a socket. All share one thread, so each is as slow as it can be. Stream actors stand in: a stream's process
takes 90 MiB, so that a thousand don't fit; each answers with the report of an online stream with an idle source, packed
and unpacked as Ray does it. Left out are Ray's own calls and Serve's proxy: what they cost comes on top.

CPU seconds of the thread stand beside those of the clock: other programs on the machine count in these only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx
from fastapi import FastAPI
from ray import cloudpickle

from benchmarks import report
from benchmarks.autoscale.filling import fill, spec_of
from benchmarks.autoscale.reports import report_of
from benchmarks.autoscale.spread import spread_ms
from deployments.streams.actor import Report
from deployments.streams.spec import StreamSpec
from deployments.supervisor.actor import Supervisor
from deployments.supervisor.lives import actor as lives_module
from deployments.supervisor.lives.actor import ASKED_AT_ONCE
from serve_app.api.application import create_api
from serve_app.api.ports import Detector, Media, Streams
from serve_app.auth.audit import AuditLog
from serve_app.config import AppArgs

NODES = 1
"""With a store that is a file there may be no more."""
CALLS = 15
HOST = "http://localhost"


class Actor:
    """A stream's actor, from the supervisor's side."""

    def __init__(self, number: int, spec: StreamSpec, generation: int, epoch: int) -> None:
        self._actor_id = number.to_bytes(8, "big")
        told = report_of(spec, generation, epoch, f"node-{number % NODES}", 60.0)
        pack: Any = cloudpickle.dumps
        self._packed: bytes = pack(told)
        self.report = self

    async def remote(self, *_: Any) -> Report:
        """An answer, as it comes from another process."""
        await asyncio.sleep(0.001)
        answer: Report = cloudpickle.loads(self._packed)
        return answer


class TimedSupervisor(Supervisor):
    """Notes how long its passes take, by the clock and in CPU time."""

    passes: list[tuple[float, float]]

    async def _pass(self) -> None:
        began, cpu = time.monotonic(), time.thread_time()
        await super()._pass()
        self.passes.append((time.monotonic() - began, time.thread_time() - cpu))


@contextmanager
def without_ray(port: int) -> Iterator[None]:
    """What the supervisor asks of Ray is answered here: nodes, whose raylets listen at ``port``, and actors."""
    numbers = itertools.count()
    nodes = [
        {
            "NodeID": f"node-{n}",
            "Alive": True,
            "Resources": {"CPU": 4096.0, "memory": 2.0**40},
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerPort": port,
        }
        for n in range(NODES)
    ]

    class Create:
        @staticmethod
        def remote(_: int, spec: StreamSpec, generation: int, _policy: Any, epoch: int, *_rest: Any) -> Actor:
            return Actor(next(numbers), spec, generation, epoch)

    class Context:
        @staticmethod
        def get_node_id() -> str:
            return "node-0"

    free = {node["NodeID"]: node["Resources"] for node in nodes}
    with (
        patch("ray.get_runtime_context", lambda: Context),
        patch("ray.nodes", lambda: nodes),
        patch("deployments.supervisor.nodes.actor.available_resources_per_node", lambda: free),
        patch("deployments.supervisor.nodes.actor.state.get_draining_nodes", dict),
        patch("deployments.supervisor.lives.actor.stream_actors", lambda known: {}),
        patch("deployments.supervisor.actor.stream_actor_class", lambda *_: Create),
    ):
        yield


async def measure(streams: int, seconds: float, asked_at_once: int) -> dict[str, Any]:
    """Begin with so many in the store, wait until all are online, and look at a time in which nobody asks anything."""
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as raylet:
        port: int = raylet.sockets[0].getsockname()[1]
        few = patch.object(lives_module, "ASKED_AT_ONCE", asked_at_once)
        with tempfile.TemporaryDirectory() as folder, without_ray(port), few:
            args = AppArgs.model_validate({"output_root": f"{folder}/out"})
            await fill(args.store_url, streams)
            TimedSupervisor.passes = []
            supervisor = TimedSupervisor(args.streams, args.policy(), args.store_url)
            await supervisor._adopted.wait()
            try:
                return {
                    "streams": streams,
                    "asked_at_once": asked_at_once,
                    **await _look(supervisor, _api(supervisor, args), streams, seconds),
                    "load_average": round(os.getloadavg()[0], 1),
                }
            finally:
                for task in (supervisor._loop_task, supervisor._heartbeat._task):
                    task.cancel()


def _api(supervisor: Supervisor, args: AppArgs) -> FastAPI:
    absent = cast(Any, None)
    return create_api(
        cast(Streams, supervisor),
        cast(Detector, absent),
        cast(Media, absent),
        version="benchmark",
        allowed_hosts=args.allowed_hosts,
        doors=None,
        audit=AuditLog(absent, 0, time.time),
    )


async def _look(supervisor: TimedSupervisor, api: FastAPI, streams: int, seconds: float) -> dict[str, Any]:
    numbers = itertools.count(streams)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url=HOST, timeout=120) as client:
        await _until_online(client, streams)
        busy, TimedSupervisor.passes = TimedSupervisor.passes, []
        began, cpu = time.monotonic(), time.thread_time()
        await asyncio.sleep(seconds)
        took, spent = time.monotonic() - began, time.thread_time() - cpu
        quiet, now = list(TimedSupervisor.passes), asyncio.get_running_loop().time()
        ages = [now - life.heard_at for life in supervisor._lives]
        return {
            "pass": _both(quiet),
            "pass_while_all_start": _both(busy),
            "passes_a_second": round(len(quiet) / took, 2),
            "report_age_ms": spread_ms(ages),
            "cores": round(spent / took, 3),
            "answers": {
                "put": _both(await _timed(CALLS, lambda: _put(client, next(numbers)))),
                "get": _both(await _timed(CALLS, lambda: client.get("/v1/streams/cam-0"))),
                "list_100": _both(await _timed(CALLS, lambda: client.get("/v1/streams?limit=100"))),
                "list_1000": _both(await _timed(CALLS, lambda: client.get("/v1/streams?limit=1000"))),
            },
            "list_1000_bytes": len((await client.get("/v1/streams?limit=1000")).content),
        }


async def _put(client: httpx.AsyncClient, number: int) -> None:
    (await client.put(f"/v1/streams/cam-{number}", json=spec_of(number))).raise_for_status()


async def _until_online(client: httpx.AsyncClient, streams: int) -> None:
    async with asyncio.timeout(300):
        online = 0
        while online < min(streams, 1000):
            await asyncio.sleep(0.5)
            online = len((await client.get("/v1/streams?limit=1000&state=online")).json()["items"])


async def _timed(times: int, do: Callable[[], Awaitable[object]]) -> list[tuple[float, float]]:
    found = []
    for _ in range(times):
        began, cpu = time.monotonic(), time.thread_time()
        await do()
        found.append((time.monotonic() - began, time.thread_time() - cpu))
    return found


def _both(times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {"wall_ms": spread_ms([wall for wall, _ in times]), "cpu_ms": spread_ms([cpu for _, cpu in times])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--asked-at-once", type=int, default=ASKED_AT_ONCE, help="another limit than the supervisor's")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    result = asyncio.run(measure(args.streams, args.seconds, args.asked_at_once))
    print(json.dumps(result, indent=2))
    if args.json is not None:
        report.write(args.json, "benchmarks.autoscale.control_plane", result)


if __name__ == "__main__":
    main()
