"""Spread of the cord's area between the contrasts of one person, on the same stretch of cord."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import Evidence

MIN_OVERLAP_MM = 10.0
"""Shortest common stretch that counts: half a vertebra; shorter ones hold too few thick slices."""


def inter_contrast_sd(evidence: Evidence) -> NDArray[np.float64]:
    """Compute the SD over contrasts of the mean CSA per participant, (P, M), mm².

    Within a session, the stretch along the body's axis that every method found in every contrast is
    taken, so that all means are over the same cord; the SD (n - 1) over contrasts is averaged over the
    participant's sessions. NaN without the table of slices, with one contrast only, or where the common
    stretch is shorter than 10 mm.
    """
    people = evidence.people
    result = np.full((people.size, len(evidence.methods)), np.nan)
    profiles = _profiles(evidence)
    for p, person in enumerate(people):
        mine = np.flatnonzero(evidence.subject == person)
        spreads = [
            spread
            for session in np.unique(evidence.session[mine])
            if (spread := _session_spread(evidence, mine[evidence.session[mine] == session], profiles)) is not None
        ]
        if spreads:
            result[p] = np.mean(spreads, axis=0)
    return result


def _profiles(evidence: Evidence) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Area along the body by image and method: (n, 2) of z (mm) and CSA (mm²)."""
    if evidence.slices is None:
        return {}
    known = evidence.slices.dropna(subset=["csa_mm2", "centroid_z_mm"])
    return {
        (str(image), str(method)): part[["centroid_z_mm", "csa_mm2"]].to_numpy()
        for (image, method), part in known.groupby(["image_id", "method"], sort=False)
    }


def _session_spread(
    evidence: Evidence, images: NDArray[np.intp], profiles: dict[tuple[str, str], NDArray]
) -> NDArray[np.float64] | None:
    """SD over contrasts by method, (M,), or None where it is not defined."""
    if np.unique(evidence.contrast[images]).size < 2:
        return None
    found = [[profiles.get((evidence.image_id[i], method)) for method in evidence.methods] for i in images]
    if any(profile is None for row in found for profile in row):
        return None
    low = max(profile[:, 0].min() for row in found for profile in row)
    high = min(profile[:, 0].max() for row in found for profile in row)
    if high - low < MIN_OVERLAP_MM:
        return None
    means = np.array([[_mean_between(profile, low, high) for profile in row] for row in found])
    contrasts = evidence.contrast[images]
    by_contrast = np.stack([means[contrasts == c].mean(axis=0) for c in np.unique(contrasts)])
    return by_contrast.std(axis=0, ddof=1)


def _mean_between(profile: NDArray, low: float, high: float) -> float:
    """Mean area between two heights: linear between slices, so that slice thickness does not matter."""
    ordered = profile[np.argsort(profile[:, 0], kind="stable")]
    heights = np.linspace(low, high, 101)  # 101 points: steps far below a slice
    return float(np.interp(heights, ordered[:, 0], ordered[:, 1]).mean())
