"""Errors of the area against references: bias, precision and slope apart, and biases that do not cancel."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import COMPARED_AREA, Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import REPORT, RULE, TINY_SD, mean_strata, sd_limits

MIN_LEVEL = 3
"""People from which on a group, site or contrast is compared with the others."""


def summarise_errors(evidence: Evidence) -> dict[str, Any]:
    """Summarise the errors of the area by method, over participants, images of several contrasts within contrast.

    Returns
    -------
    dict
        By method: n, bias_pct (mean error), sd_pct (SD of the error, its mean by contrast removed), slope (of the area
        against the reference's, on logarithms; below 1: small cords are drawn too large), each with ``_ci95``. Empty
        without references.
    """
    found = {}
    for m, method in enumerate(evidence.methods):
        error = evidence.values["csa_error_pct"][:, [m]]
        area = evidence.values.get(COMPARED_AREA, evidence.values["csa_mean_mm2"])
        size = np.log(area[:, [m]] / (1 + error / 100))
        cells = evidence.by_person(np.hstack([error, size]))
        errors, sizes = cells[:, :, 0], cells[:, :, 1]
        known = np.isfinite(errors)
        if known.sum() < 2:
            continue
        bias = mean_strata(errors, np.ones(errors.shape[1])).estimate()
        df = float(known.sum() - known.any(axis=0).sum())
        inside = _centre(errors)
        sd = math.sqrt(float(np.nansum(inside**2)) / df) if df > 0 else math.nan
        slope, limits = _slope(_centre(sizes)[known], _centre(np.log1p(errors / 100))[known], df - 1)
        found[method] = {
            "n": int(known.any(axis=1).sum()),
            "bias_pct": bias.value,
            "bias_ci95": list(bias.interval(REPORT)),
            "sd_pct": sd,
            "sd_ci95": list(sd_limits(sd, df)),
            "slope": 1 + slope,
            "slope_ci95": [1 + limit for limit in limits],
        }
    return found


def _centre(values: NDArray) -> NDArray[np.float64]:
    """Remove the mean of each column, NaN left aside."""
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


def find_differential_bias(evidence: Evidence, params: DecisionParams) -> list[dict[str, Any]]:
    """Find where a method's bias differs between groups, sites or contrasts, which no comparison of people cancels.

    Returns
    -------
    list of dict
        For each of group, site and contrast and each method (without references: each pair of methods, for one of both
        then has it) the level that differs most from the others: by, level, method or pair, difference_pct, ci90 (by as
        many comparisons as there are levels), n, is_warned (beyond half of the effect, and more than chance),
        is_excluded (the whole interval within half of the effect).
    """
    rows = []
    labels = {
        "group": (evidence.of_person(evidence.group)[:, None], params.group or "group"),
        "site": (evidence.of_person(evidence.site)[:, None], params.site or "site"),
        "contrast": (evidence.contrasts[None, :], "contrast"),
    }
    for name, values in _errors_by_method(evidence, params).items():
        for by, (label, words) in labels.items():
            levels = np.broadcast_to(label, values.shape)
            if row := _largest_difference(values, levels, params.effect_pct / 2):
                rows.append({"by": by, "column": words, "of": name} | row)
    return rows


def _errors_by_method(evidence: Evidence, params: DecisionParams) -> dict[str, NDArray[np.float64]]:
    """Errors by person and contrast of each method; differences of two methods where there are too few references."""
    errors = {
        method: evidence.by_person(evidence.values["csa_error_pct"][:, [m]])[:, :, 0]
        for m, method in enumerate(evidence.methods)
    }
    errors = {name: x for name, x in errors.items() if np.isfinite(x).any(axis=1).sum() >= params.min_references}
    if errors:
        return errors
    found = {}
    for a, b in combinations(range(len(evidence.methods)), 2):
        first, second = evidence.methods[a], evidence.methods[b]
        if (gap := evidence.area_gap(a, b)) is not None:
            found[f"{first} less {second}"] = evidence.by_person(gap[:, None])[:, :, 0]
    return found


def _largest_difference(values: NDArray, levels: NDArray, limit: float) -> dict[str, Any] | None:
    """Compare each level with all others (Welch), and return the one that differs most."""
    from scipy.stats import t

    known = np.isfinite(values) & (levels != "")
    names = [
        str(name) for name in np.unique(levels[known]) if (known & (levels == name)).any(axis=1).sum() >= MIN_LEVEL
    ]
    if len(names) < 2:
        return None
    rows = []
    for name in names:
        parts = []
        for side in (known & (levels == name), known & (levels != name)):
            means = np.where(side, values, 0.0).sum(axis=1)[side.any(axis=1)] / side.sum(axis=1)[side.any(axis=1)]
            parts.append(
                (float(means.mean()), float(means.var(ddof=1)) / means.size if means.size > 1 else math.nan, means.size)
            )
        (mean, error, n), (others, other_error, n_others) = parts
        total = error + other_error
        if not np.isfinite(total):
            continue
        freedom = error**2 / (n - 1) + other_error**2 / (n_others - 1)
        df = total**2 / freedom if freedom > 0 else n + n_others - 2.0
        total = max(total, TINY_SD**2)  # where nobody differs from another, a difference is one nevertheless
        tail = (1 - RULE) / 2 / (len(names) if len(names) > 2 else 1)
        half = float(t.ppf(1 - tail, df)) * math.sqrt(total)
        gap = mean - others
        rows.append(
            {
                "level": name,
                "difference_pct": gap,
                "ci90": [gap - half, gap + half],
                "n": n,
                "is_warned": abs(gap) > limit and abs(gap) > half,
                "is_excluded": abs(gap) + half < limit,
            }
        )
    return max(rows, key=lambda row: (row["is_warned"], abs(row["difference_pct"]))) if rows else None
