"""The centerline of the cord, one sub-voxel point per axial slice, and operations on it.

Everything is in voxel indices of the canonical orientation (nibabel axcodes LAS, SCT's "RPI"): index 0 runs
from right to left, 1 from posterior to anterior, 2 from inferior to superior. Lengths are in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.centerline.spline import cutoff_to_lam, evaluate_spline, fit_spline
from spineseg.errors import GeometryError, InputError
from spineseg.reading import read_text
from spineseg.volume import load_mask, save_volume, to_canonical
from spineseg.writing import write_text

if TYPE_CHECKING:
    from spineseg.volume import NativeGrid

Floats = NDArray[np.float64]
Zooms = Sequence[float] | NDArray[np.floating]

RIVAL_NOTE = "another place looks as much like a cord (a ghost, or what is folded over): check that this is the cord"
"""Note on a mask whose curve has a small `Centerline.lead`."""

SMOOTHING_MM = 20.0
"""Default cut-off wavelength: a cord bends over 100 mm and more, a jittering detector over a few slices."""


@dataclass(frozen=True)
class Centerline:
    """The curve through the middle of the cord, one point per axial slice.

    Raises
    ------
    GeometryError; if the shapes disagree, or the slices are not whole, increasing numbers

    Examples
    --------
    >>> line = Centerline(np.array([[4.0, 5.0, 0.0], [4.5, 5.0, 1.0]]))
    >>> line.slices.tolist(), line.is_empty
    ([0, 1], False)
    """

    # (n, 3) of float64: sub-voxel canonical indices, by increasing slice; the third column holds whole slice numbers
    points_vox: Floats
    # (n,) of float64, or one number for all points: confidence of the detector in each point (see
    # `spineseg.centerline.estimate`); NaN where unknown
    score: Floats = field(default_factory=lambda: np.full((), np.nan))
    conus: int | None = None  # lowest slice with cord, if the canal is seen to continue below it
    # by how much its mean score exceeds that of the best curve elsewhere in the image; NaN if unknown
    lead: float = np.nan

    def __post_init__(self) -> None:
        points = np.asarray(self.points_vox, dtype=np.float64).reshape(-1, 3)
        score = np.asarray(self.score, dtype=np.float64)
        if score.ndim == 0:
            score = np.full(len(points), score)
        if score.shape != (len(points),):
            raise GeometryError(f"centerline: {len(points)} points but scores of shape {score.shape}")
        steps = np.diff(points[:, 2])
        if not np.isfinite(points).all() or (points[:, 2] % 1).any() or (steps <= 0).any():
            raise GeometryError("centerline: expected finite points in increasing, whole slice numbers")
        object.__setattr__(self, "points_vox", points)
        object.__setattr__(self, "score", score)

    @property
    def slices(self) -> NDArray[np.intp]:
        """Slice numbers k, (n,), increasing."""
        return self.points_vox[:, 2].astype(np.intp)

    @property
    def is_empty(self) -> bool:
        """Whether the curve has no point at all."""
        return len(self.points_vox) == 0

    def points_mm(self, affine: ArrayLike) -> Floats:
        """Return the points in world millimetres, (n, 3), by the canonical affine of the volume, (4, 4)."""
        affine = np.asarray(affine, dtype=np.float64)
        return self.points_vox @ affine[:3, :3].T + affine[:3, 3]


def empty_centerline() -> Centerline:
    """Return a centerline without points: no cord was found."""
    return Centerline(np.zeros((0, 3)))


def centerline_from_points(
    points_vox: ArrayLike, zooms: Zooms, *, smoothing_mm: float = 0.0, weight: ArrayLike | None = None
) -> Centerline:
    """Make a centerline of points in any order and density.

    Parameters
    ----------
    points_vox : (m, 3) array_like, voxels
        Canonical indices. Points of one slice (nearest whole slice) are averaged; slices between points are
        filled by a natural cubic spline, which is straight for two points.
    smoothing_mm : mm; cut-off wavelength of the smoothing, 0 for none
    weight : (m,) array_like, optional
        Weight of each point in the mean of its slice; equal by default.

    Returns
    -------
    Centerline; from the first to the last slice that holds a point; empty for no points

    Examples
    --------
    >>> centerline_from_points([[0, 0, 0], [4, 2, 4]], (1, 1, 1)).points_vox[2].tolist()
    [2.0, 1.0, 2.0]
    """
    points = np.asarray(points_vox, dtype=np.float64).reshape(-1, 3)
    if len(points) == 0:
        return empty_centerline()
    slices, member = np.unique(np.rint(points[:, 2]), return_inverse=True)
    share = np.ones(len(points)) if weight is None else np.asarray(weight, dtype=np.float64)
    total = np.bincount(member, share)
    mean = np.stack([np.bincount(member, share * points[:, a]) / total for a in (0, 1)], axis=1)
    line = Centerline(np.column_stack([mean, slices]))
    if smoothing_mm > 0:
        line = smooth_centerline(line, zooms, cutoff_mm=smoothing_mm)
    return extend_centerline(line, zooms, np.arange(slices[0], slices[-1] + 1))


def centerline_from_mask(
    mask: NDArray, zooms: Zooms, *, threshold: float = 0.0, smoothing_mm: float = 0.0
) -> Centerline:
    """Make a centerline of the centroids of a mask, slice by slice (SCT's ``fitseg``); empty for an empty mask.

    All voxels above the threshold have the same weight. One voxel per slice, or in some slices, is enough; slices in
    between are interpolated.

    Parameters
    ----------
    mask : (I, J, K) ndarray
        Canonical orientation.
    zooms : (3,) array_like, mm
    threshold : voxels above it belong to the cord
    smoothing_mm : mm; cut-off wavelength of the smoothing, 0 for the centroids themselves
    """
    mask = np.asarray(mask)
    # the same as np.argwhere, which takes ten times as long
    points = np.column_stack(np.unravel_index(np.flatnonzero(mask > threshold), mask.shape))
    return centerline_from_points(points, zooms, smoothing_mm=smoothing_mm)


def smooth_centerline(line: Centerline, zooms: Zooms, *, cutoff_mm: float = SMOOTHING_MM) -> Centerline:
    """Smooth a centerline by a natural cubic spline in mm.

    Returns Centerline: on the same slices with the same scores; unchanged below three points.

    Parameters
    ----------
    line : gaps between its slices are respected (the spline works on positions in mm)
    cutoff_mm : float, mm, default 20
        Waves of this length keep half their amplitude. Points in slices farther apart than half of it hardly move.
    """
    if len(line.points_vox) < 3 or cutoff_mm <= 0:
        return line
    in_plane, positions = np.asarray(zooms[:2], dtype=np.float64), line.points_vox[:, 2] * zooms[2]
    lam = cutoff_to_lam(cutoff_mm, float(np.diff(positions).mean()))
    smooth = fit_spline(positions, line.points_vox[:, :2] * in_plane, lam) / in_plane
    return replace(line, points_vox=np.column_stack([smooth, line.points_vox[:, 2]]))


def extend_centerline(line: Centerline, zooms: Zooms, slices: ArrayLike, *, end_mm: float = 15.0) -> Centerline:
    """Return the centerline on the given slices: interpolated inside its span, straight beyond it.

    Parameters
    ----------
    line : must hold at least one point
    slices : (m,) array_like of int, increasing; slices of the result
    end_mm : float, mm, default 15
        Length of curve at each end whose mean direction is continued beyond it; a vertebral level, so that an
        error of the last slice has little effect.

    Returns
    -------
    Centerline; scores are kept on slices that had one and NaN elsewhere

    Raises
    ------
    GeometryError; if `line` is empty
    """
    if line.is_empty:
        raise GeometryError("centerline: an empty centerline cannot be extended")
    wanted = np.asarray(slices, dtype=np.float64).reshape(-1)
    known, points = line.points_vox[:, 2], line.points_vox[:, :2]
    inside = np.clip(wanted, known[0], known[-1])
    curve = evaluate_spline(known * zooms[2], points, inside * zooms[2])
    reach = max(end_mm / zooms[2], 1.0)
    for end, keep in ((0, known <= known[0] + reach), (-1, known >= known[-1] - reach)):
        beyond = wanted < known[0] if end == 0 else wanted > known[-1]
        slope = np.polyfit(known[keep], points[keep], 1)[0] if keep.sum() > 1 else _chord(known, points, end)
        curve[beyond] = points[end] + (wanted[beyond] - known[end])[:, None] * slope
    score = np.full(len(wanted), np.nan)
    shared, here, there = np.intersect1d(wanted, known, assume_unique=True, return_indices=True)
    if len(shared):
        curve[here], score[here] = points[there], line.score[there]
    return Centerline(np.column_stack([curve, wanted]), score)


def _chord(known: Floats, points: Floats, end: int) -> Floats:
    """Slope, (2,), voxels per slice, from one end (0 or -1) to its neighbour; zero for a single point."""
    if len(known) < 2:
        return np.zeros(2)
    other = 1 if end == 0 else -2
    return (points[end] - points[other]) / (known[end] - known[other])


def select_slices(line: Centerline, first: int, last: int) -> Centerline:
    """Return the part of a centerline with first <= slice <= last."""
    keep = (line.points_vox[:, 2] >= first) & (line.points_vox[:, 2] <= last)
    return replace(line, points_vox=line.points_vox[keep], score=line.score[keep])


def load_centerline(path: str | Path, grid: NativeGrid, *, smoothing_mm: float = 0.0) -> Centerline:
    """Load a centerline that a user or another tool made for an image.

    Parameters
    ----------
    path : str or Path
        NIfTI on the image's grid: every voxel above 0 counts by its value (one per slice, a few points, a soft line
        or a whole mask).
        Or text (``.csv``, ``.txt``): three numbers per row, separated by commas, semicolons or blanks, the
        voxel indices along the image's own axes, as SCT writes them since 6.5; a header row is skipped.
    smoothing_mm : mm; cut-off wavelength of the smoothing, 0 for none

    Returns
    -------
    Centerline; slices between the points are interpolated

    Raises
    ------
    InputError; if the file cannot be read, holds no point, or points beyond the image
    GeometryError; if a NIfTI file lies on another grid
    """
    path = Path(path)
    zooms = np.linalg.norm(_canonical_affine(grid)[:3, :3], axis=0)
    weight = None
    if path.suffix.lower() in (".csv", ".txt"):
        points = _read_points(path, grid)
    else:
        drawn = load_mask(path, like=grid, any_positive=True)[0].data
        points, weight = np.argwhere(drawn > 0).astype(np.float64), drawn[drawn > 0]
    if len(points) == 0:
        raise InputError(f"{path}: expected points of a centerline, found none; mark at least one voxel")
    return centerline_from_points(points, zooms, smoothing_mm=smoothing_mm, weight=weight)


def _canonical_affine(grid: NativeGrid) -> Floats:
    """Return the affine of the canonical axes of a grid, (4, 4)."""
    return to_canonical(np.zeros(grid.shape3, dtype=np.uint8), grid.affine).affine


def _read_points(path: Path, grid: NativeGrid) -> Floats:
    """Read native voxel indices from text and return canonical ones, (n, 3)."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path, "points of a centerline").split("\n"), start=1):
        cells = line.replace(",", " ").replace(";", " ").split()
        try:
            row = [float(cell) for cell in cells]
        except ValueError:
            if not rows:
                continue  # a header
            raise InputError(f"{path}, line {number}: expected three numbers, found {line.strip()[:60]!r}") from None
        if row and (len(row) != 3 or not np.isfinite(row).all()):
            raise InputError(f"{path}, line {number}: expected three numbers, found {line.strip()[:60]!r}")
        rows += [row] if row else []
    native = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
    outside = ((native < -0.5) | (native > np.array(grid.shape3) - 0.5)).any(axis=1)
    if outside.any():
        raise InputError(
            f"{path}: expected voxel indices within {grid.shape3}, found {native[outside][0].tolist()}; "
            "give indices along the image's own axes, not mm"
        )
    to_index = np.linalg.inv(_canonical_affine(grid)) @ grid.affine
    return native @ to_index[:3, :3].T + to_index[:3, 3]


