"""Solidity of a mask, slice by slice: its area over that of its convex hull."""

from __future__ import annotations

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
    from scipy.spatial import ConvexHull

    values = np.asarray(mask)
    solidity = np.full(values.shape[2], np.nan)
    held = (values >= 0.5).any(axis=(0, 1))
    for k in np.flatnonzero(held if slices is None else held & slices):
        rows, columns = (np.flatnonzero((values[:, :, k] > 0).any(axis=axis)) for axis in (1, 0))
        section = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, k].astype(np.float64)
        down, across = (_finer(n, size) for n, size in zip(section.shape, np.asarray(zooms, np.float64), strict=False))
        fine = down @ section @ across.T >= 0.5
        i = np.flatnonzero(fine.any(axis=1))
        if not i.size:  # one voxel that is half cord, between empty ones
            continue
        ends = fine[i].argmax(axis=1), fine.shape[1] - fine[i, ::-1].argmax(axis=1)
        corners = np.concatenate([np.column_stack([i + step, end]) for step in (0, 1) for end in ends])
        solidity[k] = np.count_nonzero(fine) / ConvexHull(corners).volume
    return solidity


def _finer(n: int, size_mm: float) -> NDArray[np.float64]:
    """Return the weights that interpolate n voxels, with an empty voxel at each end, to pixels of `FINE_MM`, (m, n)."""
    at = np.arange(-1, n + 1e-9, FINE_MM / size_mm)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n)), 0.0)
