"""The 0.5 contour of soft sections at sub-voxel precision: area, moments and extent of the region inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.5
"""Value of the contour: half of a voxel there is cord."""

TOGETHER = 1 << 20
"""Pixels of the slices that are processed in one pass: with more, memory grows but time does not decrease."""

CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
"""Corners of a cell between four voxel centers, counterclockwise."""


@dataclass(frozen=True)
class Contours:
    """Pieces of the contours of K slices, each with the inside to its left.

    Parameters
    ----------
    k : (n,) ndarray of int
        Slice of each piece.
    start, end : (n, 2) ndarray
        Along the two axes of the slice.
    n_slices : int
        K.
    """

    k: NDArray[np.intp]
    start: Floats
    end: Floats
    n_slices: int

    def mapped(self, maps: Floats, origin: Floats) -> Contours:
        """Return the contours relative to each slice's `origin`, (K, 2), after a linear map for each, (K, 2, 2)."""
        start, end = (
            np.einsum("nab,nb->na", maps[self.k], points - origin[self.k]) for points in (self.start, self.end)
        )
        return Contours(self.k, start, end, self.n_slices)

    def moments(self) -> tuple[Floats, Floats, Floats]:
        """Return area (K,), center (K, 2) and second moments about it over the area (K, 2, 2); NaN without contour."""
        (x0, y0), (x1, y1) = self.start.T, self.end.T
        cross = x0 * y1 - x1 * y0
        area = self._sum(cross) / 2
        area = np.where(area > 0, area, np.nan)
        center = np.stack([self._sum((a0 + a1) * cross) / 6 / area for a0, a1 in ((x0, x1), (y0, y1))], axis=1)
        xx, yy = (self._sum((a0 * a0 + a0 * a1 + a1 * a1) * cross) / 12 / area for a0, a1 in ((x0, x1), (y0, y1)))
        xy = self._sum((x0 * (2 * y0 + y1) + x1 * (y0 + 2 * y1)) * cross) / 24 / area
        second = np.moveaxis(np.array([[xx, xy], [xy, yy]]), 2, 0)
        return area, center, second - center[:, :, None] * center[:, None, :]

    def extent(self, half_width: float) -> Floats:
        """Return the mean extent along the second axis within `half_width` of 0 along the first, (K,)."""
        u0, u1 = self.start[:, 0], self.end[:, 0]
        step = u1 - u0
        with np.errstate(divide="ignore", invalid="ignore"):
            at = np.sort(np.stack([(-half_width - u0) / step, (half_width - u0) / step]), axis=0)
        low, high = np.clip(at[0], 0, 1), np.clip(at[1], 0, 1)
        middle = (low + high) / 2
        height = self.start[:, 1] + middle * (self.end[:, 1] - self.start[:, 1])
        # a piece across the window adds no width
        return self._sum(np.where(step == 0, 0.0, -height * step * (high - low))) / (2 * half_width)

    def _sum(self, values: Floats) -> Floats:
        """Sum per slice, (K,)."""
        return np.bincount(self.k, values, self.n_slices).astype(np.float64, copy=False)


def find_contours(cord: NDArray, slices: NDArray[np.bool_]) -> Contours:
    """Find the 0.5 contours of some slices by marching squares.

    Parameters
    ----------
    cord : (I, J, K) ndarray, values in [0, 1]
        Voxels beyond the image count as 0.
    slices : (K,) ndarray of bool

    Returns
    -------
    Contours
        In voxel indices, with linear interpolation between voxel centers. If only two diagonal neighbours of four are
        inside, the mean of the four decides whether they are connected.
    """
    numbers = np.flatnonzero(slices)
    together = max(1, TOGETHER // max(1, cord.shape[0] * cord.shape[1]))
    parts = [_find_in(cord, numbers[i : i + together]) for i in range(0, max(1, numbers.size), together)]
    k, start, end = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Contours(k, start, end, cord.shape[2])


def _find_in(cord: NDArray, numbers: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Return slice, start and end of every piece of the contours of some slices."""
    picked = cord[:, :, numbers]
    rows, columns = (_span(np.any(picked > LEVEL, axis=axes)) for axes in ((1, 2), (0, 2)))
    picked = np.pad(picked[rows, columns].astype(np.float64), ((1, 1), (1, 1), (0, 0))) - LEVEL
    inside = picked > 0
    n, m = (size - 1 for size in picked.shape[:2])
    values = np.stack([picked[i : i + n, j : j + m] for i, j in CORNERS])
    within = np.stack([inside[i : i + n, j : j + m] for i, j in CORNERS])
    mixed = within.any(axis=0) & ~within.all(axis=0)
    cell, values, within = np.nonzero(mixed), values[:, mixed], within[:, mixed]
    following, after = np.roll(values, -1, axis=0), np.roll(within, -1, axis=0)
    share = np.divide(values, values - following, out=np.zeros_like(values), where=within != after)
    corners = np.array(CORNERS, np.float64)
    edges = corners[:, None] + share[:, :, None] * (np.roll(corners, -1, axis=0) - corners)[:, None]
    leaves, enters = within & ~after, ~within & after
    crosswise = (leaves.sum(axis=0) == 2) & (values.mean(axis=0) <= 0)  # two corners, not connected
    starts, ends, where = [], [], []
    for edge in range(4):
        open_ = leaves[edge].copy()
        for turn in (1, 2, 3):
            other = (edge + turn) % 4
            found = open_ & enters[other] & (~crosswise | (turn == 3))
            starts.append(edges[edge][found])
            ends.append(edges[other][found])
            where.append(np.flatnonzero(found))
            open_ &= ~found
    of = np.concatenate(where)
    corner = np.column_stack([cell[0] + rows.start, cell[1] + columns.start])[of] - 1.0  # the padding
    return numbers[cell[2][of]], np.concatenate(starts) + corner, np.concatenate(ends) + corner


def _span(held: NDArray[np.bool_]) -> slice:
    """Return the range of True values, widened by one on each side within the array."""
    found = np.flatnonzero(held)
    return slice(max(0, int(found[0]) - 1), int(found[-1]) + 2) if found.size else slice(0, 0)
