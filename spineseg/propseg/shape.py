"""A smooth model of the cord's outline, fitted robustly to the edges that an image shows.

An outline is a short Fourier series of the radius over the angle: size, position, ellipse, and three small terms. The
shapes of real cords determine how likely a series is, and neighbouring slices limit how fast it may change. On each
ray only an edge near the model counts. A side without an edge, or with the edge of another structure, is therefore
placed by the rest of the ring and by the neighbouring slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.linalg import solveh_banded

from spineseg.propseg.deform import DERIVATIVE_SIGMA_MM
from spineseg.propseg.initial import measure_rise
from spineseg.propseg.propagate import CENTER_MEMORY_MM
from spineseg.propseg.surface import fit_star, make_rings, recenter, unit_circle

if TYPE_CHECKING:
    from spineseg.propseg.refine import FilledTube
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

N_RAYS = 32
"""Rays from the centre; five times the highest wave of the series."""

RAY_START_MM, RAY_STEP_MM, RAY_SAMPLES = 0.75, 0.25, 44
"""Samples along a ray: from inside the thinnest cord to 11.5 mm, past the widest."""

USUAL_RADIUS_MM = 4.0
"""The model is scaled by the user's ``-radius`` divided by this value: twice the radius, twice the model."""

WAVES = ("1", "c1", "s1", "c2", "s2", "c3", "s3", "c4")
"""Terms of the series: mean radius, shift (cosine and sine of one turn), ellipse, its rotation, three small terms."""

RADIUS_MM, SD_LARGER_MM, SD_SMALLER_MM = 4.6, 0.35, 0.9
"""Mean radius of a cervical cord, and its standard deviations above and below the mean: 4.6 +- 0.27 mm in 499 slices of
30 manual masks of 11 people, none of whom is scored here. The one below is larger, because the thoracic cord has
3.3 mm."""

MEAN_SHAPE = np.array([0.0, 0.0, 0.0, 0.255, 0.0, 0.0, 0.033, 0.043])
"""Mean of each term as a share of the mean radius, in the same masks."""

SD_MM = np.array([np.nan, 1.0, 1.0, 0.45, 0.2, 0.08, 0.1, 0.09])
"""Standard deviation of each term. The shift allows for OptiC's error: 0.5 mm, and 2 mm where fluid looks like cord.
That of the ellipse is larger than in the masks (0.3), to allow for the round thoracic cord; the others are from the
masks."""

WALK_MM = np.array([0.06, 0.35, 0.35, 0.12, 0.08, 0.04, 0.05, 0.04])
"""Standard deviation of the change of each term over 10 mm of cord. The mean radius changes by 0.11 mm within one of
the masks; the change of the shift is that of OptiC's line."""

JUMP_MM = np.array([0.0, 0.75, 0.75, 0.0, 0.0, 0.0, 0.0, 0.0])
"""Standard deviation of the change of each term from one echo-planar slice to the next, whatever their distance. Each
slice is acquired at another moment and distorted by another field: the centre lies 0.5 mm off the line through its
neighbours (0.7 mm in leipzig01's reference, 0.3 to 0.8 in phantoms; 0.1 in T2w), and two such errors differ by 0.75."""

EDGE_SD_MM = 0.5
"""Standard deviation of the surface's position given an edge: half a voxel of most images."""

EDGE_LENGTH_MM, SHAPE_LENGTH_MM = 5.0, 20.0
"""Length of cord over which edges, and shapes, are not independent: thinner slices have proportionally less weight."""

LEAST_EDGE = 0.1
"""Share of the cord's usual rise below which an edge is noise."""

WALL_TRUST = 0.35
"""Weight of an edge of the opposite sign (a cord that touches a dark wall, without fluid between), relative to an edge
of the expected sign: about a third. With a half, masks of echo-planar and MT images followed the wall of the canal and
lost 0.003 Dice; others were the same."""

LEAST_RISE = 20.0
"""Smallest value (1/mm) of the usual rise; below it nothing counts as an edge. A contrast of about 30 of 1000."""

USUAL_PERCENTILE, USUAL_MM = 75.0, 30.0
"""The usual rise is this percentile over the ring, because half of the ring may have no edge, and then the median over
the length of a vertebra."""

COARSE_MM = 3.0
"""Distance between the slices in which the start is searched; the shape hardly changes over it."""

COARSE_SMOOTH_MM = 15.0
"""Length (standard deviation) over which slices share a start."""

EDGES_COUNT = 0.4
"""Log-odds that a ray with a full edge adds in the search for a start; low, as neighbouring rays are correlated."""

GATES_MM = (1.5, 1.2, 1.0, 0.9, 0.9, 0.9)
"""Distance from the model within which an edge counts, by round: from the error of the start to that of the model."""


@dataclass(frozen=True)
class ShapeFit:
    """The model's outline in each slice."""

    centers: Floats  # (R, 2), mm
    radii: Floats  # (R, N_RAYS), mm
    # (R, N_RAYS), 0 to 1: strength of the edge that each ray contributed, relative to the cord's usual; 0 where none
    # was near
    support: Floats
    usual_rise: Floats  # (R,), 1/mm


