"""Decide whether the cord is darker or brighter than its fluid, where the expected polarity finds no cord."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.propseg.initial import InitialTube, place_initial_tube, try_starts
from spineseg.propseg.propagate import Propagation, propagate
from spineseg.propseg.surface import find_runs, join_tubes

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

TURN_FACTOR = 2.0
"""Factor by which the closed edge of the opposite polarity must be stronger to be accepted. On real images of all
contrasts the wrong polarity reaches a fifth of the right one."""

MIN_CLOSURE = 20.0
"""Weakest closed edge (1/mm; a contrast of about 30 of 1000) that counts for either polarity."""

MAX_OFFSET_MM = 1.5
"""Largest distance of a tube's centre from the centerline. Either polarity may also find the canal, half of the fluid
or a vessel, but their centres are off the centerline. In the real images the cord's centre is within 1.2 mm of it."""

LARGEST_CORD_MM2 = 106.0
"""Largest area of a cord: three standard deviations above the mean of men at C5 (`spineseg.propseg.doubt`). The canal,
which is bright in dark bone if the fluid is bright, has 120 to 260 mm²; tubes found in it in echo-planar and MT images
have 111 to 143."""

MAX_RIM = 0.4
"""Largest `InitialTube.rim` of a cord. If the tube is the canal or a part of it, cord lies in its middle and fluid at
its rim. The rim is then brighter (T2w) by at least half of the edge's contrast; in cords of the other polarity it is
0.3 at most."""

TURN_SHARE, LEAST_PLACES = 0.75, 2
"""The given contrast is a strong prior. Of the informative places along the cord, three quarters and at least two must
support the other polarity. If places disagree, the other polarity is tried only in stretches without a cord."""

LEAST_LOST_MM = 12.0
"""Shortest run of failed bands (two bands) that may have the other polarity; shorter runs are bridged."""

STARTS_IN_RUN = 3
"""Number of places in such a run at which a tube of the other polarity is tried: its middle and its quarters."""


def choose_polarity(scene: Scene, starts: NDArray[np.intp]) -> tuple[Scene, InitialTube, bool]:
    """Place the initial tube with the polarity of the contrast, or the opposite if nearly all places support only that.

    Returns
    -------
    scene : with the sign that was chosen
    initial : InitialTube
    turned : whether the polarity is the opposite of that of the contrast
    """
    other = _turn(scene)
    usual = place_initial_tube(scene, starts)
    # if the usual polarity finds a cord at once, the other must find a better one in the same place
    if _is_on_line(usual) and usual.start == starts[0] and not _outdoes(try_starts(other, starts[:1])[0], usual):
        return scene, usual, False
    pairs = list(zip(try_starts(other, starts), try_starts(scene, starts), strict=True))
    found = [turned for turned, own in pairs if _outdoes(turned, own)]
    against = sum(_is_on_line(own) and own.closure > 0 and not _outdoes(turned, own) for turned, own in pairs)
    if len(found) < min(LEAST_PLACES, len(starts)) or len(found) < TURN_SHARE * (len(found) + against):
        return scene, usual, False
    return other, found[0], True


def _turn(scene: Scene) -> Scene:
    """Return the scene with the other polarity."""
    return replace(scene, model=replace(scene.model, sign=-scene.model.sign))


def _is_on_line(initial: InitialTube) -> bool:
    """Return whether there is a tube that lies on the centerline."""
    return initial.tube is not None and initial.offset_mm <= MAX_OFFSET_MM


def _is_cord(initial: InitialTube) -> bool:
    """Return whether a tube of the other polarity must be a cord, not the canal or a part of it."""
    closed = _is_on_line(initial) and initial.closure > TURN_FACTOR * MIN_CLOSURE
    return closed and initial.area_mm2 <= LARGEST_CORD_MM2 and initial.rim <= MAX_RIM


def _outdoes(turned: InitialTube, own: InitialTube) -> bool:
    """Return whether a tube of the other polarity is a cord and clearer than that of the expected polarity."""
    least = max(own.closure, MIN_CLOSURE) if _is_on_line(own) else MIN_CLOSURE
    return _is_cord(turned) and turned.closure > TURN_FACTOR * least


def propagate_both_polarities(scene: Scene, initial: InitialTube) -> tuple[Scene, Propagation]:
    """Propagate the tube, and grow tubes of the other polarity in long runs where propagation found no cord.

    Inflow brightens the fluid at one end of a slab and saturation darkens it at the other, so that the cord of one
    image may be darker than its fluid in some slices and brighter in others.

    Returns
    -------
    scene : with the slices of the other polarity, if any, in ``turned``
    grown : Propagation
    """
    grown = propagate(scene, initial)
    found = [part for run in _find_lost(grown, scene) if (part := _grow_turned(scene, grown.tube.slices[run]))]
    if not found:
        return scene, grown
    for part in found:
        grown = _insert(grown, part)
    rings = np.concatenate([part.tube.slices[~part.bridged] for part in found])
    believed = grown.tube.slices[~grown.bridged]
    nearest = believed[np.abs(scene.course.slices[:, None] - believed).argmin(axis=1)]
    return replace(scene, turned=scene.course.slices[np.isin(nearest, rings)]), grown


def _find_lost(grown: Propagation, scene: Scene) -> list[NDArray[np.intp]]:
    """Return the long runs of bridged rings."""
    least = LEAST_LOST_MM / (scene.course.ring_step * scene.slice_mm)
    return [np.arange(first, after) for first, after in find_runs(grown.bridged) if after - first >= least]


def _grow_turned(scene: Scene, slices: NDArray[np.intp]) -> Propagation | None:
    """Grow a tube of the other polarity within a run of slices; None if no closed edge is found."""
    course = scene.course
    inside = (course.slices >= slices[0]) & (course.slices <= slices[-1])
    part = replace(course, slices=course.slices[inside], centers=course.centers[inside])
    other = replace(_turn(scene), course=part)
    order = np.argsort(np.abs(np.arange(len(slices)) - (len(slices) - 1) / 2), kind="stable")
    tried = try_starts(other, slices[order][:: max(1, len(slices) // STARTS_IN_RUN)])
    return next((propagate(other, initial) for initial in tried if _is_cord(initial)), None)


def _insert(grown: Propagation, part: Propagation) -> Propagation:
    """Replace rejected rings with accepted ones of the other polarity."""
    good = part.tube.take(~part.bridged)
    keep = ~np.isin(grown.tube.slices, good.slices)
    order = np.argsort(np.concatenate([grown.tube.slices[keep], good.slices]))
    tube = join_tubes(grown.tube.take(keep), good).take(order)
    bridged = np.concatenate([grown.bridged[keep], np.zeros(len(good.slices), bool)])[order]
    stops = tuple(stop for stop in grown.stops if stop[0] not in set(good.slices.tolist()))
    return Propagation(tube, bridged, (grown.contrast + part.contrast) / 2, stops)
