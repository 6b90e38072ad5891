"""OptiC: find the centerline of the cord in an image.

Score every pixel of every slab, find the globally best curve, refine it to sub-voxel precision, smooth it, and
keep the slices whose score indicates a cord.

References
----------
.. [1] Gros et al., 2018, Automatic spinal cord localization, robust to MRI contrasts using global curve
   optimization, Medical Image Analysis 44, doi:10.1016/j.media.2017.12.001. Ours adds sub-voxel points, a
   confidence per slice, and slices without cord.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.conus import stop_at_conus
from spineseg.centerline.curve import Centerline, empty_centerline
from spineseg.centerline.detector import Detector, load_detector
from spineseg.centerline.path import SMOOTHING_MM, find_path, measure_lead, refine_path
from spineseg.centerline.slabs import PIXEL_MM, Slabs
from spineseg.centerline.spline import cutoff_to_lam, evaluate_spline, fit_spline
from spineseg.contrasts import CORD_DARKER
from spineseg.volume import Volume

MAX_FULL_PIXELS = 2_000_000
"""Number of pixels up to which every pixel is scored, in half a second; in larger volumes every second pixel in
plane."""

MAX_SUPPORT = 3.0
"""Largest support of one slab for or against a cord (log-odds): a slice with an artefact must not outweigh its
neighbours."""

OPPOSITE = {"t1": "t2s", "dwi": "t2", "t2": "t1", "t2s": "t1"}
"""Contrast whose model has the opposite polarity, for images whose cord is bright instead of dark, or the reverse."""

WEAK_SCORE = 0.5
"""Median score along the curve below which the other polarity is tried; labelled images have medians above 0.6."""

POLARITY_PENALTY = 0.5
"""Lead (log-odds) that the other polarity's score needs in a pixel to count."""

POLARITY_GAIN = 0.7
"""Rise of the mean score that makes the other polarity credible: T2* without fluid contrast rise by 1.5 and
more, ordinary images with an unlucky slice by less than 0.3."""

ENOUGH_LEAD = 1.5
"""A lead of this is measured no further: below 1 a rival matters (`spineseg.propseg.doubt`)."""

MIN_TRUST = 0.05
"""Smallest weight of a slab in the smoothing, so that the curve is still defined in a bad stretch."""


def estimate_centerline(volume: Volume, contrast: str, *, detector: Detector | None = None) -> Centerline:
    """Find the centerline of the spinal cord.

    Parameters
    ----------
    volume : canonical; any number of slices, one included, any field of view
    contrast : {"t1", "t2", "t2s", "dwi"}
    detector : by default the shipped one of the contrast

    Returns
    -------
    Centerline
        One sub-voxel point in each slice from the lowest to the highest with cord, with the detector's
        score (log-odds of a cord for our models). Slices of brain, slices at the ends in which the cord has left the
        field of view, and slices below the conus are left out; the conus is found if the canal is seen to continue. A
        bad slice between good ones is bridged, and has a low score. If no slice has a cord, the centerline is empty,
        without an error.

    Raises
    ------
    InputError; if the contrast is unknown
    ModelError; if the detector cannot be loaded
    """
    return estimate_with_polarity(volume, contrast, detector=detector)[0]


