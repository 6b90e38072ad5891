"""Deform rings towards the edge of the cord: search along the normals, then solve a quadratic energy exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.linalg import solveh_banded

from spineseg.propseg.parameters import STEP_MM
from spineseg.propseg.surface import compute_normals

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

DERIVATIVE_SIGMA_MM = 0.4
"""Width of the Gaussian whose derivative measures an edge: smaller than nearly all voxels in use."""


CORRECTION_REACH_MM = 2.0
"""Distance within which a ray is moved to a point of the user's correction, as in the original."""

CORRECTION_SEARCH_MM = 3.0
"""Distance along the normal beyond which a point belongs to another part of the surface, as in the original."""

CORRECTION_WEIGHT = 1000.0
"""Weight of such a point, above that of any edge, as in the original."""

OUTSIDE_MM = 1.0
"""Distance from the ring at which the contrast with its surroundings is measured: past the blur, within thin fluid."""

TOLERANCE = 0.4
"""Share of the contrast by which intensity may vary within the cord: less than the half that defines an edge."""

SPREADS = 2.5
"""Deviation, in standard deviations of the cord, that still counts as cord."""

PATH_PENALTY = 3.0
"""Penalty (1/mm²) for crossing tissue unlike the cord: a millimetre of fluid costs more than a stronger edge beyond it
gains."""

BLUR_MM = 0.4
"""Distance over which no penalty applies yet: half the blur of a 1 mm voxel, so that the position of a clean step is
unchanged."""

NOISE_PENALTY = 0.5
"""Penalty (1/mm) per standard deviation of the cord's intensity: noise and grey matter cause edges of about this
strength, which must not outweigh the shape of the cord."""

FIXED = 1e6
"""Weight that holds a ring in place: thousands of times that of any edge."""


@dataclass(frozen=True)
class Edges:
    """Edge found at each vertex."""

    offset: Floats  # (R, K), mm: signed distance along the normal to the edge
    # (R, K): the directional derivative (units of intensity per mm) less the penalty on distance, at least 0
    weight: Floats


def search_edges(
    scene: Scene, slices: NDArray[np.intp], rings: Floats, *, distance_weight: Floats | float, reach_mm: float
) -> Edges:
    """Find the best edge along the normal of each vertex.

    Parameters
    ----------
    slices : (R,) ndarray of int
    rings : (R, K, 2) ndarray, mm
    distance_weight : float or (R,) ndarray, 1/mm³
        Penalty d: the score of an edge at distance s is its derivative less d * s², less the penalty for the tissue
        between it and the inside of the cord (`penalise_path`).
    reach_mm : mm; search on either side

    Returns
    -------
    Edges; offset 0 and weight 0 where no edge is found or the image ends. Points of the user's correction take
    precedence over edges.
    """
    normals = compute_normals(rings)
    rays = sample_rays(scene, slices, rings, normals, reach_mm)
    penalty = np.asarray(distance_weight, dtype=np.float64).reshape(-1, 1, 1) * rays.steps**2
    penalty = penalty + penalise_path(scene, slices, rings, rays)
    score = np.where(rays.known, rays.slope - penalty, -np.inf)
    best = score.argmax(axis=2)
    weight = np.take_along_axis(score, best[..., None], 2)[..., 0]
    offset = rays.steps[best] + STEP_MM * _peak_shift(score, best)
    found = weight > 0
    edges = Edges(np.where(found, offset, 0.0), np.where(found, weight, 0.0))
    return _obey_correction(scene, slices, rings, normals, edges)


@dataclass(frozen=True)
class Rays:
    """Intensities along the normals."""

    steps: Floats  # (S,), mm: offsets from -reach to +reach
    values: Floats  # (R, K, S), 0 to 1000
    slope: Floats  # (R, K, S), 1/mm: outward derivative, positive if its sign is that expected for the contrast
    known: NDArray[np.bool_]  # (R, K, S) of bool: False beyond the image


def sample_rays(scene: Scene, slices: NDArray[np.intp], rings: Floats, normals: Floats, reach_mm: float) -> Rays:
    """Sample intensity and its rise along the normals of rings, in one call.

    Parameters
    ----------
    slices : (R,) ndarray of int
    rings, normals : (R, K, 2) ndarray; positions in mm, unit vectors
    reach_mm : mm; length of the rays on either side
    """
    n = max(1, round(reach_mm / STEP_MM))
    half = int(np.ceil(3 * DERIVATIVE_SIGMA_MM / STEP_MM))
    steps = np.arange(-n - half, n + half + 1, dtype=np.float64) * STEP_MM
    values, known = scene.image.sample(slices, rings[:, :, None, :] + steps[:, None] * normals[:, :, None, :])
    slope = ndi.gaussian_filter1d(values, DERIVATIVE_SIGMA_MM / STEP_MM, axis=2, order=1, mode="nearest")
    part = slice(half, half + 2 * n + 1)
    return Rays(
        steps[part],
        values[..., part],
        slope[..., part] * (scene.sign(slices) / STEP_MM)[:, None, None],
        known[..., part],
    )