def fit_shape(scene: Scene, surface: FilledTube, *, echo_planar: bool = False) -> ShapeFit:
    """Fit the model to an image along the centerline.

    Parameters
    ----------
    surface : FilledTube
        Gives the slices and the usual strength of the cord's edge. Its shape is not used, so that a surface that
        leaked or collapsed can be recognised.
    echo_planar : whether the cord may lie elsewhere from one slice to the next
    """
    slices = surface.tube.slices
    unit = scene.params.radius_mm / USUAL_RADIUS_MM  # from here on, lengths are in this unit
    mm = scene.slice_mm / unit
    usual = measure_usual_rise(scene, slices, surface.tube.vertices())
    base = _smooth(_find_base(scene, surface) / unit, 8.0, mm)  # OptiC's own smoothing is of about this length
    origin = base
    edges = _sample_edges(scene, slices, origin, usual, unit)
    radii = _find_start(edges, mm)
    jump = JUMP_MM / unit if echo_planar else np.zeros_like(JUMP_MM)
    for n, gate in enumerate(GATES_MM):
        if n in (2, 4):  # the series is relative to a centre, which the fit has moved
            moved = _smooth(recenter(make_rings(origin, radii))[0], 4.0, mm)
            radii, origin = fit_star(make_rings(origin, radii), moved), moved
            edges = _sample_edges(scene, slices, origin, usual, unit)
        target, weight = _choose_edges(edges, radii, gate)
        sd = np.where(radii.mean(axis=1) > RADIUS_MM, SD_LARGER_MM, SD_SMALLER_MM)
        radii = _solve_series(target, weight, base - origin, sd, slices.astype(np.float64) * mm, jump) @ _series().T
    return ShapeFit(unit * origin, unit * radii, weight, usual)


def _find_base(scene: Scene, surface: FilledTube) -> Floats:
    """Return the expected centre of the cord: the centerline, or far from a user's three points the surface."""
    slices, course = surface.tube.slices, scene.course
    if not course.free:
        return course.at(slices)
    first, last = course.marked or (slices[0], slices[-1])
    beyond = np.maximum(first - slices, slices - last).clip(0) * scene.slice_mm
    near = np.exp(-beyond / CENTER_MEMORY_MM)[:, None]
    return near * course.at(slices) + (1 - near) * surface.tube.centers


def _smooth(values: Floats, sigma_mm: float, slice_mm: float) -> Floats:
    """Smooth along the cord."""
    return ndi.gaussian_filter1d(values, sigma_mm / slice_mm, axis=0, mode="nearest")


def measure_usual_rise(scene: Scene, slices: NDArray[np.intp], rings: Floats) -> Floats:
    """Measure the rise of intensity through the better part of each ring, in the median along the cord, (R,), 1/mm."""
    rise = np.percentile(measure_rise(scene, slices, rings), USUAL_PERCENTILE, axis=1)
    size = max(3, round(USUAL_MM / scene.slice_mm) | 1)
    return np.maximum(ndi.median_filter(rise, size, mode="nearest"), LEAST_RISE)


def _sample_edges(scene: Scene, slices: NDArray[np.intp], origin: Floats, usual: Floats, unit: float) -> Floats:
    """Measure the edges along the rays from an origin, (R, N_RAYS, RAY_SAMPLES), 0 to 1."""
    steps = RAY_START_MM + RAY_STEP_MM * np.arange(RAY_SAMPLES)
    points = unit * (origin[:, None, None, :] + steps[:, None] * unit_circle(N_RAYS)[:, None, :])
    values, known = scene.image.sample(slices, points)
    slope = ndi.gaussian_filter1d(values, DERIVATIVE_SIGMA_MM / RAY_STEP_MM, axis=2, order=1, mode="nearest")
    per_mm = scene.sign(slices) / (unit * RAY_STEP_MM * usual)
    slope = np.where(known, slope * per_mm[:, None, None], 0.0)
    strength = np.clip((np.abs(slope) - LEAST_EDGE) / (1 - LEAST_EDGE), 0.0, 1.0)
    return np.where(slope > 0, strength, WALL_TRUST * strength)


@lru_cache(maxsize=1)
def _series() -> Floats:
    """Return the terms of the series at each ray, (N_RAYS, terms)."""
    angle = 2 * np.pi * np.arange(N_RAYS) / N_RAYS
    wave = {"c": np.cos, "s": np.sin}
    return np.column_stack([np.ones(N_RAYS) if w == "1" else wave[w[0]](int(w[1]) * angle) for w in WAVES])


