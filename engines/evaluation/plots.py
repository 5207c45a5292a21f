"""The pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engines.evaluation.accuracy import Accuracy
from engines.evaluation.agreement import Agreement
from engines.evaluation.curves import GRID, Curves

_COLOURS = ("#0b6bcb", "#e8590c", "#2b8a3e", "#9c36b5", "#c2255c", "#5c940d", "#495057", "#0b7285")
_DASHES = ("solid", (0, (5, 2.5)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_FAINT = "#ced4da"
_DPI = 150
_BARS = 20
"""Classes at most in a chart: the most frequent ones."""


def plot_accuracy(measured: Sequence[Accuracy], folder: Path) -> None:
    """Write ``precision.png``, ``recall.png``, ``f1.png``, ``pr.png`` and ``ap.png``."""

    def at_best(values: NDArray[np.float64], curves: Curves) -> str:
        best = curves.operating_point
        return f"{values[best]:.3f} at {GRID[best]:.3f}"

    def area(_: NDArray[np.float64], curves: Curves) -> str:
        return f"area {curves.area.mean():.3f}"

    confidence = "Confidence"
    for name, x, y, chosen, value in (
        ("precision", confidence, "Precision", lambda curves: curves.precision, at_best),
        ("recall", confidence, "Recall", lambda curves: curves.recall, at_best),
        ("f1", confidence, "F1", lambda curves: curves.f1, at_best),
        ("pr", "Recall", "Precision", lambda curves: curves.precision_at_recall, area),
    ):
        _curves(measured, chosen, value, (x, y), folder / f"{name}.png")
    _ap(measured, folder / "ap.png")


def plot_agreement(each: Agreement, reference: str, path: Path) -> None:
    """Write one picture: scores against each other, box distances, agreement by class."""
    figure = Figure(figsize=(15, 5), dpi=_DPI, layout="constrained")
    figure.suptitle(
        f"{each.label} against {reference}: agreement {each.agreement:.4f} on {each.frames} frames", fontsize=13
    )
    scores, boxes, classes = figure.subplots(1, 3)
    _scores(scores, each, reference)
    _distances(boxes, each)
    _by_class(classes, each)
    figure.savefig(path)


def _curves(
    measured: Sequence[Accuracy],
    chosen: Callable[[Curves], NDArray[np.float64]],
    value: Callable[[NDArray[np.float64], Curves], str],
    names: tuple[str, str],
    path: Path,
) -> None:
    figure = Figure(figsize=(8, 6.5), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    x, y = names
    _frame(axes, f"{y} by {x.lower()}, mean over classes, IoU 0.5", x, y)
    if len(measured) == 1:
        for index, row in enumerate(chosen(measured[0].curves)):
            axes.plot(GRID, row, color=_FAINT, linewidth=0.8, zorder=1, label="" if index else "each class")
    for index, each in enumerate(measured):
        mean = chosen(each.curves).mean(axis=0)
        colour, dashes = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
        # Those on top are thinner: equal lines would hide each other.
        width = max(1.6, 3.2 - 0.7 * index)
        axes.plot(
            GRID,
            mean,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            label=f"{each.label}: {value(mean, each.curves)}",
        )
        if x == "Confidence":
            best = each.curves.operating_point
            axes.plot(GRID[best], mean[best], "o", color=colour, markersize=6, markeredgecolor="white")
    figure.legend(loc="outside lower center", ncols=1 if len(measured) <= 4 else 2, frameon=False)
    figure.savefig(path)


def _ap(measured: Sequence[Accuracy], path: Path) -> None:
    stats = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    figure = Figure(figsize=(10, 5.5), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title("COCO average precision")
    axes.set_ylim(0, 1)
    axes.set_ylabel("AP")
    axes.grid(axis="y", alpha=0.35)
    axes.set_axisbelow(True)
    width = 0.8 / len(measured)
    for index, each in enumerate(measured):
        heights = [each.scores.stats[name] for name in stats]
        places = np.arange(len(stats)) - 0.4 + width * (index + 0.5)
        bars = axes.bar(
            places,
            [height or 0 for height in heights],
            width * 0.92,
            color=_COLOURS[index % len(_COLOURS)],
            label=f"{each.label}: AP {each.ap:.4f}",
        )
        texts = ["none" if height is None else f"{height:.3f}" for height in heights]
        axes.bar_label(bars, texts, fontsize=8, padding=2, rotation=0 if len(measured) < 4 else 90)
    axes.set_xticks(range(len(stats)), ["AP", "AP50", "AP75", "small", "medium", "large"])
    _bare(axes)
    figure.legend(loc="outside lower center", ncols=1 if len(measured) <= 4 else 2, frameon=False)
    figure.savefig(path)


def _scores(axes: Axes, each: Agreement, reference: str) -> None:
    pairing = each.pairing
    _frame(axes, "Confidence of matched objects", reference, each.label)
    axes.plot([0, 1], [0, 1], color="#adb5bd", linewidth=1, zorder=1)
    axes.plot(
        pairing.reference_score,
        pairing.score,
        "o",
        color=_COLOURS[0],
        alpha=0.35,
        markersize=4,
        markeredgewidth=0,
        zorder=2,
    )
    axes.set_aspect("equal")


def _distances(axes: Axes, each: Agreement) -> None:
    distance = each.pairing.distance
    axes.set_title("Distance of matched boxes")
    axes.set_xlabel("mean over the four sides, pixels")
    axes.set_ylabel("objects")
    if len(distance):
        top = max(float(distance.max()), 0.01)
        axes.hist(distance, bins=np.linspace(0, top, 41).tolist(), color=_COLOURS[0])
        axes.set_xlim(0, top)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
    axes.grid(alpha=0.35)
    axes.set_axisbelow(True)
    _bare(axes)


def _by_class(axes: Axes, each: Agreement) -> None:
    order = [int(place) for place in np.argsort(-each.pairing.objects, kind="stable") if each.pairing.objects[place]]
    shown = order[:_BARS][::-1]
    names = [each.class_names[place] for place in shown]
    heights = [each.by_class[name] or 0 for name in names]
    bars = axes.barh(range(len(shown)), heights, color=_COLOURS[0], height=0.7)
    counts = [int(each.pairing.objects[place]) for place in shown]
    texts = [f"{height:.3f} ({count})" for height, count in zip(heights, counts, strict=True)]
    axes.bar_label(bars, texts, fontsize=8, padding=3)
    axes.set_title("Agreement by class (objects)" + (f", the {_BARS} most frequent" if len(order) > _BARS else ""))
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlim(0, 1.25)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylim(-0.75, max(len(shown), 4) - 0.25)
    axes.set_xlabel("AP50, the reference's objects as labels")
    axes.grid(axis="x", alpha=0.35)
    axes.set_axisbelow(True)
    _bare(axes)


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.set_yticks(np.linspace(0, 1, 11))
    axes.grid(alpha=0.35)
    axes.set_axisbelow(True)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