def penalise_path(scene: Scene, slices: NDArray[np.intp], rings: Floats, rays: Rays) -> Floats:
    """Return the penalty of each position on a ray for tissue unlike the cord between it and the inside.

    Returns (R, K, S) ndarray, 1/mm: PATH_PENALTY times the integral, from the inner end of the ray, of the difference
    from the cord's intensity beyond a tolerance (a share of the contrast at the ring, and at least the cord's own
    spread), plus NOISE_PENALTY times that spread.
    """
    level, spread = measure_cord(scene, slices, rings)
    outside = np.abs(rays.steps - OUTSIDE_MM).argmin()
    contrast = scene.sign(slices) * np.median(rays.values[..., outside] - level[:, None], axis=1)
    tolerance = np.maximum(TOLERANCE * contrast, SPREADS * spread)[:, None, None]
    excess = np.maximum(np.abs(rays.values - level[:, None, None]) - tolerance, 0.0)
    cost = PATH_PENALTY * STEP_MM * np.cumsum(excess, axis=2)
    delay = round(BLUR_MM / STEP_MM)
    cost = np.concatenate([np.zeros_like(cost[..., :delay]), cost[..., :-delay]], axis=2)
    return cost + NOISE_PENALTY * spread[:, None, None]


def measure_cord(scene: Scene, slices: NDArray[np.intp], rings: Floats) -> tuple[Floats, Floats]:
    """Measure the median intensity in the core of each ring and its robust standard deviation, (R,) each."""
    center = rings.mean(axis=1, keepdims=True)
    parts = np.array(scene.model.core)[:, None, None]
    points = (center + parts[:, None] * (rings - center)).swapaxes(0, 1)  # (R, shares, K, 2)
    values = scene.image.sample(slices, points.reshape(len(rings), -1, 2))[0]
    level = np.median(values, axis=1)
    return level, 1.4826 * np.median(np.abs(values - level[:, None]), axis=1)


def _obey_correction(scene: Scene, slices: NDArray[np.intp], rings: Floats, normals: Floats, edges: Edges) -> Edges:
    """Move rays that pass near a point of the user's correction to that point; the nearest point takes precedence."""
    if scene.correction is None:
        return edges
    points = scene.correction
    rise = (points[:, 0] - slices[:, None]) * scene.slice_mm  # (R, m)
    row, n = np.nonzero(np.abs(rise) <= CORRECTION_REACH_MM)
    if len(row) == 0:
        return edges
    away = points[n, None, 1:] - rings[row]  # (pairs, K, 2)
    along = (away * normals[row]).sum(-1)
    miss = np.sqrt((away**2).sum(-1) - along**2 + rise[row, n, None] ** 2)
    miss = np.where(np.abs(along) <= CORRECTION_SEARCH_MM, miss, np.inf)
    nearest = np.full(edges.offset.shape, np.inf)
    np.minimum.at(nearest, row, miss)
    wins = (miss <= CORRECTION_REACH_MM) & (miss == nearest[row])
    offset, weight = edges.offset.copy(), edges.weight.copy()
    pair, vertex = np.nonzero(wins)
    offset[row[pair], vertex] = along[pair, vertex]
    weight[row[pair], vertex] = CORRECTION_WEIGHT
    return Edges(offset, weight)


def _peak_shift(score: Floats, best: NDArray[np.intp]) -> Floats:
    """Return the offset, -0.5 to 0.5 steps, of the peak of a parabola through the best sample and its neighbours."""
    last = score.shape[2] - 1
    left, mid, right = (
        np.take_along_axis(score, np.clip(best + move, 0, last)[..., None], 2)[..., 0] for move in (-1, 0, 1)
    )
    with np.errstate(invalid="ignore"):
        bend = left - 2 * mid + right
        shift = 0.5 * (left - right) / np.where(bend < 0, bend, -np.inf)
    inner = (best > 0) & (best < last) & np.isfinite(shift)
    return np.where(inner, np.clip(shift, -0.5, 0.5), 0.0)


