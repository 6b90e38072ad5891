"""Cross-sectional area and shape of the cord in every axial slice, as the Spinal Cord Toolbox defines them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.errors import GeometryError
from spineseg.metrics.contour import LEVEL, Contours, find_contours
from spineseg.metrics.cord_line import CordLine, fit_cord_line
from spineseg.metrics.solidity import compute_solidity

MIN_WEIGHT = 0.01
"""Smallest value that counts as foreground (1e-6 in SCT). Interpolation and networks leave values below it in the whole
slice, which would add tens of mm²; the border of a cord has less than 0.1 % of its area in such values."""

MIN_VOXELS = 4
"""Smallest number of voxels in a slice for which a shape is computed, a 2 x 2 patch; with fewer there is only an
area."""

AP_WINDOW_MM = 3.0
"""Width, right to left, over which the A-P diameter is averaged (SCT 7.2 and later)."""

MAX_ANGLE_DEG = 30.0
"""Tilt above which a slice is flagged. Necks hardly ever tilt this far against axial slices, so the line may have left
the cord."""

STEEP_ANGLE_DEG = 45.0
"""Tilt above which a slice runs along the cord rather than across it: an error of 1 degree changes the area by 2 %."""

CORRECTIONS = ("product", "exact", "none")
"""Angle correction: product of cosines (as SCT), exact projection, or no correction."""


@dataclass(frozen=True)
class SliceShape:
    """Shape of a cord mask in each of K axial slices; every array is (K,), NaN where a value is undefined.

    Parameters
    ----------
    csa_mm2, csa_axial_mm2 : (K,) ndarray, mm²
        Area across the cord (angle-corrected) and in the slice; NaN where the slice has no cord. The area across the
        cord is also NaN in slices tilted beyond `STEEP_ANGLE_DEG`.
    diameter_ap_mm, diameter_rl_mm : (K,) ndarray, mm
        A-P: mean over a window of 3 mm round the centroid; R-L: axis of the ellipse of equal moments.
    eccentricity : (K,) ndarray, 0 (circle) to 1
    solidity : (K,) ndarray, 0 to 1
        Area over the area of the convex hull.
    orientation_deg : (K,) ndarray, -45 to 45
        Rotation of the cord's R-L axis from the image's R-L axis towards A-P.
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
    def tilt_deg(self) -> NDArray[np.float64]:
        """Angle between the cord and the slice's normal, (K,)."""
        return np.degrees(np.arctan(np.hypot(*(np.tan(np.radians(a)) for a in (self.angle_ap_deg, self.angle_rl_deg)))))

    @property
    def has_cord(self) -> NDArray[np.bool_]:
        """Slices that hold cord, (K,)."""
        return np.isfinite(self.csa_axial_mm2)

    @property
    def is_tilted(self) -> NDArray[np.bool_]:
        """Slices with cord whose tilt is beyond `MAX_ANGLE_DEG`, (K,): their areas are unreliable."""
        return self.has_cord & (self.tilt_deg > MAX_ANGLE_DEG)

    @property
    def is_steep(self) -> NDArray[np.bool_]:
        """Slices with cord whose tilt is beyond `STEEP_ANGLE_DEG`, (K,): they have no area across the cord."""
        return self.has_cord & (self.tilt_deg > STEEP_ANGLE_DEG)


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


def compute_shape(cord: ArrayLike, zooms: ArrayLike, *, correction: str = "product") -> SliceShape:
    """Compute area and shape of the cord in each axial slice, across the mask's own line; see `compute_sections`."""
    return compute_sections(cord, zooms, correction=correction)[0]


