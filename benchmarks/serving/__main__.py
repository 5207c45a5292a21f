"""Frames through the whole of serving, three ways and on the same frames, set against the engine alone.

``python -m benchmarks.serving [--quick] [--json PATH]``

Paths: ``engine`` is the engine in a loop with full batches, and nothing else. ``serve_requests`` sends each frame as
a Serve request into a `@serve.batch` that waits 3 ms, the way a first version is written. ``link`` is ours over shared
memory, ``link_tcp`` the same over TCP with CURVE, as between nodes.

Frames are 16:9 pictures letterboxed to the engine's input, as cameras give them: over TCP padding doesn't travel.
The load is open loop: N streams, each a process, hand over F frames a second whatever becomes of them; a stream with
four frames out drops the next one. Latency is from handing a frame over to its detections. CPU is that of all
processes, Ray's own included, less that of a run in which the producers hand their frames to nobody, per frame that got
detections. The engine plays a given speed unless ``--engine onnx`` asks for the model that ships. With ``--replicas``
there are as many engines; ratios stay those to one of them alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import yaml

from benchmarks import report
from benchmarks.serving import driver, first_version
from benchmarks.serving.cost import cpu_seconds, spent_between
from benchmarks.serving.producer import Tally
from deployments.detector.config import DetectorConfig, FakeEngineConfig
from deployments.detector.service import load_engine
from deployments.names import APPLICATION, DEPLOYMENT
from engines.types import EngineInfo, Thresholds
from serve_app.local import LocalCluster, Ports, free_port

P = ParamSpec("P")
T = TypeVar("T")

PATHS = ("serve_requests", "link", "link_tcp")
WARM_UP_S = 1.0
MANY_CORES = 8
ENOUGH = 200
"""Frames at least for a CPU time of each: Ray's own processes differ by more from run to run than fewer frames cost."""


@dataclass(frozen=True)
class Load:
    """So many streams at so many frames a second."""

    streams: int
    fps: float

    @classmethod
    def parse(cls, text: str) -> Load:
        """``24x45``: 24 streams at 45 frames a second."""
        streams, _, fps = text.partition("x")
        try:
            load = cls(int(streams), float(fps))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not STREAMSxFPS, such as 24x45") from error
        if load.streams < 1 or load.fps <= 0:
            raise argparse.ArgumentTypeError("a load has streams and frames")
        return load


@dataclass(frozen=True)
class Row:
    """One path under one load; times in milliseconds, NaN-free: None where nothing came back.

    Attributes:
        slowest_over_fastest: frames of the stream that got the fewest over those of the one that got the most.
    """

    path: str
    streams: int
    offered_fps: float
    fps: float
    ratio_to_engine: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    mean_batch: float | None
    cpu_ms_per_frame: float | None
    dropped: dict[str, int]
    slowest_over_fastest: float | None = None


def engine_alone(config: DetectorConfig, seconds: float) -> dict[str, Any]:
    """The engine in a loop with full batches, in all of its lanes, and its time for a single frame."""
    engine = load_engine(config)
    info = engine.info
    frames = np.random.default_rng(0).integers(0, 256, (info.max_batch_size, info.height, info.width, 3), np.uint8)
    engine.warmup()

    def times(size: int) -> list[float]:
        taken, until = [], time.monotonic() + seconds / 2
        while time.monotonic() < until:
            started = time.perf_counter()
            engine.infer(list(frames[:size]), [Thresholds()] * size)
            taken.append(time.perf_counter() - started)
        return taken

    with ThreadPoolExecutor(engine.lanes) as pool:
        if engine.lanes > 1:
            lanes = list(pool.map(times, [info.max_batch_size] * engine.lanes))
        else:  # by the thread that made it
            lanes = [times(info.max_batch_size)]
    single = times(1)
    engine.close()
    return {
        "info": info,
        "fps": sum(info.max_batch_size * len(full) / sum(full) for full in lanes),
        "full_batch_ms": percentiles([taken for full in lanes for taken in full]),
        "one_frame_ms": round(float(np.median(single)) * 1e3, 2),
    }


