"""Refine the whole surface at once, with one ring per slice and twice the vertices; stray rays get little weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.propseg.deform import CORRECTION_WEIGHT, search_edges, solve_rings
from spineseg.propseg.parameters import compute_distance_weight
from spineseg.propseg.scene import runs_of, smooth_runs
from spineseg.propseg.surface import Tube, compute_normals, make_rings, recenter, resample_angles

if TYPE_CHECKING:
    from spineseg.propseg.propagate import Propagation
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

REACH_MM = (3.0, 2.0, 1.5, 1.5)
"""Search distance on either side, by round: the original's 3 mm, then less, so that a ray keeps the edge that it
found."""

ALPHA = 50.0
"""Stiffness of the refinement, whatever the user's ``alpha``, as in the original."""

STRAY_MM = 0.5  # distance from the smoothed surface at which the weight of an edge is halved
SMOOTH_MM = 8.0  # full width at half maximum of the smoothing along the cord
SMOOTH_ANGLE = 1.5  # standard deviation of the smoothing around a ring, in vertices


@dataclass(frozen=True)
class FilledTube:
    """A tube with one ring in every slice that it reaches."""

    tube: Tube
    bridged: NDArray[np.bool_]  # (R,) of bool: slices whose own image was rejected


def fill_slices(grown: Propagation, scene: Scene) -> FilledTube:
    """Interpolate a ring in every slice between neighbouring rings, with twice the vertices.

    At the ends of the course, slices short of the next ring take over the last ring, moved along the centerline.
    """
    tube, course = grown.tube, scene.course
    slices = np.arange(tube.slices[0], tube.slices[-1] + 1)
    if course.ring_step > 1:
        slices = np.arange(slices[0] - course.ring_step + 1, slices[-1] + course.ring_step)
        slices = slices[course.holds(slices)]
    below = np.clip(np.searchsorted(tube.slices, slices, side="right") - 1, 0, None)
    above = np.clip(np.searchsorted(tube.slices, slices), None, len(tube.slices) - 1)
    gap = tube.slices[above] - tube.slices[below]
    keep = gap <= course.ring_step
    slices, below, above, gap = slices[keep], below[keep], above[keep], gap[keep]
    part = np.clip((slices - tube.slices[below]) / np.maximum(gap, 1), 0, 1)[:, None]

    def mix(values: Floats) -> Floats:
        return (1 - part) * values[below] + part * values[above]

    beyond = course.at(slices) - course.at(np.clip(slices, tube.slices[0], tube.slices[-1]))
    radii = resample_angles(tube.radii, 2 * tube.radii.shape[1])
    filled = Tube(slices, mix(tube.centers) + beyond, mix(radii))
    return FilledTube(filled, grown.bridged[below] & grown.bridged[above])


def refine(scene: Scene, start: FilledTube, contrast: float) -> FilledTube:
    """Deform the whole surface."""
    tube = start.tube
    runs = runs_of(tube.slices)
    link = np.where(np.diff(runs) == 0, ALPHA * min(1, 1.0 / scene.slice_mm), 0.0)
    rings = tube.vertices()
    for reach in REACH_MM:
        centers, radii = recenter(rings)
        radii = ndi.gaussian_filter1d(radii, SMOOTH_ANGLE, axis=1, mode="wrap")
        memory = make_rings(centers, smooth_runs(radii, tube.slices, SMOOTH_MM / 2.355, scene.slice_mm))
        edges = search_edges(
            scene, tube.slices, rings, distance_weight=compute_distance_weight(contrast), reach_mm=reach
        )
        normals = compute_normals(rings)
        targets = rings + edges.offset[..., None] * normals
        stray = ((targets - memory) * normals).sum(-1)
        weight = edges.weight / (1 + (stray / STRAY_MM) ** 2)
        weight = np.where(start.bridged[:, None] & (edges.weight < CORRECTION_WEIGHT), 0.0, weight)
        rings = solve_rings(memory, targets, normals, weight, alpha=ALPHA, link=link)
    return FilledTube(Tube(tube.slices, *recenter(rings)), start.bridged)
