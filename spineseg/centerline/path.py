"""The best curve through a stack of per-slice score maps, by dynamic programming.

One pixel ``u_k`` is chosen in every slice k so that ``-sum_k score_k(u_k) + smoothness * sum_k |zooms *
(u_{k+1} - u_k) / dz|^2`` is least over all curves (not only local ones): the penalty is the squared slope in
mm per mm, so it means the same for thin and thick slices. The inner minimum is a distance transform with a
quadratic cost, which is separable in the two in-plane axes.

References
----------
.. [1] Gros et al., 2018, Automatic spinal cord localization, robust to MRI contrasts using global curve
   optimization, Medical Image Analysis 44, doi:10.1016/j.media.2017.12.001.
.. [2] Felzenszwalb and Huttenlocher, 2012, Distance transforms of sampled functions, Theory of Computing 8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.spline import cutoff_to_lam, fit_spline

SMOOTHNESS = 1.0
"""Weight of the squared slope against the score, the value OptiC ships; scores are SVM margins of order 1."""

MAX_SLOPE = 3.0
"""Steepest slope of the path, mm per mm: a cord is never inclined by more than 70 degrees to the slice normal."""

MIN_WINDOW_VOX = 5
"""Smallest reach of one step, voxels, so that the path can pass a bad slice even if slices are thin."""

SMOOTHING_MM = 20.0
"""Wavelength below which waves of the path are noise: a cervical cord bends over 100 mm, noise over a few slices."""


def find_path(
    score: NDArray[np.floating], zooms: tuple[float, float, float], smoothness: float = SMOOTHNESS
) -> NDArray[np.intp]:
    """Find the pixels, one per slice, of the curve with the best score and least slope.

    Parameters
    ----------
    score : (K, I, J) ndarray; score of every pixel of K slices, higher is better; ``-inf`` forbids a pixel
    zooms : (3,) floats, mm; voxel size along I, J and between slices
    smoothness : weight of the squared slope (mm per mm)

    Returns
    -------
    (K, 2) ndarray of int; indices along I and J in every slice. Of equal curves the first in C order.

    Notes
    -----
    One step moves at most ``MAX_SLOPE * dz`` along each axis, and never less than `MIN_WINDOW_VOX` voxels.
    """
    return find_paths(score[None], zooms, smoothness)[0]


def find_paths(
    scores: NDArray[np.floating], zooms: tuple[float, float, float], smoothness: float = SMOOTHNESS
) -> NDArray[np.intp]:
    """Find the curve through each of m stacks of maps, (m, K, I, J), as `find_path` does; gives (m, K, 2)."""
    m, n_slices, n_i, n_j = scores.shape
    scale_i, scale_j = (smoothness * (zooms[a] / zooms[2]) ** 2 for a in (0, 1))
    reach_i, reach_j = (_reach(zooms[a], zooms[2], n) for a, n in ((0, n_i), (1, n_j)))
    costs = np.empty((n_slices, m, n_i, n_j), dtype=np.float64)  # of the best curve that ends in each pixel
    costs[0] = -np.asarray(scores[:, 0], dtype=np.float64)
    for k in range(1, n_slices):  # each slice needs the one before it
        along_j = _min_transform(costs[k - 1], scale_j, reach_j)
        costs[k] = _min_transform(along_j.swapaxes(1, 2), scale_i, reach_i).swapaxes(1, 2) - scores[:, k]
    paths = np.empty((m, n_slices, 2), dtype=np.intp)
    for each, path in enumerate(paths):
        path[-1] = np.unravel_index(np.argmin(costs[-1, each]), (n_i, n_j))
        for k in range(n_slices - 1, 0, -1):
            path[k - 1] = _step_back(costs[k - 1, each], path[k], (scale_i, scale_j), (reach_i, reach_j))
    return paths


def _reach(zoom: float, dz: float, n: int) -> int:
    """Return the number of voxels that one step may move along an axis of n voxels."""
    return min(max(int(np.ceil(MAX_SLOPE * dz / zoom)), MIN_WINDOW_VOX), n - 1)


def _min_transform(cost: NDArray[np.float64], scale: float, reach: int) -> NDArray[np.float64]:
    """Return the minimum over v of cost[..., v] + scale (u - v)^2 with |u - v| <= reach, for all u."""
    span = cost.max() - cost.min() if np.isfinite(cost).all() else np.inf
    if span < scale * reach**2:  # farther steps cost more than the worst pixel; a little more than that, for rounding
        reach = min(reach, int(1.001 * np.sqrt(span / scale)))
    n = cost.shape[-1]
    padded = np.full((*cost.shape[:-1], n + 2 * reach), np.inf)
    padded[..., reach : reach + n] = cost
    best, candidate = cost.copy(), np.empty(cost.shape)
    for offset in range(1, reach + 1):  # tens of shifts of whole planes
        before, after = reach - offset, reach + offset
        np.minimum(padded[..., before : before + n], padded[..., after : after + n], out=candidate)
        candidate += scale * offset**2
        np.minimum(best, candidate, out=best)
    return best


def _step_back(
    cost: NDArray[np.float64], pixel: NDArray[np.intp], scale: tuple[float, float], reach: tuple[int, int]
) -> tuple[int, int]:
    """Return the pixel of the slice before, with costs (I, J), from which the best curve comes; the first of equals."""
    i, j = (np.arange(max(0, at - r), min(n, at + r + 1)) for at, r, n in zip(pixel, reach, cost.shape, strict=True))
    along_j = cost[i[0] : i[-1] + 1, j[0] : j[-1] + 1] + scale[1] * (j - pixel[1]) ** 2
    row = int(np.argmin(along_j.min(axis=1) + scale[0] * (i - pixel[0]) ** 2))
    return int(i[row]), int(j[np.argmin(along_j[row])])


def refine_path(
    score: NDArray[np.floating],
    path: NDArray[np.intp],
    zooms: tuple[float, float, float],
    radius_mm: float = 2.0,
) -> NDArray[np.float64]:
    """Move each point of a discrete path to the sub-voxel peak of its score map.

    Parameters
    ----------
    score : (K, I, J) ndarray; the score maps that the path was found in
    path : (K, 2) ndarray of int; one pixel per slice
    radius_mm : float, mm, default 2
        Radius of the neighbourhood; below the radius of a cord (4-6 mm), so that only the peak itself counts.

    Returns
    -------
    (K, 2) ndarray of float64, voxels

    Notes
    -----
    The centroid of the score above its value at the rim of the neighbourhood. It is symmetric, needs no fit,
    and stays inside the neighbourhood; on a flat map the point does not move.
    """
    n_slices, n_i, n_j = score.shape
    half = [max(1, int(np.ceil(radius_mm / zooms[a]))) for a in (0, 1)]
    di, dj = np.meshgrid(*[np.arange(-h, h + 1) for h in half], indexing="ij")
    inside = np.hypot(di * zooms[0], dj * zooms[1]) <= max(radius_mm, 1.01 * min(zooms[:2]))
    di, dj = di[inside], dj[inside]
    i = path[:, :1] + di
    j = path[:, 1:] + dj
    valid = (i >= 0) & (i < n_i) & (j >= 0) & (j < n_j)
    # a neighbourhood cut by the border uses only offsets whose mirror image is inside too; otherwise the point would
    # move inwards
    valid &= valid[:, ::-1]
    values = score[np.arange(n_slices)[:, None], np.clip(i, 0, n_i - 1), np.clip(j, 0, n_j - 1)].astype(np.float64)
    valid &= np.isfinite(values)
    floor = np.where(valid, values, np.inf).min(axis=1, keepdims=True)
    weight = np.where(valid, values - np.where(np.isfinite(floor), floor, 0.0), 0.0)
    total = weight.sum(axis=1)
    safe = np.where(total > 0, total, 1.0)
    shift = np.stack([(weight * di).sum(axis=1), (weight * dj).sum(axis=1)], axis=1) / safe[:, None]
    return path + shift


RIVAL_MM = 12.0
"""Least distance of a rival curve: beyond the canal, whose half width is 6 to 10 mm, there is no second cord unless a
ghost or fold-over shows one."""


def measure_lead(
    score: NDArray[np.floating],
    path: NDArray,
    zooms: tuple[float, float, float],
    smoothness: float = SMOOTHNESS,
    *,
    enough: float = np.inf,
) -> float:
    """Return by how much the mean score along a path exceeds that along the best other path, `RIVAL_MM` away.

    Parameters
    ----------
    score : (K, I, J) ndarray; the score maps that the path was found in
    path : (K, 2) ndarray; one point per slice, in pixels of the maps
    zooms, smoothness : as for `find_path`
    enough : where the best pixels elsewhere, on one path or not, leave a lead of this, that lead is returned:
        the best path elsewhere would leave more, and takes time to find
    """
    i, j = (np.arange(size) for size in score.shape[1:])
    away = np.hypot((i[:, None] - path[:, 0, None, None]) * zooms[0], (j - path[:, 1, None, None]) * zooms[1])
    others = np.where(away < RIVAL_MM, score.min(), score)
    number, pixel = np.arange(len(score)), np.rint(path).astype(int)
    own = score[number, pixel[:, 0], pixel[:, 1]]
    least = float((own - others.max(axis=(1, 2))).mean())
    if least >= enough:
        return least
    rival = find_path(others, zooms, smoothness)
    return float((own - others[number, rival[:, 0], rival[:, 1]]).mean())


def smooth_path(
    path: NDArray[np.floating],
    zooms: tuple[float, float, float],
    *,
    cutoff_mm: float = SMOOTHING_MM,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Smooth a path with one point per slice by a natural cubic spline.

    Parameters
    ----------
    path : (K, 2) ndarray, voxels; one point in each of K consecutive slices
    cutoff_mm : mm; waves of this length keep half their amplitude, shorter ones vanish, longer ones are kept
    weights : (K,) ndarray, positive; weight of each slice

    Returns
    -------
    (K, 2) ndarray of float64, voxels
        Unchanged below three slices; nearly so where slices are further apart than half the cut-off.
    """
    in_plane = np.asarray(zooms[:2], dtype=np.float64)
    positions = np.arange(len(path), dtype=np.float64) * float(zooms[2])
    lam = cutoff_to_lam(cutoff_mm, zooms[2])
    return fit_spline(positions, np.asarray(path, dtype=np.float64) * in_plane, lam, weights) / in_plane
