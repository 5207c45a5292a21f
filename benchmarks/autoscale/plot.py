"""The day and the control plane as a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Six panels: streams and nodes, replicas, lag, cost; what decisions cost, and what a list to all handles does."""
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    panels = figure.subplots(2, 3)
    day = result["day"]
    hours = day["hours"]
    _lines(panels[0][0], hours, {"streams that run": day["streams"], "nodes for them": day["nodes"]}, "h", log=True)
    needed = {"replicas": day["replicas"], "needed at 80 % of their speed": day["replicas_needed"]}
    _lines(panels[0][1], hours, needed, "h")
    lag = panels[0][2]
    _lines(lag, hours, {"streams that wait for a node": day["waiting"]}, "h")
    other = lag.twinx()
    other.plot(hours, [100 * part for part in day["not_inferred"]], color="C1", linewidth=1)
    other.plot(hours, day["report_age_s"], color="C2", linewidth=1)
    other.set_ylabel("frames not inferred, % (orange); age of a status, s (green)", fontsize="small")
    _lines(panels[1][0], hours, {"GPU hours": day["gpu_hours"], "node hours for streams": day["node_hours"]}, "h")
    costs = result["decisions"]
    _lines(panels[1][1], costs["streams"], costs["cpu_ms"], "streams, log", log=True)
    panels[1][1].set(xscale="log", ylabel="CPU ms")
    serve = result["serve"]
    lists = {
        "one decision, ten times a second": serve["decision_cpu_ms"],
        "list of replicas, packed once": serve["list_packed_cpu_ms"],
        "the same, unpacked by each handle": serve["list_unpacked_cpu_ms"],
    }
    _lines(panels[1][2], serve["replicas"], lists, "replicas, log", log=True)
    panels[1][2].set(xscale="log", ylabel="CPU ms")
    streams = result["summary"]["most_streams"]
    figure.suptitle(f"A day of {streams:,.0f} streams, modelled; below right, what decisions cost, measured")
    figure.savefig(path, format="png", dpi=100)


def _lines(axes: Any, x: Any, lines: Mapping[str, Any], label: str, *, log: bool = False) -> None:
    for name, values in lines.items():
        axes.plot(x, values, label=name, linewidth=1.3)
    axes.set_xlabel(label)
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
