"""What describes the methods beside the endpoint; it never decides."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.endpoints import Endpoint
from spineseg.decision.evidence import Evidence
from spineseg.decision.rule import Judgement
from spineseg.decision.statistics import bland_altman, holm, wilcoxon_exact
from spineseg.measures import MEASURES

SECONDARY = (
    *("dice", "nsd", "hd95_mm", "assd_mm", "csa_error_abs_pct", "predicted_dice", "flagged", "coverage", "plausible"),
    *("n_components", "csa_roughness", "centre_roughness", "perturb_dice", "perturb_csa_cv"),
)
"""Measures that describe, in the order of the table."""

PROXIES = (
    *("predicted_dice", "coverage", "csa_roughness", "n_components", "plausible", "centre_roughness"),
    *("perturb_dice", "uncertainty"),
)


def metric_values(evidence: Evidence, name: str) -> NDArray[np.float64]:
    """Values of a metric, (N, M): the size of the signed area error, and no pieces of an empty mask."""
    if name == "n_components":
        return np.where(evidence.values[name] > 0, evidence.values[name], np.nan)
    if name == "csa_error_abs_pct":
        return np.abs(evidence.values["csa_error_pct"])
    return evidence.values[name]


def compare_secondary(evidence: Evidence, judgement: Judgement, endpoint: str) -> dict[str, Any]:
    """Compare the best method with its runner-up in each metric but the endpoint, Holm-adjusted.

    Returns
    -------
    dict
        By metric: means by method over the same images, difference (best minus runner-up), p_wilcoxon,
        p_holm, better (the method, or null where neither), n_participants. Empty without a pair.
    """
    if judgement.rival is None:
        return {}
    pair = [judgement.best, judgement.rival]
    names = [evidence.methods[m] for m in pair]
    rows: dict[str, Any] = {}
    for metric in SECONDARY:
        if metric == endpoint and judgement.basis == "endpoint":
            continue
        means = evidence.person_mean(metric_values(evidence, metric)[:, pair])
        means = means[np.isfinite(means).all(axis=1)]
        if not len(means):
            continue
        average = means.mean(axis=0)
        gap = float(average[0] - average[1])
        winner = names[0 if (gap > 0) == MEASURES[metric].higher_is_better else 1]
        rows[metric] = {
            "means": dict(zip(names, average.tolist(), strict=True)),
            "difference": gap,
            "better": winner if abs(gap) > 1e-12 else None,
            "n_participants": len(means),
            "p_wilcoxon": wilcoxon_exact(means[:, 0] - means[:, 1]),
        }
    adjusted = holm([row["p_wilcoxon"] for row in rows.values()])
    for row, p in zip(rows.values(), adjusted, strict=True):
        row["p_holm"] = float(p)
    return rows


def summarise_methods(evidence: Evidence, endpoint: Endpoint) -> dict[str, Any]:
    """Mean over participants of the endpoint and the main metrics by method, each on its own images."""
    summary = {}
    for m, method in enumerate(evidence.methods):
        row = {endpoint.kind.key: _mean(endpoint.means[:, m])}
        for metric in (
            "dice",
            "nsd",
            "hd95_mm",
            "csa_error_pct",
            "predicted_dice",
            "coverage",
            "csa_mean_mm2",
            "plausible",
        ):
            row[metric] = _mean(evidence.person_mean(evidence.values[metric][:, [m]])[:, 0])
        summary[method] = row
    return summary


def summarise_agreement(evidence: Evidence) -> list[dict[str, Any]]:
    """Summarise how each pair of methods agrees: Dice, NSD, and Bland-Altman of the area, by participant."""
    summary = []
    for a, b in combinations(range(len(evidence.methods)), 2):
        pair = {evidence.methods[a], evidence.methods[b]}
        if not any({row.method_a, row.method_b} == pair for row in evidence.agreement):
            continue
        dice, nsd, csa = (evidence.pair_values(a, b, name) for name in ("dice", "nsd", "csa_difference_mm2"))
        summary.append(
            {
                "method_a": evidence.methods[a],
                "method_b": evidence.methods[b],
                "n_images": int(np.isfinite(dice).sum()),
                "dice": _mean(evidence.person_mean(dice[:, None])),
                "nsd": _mean(evidence.person_mean(nsd[:, None])),
                "images_below_0.7": evidence.image_id[dice < 0.7].tolist(),
                "csa_difference_mm2": bland_altman(evidence.person_mean(csa[:, None])[:, 0]),
            }
        )
    return summary


def proxy_truth(evidence: Evidence) -> dict[str, Any]:
    """Say how well each proxy ranks the masks as their Dice with the reference does.

    Returns
    -------
    dict
        By proxy: spearman over images and methods, n. Empty with fewer than five scored masks, or where
        a proxy or the Dice does not vary.
    """
    from scipy.stats import spearmanr

    dice = evidence.values["dice"].ravel()
    result = {}
    for name in PROXIES:
        values = evidence.values[name].ravel()
        known = np.isfinite(dice) & np.isfinite(values)
        if known.sum() < 5 or np.ptp(values[known]) == 0 or np.ptp(dice[known]) == 0:
            continue
        result[name] = {"spearman": float(spearmanr(values[known], dice[known]).statistic), "n": int(known.sum())}
    return result


def check_prediction(evidence: Evidence) -> dict[str, Any] | None:
    """Compare the predicted Dice with the measured one where references exist.

    Returns
    -------
    dict or None
        n (masks), bias by method (mean of predicted minus measured), mean_abs_error, covered (share of masks whose
        measured Dice lies in the 90 % interval); None where nothing can be compared.
    """
    dice, predicted = evidence.values["dice"], evidence.values["predicted_dice"]
    known = np.isfinite(dice) & np.isfinite(predicted)
    if not known.any():
        return None
    error = np.where(known, predicted - dice, np.nan)
    low, high = evidence.values["predicted_dice_low"], evidence.values["predicted_dice_high"]
    return {
        "n": int(known.sum()),
        "bias": {method: _mean(error[:, m]) for m, method in enumerate(evidence.methods)},
        "mean_abs_error": _mean(np.abs(error).ravel()),
        "covered": float(((dice >= low) & (dice <= high))[known].mean()),
    }


def _mean(values: NDArray) -> float:
    """Mean of the finite values, NaN if there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan
