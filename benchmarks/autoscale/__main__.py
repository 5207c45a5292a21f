"""A day with 10 to 10,000 streams, and where the control plane ends: ``python -m benchmarks.autoscale --json PATH``.

First what decisions cost is measured here, by the number of streams and of replicas; then a day is modelled with what
``python -m benchmarks.autoscale.control_plane`` measured and the speed of an engine. A PNG lies beside the JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.autoscale import costs, serve_costs
from benchmarks.autoscale.model import BEAT_S, FRAME_CORES, Costs, Settings, day, simulate, summary

RESULTS = Path(__file__).resolve().parents[1] / "results"
SYSTEM = RESULTS / "autoscale-1000-streams-2-cores.json"
ENGINE = RESULTS / "h100-engine-yolov9-e-fp16.json"


def run(most: int, hours: float, system: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, Any]:
    """Measure, model, and put together."""
    sizes = [size for size in (10, 30, 100, 300, 1000, 3000, 10_000) if size <= most]
    decisions = costs.measure(sizes)
    serve = serve_costs.measure([size for size in (1, 10, 100, 300, 1000) if size <= max(10, most // 10)])
    measured = costs_of(system, max(batch["fps"] for batch in engine["batches"]))
    settings = Settings()
    wanted = day(10, most, hours)
    seen = simulate(wanted, measured, settings)
    growth = {
        name: {"exponent": round(costs.exponent(samples), 2), "no_faster_than_n_log_n": costs.is_n_log_n(samples)}
        for name, values in decisions["cpu_ms"].items()
        if (samples := [costs.Sample(*pair) for pair in zip(sizes, values, strict=True)][1:])
    }
    return {
        "engine": {"name": engine["name"], "device": engine["device"], "fps": round(measured.engine_fps, 1)},
        "stream": {"fps": settings.fps, "frame_cpu_ms": FRAME_CORES * 1e3},
        "supervisor": {
            "report_cpu_ms": round(measured.report_s * 1e3, 3),
            "pass_cpu_ms_per_1000": round(measured.pass_s * 1e6, 1),
        },
        "summary": summary(seen, wanted, measured),
        "growth_above_30_streams": growth,
        "decisions": decisions,
        "serve": serve,
        "day": {name: values[:: max(1, len(values) // 480)] for name, values in seen.items()},
    }


def costs_of(system: Mapping[str, Any], engine_fps: float) -> Costs:
    """From a run of the system: what is not spent in passes is spent on reports, with all that belongs to them."""
    pass_s = system["pass"]["cpu_ms"]["p50"] / 1e3
    asked = min(system["streams"], system["asked_at_once"]) / BEAT_S
    report_s = max(0.0, system["cores"] - pass_s * system["passes_a_second"]) / asked
    return Costs(engine_fps, FRAME_CORES, report_s, pass_s / system["streams"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write the result here, and the plot beside it")
    parser.add_argument("--most", type=int, default=10_000, help="streams at the day's height")
    parser.add_argument("--hours", type=float, default=8.0, help="length of the day")
    parser.add_argument("--system", type=Path, default=SYSTEM, help="result of benchmarks.autoscale.control_plane")
    parser.add_argument("--engine", type=Path, default=ENGINE, help="result of raysight engine benchmark")
    args = parser.parse_args()
    from benchmarks.autoscale.plot import draw

    result = run(args.most, args.hours, json.loads(args.system.read_text()), json.loads(args.engine.read_text()))
    report.write(args.json, "benchmarks.autoscale", result)
    draw(result, args.json.with_suffix(".png"))
    print(json.dumps({name: result[name] for name in ("summary", "supervisor", "growth_above_30_streams")}, indent=2))


if __name__ == "__main__":
    main()