def compute_sections(
    cord: ArrayLike, zooms: ArrayLike, *, correction: str = "product", centers_mm: NDArray | None = None
) -> tuple[SliceShape, CordLine | None]:
    """Compute area and shape of the cord in each axial slice, and the line of the cord.

    Areas are multiplied by the cosines of the angles between the cord and the slice normal, so that a
    tilted cord is not overestimated; diameters and orientation are those of the section across the cord.

    Parameters
    ----------
    cord : (I, J, K) array_like, bool, or partial volumes in [0, 1]
        Canonical orientation. Partial volumes add up to the area; they are not scaled to their maximum. A slice in
        which no voxel is half cord is empty.
    zooms : (3,) array_like, mm
    correction : {"product", "exact", "none"}
        ``"product"``: cos(angle_AP) cos(angle_RL), as SCT does; ``"exact"``: projection on the plane
        across the cord; they differ by 3 % at 30 degrees about both axes.
    centers_mm : (K, 2) ndarray, mm, optional
        Another line for the angles, such as a centerline, by slice; NaN where it has no point.

    Returns
    -------
    shape : SliceShape
    line : CordLine or None
        None for an empty mask.

    Raises
    ------
    GeometryError
        If `cord` is not three-dimensional.

    Notes
    -----
    An empty mask gives NaN everywhere. Slices of fewer than four voxels have an area but no shape. A single
    slice has angles of 0. The cost depends on the voxels of the mask, not of the image.

    The shape of a slice with partial volumes is that of its 0.5 contour. In moments over the voxels, the uncertainty of
    a network would count as partial volume and make diameters up to 13 % too large.

    References
    ----------
    .. [1] Spinal Cord Toolbox, ``sct_process_segmentation``. Departures: moments are taken on the voxels
       instead of a copy resampled to 0.1 mm, soft masks are not rescaled, and the line's smoothing follows the mask.
    """
    cord, zooms = np.asarray(cord), np.asarray(zooms, np.float64)
    if cord.ndim != 3 or correction not in CORRECTIONS:
        raise GeometryError(
            f"expected a 3-D mask and a correction of {CORRECTIONS}, found {cord.shape}, {correction!r}"
        )
    points, area, centroid = _collect(cord, zooms)
    line = fit_cord_line(centroid[:, :2] * zooms[:2] if centers_mm is None else centers_mm, float(zooms[2]))
    tangents = np.full((len(area), 3), np.nan) if line is None else line.tangents_of(len(area))
    if correction == "none":
        tangents = np.where(np.isnan(tangents), np.nan, [0.0, 0.0, 1.0])
    cos_ap = tangents[:, 2] / np.hypot(tangents[:, 0], tangents[:, 2])
    cos_rl = tangents[:, 2] / np.hypot(tangents[:, 1], tangents[:, 2])
    maps = _exact_maps(tangents) if correction == "exact" else _product_maps(cos_ap, cos_rl)
    factor = _determinant(maps)
    shape = SliceShape(
        csa_mm2=np.where(tangents[:, 2] < np.cos(np.radians(STEEP_ANGLE_DEG)), np.nan, area * factor),
        csa_axial_mm2=area,
        **_find_forms(cord, points, area, centroid, maps * zooms[None, None, :2]),
        angle_ap_deg=np.degrees(np.arctan2(tangents[:, 0], tangents[:, 2])),
        angle_rl_deg=np.degrees(np.arctan2(tangents[:, 1], tangents[:, 2])),
        length_mm=np.where(np.isfinite(area), zooms[2] / factor, np.nan),
        centroid_vox=centroid,
    )
    return shape, line


def _find_forms(cord: NDArray, points: _Points, area: NDArray, centroid: NDArray, maps: NDArray) -> dict[str, NDArray]:
    """Return diameters, eccentricity, orientation and solidity by slice; `maps` convert voxels to mm across it."""
    has_shape = np.bincount(points.k, minlength=points.n_slices) >= MIN_VOXELS
    forms = _ellipses(points, area, maps, has_shape)
    soft = np.bincount(points.k, (points.weight > 0.01) & (points.weight < 0.99), points.n_slices) > 0
    if soft.any():
        softer = _contour_ellipses(find_contours(cord, soft), centroid[:, :2], maps)
        forms = {name: np.where(soft, softer[name], values) for name, values in forms.items()}
    return forms | {"solidity": np.where(has_shape, compute_solidity(cord), np.nan)}


