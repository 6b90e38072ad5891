"""The smooth line through the middle of the cord: its direction in each slice, and distances along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PENALTIES = ((2, 15.0), (3, 40.0))
"""Order of a difference and the wavelength (mm) that its penalty alone halves. The third difference leaves a
bend as it is, so the direction at the ends of the mask is not pulled straight; the second holds short stacks,
where a bend cannot be told from noise. Together they pass a neck's curve (150 mm) by 99.95 % and remove the
steps of voxels (15 mm and less) by 99.7 %."""

STEP_MM = 1.0
"""Distance of the points between which the line counts as straight: at a bend of 100 mm radius, 1 µm off."""

RAY_MM = 1000.0
"""How far the line goes on straight beyond its ends: longer than any spine."""


@dataclass(frozen=True)
class CordLine:
    """A line with one point per slice, straight beyond its ends.

    Parameters
    ----------
    points_mm : (n, 3) ndarray, mm
        Canonical axes, voxel index times voxel size; the third column rises by the slice spacing.
    tangents : (n, 3) ndarray
        Unit directions in these points, towards superior.
    first : int
        Slice of the first point.
    """

    points_mm: Floats
    tangents: Floats
    first: int

    def tangents_of(self, n_slices: int) -> Floats:
        """Return the tangents of slices 0 to `n_slices` - 1, (K, 3), NaN where the line has no point."""
        tangents = np.full((n_slices, 3), np.nan)
        tangents[self.first : self.first + len(self.tangents)] = self.tangents
        return tangents

    def arc_of_slices(self, n_slices: int, spacing_mm: float) -> Floats:
        """Return where the line meets each slice, (K,), mm along the line from its first point upwards."""
        path, arc = self._path
        return np.interp(np.arange(n_slices) * spacing_mm, path[:, 2], arc)

    def project(self, points_mm: ArrayLike) -> tuple[Floats, Floats]:
        """Find where planes across the line pass through points that may lie off it.

        Parameters
        ----------
        points_mm : (m, 3) array_like, mm

        Returns
        -------
        feet_mm : (m, 3) ndarray, mm
            The nearest point of the line to each.
        arc_mm : (m,) ndarray, mm
            Its distance along the line from the first point, negative below it.
        """
        path, arc = self._path
        starts, steps = path[:-1], np.diff(path, axis=0)
        offsets = np.asarray(points_mm, np.float64)[:, None] - starts
        share = np.clip((offsets * steps).sum(-1) / (steps**2).sum(-1), 0.0, 1.0)  # (m, segments)
        nearest = np.linalg.norm(offsets - share[..., None] * steps, axis=-1).argmin(axis=1)
        share = share[np.arange(len(share)), nearest]
        return starts[nearest] + share[:, None] * steps[nearest], arc[nearest] + share * np.diff(arc)[nearest]

    @property
    def _path(self) -> tuple[Floats, Floats]:
        """Points along the line with a long straight piece at each end, and the arc length of each."""
        inner = _subdivide(self.points_mm, self.tangents)
        ends = self.points_mm[[0, -1]] + np.array([[-RAY_MM], [RAY_MM]]) * self.tangents[[0, -1]]
        path = np.concatenate([ends[:1], inner, ends[1:]])
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        return path, arc - arc[1]


def fit_cord_line(centers_mm: ArrayLike, spacing_mm: float) -> CordLine | None:
    """Fit the smooth line to the centers of the cord's slices.

    Parameters
    ----------
    centers_mm : (K, 2) array_like, mm
        Position in each slice (R-L, A-P); NaN where it is not known.
    spacing_mm : float, mm
        Distance of neighbouring slices.

    Returns
    -------
    CordLine or None
        From the first to the last known slice, gaps filled; None where no slice is known. One slice alone
        has the direction (0, 0, 1).

    Notes
    -----
    Least squares with penalties on differences (`PENALTIES`). The gain at wavelength L is
    1 / (1 + (15 / L)⁴ + (40 / L)⁶), a straight line is kept, and the cost is linear in the slices.
    """
    centers = np.asarray(centers_mm, np.float64)
    known: NDArray[np.bool_] = np.all(np.isfinite(centers), axis=1)
    if not known.any():
        return None
    first, last = np.flatnonzero(known)[[0, -1]]
    inside = slice(first, last + 1)
    line = _smooth(centers[inside], known[inside], spacing_mm)
    direction = np.zeros((len(line), 3))
    direction[:, 2] = 1.0
    if len(line) > 1:
        direction[:, :2] = np.gradient(line, spacing_mm, axis=0, edge_order=2 if len(line) > 2 else 1)
    positions = np.arange(first, last + 1) * spacing_mm
    tangents = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return CordLine(np.column_stack([line, positions]), tangents, int(first))


def _smooth(points: Floats, known: NDArray[np.bool_], spacing_mm: float) -> Floats:
    """Smooth (n, 2) points, filling those that are not known."""
    from scipy.linalg import solveh_banded

    middle = points[known].mean(axis=0)  # rounding grows with the size of the numbers
    n = len(points)
    if known.sum() < 2:
        return np.broadcast_to(middle, points.shape).copy()
    bands = np.zeros((4, n))  # lower form: row d holds the d-th diagonal of the symmetric matrix
    bands[0] = known
    for order, wavelength_mm in PENALTIES:
        stiffness = (wavelength_mm / (2 * np.pi * spacing_mm)) ** (2 * order)
        difference = np.diff(np.eye(order + 1), order, axis=0)[0]
        for shift in range(order + 1):
            for start in range(order + 1 - shift):
                end = start + max(0, n - order)
                bands[shift, start:end] += stiffness * difference[start] * difference[start + shift]
    deviations = np.where(known[:, None], points - middle, 0.0)
    return solveh_banded(bands[: min(4, n)], deviations, lower=True) + middle


def _subdivide(points: Floats, tangents: Floats) -> Floats:
    """Put points between those of the line, at most `STEP_MM` apart in z, on cubics that keep its directions."""
    if len(points) < 2:
        return points
    rise = points[1, 2] - points[0, 2]
    t = np.linspace(0.0, 1.0, int(np.ceil(rise / STEP_MM)) + 1)[:-1, None]
    slopes = tangents / tangents[:, 2:] * rise
    a, b, u, v = (x[:, None] for x in (points[:-1], points[1:], slopes[:-1], slopes[1:]))
    between = (1 + 2 * t) * (1 - t) ** 2 * a + t**2 * (3 - 2 * t) * b + t * (1 - t) ** 2 * u - t**2 * (1 - t) * v
    return np.concatenate([between.reshape(-1, 3), points[-1:]])
