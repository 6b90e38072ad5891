"""Measure the image along a curve through the canal: what `conus` and `extent` decide from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.volume import Volume

Floats = NDArray[np.float64]

CORE_MM, CANAL_MM = 2.5, 12.0
"""Radii of the disc in the middle of the cord (or of the tissue in its place), and of the disc that shows the canal."""

ALIKE = 0.3
"""Largest difference from the intensity in the middle, as a share of it, at which a neighbour belongs to the same
piece."""


@dataclass(frozen=True)
class Evidence:
    """Measures of the image along a curve, (n,) each; lengths in mm."""

    bright: Floats  # 90th percentile of the canal and its boundary
    core: Floats  # median intensity in the middle, over the bright of the canal around it
    piece_mm2: Floats  # area of the piece around the middle that is about as bright, within the window
    alike: Floats  # correlation of the window with that of the slice below it; noise has none
    border_mm: Floats  # from the middle to the nearest side of the field, negative outside


def sample_along(volume: Volume, slices: NDArray[np.intp], centres: Floats) -> Evidence:
    """Measure the image along a curve with one centre (n, 2), voxels, in each of consecutive slices (n,)."""
    zooms = np.asarray(volume.zooms, np.float64)
    half = np.ceil(CANAL_MM / zooms[:2]).astype(int)
    grid = np.meshgrid(*[np.arange(-h, h + 1) for h in half], indexing="ij")
    away = np.hypot(grid[0] * zooms[0], grid[1] * zooms[1])
    corner = np.rint(centres).astype(int)
    index = [corner[:, axis, None, None] + grid[axis] for axis in (0, 1)]
    known = (away <= CANAL_MM) & (index[0] >= 0) & (index[0] < volume.shape[0])
    known &= (index[1] >= 0) & (index[1] < volume.shape[1])
    index = [np.clip(index[axis], 0, volume.shape[axis] - 1) for axis in (0, 1)]
    window = np.where(known, volume.data[index[0], index[1], slices[:, None, None]], np.nan).astype(np.float64)
    window[~known.any(axis=(1, 2))] = 0.0  # the whole window is outside the field of view
    middle = np.where(away <= max(CORE_MM, 0.75 * zooms[:2].max()), window, np.nan)
    middle[np.isnan(middle).all(axis=(1, 2))] = 0.0
    level = np.nanmedian(middle, axis=(1, 2))
    bright = np.maximum(np.nanpercentile(window, 90, axis=(1, 2)), np.finfo(np.float32).tiny)
    border = np.minimum((centres + 0.5) * zooms[:2], (np.array(volume.shape[:2]) - 0.5 - centres) * zooms[:2])
    pieces = _measure_pieces(window, level, float(zooms[0] * zooms[1]))
    return Evidence(bright, level / bright, pieces, _correlate(window), border.min(axis=1))


def _measure_pieces(window: Floats, level: Floats, pixel_mm2: float) -> Floats:
    """Measure, in each window, the area of the piece around the middle that is about as bright."""
    areas = np.zeros(len(window))
    middle = tuple(size // 2 for size in window.shape[1:])
    for k, (part, value) in enumerate(zip(window, level, strict=True)):
        pieces, _ = ndi.label(np.abs(part - value) <= ALIKE * abs(value))
        areas[k] = (pieces == pieces[middle]).sum() * pixel_mm2 if pieces[middle] else 0.0
    return areas


def _correlate(window: Floats) -> Floats:
    """Correlate each window with the one below it; the lowest gets the value of the next, a single window gets 1."""
    both = np.isfinite(window[1:]) & np.isfinite(window[:-1])
    count = np.maximum(both.sum(axis=(1, 2)), 1)
    upper, lower = np.where(both, window[1:], 0.0), np.where(both, window[:-1], 0.0)

    def mean(values: Floats) -> Floats:
        return values.sum(axis=(1, 2)) / count

    spread = np.sqrt(np.maximum((mean(upper**2) - mean(upper) ** 2) * (mean(lower**2) - mean(lower) ** 2), 0.0))
    shared = mean(upper * lower) - mean(upper) * mean(lower)
    alike = np.where(spread > 0, shared / np.where(spread > 0, spread, 1.0), 0.0)
    return np.concatenate([alike[:1], alike]) if len(alike) else np.ones(len(window))
