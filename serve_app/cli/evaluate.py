"""`raysight engine evaluate`: how well packages detect, beside each other."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import EvaluationError
from serve_app.cli.packages import Device, DeviceOption

if TYPE_CHECKING:
    from engines.evaluation.accuracy import Accuracy, Progress
    from engines.evaluation.agreement import Agreement

LABELS = "By labels"
REFERENCE = "By another package"
CONFIDENCE = 0.25


Packages = Annotated[
    list[Path],
    typer.Argument(metavar="PACKAGE", help="Model packages; by labels, the first is what the others are held to."),
]
DatasetRoot = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=LABELS,
        help="A COCO data set: annotations/instances_*.json, and the images in val2017/, images/ or beside.",
    ),
]
Annotations = Annotated[
    Path | None,
    typer.Option(rich_help_panel=LABELS, help="The file of labels, where it lies elsewhere or there are several."),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, rich_help_panel=LABELS, help="Exit with 1 if a package's AP is further below the first's."
    ),
]
Against = Annotated[
    Path | None, typer.Option(rich_help_panel=REFERENCE, help="The package whose detections are taken for the truth.")
]
Images = Annotated[Path | None, typer.Option(rich_help_panel=REFERENCE, help="A folder of images, or a video.")]
Confidence = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=1.0,
        show_default=str(CONFIDENCE),
        rich_help_panel=REFERENCE,
        help="From which on a detection of it is an object.",
    ),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, rich_help_panel=REFERENCE, help="Exit with 1 if a package agrees less than this."),
]
Output = Annotated[Path, typer.Option(help="The new folder for the JSON and PNG files.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first so many images or frames only.")]


def evaluate(
    packages: Packages,
    dataset: DatasetRoot = None,
    annotations: Annotations = None,
    max_ap_drop: MaxDrop = None,
    against: Against = None,
    images: Images = None,
    confidence: Confidence = None,
    min_agreement: MinAgreement = None,
    output: Output = Path("evaluation"),
    device: DeviceOption = Device.AUTO,
    limit: Limit = None,
) -> None:
    """Measure how well model packages detect, one beside the other.

    With --dataset, by its labels: COCO's AP and AR, by size and by class, and the curves of precision, recall and F1.
    With --against and --images, by how far they agree with another package, on frames that nobody has labelled.

    Exits with 1 if a gate isn't met, and with 2 if the input isn't usable.
    """
    from engines.evaluation.studies import require_extras

    require_extras()
    if dataset is not None:
        others = {"--against": against, "--images": images, "--confidence": confidence}
        _only(LABELS, {**others, "--min-agreement": min_agreement})
        failures = _by_labels(packages, dataset, annotations, max_ap_drop, output, device, limit)
    elif against is not None and images is not None:
        _only(REFERENCE, {"--annotations": annotations, "--max-ap-drop": max_ap_drop})
        counts = CONFIDENCE if confidence is None else confidence
        failures = _by_reference(packages, against, images, counts, min_agreement, output, device, limit)
    else:
        raise EvaluationError("give --dataset, or --against and --images; raysight engine evaluate --help tells more")
    for failure in failures:
        print(f"raysight: {failure}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _only(way: str, others: dict[str, object]) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise EvaluationError(f"{' and '.join(given)} can't go with an evaluation {way.lower()}; leave it out")


def _by_labels(
    packages: Sequence[Path],
    root: Path,
    annotations: Path | None,
    max_drop: float | None,
    output: Path,
    device: Device,
    limit: int | None,
) -> list[str]:
    from engines.evaluation.contenders import contenders
    from engines.evaluation.dataset import open_dataset
    from engines.evaluation.gates import ap_drops
    from engines.evaluation.studies import study_accuracy

    if max_drop is not None and len(packages) < 2:
        raise EvaluationError("--max-ap-drop compares packages with the first; name at least two")
    compared = contenders(packages, device.allowed)
    dataset = open_dataset(root, annotations, limit)
    with _progress() as progress:
        measured = study_accuracy(compared, dataset, output, shlex.join(["raysight", *sys.argv[1:]]), progress)
    _print_accuracy(measured)
    typer.echo(f"Written to {output}")
    return [] if max_drop is None else ap_drops(measured, max_drop)


def _by_reference(
    packages: Sequence[Path],
    against: Path,
    images: Path,
    confidence: float,
    min_agreement: float | None,
    output: Path,
    device: Device,
    limit: int | None,
) -> list[str]:
    from engines.evaluation.contenders import contenders
    from engines.evaluation.frames import open_footage
    from engines.evaluation.gates import disagreements
    from engines.evaluation.studies import study_agreement

    reference, *compared = contenders([against, *packages], device.allowed)
    footage = open_footage(images, limit)
    with _progress() as progress:
        command = shlex.join(["raysight", *sys.argv[1:]])
        measured = study_agreement(compared, reference, footage, confidence, output, command, progress)
    _print_agreement(measured)
    typer.echo(f"Written to {output}")
    return [] if min_agreement is None else disagreements(measured, min_agreement)


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def begin(label: str, total: int | None) -> Callable[[int], None]:
            task = bars.add_task(label, total=total)
            return lambda frames: bars.advance(task, frames)

        yield begin


def _print_accuracy(measured: Sequence[Accuracy]) -> None:
    from engines.evaluation.coco import STATS
    from engines.evaluation.curves import GRID

    rows = []
    for each in measured:
        stats = [each.scores.stats[name] for name in STATS[:6]]
        best = each.curves.operating_point
        f1 = f"{each.curves.f1[:, best].mean():.3f}", f"{GRID[best]:.3f}"
        rows.append([each.label, *("-" if value is None else f"{value:.4f}" for value in stats), *f1])
    _table(["package", *STATS[:6], "F1", "at"], rows)


def _print_agreement(measured: Sequence[Agreement]) -> None:
    from engines.evaluation.reports import compare

    rows = []
    for each in measured:
        whole = compare(each)
        apart = "-" if whole.distance_mean is None else f"{whole.distance_mean:.3f} / {whole.distance_max:.3f}"
        scores = "-" if whole.score_mean is None else f"{whole.score_mean:.5f} / {whole.score_max:.5f}"
        counts = (f"{each.agreement:.4f}", f"{whole.matched} of {whole.objects}", str(whole.extra))
        rows.append([each.label, *counts, apart, scores])
    _table(["package", "agreement", "matched", "extra", "box px, mean / max", "score, mean / max"], rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Where no terminal cuts lines off, a row is a line.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
