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
    Does not depend on the voxel's size: an affine map leaves the ratio as it is.
    """
    mask = binarise(mask)
    solidity = np.full(mask.shape[2], np.nan)
    if not mask.any():
        return solidity
    rows = np.flatnonzero(mask.any(axis=(1, 2)))
    columns = np.flatnonzero(mask.any(axis=(0, 2)))
    box = np.moveaxis(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 2, 0)
    for k in np.flatnonzero(box.any(axis=(1, 2))):  # the hull of each slice has its own number of corners
        solidity[k] = np.count_nonzero(box[k]) / _count_in_hull(box[k])
    return solidity


def _count_in_hull(region: NDArray[np.bool_]) -> int:
    """Count the lattice points in the convex hull of a region's points, (I, J) bool."""
    rows = np.flatnonzero(region.any(axis=1))
    first = region[rows].argmax(axis=1)
    last = region.shape[1] - 1 - region[rows, ::-1].argmax(axis=1)
    every_row = np.arange(rows[0], rows[-1] + 1)
    low = np.interp(every_row, *_half_hull(rows, first))
    high = np.interp(every_row, *_half_hull(rows, -last))
    return int((np.floor(-high + 1e-9) - np.ceil(low - 1e-9) + 1).sum())  # 1e-9: rounding of the slopes


def _half_hull(x: NDArray[np.intp], y: NDArray[np.intp]) -> tuple[list[int], list[int]]:
    """Lower convex hull of points with increasing x (Andrew's monotone chain)."""
    hull: list[tuple[int, int]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return [p[0] for p in hull], [p[1] for p in hull]


def _turns_right(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    """Whether the path a, b, c does not turn left, so that b is no corner of the lower hull."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0


FINE_MM = 0.1
"""Pixel to which SCT resamples a section before it measures it."""


def compute_sct_solidity(mask: ArrayLike, zooms: ArrayLike) -> NDArray[np.float64]:
    """Compute the solidity of each axial slice as the Spinal Cord Toolbox defines it.

    Parameters
    ----------
    mask : (I, J, K) array_like, bool, or numbers in [0, 1]
    zooms : (3,) array_like, mm

    Returns
    -------
    (K,) ndarray of float64, 0 to 1
        Pixels of the section, interpolated to 0.1 mm and cut at 0.5, over the area of the hull of their corners: the
        steps of coarse voxels stay in it, so that a disc has 0.95 to 0.98. NaN in empty slices.
    """
    from scipy.spatial import ConvexHull

    values = np.asarray(mask, np.float64)
    solidity = np.full(values.shape[2], np.nan)
    for k in np.flatnonzero((values >= 0.5).any(axis=(0, 1))):
        rows, columns = (np.flatnonzero((values[:, :, k] > 0).any(axis=axis)) for axis in (1, 0))
        section = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, k]
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
    """Weights that interpolate n voxels, with one empty voxel at each end, to pixels of `FINE_MM`, (m, n)."""
    at = np.arange(-1, n + 1e-9, FINE_MM / size_mm)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n)), 0.0)
