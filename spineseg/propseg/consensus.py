"""Use the shape model to correct parts of the surface that have no edge or follow the edge of another structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.propseg.deform import CORRECTION_REACH_MM, measure_cord, sample_rays
from spineseg.propseg.initial import measure_rise
from spineseg.propseg.refine import FilledTube
from spineseg.propseg.shape import fit_shape
from spineseg.propseg.surface import Tube, compute_normals, fit_star, make_rings, recenter, resample_angles

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

AGREE_MM = 1.0
"""Distance above which surface and model disagree; where edges are clear, the model is 0.3 mm off."""

SHARPNESS = 6
"""Steepness of the transition at that distance: at half the distance the surface is kept, at twice it is replaced."""

CLEAR_RISE, FULL_RISE = 0.5, 0.75
"""Shares of the cord's usual rise between which an edge inside the model is increasingly kept against the model. A dent
or a compression has such an edge; the grey matter to which a surface may collapse has less than half the usual rise."""

LOST_SHARE = 0.25
"""If the model replaces at least this share of a ring, it replaces the whole ring, because the wrong part has bent the
rest."""

SPREAD_MM, SPREAD_TURN = 2.0, 1 / 24
"""Width over which the transition from surface to model is smoothed, along the cord and around it (share of a turn)."""

FINE_VERTICES = 3
"""Factor for the number of vertices while rings change their centre, because chords between vertices lie inside the
outline."""

UNCHANGED = 0.98
"""A ring that keeps at least this share on every ray is not changed."""

BLUR_VOXELS = 0.5
"""Standard deviation of an acquired voxel's spread: a whole line of k-space gives a sinc 1.2 voxels wide at half
height, and 1.2 / 2.355 is 0.5."""

RESAMPLING = 1 / 6
"""Variance, in voxels squared, that linear interpolation adds (a triangle two voxels wide): the volumes of an fMRI mean
are aligned before they are averaged."""

FADED = 0.5
"""Share of the cord's brightness, over the darkest of the canal, below which a place on the border shows no cord: the
half maximum, as on any other edge."""

FADED_REACH_MM, FADED_WHOLE = 2.5, 0.7
"""Largest inward shift of the border, and share of the way that must be dark: a wall is dark throughout, noise is
not."""

LEAST_CORD = 50.0
"""Smallest intensity of the cord, of 1000, for this rule: a cord as dark as its walls cannot be distinguished from them
by darkness."""

FADED_TURN = 1.5
"""Number of vertices (standard deviation) over which that shift is smoothed around the ring, as in the refinement."""


def reach_consensus(scene: Scene, surface: FilledTube, *, echo_planar: bool = False) -> FilledTube:
    """Replace the parts of a surface that neither the shape model nor a clear edge supports.

    A surface outside the model is replaced, whatever its edge (a leak). A surface inside the model is replaced only
    if it has no clear edge. In echo-planar images the model may jump from slice to slice (`JUMP_MM`).
    """
    tube = surface.tube
    model = fit_shape(scene, surface, echo_planar=echo_planar)
    n = FINE_VERTICES * tube.radii.shape[1]
    own = fit_star(make_rings(tube.centers, resample_angles(tube.radii, n)), model.centers)
    other = resample_angles(model.radii, n)
    rise = resample_angles(measure_rise(scene, tube.slices, tube.vertices()) / model.usual_rise[:, None], n)
    keep = _weigh(own - other, rise, surface.bridged, scene.slice_mm)
    keep[near_correction(scene, tube.slices)] = 1.0
    changed = keep.min(axis=1) < UNCHANGED
    rings = make_rings(model.centers, keep * own + (1 - keep) * other)[changed]
    centers, radii = tube.centers.copy(), tube.radii.copy()
    centers[changed], fine = recenter(rings)
    radii[changed] = resample_angles(fine, radii.shape[1])
    return FilledTube(Tube(tube.slices, centers, radii), surface.bridged)


def leave_dark_walls(scene: Scene, surface: FilledTube) -> FilledTube:
    """Draw the border back from where echo-planar images show a dark area instead of cord.

    In these images a cord may touch a wall without fluid between, or fade towards it. The shape prior completes such a
    side to the mean outline, but raters stop where the signal stops.
    """
    tube = surface.tube
    rings = tube.vertices()
    normals = compute_normals(rings)
    rays = sample_rays(scene, tube.slices, rings, normals, FADED_REACH_MM)
    inside = rays.steps <= 0
    level = measure_cord(scene, tube.slices, rings)[0][:, None, None]
    dark = (rays.values[..., inside] < FADED * level) & (level > LEAST_CORD)
    first = dark.argmax(axis=2)
    count = np.cumsum(dark[..., ::-1], axis=2)[..., ::-1]
    total = np.take_along_axis(count, first[..., None], 2)[..., 0]
    wall = total > FADED_WHOLE * (inside.sum() - first)
    move = np.where(wall, rays.steps[inside][first], 0.0)
    move[near_correction(scene, tube.slices)] = 0.0
    move = ndi.gaussian_filter1d(move, FADED_TURN, axis=1, mode="wrap")
    return FilledTube(Tube(tube.slices, *recenter(rings + move[..., None] * normals)), surface.bridged)


def undo_blur(scene: Scene, surface: FilledTube, *, aligned: bool = False) -> FilledTube:
    """Undo the inward shift of the border that the blur of an echo-planar image causes.

    Blur of standard deviation s moves the steepest place, and the half maximum, of a disc's border of radius r inwards
    by s^2 / 2r [1]_. A drawn correction keeps its border. Not used for other images: raters draw their cords no
    larger than this surface already.

    Parameters
    ----------
    aligned : whether the image is a mean of volumes that were resampled (fMRI)

    References
    ----------
    .. [1] Verbeek and van Vliet 1994, IEEE TPAMI 16:726. Where curved edges lie in filtered images.
    """
    tube = surface.tube
    blur_mm2 = (BLUR_VOXELS**2 + RESAMPLING * aligned) * np.prod(scene.course.zooms[:2])
    move = blur_mm2 / (2 * tube.radii.mean(axis=1))
    move[near_correction(scene, tube.slices)] = 0.0
    return FilledTube(Tube(tube.slices, tube.centers, tube.radii + move[:, None]), surface.bridged)


def near_correction(scene: Scene, slices: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return whether slices (R,) lie within reach of surface points that the user drew."""
    if scene.correction is None:
        return np.zeros(len(slices), bool)
    away = np.abs(slices[:, None] - scene.correction[:, 0]).min(axis=1) * scene.slice_mm
    return away <= CORRECTION_REACH_MM


def _weigh(away: Floats, rise: Floats, bridged: NDArray[np.bool_], slice_mm: float) -> Floats:
    """Return the share of the surface to keep, (R, K), 0 to 1, from its distance to the model and its edge."""
    keep = 1 / (1 + np.abs(away / AGREE_MM) ** SHARPNESS)
    clear = np.clip((rise - CLEAR_RISE) / (FULL_RISE - CLEAR_RISE), 0.0, 1.0)
    keep = np.where(away < 0, np.maximum(keep, clear), keep)
    keep[bridged] = 0.0
    lost = np.clip((1 - keep).mean(axis=1) / LOST_SHARE, 0.0, 1.0)
    lost = ndi.gaussian_filter1d(lost, 2 * SPREAD_MM / slice_mm, mode="nearest")
    keep *= (1 - lost * lost * (3 - 2 * lost))[:, None]  # smooth at both ends
    return ndi.gaussian_filter(keep, (SPREAD_MM / slice_mm, SPREAD_TURN * keep.shape[1]), mode=("nearest", "wrap"))
