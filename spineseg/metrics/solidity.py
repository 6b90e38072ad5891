"""Solidity of a mask, slice by slice: its area over that of its convex hull."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.metrics.overlap import binarise


def compute_solidity(mask: ArrayLike) -> NDArray[np.float64]:
    """Compute the solidity of each axial slice by counting voxels.

    Parameters
    ----------
    mask : (I, J, K) array_like, bool, or numbers in [0, 1] cut at 0.5

    Returns
    -------
    (K,) ndarray of float64, 0 to 1
        Voxels of the mask over voxels whose centre lies in the hull of the mask's centres, so that a
        disc drawn in coarse voxels has 1. NaN in empty slices, 1 where the voxels lie on one line
        without a gap.

    Notes
    -----
    The result does not depend on the voxel size, because an affine map does not change the ratio.
    """
    mask = binarise(mask)
    solidity = np.full(mask.shape[2], np.nan)
    if not mask.any():
        return solidity
    rows = np.flatnonzero(mask.any(axis=(1, 2)))
    columns = np.flatnonzero(mask.any(axis=(0, 2)))
    box = np.moveaxis(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 2, 0)
    filled = np.flatnonzero(box.any(axis=(1, 2)))
    box = box[filled]
    solidity[filled] = np.count_nonzero(box, axis=(1, 2)) / _count_in_hulls(box)
    return solidity


def _count_in_hulls(regions: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the lattice points in the convex hull of each region's points, (K, I, J) bool, none empty."""
    held: NDArray[np.bool_] = np.any(regions, axis=2)
    ends = np.concatenate([regions.argmax(axis=2), regions[:, :, ::-1].argmax(axis=2) - (regions.shape[2] - 1)])
    low, high = np.split(_lower_hulls(np.concatenate([held, held]), ends), 2)
    high = -high
    inside = np.isfinite(low)
    counts = np.floor(np.where(inside, high, 0) + 1e-9) - np.ceil(np.where(inside, low, 1) - 1e-9) + 1
    return counts.sum(axis=1).astype(np.int64)  # 1e-9: rounding of the slopes


def _lower_hulls(held: NDArray[np.bool_], y: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the lower convex hull of points (row, y) at every row, (K, I); NaN beyond a hull's ends.

    Andrew's monotone chain, row by row for all hulls at once.
    """
    n_hulls, n_rows = held.shape
    each = np.arange(n_hulls)
    chain, length = np.zeros((n_hulls, n_rows), np.intp), np.zeros(n_hulls, np.intp)  # rows of the corners
    for row in range(n_rows):
        open_ = held[:, row] & (length > 1)
        while open_.any():
            a, b = chain[each, length - 2], chain[each, length - 1]
            rise_b, rise = y[each, b] - y[each, a], y[:, row] - y[each, a]
            open_ &= (b - a) * rise <= rise_b * (row - a)  # the path does not turn left in b: no corner
            length -= open_
            open_ &= length > 1
        chain[each[held[:, row]], length[held[:, row]]] = row
        length += held[:, row]
    rows = np.arange(n_rows)
    is_corner = np.zeros(held.shape, bool)
    used = rows < length[:, None]
    is_corner[np.nonzero(used)[0], chain[used]] = True
    before = np.maximum.accumulate(np.where(is_corner, rows, -1), axis=1)
    after = np.minimum.accumulate(np.where(is_corner, rows, n_rows)[:, ::-1], axis=1)[:, ::-1]
    inside = (before >= 0) & (after < n_rows)
    before, after = np.where(inside, before, 0), np.where(inside, after, 0)
    start, end = (np.take_along_axis(y, at, 1) for at in (before, after))
    hull = start + (end - start) * (rows - before) / np.maximum(after - before, 1)
    return np.where(inside, hull, np.nan)


FINE_MM = 0.1
"""Pixel to which SCT resamples a section before it measures it."""


def compute_sct_solidity(
    mask: ArrayLike, zooms: ArrayLike, slices: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Compute the solidity of each axial slice as the Spinal Cord Toolbox defines it.

    Parameters
    ----------
    mask : (I, J, K) array_like, bool, or numbers in [0, 1]
    zooms : (3,) array_like, mm
    slices : (K,) ndarray of bool, optional
        Only these slices are computed.

    Returns
    -------
    (K,) ndarray of float64, 0 to 1
        Area of the section, interpolated to 0.1 mm and cut at 0.5, over the area of the hull of its pixels' corners.
        The steps of coarse voxels remain, so a disc has 0.95 to 0.98. NaN in empty slices and those not computed.
    """
    values, sizes = np.asarray(mask), np.asarray(zooms, np.float64)
    solidity = np.full(values.shape[2], np.nan)
    held = (values >= 0.5).any(axis=(0, 1))
    used = np.flatnonzero(held if slices is None else held & slices)
    for first in range(0, len(used), TOGETHER):
        numbers = used[first : first + TOGETHER]
        sections = [_interpolate(values[:, :, k], sizes) for k in numbers]
        areas = _hull_areas(sections)
        counts = np.array([np.count_nonzero(section) for section in sections])
        solidity[numbers] = np.divide(counts, areas, out=np.full(len(numbers), np.nan), where=counts > 0)
    return solidity


TOGETHER = 256
"""Slices whose hulls are found in one pass: a whole cord, and little memory where a mask is large."""


def _interpolate(values: NDArray, sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a slice's section in pixels of `FINE_MM`, from the first to the last of its rows and columns."""
    rows, columns = (np.flatnonzero((values > 0).any(axis=axis)) for axis in (1, 0))
    section = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    down, across = (_finer(n, size) for n, size in zip(section.shape, sizes.tolist(), strict=False))
    fine: NDArray[np.bool_] = down @ section @ across.T >= 0.5
    return fine  # of one voxel that is half cord, between empty ones, nothing is left


def _hull_areas(sections: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return the area of the convex hull of each section's pixels, corners included, in pixels; 0 if it is empty."""
    n_edges = max(len(section) for section in sections) + 1
    low = np.full((len(sections), n_edges), np.iinfo(np.intp).max)  # between rows: the columns where pixels begin
    high = np.full(low.shape, -1)  # and end
    for begin, end, section in zip(low, high, sections, strict=True):
        rows = np.flatnonzero(section.any(axis=1))
        first, last = section[rows].argmax(axis=1), section.shape[1] - section[rows, ::-1].argmax(axis=1)
        for edges in (rows, rows + 1):
            begin[edges], end[edges] = np.minimum(begin[edges], first), np.maximum(end[edges], last)
    held = high >= 0
    lower, upper = np.split(_lower_hulls(np.concatenate([held, held]), np.concatenate([low * held, -high])), 2)
    widths = np.where(np.isfinite(lower), -upper - lower, 0.0)
    inside = np.isfinite(lower[:, 1:] + lower[:, :-1])
    return (inside * (widths[:, 1:] + widths[:, :-1]) / 2).sum(axis=1)


@lru_cache(maxsize=256)
def _finer(n: int, size_mm: float) -> NDArray[np.float64]:
    """Return the weights that interpolate n voxels, with an empty voxel at each end, to pixels of `FINE_MM`, (m, n)."""
    at = np.arange(-1, n + 1e-9, FINE_MM / size_mm)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n)), 0.0)
