"""Input of every propseg step: the image along the cord, the course that the tube may take, and the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.centerline.curve import Centerline, centerline_from_points, extend_centerline, select_slices
from spineseg.errors import InputError
from spineseg.propseg.intensity import HALF_WIDTH_MM, CordField, build_field
from spineseg.propseg.parameters import BAND_MM, RING_MM, ContrastModel, PropsegParams, compute_distance_weight

if TYPE_CHECKING:
    from spineseg.volume import Volume

Floats = NDArray[np.float64]

BEYOND_SLICES = 2
"""Slices beyond either end of the centerline that propagation may enter, as in the original PropSeg."""

START_FRACTIONS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9, 0.0, 1.0)
"""Positions along the centerline at which the initial tube is tried, in this order; the original PropSeg tries only
the first."""

FREE_HALF_WIDTH_MM = 60.0
"""Half side of the square if there is no centerline: a cord deviates this far from a straight line in the neck."""


@dataclass(frozen=True)
class Course:
    """The course that the tube may take: one centre per slice, slices contiguous."""

    slices: NDArray[np.intp]  # (n,) of int
    centers: Floats  # (n, 2), mm
    zooms: Floats  # (3,), mm
    # Whether the centres are a guess (three points, extended), so that the tube follows its own direction
    free: bool = False
    # (int, int) or None: first and last slice of the three points, between which the guess is reliable
    marked: tuple[int, int] | None = None

    def at(self, slices: NDArray[np.intp]) -> Floats:
        """Return the centres at given slices of the course, (R, 2), mm."""
        return self.centers[slices - self.slices[0]]

    def holds(self, slices: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return whether slices belong to the course."""
        return (slices >= self.slices[0]) & (slices <= self.slices[-1])

    @property
    def ring_step(self) -> int:
        """Slices between two rings of the propagation."""
        return max(1, round(RING_MM / self.zooms[2]))

    @property
    def band_rings(self) -> int:
        """Rings in a band."""
        return max(1, round(BAND_MM / (self.ring_step * self.zooms[2])))


@dataclass(frozen=True)
class Scene:
    """Image, course and parameters of one tube."""

    image: CordField
    course: Course
    model: ContrastModel
    params: PropsegParams
    # (m, 3): slice number and in-plane position (mm) of points that the surface must pass through
    correction: Floats | None = None
    turned: NDArray[np.intp] | None = None  # (m,) of int: slices in which the sign is the opposite of the model's

    @property
    def slice_mm(self) -> float:
        """Distance between two slices."""
        return float(self.course.zooms[2])

    def sign(self, slices: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return +1 where fluid is brighter than cord and -1 where it is darker, (R,)."""
        if self.turned is None:
            return np.full(len(slices), self.model.sign)
        return np.where(np.isin(slices, self.turned), -self.model.sign, self.model.sign)

    def distance_weight(self, contrast: float) -> float:
        """Return the distance weight: the user's, or the default for the contrast."""
        fixed = self.params.distance_weight
        return compute_distance_weight(contrast) if fixed is None else fixed


def build_scene(
    volume: Volume,
    line: Centerline,
    model: ContrastModel,
    params: PropsegParams,
    *,
    free: bool = False,
    correction: NDArray | None = None,
) -> Scene:
    """Prepare the image along a centerline.

    Parameters
    ----------
    volume : canonical orientation
    line : at least one point
    model : parameters of the contrast
    params : parameters of the user
    free : whether the line is only a guess beyond its points, so that the tube may leave it and use all slices
    correction : (I, J, K) ndarray, optional; voxels above 0 are points of the surface
    """
    zooms = np.asarray(volume.zooms, dtype=np.float64)
    first = 0 if free else line.slices[0] - BEYOND_SLICES
    last = volume.shape[2] - 1 if free else line.slices[-1] + BEYOND_SLICES
    first = max(first, 0, params.down or 0)
    last = min(last, volume.shape[2] - 1, volume.shape[2] - 1 if params.up is None else params.up)
    curve = extend_centerline(line, zooms, np.arange(first, last + 1))
    course = Course(
        curve.slices, curve.points_vox[:, :2] * zooms[:2], zooms, free, (int(line.slices[0]), int(line.slices[-1]))
    )
    image = build_field(volume, curve.points_vox, FREE_HALF_WIDTH_MM if free else HALF_WIDTH_MM)
    return Scene(image, course, model, params, _surface_points(correction, zooms))


def limit_line(line: Centerline, params: PropsegParams) -> Centerline:
    """Return the part of a centerline between the user's limits."""
    if line.is_empty:
        return line
    down = line.slices[0] if params.down is None else params.down
    up = line.slices[-1] if params.up is None else params.up
    return select_slices(line, down, up)


def line_from_three(mask: NDArray, zooms: Floats) -> tuple[Centerline, int]:
    """Return the curve through three voxels of a mask, and the slice of the middle one.

    Raises
    ------
    InputError
        If there are not exactly three voxels above 0, in three slices.
    """
    points = np.argwhere(mask > 0)
    points = points[np.argsort(points[:, 2])]
    if len(points) != 3 or len(np.unique(points[:, 2])) != 3:
        raise InputError(
            f"init mask: expected 3 voxels in 3 slices, found {len(points)} voxels in "
            f"{len(np.unique(points[:, 2]))} slices; mark one voxel of cord in each of three slices"
        )
    return centerline_from_points(points, zooms), int(points[1, 2])


def order_starts(line: Centerline, scene: Scene, start: int | None = None) -> NDArray[np.intp]:
    """Return the slices where an initial tube is tried, best first.

    A start that the user gave (`start` or ``params.init``: a fraction of the centerline up to 1, above it a slice) is
    the only one.

    Raises
    ------
    InputError
        If the user's start lies outside the centerline.
    """
    init = scene.params.init if start is None else start
    if init is None:
        position = np.rint(np.multiply(START_FRACTIONS, len(line.slices) - 1)).astype(int)
        starts = line.slices[position]
    elif start is None and init <= 1:
        starts = line.slices[[round(init * (len(line.slices) - 1))]]
    else:
        starts = np.array([round(init)])
    if not scene.course.holds(starts).all():
        low, high = scene.course.slices[[0, -1]]
        raise InputError(f"-init: expected a slice of the centerline, {low} to {high}, found {starts[0]}")
    _, order = np.unique(starts, return_index=True)
    return starts[np.sort(order)]


def _surface_points(mask: NDArray | None, zooms: Floats) -> Floats | None:
    """Return slice number and in-plane mm of the voxels above 0."""
    if mask is None or not (mask > 0).any():
        return None
    points = np.argwhere(mask > 0).astype(np.float64)
    return np.column_stack([points[:, 2], points[:, :2] * zooms[:2]])


def runs_of(slices: NDArray[np.intp], step: int = 1) -> NDArray[np.intp]:
    """Number the runs of slices that are no further apart than `step`, (R,), from 0."""
    return np.concatenate([[0], np.cumsum(np.diff(slices) > step)]) if len(slices) else np.zeros(0, np.intp)


def smooth_runs(values: Floats, slices: NDArray[np.intp], sigma_mm: float, slice_mm: float) -> Floats:
    """Smooth values (R, ...) of consecutive slices along the cord by a Gaussian, each run separately."""
    out = np.array(values, dtype=np.float64)
    runs = runs_of(slices)
    for n in range(runs[-1] + 1 if len(runs) else 0):
        own = runs == n
        out[own] = ndi.gaussian_filter1d(out[own], sigma_mm / slice_mm, axis=0, mode="nearest")
    return out
