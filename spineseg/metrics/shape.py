"""Cross-sectional area and shape of the cord in every axial slice, as the Spinal Cord Toolbox defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.errors import GeometryError
from spineseg.metrics.solidity import compute_solidity
from spineseg.metrics.tangent import SMOOTH_MM, compute_tangents

MIN_WEIGHT = 1e-6
"""Smallest value that is foreground: interpolation leaves dust below it (SCT uses the same)."""

MIN_VOXELS = 4
"""Fewest voxels of a slice that have a shape: the smallest 2 x 2 patch. Fewer have an area only."""

AP_WINDOW_MM = 3.0
"""Width, right to left, over which the A-P diameter is averaged (SCT 7.2 and later)."""

MAX_ANGLE_DEG = 30.0
"""Larger angles are flagged: no neck tilts so far against axial slices; the line has left the cord."""

STEEP_ANGLE_DEG = 45.0
"""Beyond this the slice runs along the cord rather than across it: an error of 1 degree changes the area by 2 %."""

CORRECTIONS = ("product", "exact", "none")
"""Angle correction: product of cosines (as SCT), exact projection, or no correction."""


@dataclass(frozen=True)
class SliceShape:
    """Shape of a cord mask in each of K axial slices; every array is (K,), NaN where nothing is known.

    Parameters
    ----------
    csa_mm2, csa_axial_mm2 : (K,) ndarray, mm²
        Area across the cord (angle-corrected) and in the slice; NaN where the slice has no cord.
    diameter_ap_mm, diameter_rl_mm : (K,) ndarray, mm
        A-P: mean over a window of 3 mm round the centroid; R-L: axis of the ellipse of equal moments.
    eccentricity : (K,) ndarray, 0 (circle) to 1
    solidity : (K,) ndarray, 0 to 1
        Area over the area of the convex hull.
    orientation_deg : (K,) ndarray, -45 to 45
        Turn of the cord's R-L axis from the image's R-L towards A-P.
    angle_ap_deg, angle_rl_deg : (K,) ndarray
        Tilt of the cord about the A-P axis and about the R-L axis.
    length_mm : (K,) ndarray, mm
        Length of cord in the slice; NaN where the slice has no cord.
    centroid_vox : (K, 3) ndarray
        Centre of the mask, canonical voxel indices.
    """

    csa_mm2: NDArray[np.float64]
    csa_axial_mm2: NDArray[np.float64]
    diameter_ap_mm: NDArray[np.float64]
    diameter_rl_mm: NDArray[np.float64]
    eccentricity: NDArray[np.float64]
    solidity: NDArray[np.float64]
    orientation_deg: NDArray[np.float64]
    angle_ap_deg: NDArray[np.float64]
    angle_rl_deg: NDArray[np.float64]
    length_mm: NDArray[np.float64]
    centroid_vox: NDArray[np.float64]

    @property
    def is_tilted(self) -> NDArray[np.bool_]:
        """Slices whose angle is beyond `MAX_ANGLE_DEG`, (K,): their areas deserve no trust."""
        return self._is_beyond(MAX_ANGLE_DEG)

    @property
    def is_steep(self) -> NDArray[np.bool_]:
        """Slices whose angle is beyond `STEEP_ANGLE_DEG`, (K,): their areas are not averaged."""
        return self._is_beyond(STEEP_ANGLE_DEG)

    def _is_beyond(self, limit_deg: float) -> NDArray[np.bool_]:
        """Slices where an angle is larger, (K,)."""
        return (np.abs(self.angle_ap_deg) > limit_deg) | (np.abs(self.angle_rl_deg) > limit_deg)


@dataclass(frozen=True)
class _Points:
    """Foreground voxels: slice, distance from the slice's centroid (voxels), weight."""

    k: NDArray[np.intp]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    n_slices: int

    def sum(self, values: NDArray) -> NDArray[np.float64]:
        """Sum weighted values per slice, (K,)."""
        return np.bincount(self.k, self.weight * values, self.n_slices).astype(np.float64, copy=False)


