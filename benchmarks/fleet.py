"""How many 1080p30 streams one node carries, for a model on its GPU: more and more of them through the whole system.

``python -m benchmarks.fleet --package DIR --device cuda --nvdec 64 --streams 8,16,32 --json PATH``

Each stream plays a 1080p clip at 30 frames a second, as a camera sends it, and detections only are asked for. At each
number of streams the system runs for ``--seconds``: what was inferred, the latency of its events (from decoded to
detections out), the CPU of a stream's process, and how busy the GPU was. A number of streams fits if nearly all of its
frames are inferred, 99 of 100 within the 75 ms that a live broadcast leaves. Beside it stands the paper's estimate,
the engine's own frames a second divided by those of a stream.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import report
from benchmarks.live import CONFIG, Follower, call, percentiles, wait_inferred
from benchmarks.nvdec import repeated
from benchmarks.pipeline import FPS, make_clip
from deployments.store.opening import sqlite_url
from engines.utilisation import Utilisation
from serve_app.local import LocalCluster, Ports, free_port

BUDGET_MS = 75.0
ENOUGH = 0.97
"""Part of the offered frames that must be inferred: the system's reports round a frame up or down."""

CLIP_FRAMES = 300 * FPS
"""Longer than a run: a clip that begins anew makes another decoder on the GPU, some 0.1 s, which no camera does."""

SETTLE_S = 10.0
"""After a stream's first detections: by then what piled up while GPU contexts were made has been dealt with."""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the system and return the result; a step that fails ends it, and says why."""
    with tempfile.TemporaryDirectory() as folder:
        clip = repeated(make_clip(Path(folder) / "once.mp4", 10.0), Path(folder) / "clip.mp4", CLIP_FRAMES)
        config = yaml.safe_load(CONFIG.read_text())
        detector, api = config["applications"]
        detector["args"] |= {"device": args.device, "num_gpus": float(args.device == "cuda")}
        if args.package is not None:
            detector["args"] |= {"package": str(args.package.resolve()), "engine": "auto"}
        detector["deployments"][0]["user_config"]["max_batch_size"] = args.max_batch
        api["args"] |= {"media_root": folder, "output_root": folder}
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        resources = {"nvdec": args.nvdec} if args.nvdec else {}
        store = sqlite_url(Path(folder) / "registry.db")  # of its own: streams of an earlier run would come back
        with LocalCluster(path, Ports(free_port(), free_port()), resources=resources, store=store) as cluster:
            return _measure(cluster.api_url, clip.name, args)


def _measure(api: str, clip: str, args: argparse.Namespace) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    followers: list[Follower] = []
    gpu = 0 if args.device == "cuda" else None
    for streams in args.streams:
        try:
            _add(api, clip, followers, streams)
            steps.append(_step(api, followers, args.seconds, gpu))
        except Exception as error:  # noqa: BLE001 - what was measured before is worth having
            steps.append({"streams": streams, "failed": f"{type(error).__name__}: {error}"})
            break
        print(json.dumps(steps[-1]), flush=True)
    (model, *_) = call("GET", f"{api}/v1/models")["items"]
    capacity = call("GET", f"{api}/v1/capacity?fps={FPS}")
    return {
        "model": {name: value for name, value in model.items() if name != "class_names"},
        "source": {"size": "1920x1080", "fps": FPS, "codec": "h264"},
        "nvdec_places": args.nvdec,
        "mps": "CUDA_MPS_PIPE_DIRECTORY" in os.environ,
        "engine_fps": capacity["engine_fps"],
        "streams_by_engine_speed": capacity["fits"],
        "streams_measured": max((step["streams"] for step in steps if step.get("fits")), default=0),
        "steps": steps,
    }


def _add(api: str, clip: str, followers: list[Follower], streams: int) -> None:
    ids = [f"cam-{number}" for number in range(len(followers), streams)]
    for stream_id in ids:
        call("PUT", f"{api}/v1/streams/{stream_id}", {"source": {"url": f"file:{clip}", "loop": True}})
    wait_inferred(api, ids, 120.0)
    for stream_id in ids:
        followers.append(Follower(f"{api}/v1/streams/{stream_id}/detections"))
        followers[-1].start()
    threading.Event().wait(SETTLE_S)


def _step(api: str, followers: list[Follower], seconds: float, gpu: int | None) -> dict[str, Any]:
    actors = _stream_processes()
    before, cpu = _counts(api), _cpu_s(actors)
    started = time.monotonic()
    with Utilisation([] if gpu is None else [gpu]) as busy:
        threading.Event().wait(seconds)
    ended = time.monotonic()
    cpu_s, after = _cpu_s(actors) - cpu, _counts(api)
    latencies = [ms for follower in followers for at, ms in list(follower.samples) if started <= at < ended]
    decoded, inferred = (after[name] - before[name] for name in ("decoded", "inferred"))
    offered_fps, whole = float(len(followers) * FPS), percentiles(latencies)
    enough = min(after["decoded_fps"] / offered_fps, inferred / decoded) >= ENOUGH
    return {
        "streams": len(followers),
        "offered_fps": offered_fps,
        "decoded_fps": round(after["decoded_fps"], 1),
        "inferred_fps": round(after["inferred_fps"], 1),
        "inferred_part": round(inferred / decoded, 3),
        "whole_ms": whole,
        "stages_p50_ms": after["stages"],
        "fits": enough and whole["p99"] <= BUDGET_MS,
        "cpu_cores_per_stream": round(cpu_s / (ended - started) / len(followers), 3),
        f"{busy.of}_percent": round(busy.percent, 1),
        "all_cores_percent": psutil.cpu_percent(interval=1.0),
        "decoders": sorted(after["decoders"]),
    }


def _counts(api: str) -> dict[str, Any]:
    """Of all streams. A stream's report is up to 2 s old: of one report rates and the ratio of its counts are exact,
    while a count over the time between two calls is not."""
    statuses: list[dict[str, Any]] = [view["status"] for view in call("GET", f"{api}/v1/streams?limit=1000")["items"]]
    stages = [status["latency_ms"] for status in statuses]
    return {
        "stages": {
            name: round(statistics.median(each[name]["p50"] for each in stages if name in each), 2)
            for name in max(stages, key=len)
        },
        "decoded": sum(status["frames"]["decoded"] for status in statuses),
        "inferred": sum(status["frames"]["inferred"] for status in statuses),
        "decoded_fps": sum(status["fps"].get("decoded", 0.0) for status in statuses),
        "inferred_fps": sum(status["fps"].get("inferred", 0.0) for status in statuses),
        "decoders": {str(status["source"]["decoder"]) for status in statuses if status["source"]},
    }


def _stream_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "StreamActor" in _title(child)]


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="the model package; default: the one that ships")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--nvdec", type=int, default=0, help="streams that may be decoded on the GPU")
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result, indent=2))
    if args.json is not None:
        report.write(args.json, "benchmarks.fleet", result)


if __name__ == "__main__":
    main()
