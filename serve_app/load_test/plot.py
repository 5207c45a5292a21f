"""Latency against concurrency, coloured by how busy the device was, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app.load_test.levels import P99_BUDGET_MS, Level
from serve_app.load_test.report import by_way, summary

_LINES = (("p99_ms", "p99", "-", "o"), ("p95_ms", "p95", "--", "s"), ("p50_ms", "p50", ":", "D"))
_INK, _FAINT, _LIMIT = "#1f2933", "#9aa5b1", "#b3261e"
_NAMES = {"http": "HTTP", "grpc": "gRPC"}


def write_plot(path: Path, levels: Sequence[Level], device: str, title: str) -> None:
    """Draw one panel for each way to the server, side by side with the same axes. It takes matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    ways = by_way(levels)
    figure = Figure(figsize=(1.6 + 5.6 * len(ways), 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(ways), sharex=True, sharey=True, squeeze=False)[0]
    colours = ScalarMappable(Normalize(0, 100), "viridis")
    for panel, (over, part) in zip(panels, ways.items(), strict=True):
        _draw(panel, over, part, colours)
    _scale(panels, levels)
    panels[0].set_ylabel("latency, ms", color=_INK)
    bar = figure.colorbar(colours, ax=list(panels), pad=0.02, aspect=30)
    bar.set_label(f"{device} utilisation of the measuring machine, %", color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=_INK, labelsize=8, length=0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    figure.savefig(path, format="png")


def _draw(panel: Any, over: str, levels: Sequence[Level], colours: Any) -> None:
    for field, name, style, marker in _LINES:
        points = [(v.concurrency, y, v.utilisation) for v in levels if (y := getattr(v, field)) is not None]
        if not points:
            continue
        x, y, busy = zip(*points, strict=True)
        panel.plot(x, y, style, color=_FAINT, linewidth=1.2, zorder=2)
        shades = [_FAINT if part is None else colours.to_rgba(100 * part) for part in busy]
        panel.scatter(x, y, c=shades, marker=marker, s=42, edgecolors="white", linewidths=0.7, zorder=3)
        panel.scatter([], [], c=_INK, marker=marker, s=30, label=name)
    panel.axhline(P99_BUDGET_MS, color=_LIMIT, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    panel.annotate(
        f"{P99_BUDGET_MS:g} ms",
        (0.995, P99_BUDGET_MS),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=_LIMIT,
    )
    panel.set_title(f"over {_NAMES.get(over, over)}", loc="left", fontsize=10, color=_INK)
    panel.set_xlabel("requests at once", color=_INK)
    _say(panel, levels)
    panel.legend(loc="lower right", bbox_to_anchor=(1.01, 0.99), ncols=3, frameon=False, fontsize=8, handletextpad=0.1)


def _say(panel: Any, levels: Sequence[Level]) -> None:
    found = summary(levels)
    fit = ", ".join(f"{streams} at {rate}" for rate, streams in found["fit"].items())
    lines = [f"streams with p99 under {P99_BUDGET_MS:g} ms: {fit} fps"]
    if failed := sum(sum(level.failed.values()) for level in levels):
        lines.append(f"{failed} requests failed")
    panel.text(0.03, 0.97, f"{found['fps']:,.0f} fps", transform=panel.transAxes, va="top", fontsize=17, color=_INK)
    panel.text(0.03, 0.885, "\n".join(lines), transform=panel.transAxes, va="top", fontsize=8, color=_INK)


def _scale(panels: Any, levels: Sequence[Level]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    ticks = sorted({level.concurrency for level in levels})
    known = [value for level in levels for value in (level.p50_ms, level.p99_ms) if value is not None]
    bounds = [*known, P99_BUDGET_MS]
    for panel in panels:
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_ylim(min(bounds) / 1.6, max(bounds) * 4)  # the text stands above the points
        panel.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(visible=True, which="major", color="#e4e7eb", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(colors=_INK, labelsize=8, length=0, which="both")
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