def compute_shape(
    cord: ArrayLike,
    zooms: ArrayLike,
    *,
    correction: str = "product",
    smooth_mm: float = SMOOTH_MM,
    find_tangents: Callable[[NDArray[np.float64], float], NDArray[np.float64]] | None = None,
) -> SliceShape:
    """Compute area and shape of the cord in each axial slice.

    Areas are multiplied by the cosines of the angles between the cord and the slice normal, so that a
    tilted cord is not overestimated; diameters and orientation are those of the section across the cord.

    Parameters
    ----------
    cord : (I, J, K) array_like, bool, or partial volumes in [0, 1]
        Canonical orientation. Partial volumes add up; they are not scaled to their maximum.
    zooms : (3,) array_like, mm
    correction : {"product", "exact", "none"}
        ``"product"``: cos(angle_AP) cos(angle_RL), as SCT does; ``"exact"``: projection on the plane
        across the cord; they differ by 3 % at 30 degrees about both axes.
    smooth_mm : float, mm
        Wavelength that the smoothing of the line through the centroids halves.
    find_tangents : callable, optional
        Another line: returns unit tangents (K, 3) from centroids (K, 2), mm, and the slices' distance, mm.

    Returns
    -------
    SliceShape

    Raises
    ------
    GeometryError
        If `cord` is not three-dimensional.

    Notes
    -----
    An empty mask gives NaN everywhere. Slices of fewer than four voxels have an area but no shape. One
    slice alone has angles of 0. Cost grows with the voxels of the mask, not of the image.

    References
    ----------
    .. [1] Spinal Cord Toolbox, ``sct_process_segmentation``. Departures: moments are taken on the voxels
       instead of a copy resampled to 0.1 mm, soft masks are not rescaled, and the line's smoothing is in mm.
    """
    cord, zooms = np.asarray(cord), np.asarray(zooms, np.float64)
    if cord.ndim != 3 or correction not in CORRECTIONS:
        raise GeometryError(
            f"expected a 3-D mask and a correction of {CORRECTIONS}, found {cord.shape}, {correction!r}"
        )
    points, area, centroid = _collect(cord, zooms)
    find_tangents = find_tangents or partial(compute_tangents, smooth_mm=smooth_mm)
    tangents = find_tangents(centroid[:, :2] * zooms[:2], float(zooms[2]))
    if correction == "none":
        tangents = np.where(np.isnan(tangents), np.nan, [0.0, 0.0, 1.0])
    cos_ap = tangents[:, 2] / np.hypot(tangents[:, 0], tangents[:, 2])
    cos_rl = tangents[:, 2] / np.hypot(tangents[:, 1], tangents[:, 2])
    maps = _exact_maps(tangents) if correction == "exact" else _product_maps(cos_ap, cos_rl)
    factor = _determinant(maps)
    counts = np.bincount(points.k, minlength=points.n_slices)
    shape = _ellipses(points, area, maps * zooms[None, None, :2], counts >= MIN_VOXELS)
    return SliceShape(
        csa_mm2=area * factor,
        csa_axial_mm2=area,
        solidity=np.where(counts >= MIN_VOXELS, compute_solidity(cord), np.nan),
        angle_ap_deg=np.degrees(np.arctan2(tangents[:, 0], tangents[:, 2])),
        angle_rl_deg=np.degrees(np.arctan2(tangents[:, 1], tangents[:, 2])),
        length_mm=np.where(np.isfinite(area), zooms[2] / factor, np.nan),
        centroid_vox=centroid,
        **shape,
    )


def _collect(cord: NDArray, zooms: NDArray) -> tuple[_Points, NDArray, NDArray]:
    """Gather the foreground; areas (K,) mm² and centroids (K, 3) voxels, NaN in empty slices."""
    i, j, k = np.nonzero(cord > MIN_WEIGHT)
    weight = cord[i, j, k].astype(np.float64)
    n_slices = cord.shape[2]
    total = np.bincount(k, weight, n_slices)
    total = np.where(total > 0, total, np.nan)
    x, y = np.bincount(k, weight * i, n_slices) / total, np.bincount(k, weight * j, n_slices) / total
    centroid = np.stack([x, y, np.where(np.isnan(total), np.nan, np.arange(n_slices))], axis=1)
    return _Points(k, i - x[k], j - y[k], weight, n_slices), total * zooms[0] * zooms[1], centroid


