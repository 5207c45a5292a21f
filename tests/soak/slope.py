"""The slope of a measure over time with its bounds: ordinary least squares and Student's t distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Slope:
    """In the measure's unit an hour: the estimate and both bounds of its 95 % interval."""

    slope: float
    low: float
    high: float


def fit(hours: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares of ``values`` over ``hours``; needs three points, not all at the same time.

    The variance of the slope is ``sum(residual^2) / (n - 2) / sum((t - mean t)^2)`` (Draper and Smith, Applied
    Regression Analysis, 1.4). It takes residuals for independent: those of samples seconds apart are not quite, and
    the bounds are then too narrow rather than too wide, which a longer run mends.

    Raises:
        ValueError: too few points.
    """
    count = len(hours)
    if count != len(values) or count < 3 or min(hours) == max(hours):
        raise ValueError(f"a slope with bounds needs three points at different times, got {count}")
    mean_t, mean_v = fmean(hours), fmean(values)
    spread = math.fsum((t - mean_t) ** 2 for t in hours)
    slope = math.fsum((t - mean_t) * (v - mean_v) for t, v in zip(hours, values, strict=True)) / spread
    residuals = [v - mean_v - slope * (t - mean_t) for t, v in zip(hours, values, strict=True)]
    error = math.sqrt(math.fsum(r * r for r in residuals) / (count - 2) / spread)
    reach = student_t(count - 2) * error
    return Slope(slope, slope - reach, slope + reach)


def student_t(freedom: int) -> float:
    """The quantile that holds `LEVEL` of Student's distribution between its negative and itself.

    Exact for one and two degrees of freedom, else Cornish and Fisher's expansion (Abramowitz and Stegun, 26.7.5), which
    is within 1 % from three on and within 0.1 % from five on.
    """
    upper = (1 + LEVEL) / 2
    if freedom == 1:
        return math.tan(math.pi * (upper - 0.5))
    if freedom == 2:
        return (2 * upper - 1) / math.sqrt(2 * upper * (1 - upper))
    z = NormalDist().inv_cdf(upper)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