def _collect(cord: NDArray, zooms: NDArray) -> tuple[_Points, NDArray, NDArray]:
    """Gather the foreground; areas (K,) mm² and centroids (K, 3) voxels, NaN in empty slices."""
    # the same as np.nonzero, which takes ten times as long
    i, j, k = np.unravel_index(np.flatnonzero(cord > MIN_WEIGHT), cord.shape)
    held = np.zeros(cord.shape[2], bool)
    held[k[cord[i, j, k] >= LEVEL]] = True  # a slice in which no voxel reaches one half has no cord
    i, j, k = i[held[k]], j[held[k]], k[held[k]]
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
    """Return diameters, eccentricity and orientation by slice from moments of voxels; `maps` convert voxels to mm."""
    k = points.k
    x = maps[k, 0, 0] * points.x + maps[k, 0, 1] * points.y
    y = maps[k, 1, 0] * points.x + maps[k, 1, 1] * points.y
    total = np.where(has_shape, points.sum(np.ones_like(x)), np.nan)
    xx, xy, yy = points.sum(x * x) / total, points.sum(x * y) / total, points.sum(y * y) / total
    form, turn = _axes(xx, xy, yy)
    return form | {"diameter_ap_mm": _window_diameter(points, x, y, turn, maps)}


def _contour_ellipses(contours: Contours, centroid: NDArray, maps: NDArray) -> dict[str, NDArray]:
    """Return the same for the area inside contours; NaN where it is smaller than `MIN_VOXELS` voxels."""
    contours = contours.mapped(maps, centroid)
    area, center, second = contours.moments()
    second[~(area >= MIN_VOXELS * np.abs(_determinant(maps)))] = np.nan
    form, turn = _axes(second[:, 0, 0], second[:, 0, 1], second[:, 1, 1])
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    turned = contours.mapped(np.moveaxis(np.array([[cos, sin], [-sin, cos]]), 2, 0), center)
    return form | {"diameter_ap_mm": turned.extent(AP_WINDOW_MM / 2)}


def _axes(xx: NDArray, xy: NDArray, yy: NDArray) -> tuple[dict[str, NDArray], NDArray]:
    """Return right-left diameter, eccentricity, orientation and rotation of the ellipse of second moments, (K,)."""
    spread = np.hypot((xx - yy) / 2, xy)
    large, small = (xx + yy) / 2 + spread, np.maximum((xx + yy) / 2 - spread, 0.0)
    angle = np.degrees(np.arctan2(2 * xy, xx - yy) / 2)  # of the major axis from R-L, -90 to 90
    is_wide = np.abs(angle) <= 45.0  # the major axis is the one nearer to R-L
    turn = np.where(is_wide, angle, angle - 90.0 * np.sign(angle))
    form = {
        "diameter_rl_mm": 4.0 * np.sqrt(np.where(is_wide, large, small)),
        "eccentricity": np.sqrt(1.0 - np.divide(small, large, out=np.full_like(large, np.nan), where=large > 0)),
        "orientation_deg": turn,
    }
    return form, turn


def _window_diameter(points: _Points, x: NDArray, y: NDArray, turn: NDArray, maps: NDArray) -> NDArray[np.float64]:
    """Return the mean A-P extent within the window around the centroid, (K,), mm, along the cord's A-P axis."""
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    k = points.k
    across = np.abs(cos[k] * x + sin[k] * y)
    along_rl = cos[:, None] * maps[:, 0] + sin[:, None] * maps[:, 1]  # one voxel step seen along R-L, (K, 2)
    width = np.minimum(np.abs(along_rl).sum(axis=1), AP_WINDOW_MM)
    inside = np.clip((AP_WINDOW_MM / 2 - across) / width[k] + 0.5, 0.0, 1.0)
    return points.sum(inside) * np.abs(_determinant(maps)) / AP_WINDOW_MM
