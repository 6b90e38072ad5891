"""Distances between the surfaces of two masks, in mm, for voxels of any shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.metrics.overlap import binarise, check_same_shape
from spineseg.volume import mask_box

MIN_TOLERANCE_MM = 0.5
"""Smallest tolerance of the NSD: people who draw cords differ by about half a millimetre."""

# Area of a unit square face that lies inside the mask, by the number of its corners inside. Two corners
# are nearly always side by side (0.5); the rare diagonal pair gets the same value.
_INSIDE_AREA = np.array([0.0, 0.125, 0.5, 0.875, 1.0])


@dataclass(frozen=True)
class Surface:
    """Elements of a mask's surface."""

    points_mm: NDArray[np.float64]  # (n, 3) of float64, mm: centres of the elements, from the centre of voxel (0, 0, 0)
    area_mm2: NDArray[np.float64]  # (n,) of float64, mm²
    cells: NDArray[np.intp]  # (n,) of int: number of the cell in an image of this shape, rising


@dataclass(frozen=True)
class SurfaceDistance:
    """Distances between two surfaces, mm, and the share of surface within a tolerance."""

    hd_mm: float
    hd95_mm: float
    assd_mm: float
    nsd: float
    nsd_tolerance_mm: float


def choose_tolerance(zooms: ArrayLike) -> float:
    """Return the NSD tolerance of an image, mm: 0.5 mm, or one in-plane voxel if that is larger."""
    return max(MIN_TOLERANCE_MM, *(float(zoom) for zoom in np.asarray(zooms)[:2]))


def extract_surface(mask: ArrayLike, zooms: ArrayLike) -> Surface:
    """Extract the surface of a mask as elements with a position and an area.

    Elements lie in the cells between eight neighbouring voxels. By the divergence theorem, the area vector of the
    surface in a cell is the difference between the areas that the mask covers on opposite faces of the cell. The areas
    are therefore those of marching cubes, correct for any voxel shape.

    Returns Surface: empty for an empty mask.

    Parameters
    ----------
    mask : (I, J, K) array_like, bool, or numbers in [0, 1] cut at 0.5

    Notes
    -----
    In plane the surface is closed at the array's border. Along the third axis it is not: the first and the
    last slice cut the cord, and a cut is not a surface.
    """
    mask, zooms = binarise(mask), np.asarray(zooms, np.float64)
    if not mask.any():
        return Surface(np.empty((0, 3)), np.empty(0), np.empty(0, np.intp))
    box = mask_box(mask, (0, 0, 1))
    origin, shape = tuple(part.start for part in box), tuple(mask[box].shape)
    return _extract_in_box(np.packbits(mask[box]).tobytes(), shape, origin, mask.shape, tuple(zooms.tolist()))


@lru_cache(maxsize=4)  # a study compares each mask of an image with each other, and with the reference
def _extract_in_box(
    content: bytes, size: tuple[int, ...], origin: tuple[int, ...], shape: tuple[int, ...], zooms: tuple[float, ...]
) -> Surface:
    """Extract the surface of a mask from the bits of a box around it, which begins at `origin` in the whole."""
    inside = np.unpackbits(np.frombuffer(content, np.uint8), count=int(np.prod(size))).reshape(size)
    padded = np.pad(inside, ((1, 1), (1, 1), (0, 0)))
    corners = np.pad(padded, ((0, 0), (0, 0), (1, 1)), mode="edge")
    count = _pair_sum(_pair_sum(_pair_sum(corners, 0), 1), 2)
    cells = np.nonzero((count > 0) & (count < 8))
    edges = np.array(zooms)
    face_areas = edges.prod() / edges
    area = np.sqrt(sum((_face_difference(corners, axis)[cells] * face_areas[axis]) ** 2 for axis in range(3)))
    n_planes = count.shape[2]
    area[(cells[2] == 0) | (cells[2] == n_planes - 1)] *= 0.5  # half of these cells lies outside the array
    places = np.stack(cells, axis=1) + origin
    numbers = np.ravel_multi_index(tuple(places.T), [n + 1 for n in shape])
    surface = Surface((places - 0.5) * edges, area, numbers)
    for array in (surface.points_mm, surface.area_mm2, surface.cells):
        array.flags.writeable = False
    return surface


