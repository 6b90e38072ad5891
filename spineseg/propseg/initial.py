"""Place the first tube: the place along the centerline where a cord shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.propseg.contrast import measure_contrast
from spineseg.propseg.deform import deform_bands
from spineseg.propseg.surface import Tube, compute_areas, make_rings, recenter

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

INITIAL_ITERATIONS = 8
INITIAL_TOLERANCE_MM = 0.05  # both as in the original

INITIAL_REACH_MM = 10.0
"""The tube reaches this far up and down: six rings 2 mm apart on either side, as in the original."""

MIN_AREA_MM2 = 12.0
"""Less than half the thinnest thoracic cord: the tube has collapsed."""

MIN_SUPPORT = 0.5
"""Least share of vertices with an edge for a cord to be there."""


@dataclass(frozen=True)
class InitialTube:
    """The tube that propagation starts from, or why there is none.

    Parameters
    ----------
    tube : Tube or None
    contrast : float, 0 to 1000
        Mean contrast along it.
    support : float, 0 to 1
        Share of vertices with an edge; of the best start where the tube is None.
    """

    tube: Tube | None
    contrast: float
    support: float


def place_initial_tube(scene: Scene, starts: NDArray[np.intp]) -> InitialTube:
    """Deform a circular tube at each of several starts, all at once, and return the first that shows a cord.

    Parameters
    ----------
    scene : Scene
    starts : (n,) ndarray of int
        Slices of the course, best first.

    Returns
    -------
    InitialTube
    """
    course, params = scene.course, scene.params
    reach = round(INITIAL_REACH_MM / (course.ring_step * scene.slice_mm))
    stack = starts[:, None] + course.ring_step * np.arange(-reach, reach + 1)
    groups, _ = np.nonzero(course.holds(stack))
    slices = stack[course.holds(stack)]
    circles = np.full((len(slices), scene.model.n_vertices), params.radius_mm)
    rings, edges = deform_bands(
        scene,
        slices,
        make_rings(course.at(slices), circles),
        groups,
        distance_weight=np.full(len(slices), scene.distance_weight(scene.model.prior_contrast)),
        held=np.zeros(len(slices), bool),
        iterations=INITIAL_ITERATIONS,
        tolerance_mm=INITIAL_TOLERANCE_MM,
    )
    centers, radii = recenter(rings)
    measured = ((edges.weight > 0).mean(1), measure_contrast(scene, slices, centers).mean(1), compute_areas(rings))
    support, contrast, area = (np.bincount(groups, value) / np.bincount(groups) for value in measured)
    good = (support >= MIN_SUPPORT) & (contrast > params.min_contrast)
    good &= (area >= MIN_AREA_MM2) & (area < 1.2 * params.max_area_mm2)
    if not good.any():
        return InitialTube(None, float(contrast.max()), float(support.max()))
    first = int(np.flatnonzero(good)[0])
    own = groups == first
    return InitialTube(Tube(slices[own], centers[own], radii[own]), float(contrast[first]), float(support[first]))