def percentiles(seconds: list[float]) -> tuple[float | None, float | None, float | None]:
    """p50, p95 and p99 in milliseconds."""
    if not seconds:
        return None, None, None
    p50, p95, p99 = (round(float(np.percentile(seconds, q)) * 1e3, 2) for q in (50, 95, 99))
    return p50, p95, p99


class Bench:
    """A cluster with the producers, and what was measured on it."""

    def __init__(self, cluster: LocalCluster, driving: Executor, config: DetectorConfig, seconds: float) -> None:
        self._cluster = cluster
        self._driving = driving
        self._config = config
        self._seconds = seconds

    def deploy(self, path: str) -> None:
        """Have Serve run what ``path`` needs, and nothing else."""
        self._cluster.deploy(_serve_config(path, self._config))

    def producers_only(self, load: Load) -> float:
        """Seconds of CPU a second that producing the frames costs."""
        _, cpu_s = self._run("none", load)
        return cpu_s / self._seconds

    def measure(self, path: str, load: Load, producing: float, engine_fps: float) -> Row:
        """One row."""
        tallies, cpu_s = self._run(path, load)
        latencies = [latency for tally in tallies for latency in tally.latencies_s]
        dropped: Counter[str] = sum((tally.dropped for tally in tallies), Counter())
        batches = sum(tally.batches for tally in tallies)
        served = [len(tally.latencies_s) for tally in tallies]
        fps = len(latencies) / self._seconds
        return Row(
            path,
            load.streams,
            load.streams * load.fps,
            round(fps, 1),
            round(fps / engine_fps, 3),
            *percentiles(latencies),
            round(len(latencies) / batches, 2) if batches else None,
            round((cpu_s - producing * self._seconds) / len(latencies) * 1e3, 3) if len(latencies) >= ENOUGH else None,
            dict(dropped),
            round(min(served) / max(served), 3) if any(served) else None,
        )

    def _run(self, path: str, load: Load) -> tuple[list[Tally], float]:
        self._drive(driver.choose, path, load.streams)
        self._drive(driver.run, load.streams, load.fps, WARM_UP_S)
        before = cpu_seconds()
        tallies = self._drive(driver.run, load.streams, load.fps, self._seconds)
        cpu_s = spent_between(before, cpu_seconds())
        self._drive(driver.choose, "none", load.streams)
        return tallies, cpu_s

    def _drive(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driving.submit(call, *args, **kwargs).result()


def _serve_config(path: str, config: DetectorConfig) -> dict[str, Any]:
    args = config.model_dump(mode="json")
    if path == "serve_requests":
        name, deployment = first_version.APPLICATION, first_version.DEPLOYMENT
        import_path, user_config = "benchmarks.serving.first_version:build_first_version", None
    else:
        name, deployment = APPLICATION, DEPLOYMENT
        import_path, user_config = "deployments.detector.deployment:build_detector", {"max_batch_size": 256}
    options = {"name": deployment} if user_config is None else {"name": deployment, "user_config": user_config}
    application = {"name": name, "route_prefix": None, "import_path": import_path, "args": args}
    return {
        "proxy_location": "Disabled",
        "logging_config": {"enable_access_log": False},
        "applications": [{**application, "deployments": [options]}],
    }


def measure(
    config: DetectorConfig,
    loads: list[Load],
    seconds: float,
    paths: Sequence[str],
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Run everything; ``keep`` gets the result so far after each row, so that what ends early has some."""
    engine = engine_alone(config, seconds)
    info: EngineInfo = engine["info"]
    p50, p95, p99 = engine["full_batch_ms"]
    rows = [Row("engine", 0, 0.0, round(engine["fps"], 1), 1.0, p50, p95, p99, info.max_batch_size, None, {})]
    show(rows[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(_serve_config(paths[0], config)))
        streams = max(load.streams for load in loads)
        with (
            LocalCluster(path, Ports(free_port(), free_port()), say=print_to_stderr) as cluster,
            driver.start(cluster, streams, info.width, info.height) as driving,
        ):
            bench = Bench(cluster, driving, config, seconds)
            producing = {load: bench.producers_only(load) for load in loads}
            for route in paths:
                bench.deploy(route)
                for load in loads:
                    rows.append(bench.measure(route, load, producing[load], engine["fps"]))
                    show(rows[-1])
                    keep(_result(config, engine, producing, rows))


def _result(
    config: DetectorConfig, engine: dict[str, Any], producing: dict[Load, float], rows: list[Row]
) -> dict[str, Any]:
    info: EngineInfo = engine["info"]
    return {
        "engine": {
            "name": info.name,
            "device": info.device,
            "replicas": config.num_replicas,
            "max_batch": info.max_batch_size,
            "fps": round(engine["fps"], 1),
            "one_frame_ms": engine["one_frame_ms"],
            "full_batch_p50_ms": engine["full_batch_ms"][0],
        },
        "producers_only_cores": {f"{load.streams}x{load.fps:g}": round(cores, 3) for load, cores in producing.items()},
        "rows": [asdict(row) for row in rows],
    }


def print_to_stderr(line: str) -> None:
    """Progress, apart from the table."""
    print(line, file=sys.stderr, flush=True)


HEADINGS = ("path", "streams", "offered/s", "frames/s", "of engine", "p50 ms", "p95 ms", "p99 ms", "batch", "CPU ms")


def show(row: Row) -> None:
    """Print a row of the table."""
    values = list(asdict(row).values())
    cells = "".join(f"{'-' if value is None else value:>10}" for value in values[1:10])
    drops = " ".join(f"{reason}={count}" for reason, count in row.dropped.items())
    fairness = f"  slowest/fastest {row.slowest_over_fastest}" if row.slowest_over_fastest is not None else ""
    print(f"{row.path:<15}{cells}{fairness}  {drops}", flush=True)


def default_loads(cores: int, *, quick: bool) -> list[Load]:
    """Loads that the first version can't carry, the idle system, and many streams."""
    if cores < MANY_CORES:
        return [Load(6, 60)] if quick else [Load(10, 50), Load(1, 5)]
    full = [Load(24, 45)]
    return full if quick else [*full, Load(24, 30), Load(60, 30), Load(1, 5)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("fake", "onnx"), default="fake", help="onnx: the model that ships")
    parser.add_argument("--fixed-ms", type=float, default=3.0, help="of a batch, however small")
    parser.add_argument("--per-frame-ms", type=float, default=0.75)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the model that ships")
    parser.add_argument("--replicas", type=int, default=1, help="of the detector")
    parser.add_argument("--load", type=Load.parse, action="append", metavar="STREAMSxFPS", help="may be repeated")
    parser.add_argument("--path", choices=PATHS, action="append", help="may be repeated; default: all")
    parser.add_argument("--quick", action="store_true", help="a first answer within a minute")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    fake = {"fixed_ms": args.fixed_ms, "per_frame_ms": args.per_frame_ms, "max_batch_size": args.max_batch}
    config = DetectorConfig(
        engine=args.engine,
        device=args.device,
        num_gpus=0.0 if args.device == "cpu" else 1 / args.replicas,
        num_replicas=args.replicas,
        fake=FakeEngineConfig(**fake, stride=64),
    )
    loads = args.load or default_loads(len(os.sched_getaffinity(0)), quick=args.quick)
    print(f"{HEADINGS[0]:<15}" + "".join(f"{heading:>10}" for heading in HEADINGS[1:]))

    def keep(result: dict[str, Any]) -> None:
        if args.json is not None:
            report.write(args.json, "benchmarks.serving", result)

    measure(config, loads, 3.0 if args.quick else 5.0, args.path or PATHS, keep)


if __name__ == "__main__":
    main()
