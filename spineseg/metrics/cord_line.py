"""Smooth line through the middle of the cord: its direction in each slice, and distances along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CURVATURE = 0.006
"""Typical curvature of the cord, 1/mm: a bend of 170 mm radius, as in necks. The curvature of each mask is estimated
between 0.001 and 0.1, with a prior that is centred on this value."""

CURVATURE_MM = 60.0
"""Length along the cord over which its curvature changes: about four vertebrae."""

NOISE_MM = 0.05
"""Typical error of a slice's center, mm: a tenth of a small voxel. The error of each mask is estimated between 0.005
and 1 mm."""

CURVATURE_SPREAD, NOISE_SPREAD = 0.6, 1.0
"""Width of the priors of curvature and error: SD of their natural logarithms, factors of two and three."""

RATIOS = np.geomspace(0.05, 1000.0, 25)
"""Ratios of noise to curvature that are tried, mm²: steps by half move a line by less than 0.01 mm."""

NODE_MM = 2.5
"""Distance of the points at which the line is solved; at a bend of 100 mm radius it is 0.01 mm off between them."""

STEP_MM = 1.0
"""Distance of the points between which the line counts as straight: at a bend of 100 mm radius, 1 µm off."""

RAY_MM = 1000.0
"""Length of the straight continuation of the line beyond its ends: longer than any spine."""


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
        """Return the position at which the line meets each slice, (K,), mm along the line from its first point up."""
        path, arc = self._path
        return np.interp(np.arange(n_slices) * spacing_mm, path[:, 2], arc)

    def project(self, points_mm: ArrayLike) -> tuple[Floats, Floats]:
        """Project points, which may lie off the line, onto it.

        Parameters
        ----------
        points_mm : (m, 3) array_like, mm

        Returns
        -------
        feet_mm : (m, 3) ndarray, mm
            Point of the line nearest to each point.
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
        """Return points along the line, with a long straight piece at each end, and the arc length of each point."""
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
        From the first to the last known slice, with gaps filled; None if no slice is known. A single slice
        has the direction (0, 0, 1).

    Notes
    -----
    The line is the most likely one if the curvature is a smooth random function along the cord and the centers have
    independent errors. The size of the curvature and of the errors is estimated from the mask itself for each axis
    (maximum of the marginal likelihood, with mild priors). Coarse voxels and short stacks are therefore smoothed
    more than fine ones, and bends continue to the ends of the mask. A straight line stays straight; the cost is linear
    in the length.
    """
    centers = np.asarray(centers_mm, np.float64)
    known: NDArray[np.bool_] = np.all(np.isfinite(centers), axis=1)
    if not known.any():
        return None
    first, last = np.flatnonzero(known)[[0, -1]]
    inside = slice(first, last + 1)
    line, slopes = _smooth(centers[inside], known[inside], spacing_mm)
    direction = np.column_stack([slopes, np.ones(len(line))])
    positions = np.arange(first, last + 1) * spacing_mm
    tangents = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return CordLine(np.column_stack([line, positions]), tangents, int(first))


def _smooth(points: Floats, known: NDArray[np.bool_], spacing_mm: float) -> tuple[Floats, Floats]:
    """Smooth (n, 2) points, filling those that are not known; also return the slopes, (n, 2)."""
    n, z = len(points), np.arange(len(points)) * spacing_mm
    if known.sum() < 2:
        return np.broadcast_to(points[known].mean(axis=0), points.shape).copy(), np.zeros((n, 2))
    # rounding errors grow with the numbers, so the line is solved relative to a straight one
    straight = np.polynomial.polynomial.polyfit(z[known], points[known], 1)
    n_nodes = int(np.ceil(z[-1] / NODE_MM)) + 1
    step = z[-1] / (n_nodes - 1)
    left = np.minimum((z / step).astype(int), n_nodes - 2)
    share = z / step - left
    rest = (points - np.polynomial.polynomial.polyval(z, straight).T)[known]
    bend = _solve(rest, left[known], share[known], n_nodes, step)
    slope = np.gradient(bend, step, axis=0, edge_order=2 if n_nodes > 2 else 1)
    base, rise = (
        np.column_stack([np.interp(z, np.arange(n_nodes) * step, axis) for axis in a.T]) for a in (bend, slope)
    )
    return base + np.polynomial.polynomial.polyval(z, straight).T, rise + straight[1]


def _solve(values: Floats, left: NDArray[np.intp], share: Floats, n_nodes: int, step: float) -> Floats:
    """Find the most likely line through values between nodes `left` and the next, (n_nodes, 2)."""
    from scipy.linalg.lapack import dpbtrf, dpbtrs  # scipy's own wrappers take longer than the work

    prior = _curvature_precision(n_nodes, step)
    data = np.zeros_like(prior)
    np.add.at(data[0], left, (1 - share) ** 2)
    np.add.at(data[0], left + 1, share**2)
    np.add.at(data[1], left, share * (1 - share))
    target = np.zeros((n_nodes, 2))
    np.add.at(target, left, (1 - share)[:, None] * values)
    np.add.at(target, left + 1, share[:, None] * values)
    lines, sizes = [], []
    for ratio in RATIOS:
        factor, failed = dpbtrf(data + ratio**2 * prior, lower=True)
        if failed:
            raise np.linalg.LinAlgError("the line's system of equations is not positive definite")
        lines.append(dpbtrs(factor, target, lower=True)[0])
        sizes.append(2 * np.log(factor[0]).sum())
    found = np.array(lines)  # (ratios, n_nodes, 2)
    ratios, noise = RATIOS[:, None, None], np.geomspace(0.005, 1.0, 40)
    misfit = (values**2).sum(axis=0) - (target * found).sum(axis=1)
    curvature = noise / ratios
    cost = (  # (ratios, 2, noise)
        np.array(sizes)[:, None, None]
        - 2 * max(n_nodes - 2, 0) * np.log(ratios)
        + 2 * max(len(values) - 2, 0) * np.log(noise)
        + np.maximum(misfit, 0.0)[:, :, None] / noise**2
        + (np.log(noise / NOISE_MM) / NOISE_SPREAD) ** 2
        + (np.log(curvature / CURVATURE) / CURVATURE_SPREAD) ** 2
    )
    allowed = (curvature >= 0.001) & (curvature <= 0.1)
    best = np.where(allowed, cost, np.inf).min(axis=2).argmin(axis=0)
    return np.stack([found[ratio, :, axis] for axis, ratio in enumerate(best)], axis=1)


def _curvature_precision(n: int, step: float) -> Floats:
    """Return the precision of n nodes for a smooth random curvature of SD 1 (Matérn, 3/2), lower bands, (5, n).

    Second differences over the squared step follow c[k + 2] = 2 a c[k + 1] - a² c[k] + noise.
    """
    bands = np.zeros((min(5, n), n))
    bend = np.array([1.0, -2.0, 1.0]) / step**2
    a = np.exp(-step / CURVATURE_MM)

    def add(rows: Floats, precision: Floats, repeats: int) -> None:
        """Add rowsᵀ precision rows at the first node and at the following ones."""
        block = rows.T @ precision @ rows
        for i in range(len(block)):
            for j in range(i + 1):
                bands[i - j, j : j + repeats] += block[i, j]

    if n == 3:
        add(bend[None], np.eye(1), 1)
    elif n > 3:  # the first two by their stationary distribution
        correlation = 2 * a / (1 + a * a)
        first = np.array([[*bend, 0.0], [0.0, *bend]])
        add(first, np.linalg.inv(np.array([[1.0, correlation], [correlation, 1.0]])), 1)
    if n > 4:
        change = np.convolve([1.0, -2 * a, a * a][::-1], bend)
        add(change[None], np.eye(1) * (1 + a * a) / (1 - a * a) ** 3, n - 4)
    return bands


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
