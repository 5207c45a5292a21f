"""What one stream costs in memory and threads, and what of it is whose.

``python -m benchmarks.stream_cost --json PATH``

A process is built up step by step to a stream that is attached, beside it one that holds a Serve handle of its own.
Then real streams run: one that decodes and has its frames inferred, and one that also writes annotated video. ``uss``
is memory that a process shares with no other, in MiB: what one stream more costs. ``pss`` has its part of what is
shared. Threads are those of the operating system.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import report
from benchmarks.live import CLIP, call, whole_system
from serve_app.local import LocalCluster

SETTLE_S = 15.0
"""A stream's memory grows for some seconds: its queues fill, the codecs get their pictures."""

Cost = dict[str, float]


def cost(processes: list[psutil.Process]) -> Cost:
    """Memory and threads of some processes together."""
    memory = [process.memory_full_info() for process in processes]
    return {
        "uss": round(sum(m.uss for m in memory) / 2**20, 1),
        "pss": round(sum(m.pss for m in memory) / 2**20, 1),
        "threads": sum(process.num_threads() for process in processes),
    }


class Process:
    """An actor that becomes a stream's step by step; each step returns its cost so far."""

    def bare(self) -> Cost:
        """Ray's own."""
        gc.collect()
        return cost([psutil.Process()])

    def libraries(self) -> Cost:
        """And all modules that a stream needs, with NumPy, OpenCV, PyAV and ZeroMQ."""
        import deployments.streams.actor  # noqa: F401

        return self.bare()

    def attached(self) -> Cost:
        """And an attachment through the node's broker."""
        from deployments.detector.attaching.actor import BrokeredAttachment
        from deployments.link.attacher import Attacher

        self._attacher = Attacher(lambda key, to: BrokeredAttachment("cost", key, to))
        self._attacher.info(60)
        return self.bare()

    def with_handle(self) -> Cost:
        """Instead of the attachment a Serve handle, and one call through it."""
        from ray import serve

        self._handle: Any = serve.get_deployment_handle("Detector", app_name="detector")
        self._handle.info.remote().result(timeout_s=60)
        return self.bare()


def build_up() -> dict[str, Cost]:
    """The steps, each in a process of its own, since Serve can't be unloaded."""
    import ray  # not before the environment is the cluster's

    ray.init(address="auto", log_to_driver=False)
    actor_class: Any = ray.remote(num_cpus=0.01)(Process)
    found = {}
    for steps in (("bare", "libraries", "attached"), ("libraries", "with_handle")):
        actor = actor_class.remote()
        for step in steps:
            found[step] = ray.get(getattr(actor, step).remote())
        ray.kill(actor)
    ray.shutdown()
    return found


def named(cluster: LocalCluster, title: str) -> list[psutil.Process]:
    """Ray's processes with this title, and their children."""
    heads = [p for p in psutil.Process(cluster.pid).children(recursive=True) if " ".join(p.cmdline()).startswith(title)]
    return heads + [child for head in heads for child in head.children(recursive=True)]


def running(cluster: LocalCluster, outputs: list[dict[str, Any]]) -> Cost:
    """One real stream, the processes that send its outputs included."""
    url = f"{cluster.api_url}/v1/streams/cost"
    call("PUT", url, json.dumps({"source": {"url": CLIP, "loop": True}, "outputs": outputs}).encode())
    deadline, pause = time.monotonic() + 60, threading.Event()
    while not call("GET", url)["status"]["frames"]["inferred"] and time.monotonic() < deadline:
        pause.wait(0.2)
    pause.wait(SETTLE_S)
    found = cost(named(cluster, "ray::StreamActor"))
    call("DELETE", url)
    return found


def measure() -> dict[str, Any]:
    """Run the system and return the result."""
    with whole_system() as cluster:
        os.environ.update(cluster.environment())
        steps = build_up()
        steps["decoding and inferring"] = running(cluster, [])
        steps["and writing annotated video"] = running(cluster, [{"url": "file:cost.mp4", "annotate": True}])
        broker = cost(named(cluster, "ray::AttachBroker"))
    handle = {key: round(steps["with_handle"][key] - steps["libraries"][key], 1) for key in broker}
    return {"stream": steps, "a_handle_of_its_own": handle, "broker_of_a_node": broker}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = measure()
    print(json.dumps(result, indent=2))
    if args.json is not None:
        report.write(args.json, "benchmarks.stream_cost", result)


if __name__ == "__main__":
    main()