def compute_surface_distance(
    mask: ArrayLike, reference: ArrayLike, zooms: ArrayLike, *, tolerance_mm: float | None = None
) -> SurfaceDistance:
    """Compute Hausdorff distance, HD95, ASSD and NSD of two masks.

    Parameters
    ----------
    mask, reference : (I, J, K) array_like, bool, or numbers in [0, 1] cut at 0.5
    tolerance_mm : mm; tolerance of the NSD; by default `choose_tolerance`

    Returns
    -------
    SurfaceDistance
        `hd_mm` the largest distance; `hd95_mm` the 95th percentile of both directions pooled, weighted
        by area; `assd_mm` the mean of both directed means; `nsd` the share of both surfaces that lies
        within the tolerance of the other.

    Raises
    ------
    GeometryError; if the shapes differ

    Notes
    -----
    If both are empty, all values are NaN. If one is empty, the distances are NaN (never 0, because there is nothing to
    measure to) and the NSD is 0. Swapping the masks changes nothing.

    References
    ----------
    .. [1] Nikolov et al. 2021, J Med Internet Res 23(7):e26151 (surface Dice at a tolerance). The area
       of an element comes from the divergence theorem instead of their table of 256 cases.
    """
    mask, reference = binarise(mask), binarise(reference)
    check_same_shape(mask, reference)
    tolerance = choose_tolerance(zooms) if tolerance_mm is None else float(tolerance_mm)
    nan = float("nan")
    if not (mask.any() and reference.any()):
        return SurfaceDistance(nan, nan, nan, 0.0 if mask.any() or reference.any() else nan, tolerance)
    a, b = extract_surface(mask, zooms), extract_surface(reference, zooms)
    a_to_b, b_to_a = _distances(a, b), _distances(b, a)
    distance, area = np.concatenate([a_to_b, b_to_a]), np.concatenate([a.area_mm2, b.area_mm2])
    return SurfaceDistance(
        hd_mm=float(distance.max()),
        hd95_mm=_weighted_percentile(distance, area, 95.0),
        assd_mm=float(np.average(a_to_b, weights=a.area_mm2) + np.average(b_to_a, weights=b.area_mm2)) / 2,
        nsd=float(area[distance <= tolerance + 1e-9].sum() / area.sum()),  # 1e-9 mm: rounding of sums
        nsd_tolerance_mm=tolerance,
    )


def _distances(of: Surface, to: Surface) -> NDArray[np.float64]:
    """Return the distance of each element of a surface from another surface, (n,), mm; 0 for common elements."""
    from scipy.spatial import cKDTree

    distance = np.zeros(len(of.cells))
    apart = ~np.isin(of.cells, to.cells, assume_unique=True)
    if apart.any():  # unbalanced trees are built in half the time; the distances are the same
        tree = cKDTree(to.points_mm, balanced_tree=False, compact_nodes=False)
        distance[apart] = tree.query(of.points_mm[apart])[0]
    return distance


def _pair_sum(array: NDArray, axis: int) -> NDArray:
    """Sum neighbours along an axis; one element less along it."""
    array = np.moveaxis(array, axis, 0)
    return np.moveaxis(array[:-1] + array[1:], 0, axis)


def _face_difference(corners: NDArray[np.uint8], axis: int) -> NDArray[np.float64]:
    """Difference of the covered area (unit faces) on the two faces of each cell across an axis."""
    other = [a for a in range(3) if a != axis]
    inside = _INSIDE_AREA[_pair_sum(_pair_sum(corners, other[0]), other[1])]
    return np.diff(inside, axis=axis)


def _weighted_percentile(values: NDArray, weights: NDArray, percent: float) -> float:
    """Return the smallest value that at least `percent` of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    index = np.searchsorted(share, percent / 100.0 * share[-1] * (1 - 1e-12))
    return float(values[order][min(index, len(values) - 1)])