def solve_rings(
    template: Floats,
    targets: Floats,
    normals: Floats,
    weight: Floats,
    *,
    alpha: Floats | float,
    link: Floats,
    anchor: Floats | None = None,
) -> Floats:
    """Minimise the energy of rings exactly.

    The energy is ``sum w (n . (x - v))² + sum alpha |(v_p - v_q) - (t_p - t_q)|² + sum a |v - t|²`` over vertices v,
    neighbours p and q (each pair once), template t and targets x. Its normal equations are sparse, symmetric and
    positive definite, with half-bandwidth 2 K when vertices are numbered ring by ring.

    Parameters
    ----------
    template, targets, normals : (R, K, 2) ndarray; positions in mm, unit vectors
    weight : (R, K) ndarray; w, at least 0
    alpha : float or (R,) ndarray; stiffness within a ring
    link : (R - 1,) ndarray; stiffness between consecutive rings; 0 separates tubes that are solved together
    anchor : (R,) ndarray; a, pull of whole rings to their template; a large value fixes a ring

    Returns
    -------
    (R, K, 2) ndarray, mm
    """
    n_rings, n_vertices = weight.shape
    alpha = np.broadcast_to(np.asarray(alpha, dtype=np.float64), (n_rings,))
    hold = np.zeros(n_rings) if anchor is None else anchor
    hold = hold + 1e-6 * alpha.max()  # keeps a ring without any edge at its template instead of singular
    around = _across_ring(template, alpha)
    along = np.zeros_like(template)
    pull = link[:, None, None] * (template[1:] - template[:-1])
    along[1:] += pull
    along[:-1] -= pull
    push = (weight * (normals * targets).sum(-1))[..., None] * normals
    right = around + along + push + hold[:, None, None] * template

    degree = 2 * alpha + hold
    degree[1:] += link
    degree[:-1] += link
    band = np.zeros((2 * n_vertices + 1, n_rings, n_vertices, 2))  # lower form: band[d, i] couples i + d with i
    band[0] = degree[:, None, None] + weight[..., None] * normals**2
    band[1, :, :, 0] = weight * normals[..., 0] * normals[..., 1]
    band[2, :, :-1, :] += -alpha[:, None, None]
    band[2 * (n_vertices - 1), :, 0, :] += -alpha[:, None]
    band[2 * n_vertices, :-1] += -link[:, None, None]
    flat = band.reshape(2 * n_vertices + 1, -1)
    return solveh_banded(flat, right.ravel(), lower=True, check_finite=False).reshape(template.shape)


def _across_ring(rings: Floats, alpha: Floats) -> Floats:
    """Apply alpha times the Laplacian of each closed ring, (R, K, 2)."""
    neighbours = np.roll(rings, 1, axis=1) + np.roll(rings, -1, axis=1)
    return alpha[:, None, None] * (2 * rings - neighbours)


def align_template(template: Floats, rings: Floats, groups: NDArray[np.intp]) -> Floats:
    """Rotate and translate template rings onto rings, one rigid motion per group (Kabsch, in plane).

    Parameters
    ----------
    template, rings : (R, K, 2) ndarray, mm; corresponding vertices
    groups : (R,) ndarray of int; rings with the same number move together; numbers count from 0

    Returns
    -------
    (R, K, 2) ndarray, mm
    """
    count = np.bincount(groups)[:, None] * template.shape[1]

    def total(values: Floats) -> Floats:
        return np.stack([np.bincount(groups, values[..., a].sum(1)) for a in range(values.shape[-1])], axis=-1)

    mean_t, mean_r = total(template) / count, total(rings) / count
    t, r = template - mean_t[groups][:, None], rings - mean_r[groups][:, None]
    dot = total((t * r).sum(-1, keepdims=True))[:, 0]
    cross = total((t[..., 0] * r[..., 1] - t[..., 1] * r[..., 0])[..., None])[:, 0]
    norm = np.maximum(np.hypot(dot, cross), 1e-12)
    cos, sin = (dot / norm)[groups][:, None], (cross / norm)[groups][:, None]
    turned = np.stack([cos * t[..., 0] - sin * t[..., 1], sin * t[..., 0] + cos * t[..., 1]], axis=-1)
    return turned + mean_r[groups][:, None]


def deform_bands(
    scene: Scene,
    slices: NDArray[np.intp],
    template: Floats,
    groups: NDArray[np.intp],
    *,
    distance_weight: Floats,
    held: NDArray[np.bool_],
    iterations: int,
    tolerance_mm: float,
) -> tuple[Floats, Edges]:
    """Deform bands of rings, all at once, until they no longer move.

    Parameters
    ----------
    slices : (R,) ndarray of int
    template : (R, K, 2) ndarray, mm; initial rings, whose shape is the template of the energy
    groups : (R,) ndarray of int; bands are runs of equal numbers, counted from 0
    distance_weight : (R,) ndarray; penalty on distance, see `search_edges`
    held : (R,) ndarray of bool; rings that must not move
    tolerance_mm : mm; mean motion of the vertices below which iteration stops

    Returns
    -------
    rings : (R, K, 2) ndarray, mm
    edges : of the last search
    """
    alpha = scene.params.alpha
    link = np.where(np.diff(groups) == 0, alpha, 0.0)
    anchor = np.where(held, FIXED, 0.0)
    reach_mm = scene.params.distance_search * STEP_MM
    rings = template
    for _ in range(iterations):
        edges = search_edges(scene, slices, rings, distance_weight=distance_weight, reach_mm=reach_mm)
        normals = compute_normals(rings)
        targets = rings + edges.offset[..., None] * normals
        memory = np.where(held[:, None, None], template, align_template(template, rings, groups))
        moved = solve_rings(memory, targets, normals, edges.weight, alpha=alpha, link=link, anchor=anchor)
        motion = np.linalg.norm(moved - rings, axis=-1)[~held].mean()
        rings = moved
        if motion <= tolerance_mm:
            break
    return rings, edges