def save_centerline(path: str | Path, line: Centerline, grid: NativeGrid, *, soft: bool = False) -> None:
    """Write a centerline as NIfTI on the image's grid: one voxel per slice, uint8.

    Points beyond the border in plane are moved to the border; slices beyond the image are left out.

    Parameters
    ----------
    path : str or Path
    line : Centerline
    grid : NativeGrid
        Grid of the image.
    soft : bool
        Spread each point over its four nearest voxels in the slice (float32), so that their center of mass is the
        point.
    """
    canonical = to_canonical(np.zeros(grid.shape3, dtype=np.uint8), grid.affine)
    shape = np.array(canonical.shape)
    points = line.points_vox[(line.points_vox[:, 2] >= 0) & (line.points_vox[:, 2] < shape[2])].copy()
    points[:, :2] = np.clip(points[:, :2], 0, shape[:2] - 1)
    data = np.zeros(canonical.shape, dtype=np.float32 if soft else np.uint8)
    if not soft:
        data[tuple(np.rint(points).astype(np.intp).T)] = 1
        save_volume(path, data, grid)
        return
    low = np.minimum(np.floor(points[:, :2]).astype(np.intp), np.maximum(shape[:2] - 2, 0))
    share = points[:, :2] - low
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - i - share[:, 0]) * np.abs(1 - j - share[:, 1])
        there = np.minimum(low + np.array([i, j]), shape[:2] - 1)
        np.add.at(data, (there[:, 0], there[:, 1], points[:, 2].astype(np.intp)), weight)
    save_volume(path, data, grid, dtype=np.float32)


def save_centerline_csv(path: str | Path, line: Centerline, grid: NativeGrid, *, space: str = "pix") -> None:
    """Write a centerline as text in SCT's format, inferior to superior.

    There is no header; each row has three numbers in ``%.18e``, separated by commas.

    Parameters
    ----------
    path : str or Path
    line : Centerline
    grid : NativeGrid
        Grid of the image.
    space : {"pix", "phys"}
        Native sub-voxel indices, or scanner coordinates, mm (RAS+).
    """
    to_file = np.eye(4) if space == "phys" else np.linalg.inv(grid.affine)
    to_file = to_file @ _canonical_affine(grid)
    points = line.points_vox @ to_file[:3, :3].T + to_file[:3, 3]
    # the transform only permutes and flips, so rounding removes only its numerical errors (1e-15)
    rows = [",".join(f"{value:.18e}" for value in row) for row in np.round(points, 9) + 0.0]
    write_text(path, "\n".join(rows) + "\n" if rows else "")
