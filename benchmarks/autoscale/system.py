"""The control plane of a running system with many streams: real API, Serve, supervisor and store, as `herd` says."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import report
from benchmarks.live import CONFIG, call
from deployments.store.opening import open_store
from deployments.streams.spec import StreamSpec
from deployments.supervisor.book import StreamBook
from deployments.supervisor.lives.actor import ASKED_AT_ONCE
from serve_app.config import AppArgs
from serve_app.local import LocalCluster, Ports, free_port

CALLS = 20
START_S = 300.0


def measure(streams: int, seconds: float) -> dict[str, Any]:
    """Run the system with so many streams, which its store has from the start; what it took."""
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_load(CONFIG.read_text())
        detector, api = config["applications"]
        detector["args"] = {"engine": "fake", "num_cpus": 0.1}
        api["args"] = {"output_root": f"{folder}/out", "streams": {"stream_num_cpus": 0.0001, "stream_memory_mb": 100}}
        filled_s = _timed(lambda: fill(AppArgs.model_validate(api["args"]).store_url, streams))
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump({**config, "applications": [detector]}))
        with LocalCluster(path, Ports(free_port(), free_port())) as cluster, _supervisor(cluster, api["args"]) as far:
            cluster.deploy(config)
            measured = _measure(cluster, far, streams, seconds)
            return {**measured, "store_ms_per_stream": round(filled_s / streams * 1e3, 2)}


def fill(url: str, streams: int) -> None:
    """Have the store hold them, by the supervisor's own book."""

    async def run() -> None:
        book = StreamBook(open_store(url, os.environ))
        await book.open({"benchmark": True})
        for number in range(streams):
            await book.create(StreamSpec.model_validate({"id": f"cam-{number}", **_spec(number)}))
        book.close()

    asyncio.run(run())


@contextmanager
def _supervisor(cluster: LocalCluster, args: Mapping[str, Any]) -> Iterator[Callable[[], dict[str, list[Any]]]]:
    """Start it; the answer tells what it measured since it was last asked."""
    asked = json.dumps({"address": f"127.0.0.1:{cluster.gcs_port}", "args": args})
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.autoscale.herd", asked],
        env=cluster.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    to, back = child.stdin, child.stdout

    def measured() -> dict[str, list[Any]]:
        to.write("\n")
        to.flush()
        found: dict[str, list[Any]] = json.loads(back.readline())
        return found

    try:
        while (line := back.readline()) != "ready\n":
            if not line:
                raise RuntimeError("the supervisor did not start")
        yield measured
    finally:
        to.close()
        child.wait(30)


def _measure(
    cluster: LocalCluster, measured: Callable[[], dict[str, list[Any]]], streams: int, seconds: float
) -> dict[str, Any]:
    api, new = cluster.api_url, itertools.count(streams)
    _wait_online(api, streams)
    busy = measured()
    before, began = _cpu_s(cluster.pid), time.monotonic()
    threading.Event().wait(seconds)
    took, after = time.monotonic() - began, _cpu_s(cluster.pid)
    quiet = measured()
    asked = {
        "list_100": lambda: _list(api, 100),
        "list_1000": lambda: _list(api, 1000),
        "get": lambda: call("GET", f"{api}/v1/streams/cam-0"),
        "put": lambda: call("PUT", f"{api}/v1/streams/cam-{(number := next(new))}", _spec(number)),
    }
    answers = {}
    for name, ask in asked.items():
        cpu, walls = _cpu_s(cluster.pid), [_timed(ask) for _ in range(CALLS)]
        spent = _cpu_s(cluster.pid)
        cpu_ms = {part: round((spent[part] - cpu[part]) / CALLS * 1e3, 1) for part in ("supervisor", "api", "proxy")}
        answers[name] = {"wall_ms": _spread(walls), "cpu_ms": cpu_ms}
    return {
        "streams": streams,
        "asked_at_once": ASKED_AT_ONCE,
        "pass_ms": _spread([wall for wall, _ in quiet["passes_s"]]),
        "pass_cpu_ms": _spread([cpu for _, cpu in quiet["passes_s"]]),
        "pass_while_all_start_ms": _spread([wall for wall, _ in busy["passes_s"]]),
        "passes_a_second": round(len(quiet["passes_s"]) / took, 2),
        "report_age_ms": _spread(quiet["ages_s"]),
        "cores": {name: round((after[name] - before[name]) / took, 3) for name in after},
        "load_average": round(os.getloadavg()[0], 1),
        "answers": answers,
        "list_1000_bytes": _list(api, 1000),
    }


def _spec(number: int) -> dict[str, Any]:
    url = f"rtsp://10.0.{number // 250}.{number % 250 + 1}/live"
    return {"source": {"url": url}, "labels": {"site": "north"}}


def _list(api: str, limit: int) -> int:
    with urllib.request.urlopen(f"{api}/v1/streams?limit={limit}", timeout=30) as answer:
        return len(answer.read())


def _wait_online(api: str, size: int) -> float:
    began = time.monotonic()
    pause = threading.Event()
    while time.monotonic() - began < START_S:
        online, query = 0, "limit=1000&state=online"
        while query:
            page = call("GET", f"{api}/v1/streams?{query}")
            online += len(page["items"])
            after = page["next_cursor"]
            query = f"limit=1000&state=online&cursor={after}" if after else ""
        if online == size:
            break
        pause.wait(0.5)
    else:
        raise TimeoutError(f"{online} of {size} streams are online after {START_S:g} s")
    return time.monotonic() - began


def _timed(do: Any) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def _spread(seconds: Sequence[float]) -> Mapping[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        "p50": round(statistics.median(ordered) * 1e3, 2),
        "p95": round(ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))] * 1e3, 2),
        "max": round(ordered[-1] * 1e3, 2),
    }


NAMES = {
    "HerdSupervisor": "supervisor",
    "Ingress": "api",
    "ProxyActor": "proxy",
    "Herd": "stand-ins",
    "ServeController": "serve controller",
    "gcs_server": "gcs",
    "raylet": "raylet",
}


def _cpu_s(pid: int) -> dict[str, float]:
    found: dict[str, float] = dict.fromkeys(NAMES.values(), 0.0)
    for process in psutil.Process(pid).children(recursive=True):
        try:
            title, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue
        name = next((NAMES[part] for part in NAMES if part in title.split("--")[0]), None)
        if name is not None:
            found[name] += times.user + times.system
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    result = measure(args.streams, args.seconds)
    print(json.dumps(result, indent=2))
    if args.json is not None:
        report.write(args.json, "benchmarks.autoscale.system", result)


if __name__ == "__main__":
    main()
