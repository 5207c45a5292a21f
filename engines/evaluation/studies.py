"""A whole evaluation: everything is checked, then measured, then written."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from engines.errors import EvaluationError
from engines.evaluation.accuracy import Accuracy, Progress, measure_accuracy
from engines.evaluation.agreement import Agreement, measure_agreement
from engines.evaluation.contenders import Contender
from engines.evaluation.dataset import Dataset
from engines.evaluation.frames import Footage
from engines.evaluation.output import file_names, staged, write_report, write_results
from engines.evaluation.reports import accuracy_report, agreement_report, curves_report


def require_extras() -> None:
    """Make sure that what only evaluations need is installed.

    Raises:
        EvaluationError: it isn't; the message says what to install.
    """
    missing = [name for name in ("faster_coco_eval", "matplotlib") if find_spec(name) is None]
    if missing:
        raise EvaluationError(f"{' and '.join(missing)} can't be imported; pip install 'raysight[evaluate]'")


def study_accuracy(
    packages: Sequence[Contender], dataset: Dataset, output: Path, command: str, progress: Progress
) -> list[Accuracy]:
    """Measure packages by labels and write ``evaluation.json``, ``curves.json``, five PNG files, and the results.

    Raises:
        EvaluationError: input or output isn't usable; then nothing is written.
        EngineError: an engine can't be loaded, or failed.
    """
    from engines.evaluation.plots import plot_accuracy

    with staged(output) as folder:
        measured = measure_accuracy(packages, dataset, progress)
        write_report(folder / "evaluation.json", command, accuracy_report(measured, dataset))
        write_report(folder / "curves.json", command, curves_report(measured))
        for each, name in zip(measured, file_names([each.label for each in measured]), strict=True):
            write_results(folder / f"results-{name}.json", each.results)
        plot_accuracy(measured, folder)
    return measured


def study_agreement(
    packages: Sequence[Contender],
    reference: Contender,
    footage: Footage,
    confidence: float,
    output: Path,
    command: str,
    progress: Progress,
) -> list[Agreement]:
    """Measure packages against another one and write ``agreement.json`` and a PNG file of each.

    Raises:
        EvaluationError: input or output isn't usable; then nothing is written.
        EngineError: an engine can't be loaded, or failed.
    """
    from engines.evaluation.plots import plot_agreement

    with staged(output) as folder:
        measured = measure_agreement(packages, reference, footage, confidence, progress)
        write_report(folder / "agreement.json", command, agreement_report(measured, reference.label, footage))
        for each, name in zip(measured, file_names([each.label for each in measured]), strict=True):
            plot_agreement(each, reference.label, folder / f"agreement-{name}.png")
    return measured
