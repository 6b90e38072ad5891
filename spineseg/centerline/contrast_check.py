"""Check whether an image shows a dark cord in bright fluid or the reverse, from detector scores and the cord's edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.detector import Detector, load_detector, score_together
from spineseg.centerline.path import find_paths
from spineseg.centerline.slabs import PIXEL_MM
from spineseg.contrasts import CONTRASTS, CORD_DARKER
from spineseg.volume import Volume

STRIDE = 2
"""Every second pixel is scored: a position within 2 mm is enough here, for a quarter of the work."""

MAX_SLABS = 16
"""Number of evenly spaced slabs that are scored: enough for OptiC to find the cord (`spineseg.quality.agreement`)."""

INNER_MM, RING_MM = 2.0, (6.0, 9.0)
"""Radius of the middle of the cord, inside the smallest cord, and radii of the ring of fluid, beyond the half width of
5 to 7 mm."""

MARGIN = 0.5
"""Lead (log-odds, median along the cord) of the best detector of the other polarity over the best of the expected one
from which the contrast is doubted."""


@dataclass(frozen=True)
class ContrastScores:
    """Scores of an image by the detectors of all contrasts."""

    scores: dict[str, float]  # Contrast to the median score, log-odds, of its detector along the curve that it finds
    darker_share: float  # 0 to 1: share of slices in which the middle of the cord is darker than the ring around it

    def best(self, darker: bool) -> str:
        """Return the contrast of one polarity whose detector scores best."""
        return max((c for c in CONTRASTS if CORD_DARKER[c] is darker), key=lambda c: self.scores[c])

    @property
    def lead(self) -> float:
        """Score of the best detector of dark cords less that of bright cords."""
        return self.scores[self.best(True)] - self.scores[self.best(False)]

    @property
    def guess(self) -> str:
        """The contrasts that the image may have: ``t2/t2s``, ``t1/dwi``, or empty if the scores are close.

        Within each pair the cord looks similar, so the scores cannot distinguish them.
        """
        if abs(self.lead) < MARGIN:
            return ""
        return "/".join(c for c in CONTRASTS if CORD_DARKER[c] is (self.lead > 0))


def weigh_contrasts(volume: Volume, load: Callable[[str], Detector] = load_detector) -> ContrastScores:
    """Score an image by the four detectors and compare the cord with its surroundings.

    Parameters
    ----------
    volume : canonical
    load : function from contrast to detector; by default the shipped ones, which all use the same slabs
    """
    detectors = {contrast: load(contrast) for contrast in CONTRASTS}
    slabs = detectors[CONTRASTS[0]].prepare(volume)
    chosen = np.unique(np.linspace(0, len(slabs.positions) - 1, MAX_SLABS).round().astype(int))
    slices, positions = slabs.slices[chosen], slabs.positions[chosen]
    dz_mm = float(np.diff(positions).mean() * volume.zooms[2]) if len(positions) > 1 else 1.0
    maps = np.stack(score_together(list(detectors.values()), slices, STRIDE)).swapaxes(2, 3)
    paths = dict(zip(detectors, find_paths(maps, (STRIDE * PIXEL_MM, STRIDE * PIXEL_MM, dz_mm)), strict=True))
    number = np.arange(len(slices))
    scores = {
        contrast: float(np.median(each[number, path[:, 0], path[:, 1]]))
        for each, (contrast, path) in zip(maps, paths.items(), strict=True)
    }
    best = max(CONTRASTS, key=lambda c: scores[c])
    return ContrastScores(scores, _darker_share(slices, STRIDE * paths[best]))


def _darker_share(slices: NDArray[np.float32], path: NDArray[np.intp]) -> float:
    """Return the share of slices (n, Y, X) with pixels near the path, (n, 2) as (x, y), darker than the ring."""
    reach = int(np.ceil(RING_MM[1] / PIXEL_MM))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    distance_mm = PIXEL_MM * np.hypot(dx, dy)
    y = np.clip(path[:, 1, None] + dy, 0, slices.shape[1] - 1)
    x = np.clip(path[:, 0, None] + dx, 0, slices.shape[2] - 1)
    around = slices[np.arange(len(path))[:, None], y, x]
    inner = np.median(around[:, distance_mm <= INNER_MM], axis=1)
    ring = np.median(around[:, (distance_mm >= RING_MM[0]) & (distance_mm <= RING_MM[1])], axis=1)
    return float(np.mean(inner < ring))


def doubt_contrast(found: ContrastScores, contrast: str) -> str:
    """Return a warning, with the scores, if an image looks like another contrast than expected; empty if it does not.

    Examples
    --------
    >>> found = ContrastScores({"t1": 2.0, "t2": -0.9, "t2s": -1.4, "dwi": 1.7}, 0.0)
    >>> doubt_contrast(found, "dwi")
    ''
    >>> doubt_contrast(found, "t2").partition(";")[0]
    'looks like t1/dwi, not t2: detector scores t1 2.0, t2 -0.9, t2s -1.4, dwi 1.7'
    """
    if not found.guess or contrast in found.guess.split("/"):
        return ""
    scores = ", ".join(f"{name} {score:.1f}" for name, score in found.scores.items())
    return (
        f"looks like {found.guess}, not {contrast}: detector scores {scores};"
        f" cord darker than its ring in {100 * found.darker_share:.0f} % of the slices"
    )
