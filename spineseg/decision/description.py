"""Descriptive numbers of the methods beside the endpoints; they never decide."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.bland_altman import bland_altman
from spineseg.decision.evidence import USELESS_DICE, Evidence

SUMMARY = (
    *("dice", "nsd", "hd95_mm", "csa_error_pct", "predicted_dice", "coverage", "csa_mean_mm2", "plausible"),
    *("perturb_dice", "perturb_csa_cv"),
)
"""Measures whose mean by method is reported."""


def summarise_methods(evidence: Evidence) -> dict[str, Any]:
    """Average the main measures over participants by method, each method on its own images."""
    return {
        method: {name: known_mean(evidence.person_mean(evidence.values[name][:, [m]])) for name in SUMMARY}
        for m, method in enumerate(evidence.methods)
    }


def summarise_agreement(evidence: Evidence) -> list[dict[str, Any]]:
    """Summarise how each pair of methods agrees: Dice, NSD, and Bland-Altman of the area, by participant."""
    summary = []
    for a, b in combinations(evidence.methods, 2):
        if (a, b) not in evidence.pairs:
            continue
        pair = evidence.pairs[a, b]
        dice = pair["dice"]
        summary.append(
            {
                "method_a": a,
                "method_b": b,
                "n_images": int(np.isfinite(dice).sum()),
                "dice": known_mean(evidence.person_mean(dice[:, None])),
                "nsd": known_mean(evidence.person_mean(pair["nsd"][:, None])),
                "images_below_0.7": evidence.image_id[dice < USELESS_DICE].tolist(),
                "csa_difference_mm2": bland_altman(evidence.person_mean(pair["csa_difference_mm2"][:, None])[:, 0]),
            }
        )
    return summary


def check_prediction(evidence: Evidence) -> dict[str, Any] | None:
    """Compare the predicted Dice with the measured one where references exist.

    Returns
    -------
    dict or None
        n (masks), bias by method (mean of predicted minus measured), mean_abs_error, covered (share of masks whose
        measured Dice lies in the 90 % interval), spearman (None below five masks, or where one of the two does not
        vary). None where nothing can be compared.
    """
    from scipy.stats import spearmanr

    dice, predicted = evidence.values["dice"], evidence.values["predicted_dice"]
    known = np.isfinite(dice) & np.isfinite(predicted)
    if not known.any():
        return None
    error = np.where(known, predicted - dice, np.nan)
    low, high = evidence.values["predicted_dice_low"], evidence.values["predicted_dice_high"]
    varies = known.sum() >= 5 and np.ptp(dice[known]) > 0 and np.ptp(predicted[known]) > 0
    return {
        "n": int(known.sum()),
        "bias": {method: known_mean(error[:, m]) for m, method in enumerate(evidence.methods)},
        "mean_abs_error": known_mean(np.abs(error)),
        "covered": float(((dice >= low) & (dice <= high))[known].mean()),
        "spearman": float(spearmanr(predicted[known], dice[known]).statistic) if varies else None,
    }


def predict_area_errors(evidence: Evidence) -> dict[str, Any]:
    """Predict the error of the mean area without references, percent: by the network, and by the image's edges.

    Returns
    -------
    dict
        By method, means over participants: ``network`` (area against the mask of deepseg's network) and ``edges``
        (twice the distance from contour to edge, divided by the radius). Both have their own bias: they show where to
        look and do not choose a method.
    """
    found = {}
    for m, method in enumerate(evidence.methods):
        area = evidence.values["csa_mean_mm2"][:, [m]]
        with np.errstate(invalid="ignore", divide="ignore"):
            edges = -200.0 * evidence.values["edge_offset_mm"][:, [m]] / np.sqrt(area / math.pi)
        network = 100.0 * np.expm1(evidence.values["network_area"][:, [m]])
        parts = {"network": network, "edges": edges}
        found[method] = {key: known_mean(evidence.person_mean(value)) for key, value in parts.items()}
    return found


def count_with_references(evidence: Evidence) -> int:
    """Count the people with a reference that counts as the truth."""
    return int(np.unique(evidence.subject[np.isfinite(evidence.values["dice"]).any(axis=1)]).size)


def list_flagged(evidence: Evidence) -> dict[str, list[str]]:
    """List the flagged images by method, the lowest predicted Dice first."""
    flagged, dice = evidence.values["flagged"], evidence.values["predicted_dice"]
    return {
        method: [str(evidence.image_id[n]) for n in np.argsort(dice[:, m], kind="stable") if flagged[n, m] == 1]
        for m, method in enumerate(evidence.methods)
    }


def known_mean(values: NDArray) -> float:
    """Mean of the finite values, NaN if there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan
