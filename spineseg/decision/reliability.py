"""How well a method repeats itself: scan and rescan, contrast and contrast. Descriptive, without truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.decision.contrast_spread import inter_contrast_sd
from spineseg.decision.endpoints import scan_rescan_cov
from spineseg.decision.evidence import Evidence


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


def summarise_reliability(evidence: Evidence) -> dict[str, Any]:
    """Summarise repeats and contrasts by method.

    Returns
    -------
    dict
        By method: n_repeated (participants), scan_rescan_cov_pct (root mean square over them), icc with
        icc_low and icc_high, minimal_detectable_change_mm2 (1.96 sqrt 2 times the SD of one measure within
        a person), n_contrasts (participants), inter_contrast_sd_mm2 (mean). Empty where there are neither
        repeats nor contrasts.
    """
    cov, spread = scan_rescan_cov(evidence), inter_contrast_sd(evidence)
    if not (np.isfinite(cov).any() or np.isfinite(spread).any()):
        return {}
    summary = {}
    for m, method in enumerate(evidence.methods):
        pairs = repeat_pairs(evidence, m)
        icc, low, high = intraclass_correlation(pairs)
        within = math.sqrt((np.diff(pairs, axis=1) ** 2 / 2).mean()) if len(pairs) else math.nan
        known, known_spread = cov[np.isfinite(cov[:, m]), m], spread[np.isfinite(spread[:, m]), m]
        summary[method] = {
            "n_repeated": int(known.size),
            "scan_rescan_cov_pct": float(np.sqrt((known**2).mean())) if known.size else math.nan,
            "icc": icc,
            "icc_low": low,
            "icc_high": high,
            "minimal_detectable_change_mm2": 1.96 * math.sqrt(2) * within,
            "n_contrasts": int(known_spread.size),
            "inter_contrast_sd_mm2": float(known_spread.mean()) if known_spread.size else math.nan,
        }
    return summary


def repeat_pairs(evidence: Evidence, method: int) -> NDArray[np.float64]:
    """First two mean areas of each participant's first set of repeats, (n, 2), mm²; one row per participant."""
    csa = evidence.values["csa_mean_mm2"][:, method]
    key = evidence.repeat_key
    pairs = {}
    known = np.isfinite(evidence.values["csa_mean_mm2"]).all(axis=1)  # the same images for every method
    for name in np.unique(key):
        members = np.flatnonzero((key == name) & known)
        if len(members) >= 2:
            pairs.setdefault(str(evidence.subject[members[0]]), csa[members[:2]])
    return np.array(list(pairs.values()), np.float64).reshape(-1, 2)
