"""What makes an evaluation fail, in words; nothing where all is well."""

from __future__ import annotations

from collections.abc import Sequence

from engines.evaluation.accuracy import Accuracy
from engines.evaluation.agreement import Agreement


def ap_drops(measured: Sequence[Accuracy], at_most: float) -> list[str]:
    """Packages whose AP is more than ``at_most`` below that of the first."""
    first = measured[0]
    return [
        f"AP of {each.label} is {each.ap:.4f}, {first.ap - each.ap:.4f} below that of {first.label} ({first.ap:.4f}); "
        f"allowed are {at_most:g}"
        for each in measured[1:]
        # Sums of rounded precisions: what is equal to a millionth is equal.
        if first.ap - each.ap > at_most + 1e-9
    ]


def disagreements(measured: Sequence[Agreement], at_least: float) -> list[str]:
    """Packages whose agreement with the reference is less than ``at_least``."""
    return [
        f"agreement of {each.label} is {each.agreement:.4f}; {at_least:g} are asked for"
        for each in measured
        if each.agreement < at_least - 1e-9
    ]