@lru_cache(maxsize=1)
def _list_starts() -> tuple[NDArray[np.intp], Floats]:
    """Return mean outlines of all sizes, ellipses and shifts: samples (n, N_RAYS) on the rays, and log-odds (n,)."""
    shift = np.linspace(-2.1, 2.1, 7)
    grid = np.meshgrid(np.linspace(2.9, 5.3, 7), (0.08, 0.2, 0.32), shift, shift, indexing="ij")
    radius, ellipse, *move = (axis.reshape(-1, 1) for axis in grid)
    mean, series = MEAN_SHAPE, _series()
    shape = 1 + ellipse * (series[:, 3] + mean[7] / mean[3] * series[:, 7]) + mean[6] * series[:, 6]
    moves = np.hstack(move)
    rays = fit_star(make_rings(moves, radius * shape), np.zeros_like(moves))
    sd = np.where(radius > RADIUS_MM, SD_LARGER_MM, SD_SMALLER_MM)
    odds = ((radius - RADIUS_MM) / sd) ** 2 + ((ellipse - mean[3]) * RADIUS_MM / SD_MM[3]) ** 2
    odds = -0.5 * (odds[:, 0] + ((moves / SD_MM[1:3]) ** 2).sum(axis=1))
    return np.clip(np.rint((rays - RAY_START_MM) / RAY_STEP_MM), 0, RAY_SAMPLES - 1).astype(np.intp), odds


def _find_start(edges: Floats, slice_mm: float) -> Floats:
    """Find the mean outline that meets most edges, pooled over nearby slices; radii (R, N_RAYS), mm."""
    step = max(1, round(COARSE_MM / slice_mm))
    rows = np.arange(0, len(edges), step)
    near = ndi.maximum_filter1d(edges[rows], 3, axis=2)  # no mean outline fits to within a sample
    samples, odds = _list_starts()
    met = sum(near[:, ray, samples[:, ray]] for ray in range(N_RAYS))
    best = (EDGES_COUNT * _smooth(met, COARSE_SMOOTH_MM, step * slice_mm) + odds).argmax(axis=1)
    found = RAY_START_MM + RAY_STEP_MM * samples[best]
    position = np.arange(len(edges))
    return np.column_stack([np.interp(position, rows, found[:, ray]) for ray in range(N_RAYS)])


def _choose_edges(edges: Floats, radii: Floats, gate_mm: float) -> tuple[Floats, Floats]:
    """Choose on each ray the strongest edge near the model; return its radius and strength, (R, N_RAYS)."""
    steps = RAY_START_MM + RAY_STEP_MM * np.arange(RAY_SAMPLES)
    score = edges * np.maximum(1 - ((steps - radii[..., None]) / gate_mm) ** 2, 0.0)
    best = score.argmax(axis=2)
    strength = np.take_along_axis(edges, best[..., None], 2)[..., 0]
    return steps[best], np.where(score.max(axis=2) > LEAST_EDGE, strength, 0.0)


def _solve_series(
    target: Floats, weight: Floats, shift: Floats, sd_radius: Floats, height_mm: Floats, jump_mm: Floats
) -> Floats:
    """Find the most likely series of all slices together.

    Returns (R, terms) ndarray, mm. It minimises a quadratic function of the distance to the edges (weighted by
    strength), the deviation from the mean shape, and the change between neighbouring slices.

    Parameters
    ----------
    target, weight : (R, N_RAYS) ndarray; edges, mm, and their strength, 0 to 1
    shift : (R, 2) ndarray, mm; position of the centerline relative to the origin, which is the expected shift
    sd_radius : (R,) ndarray, mm
    height_mm : (R,) ndarray, mm; positions of the slices along the cord, increasing
    jump_mm : (terms,) ndarray, mm; standard deviation of the change between slices apart from `WALK_MM`
    """
    series, n = _series(), len(WAVES)
    gap = np.diff(height_mm)
    thick = gap.min() if len(gap) else EDGE_LENGTH_MM
    believe = min(1.0, thick / EDGE_LENGTH_MM) / EDGE_SD_MM**2
    prior = min(1.0, thick / SHAPE_LENGTH_MM)
    matrix = believe * np.einsum("rk,kh,kg->rhg", weight, series, series)
    right = believe * (weight * target) @ series
    form = np.eye(n)[1:] - np.outer(MEAN_SHAPE[1:], np.eye(n)[0])  # a term less its share of the mean radius
    matrix += prior * (form / SD_MM[1:, None] ** 2).T @ form
    matrix[:, 0, 0] += prior / sd_radius**2
    right[:, 0] += prior * RADIUS_MM / sd_radius**2
    right[:, 1:3] += prior * shift / SD_MM[1:3] ** 2
    link = 1 / (WALK_MM**2 * gap[:, None] / 10 + jump_mm**2)
    change = np.zeros((len(gap), n))
    change[:, 1:3] = np.diff(shift, axis=0)
    right[1:] += link * change
    right[:-1] -= link * change
    diagonal = np.einsum("rhh->rh", matrix)  # a view
    diagonal[1:] += link
    diagonal[:-1] += link
    band = np.zeros((n + 1, len(target), n))  # lower form: band[d, r, h] couples term h with the d-th after it
    for d in range(n):
        band[d, :, : n - d] = np.diagonal(matrix, -d, axis1=1, axis2=2)
    band[n, :-1] = -link
    return solveh_banded(band.reshape(n + 1, -1), right.ravel(), lower=True, check_finite=False).reshape(-1, n)