def _product_maps(cos_ap: NDArray, cos_rl: NDArray) -> NDArray[np.float64]:
    """Map in-plane offsets to the section across the cord by one cosine per axis, (K, 2, 2)."""
    maps = np.zeros((len(cos_ap), 2, 2))
    maps[:, 0, 0], maps[:, 1, 1] = cos_ap, cos_rl
    return maps


def _exact_maps(tangents: NDArray) -> NDArray[np.float64]:
    """Project in-plane offsets along the cord on the plane across it, (K, 2, 2); determinant t_z."""
    across = np.array([1.0, 0.0, 0.0]) - tangents[:, :1] * tangents
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return np.stack([across, np.cross(tangents, across)], axis=1)[:, :, :2]


def _determinant(maps: NDArray) -> NDArray[np.float64]:
    """Determinant of each 2 x 2 map, (K,); NaN passes without a warning, unlike in numpy.linalg."""
    return maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0]


def _ellipses(points: _Points, area: NDArray, maps: NDArray, has_shape: NDArray) -> dict[str, NDArray]:
    """Diameters, eccentricity and orientation per slice from second moments; `maps` take voxels to mm."""
    k = points.k
    x = maps[k, 0, 0] * points.x + maps[k, 0, 1] * points.y
    y = maps[k, 1, 0] * points.x + maps[k, 1, 1] * points.y
    total = np.where(has_shape, points.sum(np.ones_like(x)), np.nan)
    xx, xy, yy = points.sum(x * x) / total, points.sum(x * y) / total, points.sum(y * y) / total
    blur = _partial_volume_share(points, total)[:, None, None] * (maps @ np.swapaxes(maps, 1, 2)) / 12.0
    xx, xy, yy = xx - blur[:, 0, 0], xy - blur[:, 0, 1], yy - blur[:, 1, 1]
    spread = np.hypot((xx - yy) / 2, xy)
    large, small = (xx + yy) / 2 + spread, np.maximum((xx + yy) / 2 - spread, 0.0)
    angle = np.degrees(np.arctan2(2 * xy, xx - yy) / 2)  # of the major axis from R-L, -90 to 90
    is_wide = np.abs(angle) <= 45.0  # the major axis is the one nearer to R-L
    turn = np.where(is_wide, angle, angle - 90.0 * np.sign(angle))
    return {
        "diameter_rl_mm": 4.0 * np.sqrt(np.where(is_wide, large, small)),
        "diameter_ap_mm": _window_diameter(points, x, y, turn, maps),
        "eccentricity": np.sqrt(1.0 - np.divide(small, large, out=np.full_like(large, np.nan), where=large > 0)),
        "orientation_deg": turn,
    }


def _partial_volume_share(points: _Points, total: NDArray) -> NDArray[np.float64]:
    """Say which slices hold partial volumes (1) and which are binary (0), (K,).

    A partial volume is the shape blurred by one voxel, which adds 1/12 voxel² to the variance; voxels
    chosen by their centre sample the shape itself and add nothing.
    """
    soft = np.bincount(points.k, (points.weight > 0.01) & (points.weight < 0.99), points.n_slices)
    return np.where(np.isnan(total), np.nan, (soft > 0).astype(np.float64))


def _window_diameter(points: _Points, x: NDArray, y: NDArray, turn: NDArray, maps: NDArray) -> NDArray[np.float64]:
    """Mean A-P extent within the window round the centroid, (K,), mm, along the cord's own A-P axis."""
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    k = points.k
    across = np.abs(cos[k] * x + sin[k] * y)
    along_rl = cos[:, None] * maps[:, 0] + sin[:, None] * maps[:, 1]  # one voxel step seen along R-L, (K, 2)
    width = np.minimum(np.abs(along_rl).sum(axis=1), AP_WINDOW_MM)
    inside = np.clip((AP_WINDOW_MM / 2 - across) / width[k] + 0.5, 0.0, 1.0)
    return points.sum(inside) * np.abs(_determinant(maps)) / AP_WINDOW_MM