def estimate_with_polarity(
    volume: Volume, contrast: str, *, detector: Detector | None = None
) -> tuple[Centerline, bool]:
    """Find the centerline, and whether the cord is darker than the fluid around it.

    In some T2* and MT images the cord is as bright as the fluid or brighter. If the contrast's own model is unsure, the
    model of the other polarity is used as well, and the better score counts in each pixel.

    Parameters
    ----------
    volume, contrast, detector :
        As for `estimate_centerline`; a user's detector (of unknown contrast) is never combined with others.

    Returns
    -------
    line : Centerline
    darker : `CORD_DARKER` of the contrast, unless most slices support the other polarity
    """
    detector = detector or load_detector(contrast)
    slabs = detector.prepare(volume)
    stride = 1 if slabs.slices.size <= MAX_FULL_PIXELS else 2
    dz_mm = float(np.diff(slabs.positions).mean() * volume.zooms[2]) if len(slabs.positions) > 1 else 1.0
    maps = detector.score(slabs.slices, stride).transpose(0, 2, 1)
    path, score = _find_curve(maps, stride, dz_mm)
    darker = CORD_DARKER[contrast]
    if detector.contrast is not None and np.median(score) < WEAK_SCORE:
        other = load_detector(OPPOSITE[detector.contrast]).score(slabs.slices, stride).transpose(0, 2, 1)
        mixed_path, mixed_score = _find_curve(np.maximum(maps, other - POLARITY_PENALTY), stride, dz_mm)
        if np.mean(mixed_score) - np.mean(score) > POLARITY_GAIN:
            i, j = np.rint(mixed_path / stride).astype(int).T
            number = np.arange(len(maps))
            flipped = other[number, i, j] - POLARITY_PENALTY > maps[number, i, j]
            path, score, darker = mixed_path, mixed_score, darker != (flipped.mean() > 0.5)
            maps = np.maximum(maps, other - POLARITY_PENALTY)
    line = _build_centerline(volume, slabs, detector, path, score)
    if not line.is_empty:
        kept = (slabs.positions >= line.slices[0]) & (slabs.positions <= line.slices[-1])
        zooms = (stride * PIXEL_MM, stride * PIXEL_MM, dz_mm)
        lead = measure_lead(maps[kept], path[kept] / stride, zooms, enough=ENOUGH_LEAD)
        line = replace(line, lead=lead)
    return stop_at_conus(volume, line, CORD_DARKER[contrast], _follow_path(volume, slabs, path)), darker


def _follow_path(volume: Volume, slabs: Slabs, path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the path in every slice of the volume, (K, 2), voxels, including brain and sacrum."""
    every, points = np.arange(volume.shape[2]), slabs.to_voxels(path)
    return np.column_stack([np.interp(every, slabs.positions, points[:, axis]) for axis in (0, 1)])


def _build_centerline(
    volume: Volume, slabs: Slabs, detector: Detector, path: NDArray[np.float64], score: NDArray[np.float64]
) -> Centerline:
    """Keep the slabs with cord, smooth the path (x, y), and interpolate a point for every slice."""
    support = (score - detector.threshold).clip(-MAX_SUPPORT, MAX_SUPPORT)
    extent = find_extent(support)
    if extent is None:
        return empty_centerline()
    kept = slice(extent[0], extent[1] + 1)
    positions_mm = slabs.positions[kept] * volume.zooms[2]
    trust = np.maximum(MIN_TRUST, 1 / (1 + np.exp(-support[kept])))
    lam = cutoff_to_lam(SMOOTHING_MM, float(np.diff(positions_mm).mean()) if len(positions_mm) > 1 else 1.0)
    smooth = fit_spline(positions_mm, path[kept] * PIXEL_MM, lam, trust) / PIXEL_MM
    low, high = slabs.bounds[extent[0]], slabs.bounds[extent[1] + 1]
    slices = np.arange(low, high)
    points = evaluate_spline(slabs.positions[kept], slabs.to_voxels(smooth), slices)
    points = np.clip(points, 0, np.array(volume.shape[:2]) - 1)
    return Centerline(np.column_stack([points, slices]), np.interp(slices, slabs.positions[kept], score[kept]))


def _find_curve(
    maps: NDArray[np.float32], stride: int, dz_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best curve through maps (n, X, Y), (n, 2) sub-pixel (x, y), and its score in each slab, (n,)."""
    zooms = (stride * PIXEL_MM, stride * PIXEL_MM, dz_mm)
    path = find_path(maps, zooms)
    score = maps[np.arange(len(maps)), path[:, 0], path[:, 1]].astype(np.float64)
    return stride * refine_path(maps, path, zooms), score


def find_extent(support: NDArray[np.float64]) -> tuple[int, int] | None:
    """Find the run of slabs with the largest sum of support.

    Returns (first, last): a bad slab between good ones is kept, bad slabs at the ends are not. None if
    no support is positive.

    Parameters
    ----------
    support : (n,) ndarray; positive for a cord, negative against it

    Examples
    --------
    >>> find_extent(np.array([-1.0, 2.0, -1.0, 2.0, -3.0, 1.0]))
    (1, 3)
    """
    total = np.concatenate([[0.0], np.cumsum(support)])
    lowest = np.minimum.accumulate(total)
    gain = total[1:] - lowest[:-1]
    last = int(np.argmax(gain))
    if gain[last] <= 0:
        return None
    # the last of equal minima, so that no needless slabs precede the first good one
    first = int(last - np.argmin(total[: last + 1][::-1]))
    return first, last
