"""The two figures of the README: the engines alone by batch size, and whole systems by their number of streams.

``python -m benchmarks.figures --prefix h100`` reads ``h100-engine-NAME.json``, which ``raysight engine benchmark``
wrote, and ``h100-fleet-NAME.json`` of ``benchmarks.fleet``, and draws ``h100-engines.png`` and ``h100-fleets.png``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.fleet import BUDGET_MS

RESULTS = Path(__file__).resolve().parent / "results"
PRECISIONS = {"fp16": "o-", "fp32": "s--"}
TICKS_MS = [3, 5, 10, 20, 50, 100, 200]


def read(folder: Path, start: str) -> dict[str, dict[str, Any]]:
    """Results by name, for all files that begin so."""
    found = sorted(folder.glob(f"{start}*.json"))
    return {path.stem.removeprefix(start): json.loads(path.read_text()) for path in found}


def split(name: str) -> tuple[str, str]:
    """A package's model and precision, from its name."""
    model, _, precision = name.rpartition("-")
    return model, precision


def draw_engines(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Frames a second and latency by batch size, a colour for each model, dashed in fp32."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    rate, latency = figure.subplots(1, 2)
    colours: dict[str, str] = {}
    for name, result in results.items():
        model, precision = split(name)
        colour = colours.setdefault(model, f"C{len(colours)}")
        batches = result["batches"]
        sizes = [each["batch"] for each in batches]
        for axes, value in ((rate, "fps"), (latency, "p50_ms")):
            axes.plot(sizes, [each[value] for each in batches], PRECISIONS[precision], color=colour, label=name)
    for axes, label in ((rate, "frames a second"), (latency, "median latency of a batch, ms")):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(xlabel="batch size", ylabel=label)
        axes.grid(alpha=0.3)
    rate.legend()
    figure.suptitle(f"Engines alone, {result['device']}")
    figure.savefig(path, format="png", dpi=110)


def draw_fleets(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A panel for each model: latency by streams, coloured by the GPU's utilisation."""
    models = sorted({split(name)[0] for name in results})
    figure = Figure(figsize=(4.2 * len(models), 4.5), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        for name, result in results.items():
            if split(name)[0] == model:
                points = _draw_fleet(axes, split(name)[1], result)
        axes.axhline(BUDGET_MS, color="tab:red", linewidth=1, label=f"budget, {BUDGET_MS:g} ms")
        axes.set(title=model, xlabel="streams of 1080p at 30 frames a second", ylabel="decoded to detections, ms")
        axes.set_yscale("log")
        axes.set_yticks(TICKS_MS, [str(ms) for ms in TICKS_MS])
        axes.minorticks_off()
        axes.set_ylim(TICKS_MS[0], TICKS_MS[-1])
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.colorbar(points, label="GPU utilisation, %")
    figure.savefig(path, format="png", dpi=110)


def _draw_fleet(axes: Any, precision: str, result: Mapping[str, Any]) -> Any:
    steps = [step for step in result["steps"] if "failed" not in step]
    streams = [step["streams"] for step in steps]
    line = PRECISIONS[precision].lstrip("os")
    p50, p99 = ([step["whole_ms"][value] for step in steps] for value in ("p50", "p99"))
    fits = f"{result['streams_measured']}{' or more' if steps[-1]['fits'] else ''}"
    axes.plot(streams, p50, line, color="grey", label=f"{precision} p50, {result['engine_fps']:.0f} fps; {fits} fit")
    axes.plot(streams, p99, line, color="black", label=f"{precision} p99")
    busy = [step["gpu_percent"] for step in steps]
    axes.scatter(streams, p50, c=busy, cmap="viridis", vmin=0, vmax=100, marker=PRECISIONS[precision][0], zorder=3)
    return axes.scatter(
        streams, p99, c=busy, cmap="viridis", vmin=0, vmax=100, marker=PRECISIONS[precision][0], zorder=3
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", required=True, help="what the files' names begin with")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    for kind, draw in (("engine", draw_engines), ("fleet", draw_fleets)):
        draw(read(args.results, f"{args.prefix}-{kind}-"), args.results / f"{args.prefix}-{kind}s.png")


if __name__ == "__main__":
    main()
