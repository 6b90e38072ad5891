"""Segment the cerebrospinal fluid with a second tube around that of the cord."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spineseg.propseg.initial import place_initial_tube
from spineseg.propseg.parameters import FLUID_CORE
from spineseg.propseg.propagate import propagate, settle_bridges
from spineseg.propseg.refine import FilledTube, fill_slices, refine
from spineseg.propseg.scene import Course, Scene
from spineseg.propseg.surface import Tube, fit_star, resample_angles

LEAST_RING_MM = 0.3
"""Least distance of the outer surface from that of the cord: the thinnest layer of fluid that a voxel can show."""


def grow_csf(scene: Scene, cord: FilledTube, max_gap_mm: float) -> FilledTube | None:
    """Segment the outer surface of the fluid along a cord.

    Parameters
    ----------
    scene : that of the cord
    max_gap_mm : mm; longest bridge

    Returns
    -------
    FilledTube or None
        None if no fluid is found. As in the original, radius and deformation are twice those of the cord, the area
        four times, and edges have the opposite sign.
    """
    outer = _outer_scene(scene, cord)
    middle = outer.course.slices
    order = np.argsort(np.abs(middle - np.median(cord.tube.slices)), kind="stable")
    initial = place_initial_tube(outer, middle[order][:: max(1, len(order) // 11)])
    if initial.tube is None:
        return None
    grown = settle_bridges(propagate(outer, initial), max_gap_mm, scene.slice_mm)
    surface = refine(outer, fill_slices(grown, outer), grown.contrast)
    return _keep_outside(surface, cord)


def _outer_scene(scene: Scene, cord: FilledTube) -> Scene:
    """Return the scene of the fluid: centred on the cord, twice its size, with edges of the opposite sign."""
    params = replace(
        scene.params,
        radius_mm=2 * scene.params.radius_mm,
        max_deformation_mm=2 * scene.params.max_deformation_mm,
        max_area_mm2=4 * scene.params.max_area_mm2,
    )
    slices = np.arange(cord.tube.slices[0], cord.tube.slices[-1] + 1)
    centers = np.column_stack([np.interp(slices, cord.tube.slices, cord.tube.centers[:, a]) for a in (0, 1)])
    course = Course(slices, centers, scene.course.zooms)
    model = replace(scene.model, sign=-scene.model.sign, core=FLUID_CORE)
    return replace(scene, course=course, params=params, model=model)


def _keep_outside(surface: FilledTube, cord: FilledTube) -> FilledTube:
    """Keep the outer surface outside that of the cord, and only in the cord's slices."""
    shared, own, other = np.intersect1d(surface.tube.slices, cord.tube.slices, return_indices=True)
    tube = surface.tube.take(own)
    inner = cord.tube.take(other)
    rings = Tube(shared, inner.centers, resample_angles(inner.radii, tube.radii.shape[1])).vertices()
    least = fit_star(rings, tube.centers) + LEAST_RING_MM
    return FilledTube(Tube(shared, tube.centers, np.maximum(tube.radii, least)), surface.bridged[own])
