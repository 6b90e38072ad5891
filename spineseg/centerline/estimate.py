"""OptiC: from an image to the centerline of the cord it shows.

Score every pixel of every slab, find the globally best curve, move it to sub-voxel precision, smooth it, and
keep the slices whose score says that there is a cord.

References
----------
.. [1] Gros et al., 2018, Automatic spinal cord localization, robust to MRI contrasts using global curve
   optimization, Medical Image Analysis 44, doi:10.1016/j.media.2017.12.001. Ours adds sub-voxel points, a
   confidence per slice, and slices without cord.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.curve import Centerline, empty_centerline
from spineseg.centerline.detector import Detector, load_detector
from spineseg.centerline.path import SMOOTHING_MM, find_path, refine_path
from spineseg.centerline.slabs import PIXEL_MM, Slabs
from spineseg.centerline.spline import cutoff_to_lam, evaluate_spline, fit_spline
from spineseg.volume import Volume

MAX_FULL_PIXELS = 2_000_000
"""Pixels scored one by one, in half a second; of larger volumes every second pixel in plane is scored."""

MIN_TRUST = 0.05
"""Least weight of a slab in the smoothing, so that the curve through a bad stretch is still bound to something."""


def estimate_centerline(volume: Volume, contrast: str, *, detector: Detector | None = None) -> Centerline:
    """Find the centerline of the spinal cord.

    Parameters
    ----------
    volume : Volume
        Canonical; any number of slices, one included, any field of view.
    contrast : {"t1", "t2", "t2s", "dwi"}
    detector : Detector, optional
        By default the shipped one of the contrast.

    Returns
    -------
    Centerline
        One point in each slice from the lowest to the highest that holds cord, sub-voxel, with the detector's
        score (log-odds of a cord for our models). Slices of brain and beyond the field of view at the ends
        are left out; a bad slice between good ones is bridged and shows by its score. Empty, without an
        error, where no slice holds a cord: callers that need one raise DetectionError.

    Raises
    ------
    InputError
        If the contrast is unknown.
    ModelError
        If the detector cannot be loaded.
    """
    detector = detector or load_detector(contrast)
    slabs = detector.prepare(volume)
    path, score = _find_curve(slabs, detector, volume.zooms[2])
    extent = find_extent(score - detector.threshold)
    if extent is None:
        return empty_centerline()
    kept = slice(extent[0], extent[1] + 1)
    positions_mm = slabs.positions[kept] * volume.zooms[2]
    trust = np.maximum(MIN_TRUST, 1 / (1 + np.exp(-(score[kept] - detector.threshold).clip(-9, 9))))
    lam = cutoff_to_lam(SMOOTHING_MM, float(np.diff(positions_mm).mean()) if len(positions_mm) > 1 else 1.0)
    smooth = fit_spline(positions_mm, path[kept] * PIXEL_MM, lam, trust) / PIXEL_MM
    low, high = slabs.bounds[extent[0]], slabs.bounds[extent[1] + 1]
    slices = np.arange(low, high)
    points = evaluate_spline(slabs.positions[kept], slabs.to_voxels(smooth), slices)
    points = np.clip(points, 0, np.array(volume.shape[:2]) - 1)
    return Centerline(np.column_stack([points, slices]), np.interp(slices, slabs.positions[kept], score[kept]))


def _find_curve(slabs: Slabs, detector: Detector, dz_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best curve, (n, 2) sub-pixel (x, y), and its score in each slab, (n,)."""
    stride = 1 if slabs.slices.size <= MAX_FULL_PIXELS else 2
    maps = detector.score(slabs.slices, stride).transpose(0, 2, 1)
    spacing = float(np.diff(slabs.positions).mean()) * dz_mm if len(maps) > 1 else 1.0
    zooms = (stride * PIXEL_MM, stride * PIXEL_MM, spacing)
    path = find_path(maps, zooms)
    score = maps[np.arange(len(maps)), path[:, 0], path[:, 1]].astype(np.float64)
    return stride * refine_path(maps, path, zooms), score


def find_extent(evidence: NDArray[np.float64]) -> tuple[int, int] | None:
    """Find the run of slabs with the greatest sum of evidence.

    Parameters
    ----------
    evidence : (n,) ndarray
        Positive where a slab speaks for a cord, negative where against it.

    Returns
    -------
    (first, last) or None
        A bad slab between good ones is kept, bad ones at the ends are not. None where nothing is positive.

    Examples
    --------
    >>> find_extent(np.array([-1.0, 2.0, -1.0, 2.0, -3.0, 1.0]))
    (1, 3)
    """
    total = np.concatenate([[0.0], np.cumsum(evidence)])
    lowest = np.minimum.accumulate(total)
    gain = total[1:] - lowest[:-1]
    last = int(np.argmax(gain))
    if gain[last] <= 0:
        return None
    # the last of equal minima: no needless slabs before the first good one
    first = int(last - np.argmin(total[: last + 1][::-1]))
    return first, last
