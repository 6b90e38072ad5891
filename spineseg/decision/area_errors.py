"""Errors of the area against references: bias, precision and slope, each reported separately."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.comparison import measured_with
from spineseg.decision.evidence import Evidence
from spineseg.decision.statistics import (
    MIN_STRATUM,
    REPORT,
    enough_people,
    mean_strata,
    pool_sds,
    sd_limits,
)

LEAST_PCT = -99.0
"""Least error, percent, that enters a slope. An area this small or smaller counts as a hundredth of the reference's,
because an area of 0 has no logarithm."""


def summarise_errors(evidence: Evidence, pair: tuple[int, int] | None = None) -> dict[str, Any]:
    """Summarise the errors of the area by method as the rule counts them: contrasts are strata weighted by the plan.

    Parameters
    ----------
    evidence : Evidence
    pair : (int, int), optional
        The methods that the verdict is about. Their errors are those in people in whom both are known; these rule. A
        third method's errors are those in people in whom the first of the pair is known too.

    Returns
    -------
    dict
        By method: n (people), bias_pct (mean error), sd_pct (SD of the error, geometric mean over contrasts), slope
        (of the area against the reference's, on logarithms; below 1 small cords are drawn too large), the last three
        each with ``_ci95``; at_level (whether areas are those at the plan's level); by_contrast (n, bias_pct, sd_pct of
        each); left_out (contrasts with too few people). Empty without references.
    """
    found = {}
    for m, method in enumerate(evidence.methods):
        sets = (measured_with(m, pair), (m,))
        row = next((row for methods in sets if (row := _errors_of(evidence, m, methods))), None)
        if row is not None:
            found[method] = row
    return found


def _errors_of(evidence: Evidence, m: int, methods: tuple[int, ...]) -> dict[str, Any] | None:
    """Errors of one method in the people in whom all of `methods` are known; None below two people."""
    error, area, at_level = evidence.area_errors(methods)
    own = methods.index(m)
    size = np.log(area[:, [own]] / (1 + np.maximum(error[:, [own]], LEAST_PCT) / 100))
    cells = evidence.by_person(np.hstack([error, size]))
    errors, sizes = cells[:, :, own], cells[:, :, -1]
    count = np.isfinite(errors).sum(axis=0)
    enough = enough_people(count) & (count > 0)
    errors, sizes = np.where(enough, errors, np.nan), np.where(enough, sizes, np.nan)
    known = np.isfinite(errors)
    if known.sum() < 2:
        return None
    bias = mean_strata(errors, evidence.weights)
    whole, inside = bias.estimate(), _centre(errors)
    of_sd = count >= MIN_STRATUM
    sds = np.sqrt(np.nansum(inside**2, axis=0) / np.maximum(1, count - 1))
    sd, df = pool_sds(np.where(of_sd, sds, np.nan), count - 1.0, evidence.weights)
    x, y = _centre(sizes)[known], _centre(np.log1p(np.maximum(errors, LEAST_PCT) / 100))[known]
    slope, limits = _slope(x, y, x.size - enough.sum() - 1.0)
    names = evidence.contrasts.tolist()
    return {
        "n": int(known.any(axis=1).sum()),
        "bias_pct": whole.value,
        "bias_ci95": list(whole.interval(REPORT)),
        "sd_pct": sd,
        "sd_ci95": list(sd_limits(sd, df)),
        "slope": 1 + slope,
        "slope_ci95": [1 + limit for limit in limits],
        "at_level": at_level,
        "by_contrast": {
            names[c]: {"n": int(count[c]), "bias_pct": bias.values[c], "sd_pct": sds[c] if of_sd[c] else None}
            for c in np.flatnonzero(enough)
        },
        "left_out": [names[c] for c in np.flatnonzero(~enough & (count > 0))],
    }


def _centre(values: NDArray) -> NDArray[np.float64]:
    """Subtract the mean of each column's known values; NaN stays NaN."""
    known = np.isfinite(values)
    count = np.maximum(1, known.sum(axis=0))
    return values - np.where(known, values, 0.0).sum(axis=0) / count


def _slope(x: NDArray, y: NDArray, df: float) -> tuple[float, tuple[float, float]]:
    """Slope of centred y on centred x with its 95 % interval; NaN where x does not vary."""
    from scipy.stats import t

    total = float((x**2).sum())
    if total <= 0 or df < 1:
        return math.nan, (math.nan, math.nan)
    slope = float((x * y).sum()) / total
    half = float(t.ppf(0.975, df)) * math.sqrt(float(((y - slope * x) ** 2).sum()) / df / total)
    return slope, (slope - half, slope + half)
