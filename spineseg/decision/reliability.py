"""Repeatability of each method, between repeats and between contrasts. Descriptive: precision is not accuracy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.decision.common_stretch import (
    common_areas,
    inter_contrast_sd,
    pool_repeats,
    repeat_groups,
    repeat_variances,
)
from spineseg.decision.comparison import measured_with
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import REPORT, mean_strata, sd_limits

MIN_PEOPLE = 10
"""Least number of people for a smallest detectable change: the SD of ten is known to a factor of 0.7 to 1.8."""


def intraclass_correlation(values: ArrayLike) -> tuple[float, float, float]:
    """Compute ICC(2,1), two-way random effects, absolute agreement, single measure, with its 95 % interval.

    Parameters
    ----------
    values : (n, k) array_like
        n targets measured k times.

    Returns
    -------
    icc, low, high : float
        NaN for fewer than three targets, two measures, or no variance.

    References
    ----------
    .. [1] Shrout & Fleiss 1979, Psychol Bull 86:420-428, case 2.
    """
    from scipy.stats import f

    x = np.asarray(values, np.float64)
    nan = (math.nan,) * 3
    if x.ndim != 2 or x.shape[0] < 3 or x.shape[1] < 2:
        return nan
    n, k = x.shape
    grand, rows, columns = x.mean(), x.mean(axis=1), x.mean(axis=0)
    ms_rows = k * ((rows - grand) ** 2).sum() / (n - 1)
    ms_columns = n * ((columns - grand) ** 2).sum() / (k - 1)
    ms_error = ((x - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    total = ms_rows + (k - 1) * ms_error + k * (ms_columns - ms_error) / n
    if ms_error <= 1e-12 * max(total, 1e-300):
        return nan
    icc = (ms_rows - ms_error) / total
    ratio = ms_columns / ms_error
    spread = k * icc * ratio + n * (1 + (k - 1) * icc) - k * icc
    freedom = (n - 1) * (k - 1) * spread**2 / ((n - 1) * (k * icc * ratio) ** 2 + (spread - k * icc * ratio) ** 2)
    upper, lower = f.ppf(0.975, n - 1, freedom), f.ppf(0.975, freedom, n - 1)
    weight = k * ms_columns + (k * n - k - n) * ms_error
    low = n * (ms_rows - upper * ms_error) / (upper * weight + n * ms_rows)
    high = n * (lower * ms_rows - ms_error) / (weight + n * lower * ms_rows)
    return float(icc), float(low), float(high)


def summarise_reliability(
    evidence: Evidence, params: DecisionParams, pair: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Summarise declared repeats, and contrasts, by method, with 95 % intervals.

    Parameters
    ----------
    evidence : Evidence
    params : DecisionParams
    pair : (int, int), optional
        The methods that the verdict is about: the SD over repeats is that of people in whom both have repeats, because
        that SD rules.

    Returns
    -------
    dict
        By method: n_repeated (participants), repeat_sd_pct (within-person SD of the area) and its repeat_sd_ci95; icc
        and icc_ci95; smallest_detectable_change_pct (1.96 sqrt 2 of that SD; None below ten participants) and its
        interval; n_contrasts, inter_contrast_sd_mm2 (mean over participants) and its interval. Empty without repeats
        and contrasts.
    """
    repeated = repeat_variances(evidence, params.repeats)
    spread = inter_contrast_sd(evidence)
    if not np.isfinite(repeated.variance).any() and not np.isfinite(spread).any():
        return {}
    pairs = _repeat_pairs(evidence, params)
    summary = {}
    for m, method in enumerate(evidence.methods):
        for methods in (measured_with(m, pair), (m,)):
            known, sd, free = pool_repeats(repeated, evidence.weights, methods, m)
            if known.any():
                break
        n = int(known.any(axis=1).sum())
        limits = sd_limits(sd, free)
        factor = 1.96 * math.sqrt(2) if n >= MIN_PEOPLE else math.nan
        own = pairs[:, :, m]
        icc, *icc_limits = intraclass_correlation(own[np.isfinite(own).all(axis=1)])
        mean = mean_strata(spread[:, [m]], np.ones(1)).estimate()
        low, high = mean.interval(REPORT)
        summary[method] = {
            "n_repeated": n,
            "repeat_sd_pct": sd,
            "repeat_sd_ci95": list(limits),
            "icc": icc,
            "icc_ci95": icc_limits,
            "smallest_detectable_change_pct": factor * sd,
            "smallest_detectable_change_ci95": [factor * limit for limit in limits],
            "n_contrasts": mean.n,
            "inter_contrast_sd_mm2": mean.value,
            "inter_contrast_sd_ci95": [max(0.0, low) if low == low else low, high],
        }
    return summary


def _repeat_pairs(evidence: Evidence, params: DecisionParams) -> NDArray[np.float64]:
    """First two areas of each participant's first set of repeats, (n, 2, M), mm²."""
    pairs: dict[str, NDArray[np.float64]] = {}
    for parts in repeat_groups(evidence, params.repeats):
        person = str(evidence.subject[parts[0][0]])
        if person not in pairs and (areas := common_areas(evidence, parts)) is not None:
            pairs[person] = areas[:2]
    return np.array(list(pairs.values()), np.float64).reshape(-1, 2, len(evidence.methods))
