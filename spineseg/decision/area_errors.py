"""Errors of the area against references: bias, precision and slope apart, and biases that do not cancel."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.comparison import measured_with
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import (
    MIN_STRATUM,
    REPORT,
    RULE,
    TINY_SD,
    enough_people,
    mean_strata,
    pool_sds,
    sd_limits,
)

MIN_LEVEL = 3
"""People from which on a group, site or contrast is compared with the others."""

LEAST_PCT = -99.0
"""Error below which an area counts as a hundredth of the reference's in slopes: nothing has no logarithm."""


def summarise_errors(evidence: Evidence, pair: tuple[int, int] | None = None) -> dict[str, Any]:
    """Summarise the errors of the area by method as the rule counts them: contrasts are strata by the plan's weights.

    Parameters
    ----------
    evidence : Evidence
    pair : (int, int), optional
        The methods that the verdict is about: theirs are the errors in people in whom both are known, which rule; those
        of a third method are of people whom the first of the pair has too.

    Returns
    -------
    dict
        By method: n, bias_pct (mean error), sd_pct (SD of the error, geometric mean over contrasts), slope (of the area
        against the reference's, on logarithms; below 1: small cords are drawn too large), each with ``_ci95``;
        at_level; by_contrast (n, bias_pct, sd_pct of each); left_out (contrasts of too few people). Empty without
        references.
    """
    found = {}
    for m, method in enumerate(evidence.methods):
        sets = (measured_with(m, pair), (m,))
        row = next((row for methods in sets if (row := _errors_of(evidence, m, methods))), None)
        if row is not None:
            found[method] = row
    return found


def _errors_of(evidence: Evidence, m: int, methods: tuple[int, ...]) -> dict[str, Any] | None:
    """Errors of one method in the people in whom some methods are known; None below two people."""
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
        method: evidence.by_person(evidence.area_errors([m])[0])[:, :, 0] for m, method in enumerate(evidence.methods)
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
