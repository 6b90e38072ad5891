"""Which slices of a finished surface follow an edge that can be seen, and which are the method's guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.propseg.deform import CORRECTION_REACH_MM, measure_cord
from spineseg.propseg.initial import CLOSED_SHARE, measure_rise
from spineseg.propseg.surface import compute_areas

if TYPE_CHECKING:
    from spineseg.centerline.curve import Centerline
    from spineseg.propseg.refine import Surface
    from spineseg.propseg.scene import Scene

LEAST_RISE = 0.7
"""Least rise (1/mm) through four fifths of a ring, in standard deviations of the cord. Labelled images have 1.9
and more in the median, 1.0 with a tenth of their contrast where Dice stays 0.93; surfaces that went wrong mostly have
0.8 and less."""

SMOOTH_MM = 9.0
"""The median over this length decides: one disc or vessel is no doubt."""

MAX_OFFSET_MM = 1.3
"""Distance of the surface's centre from OptiC's centerline: 0.6 mm and less in labelled images, 1.2 mm with a tenth of
their contrast; where half a cord was caught at its grey matter, or fluid taken in on one side, 1.35 mm and more."""

LARGEST_CORD_MM2 = 106.0
"""Area beyond which fluid was more likely taken in than a large cord met: three standard deviations above the mean
of men at C5, where the cord is thickest, 78.1 + 3 x 9.4 mm² (Kato 2012, 1211 people)."""

LEAST_NOISE = 1.0
"""Of the intensity range of 1000: keeps a cord without any noise from dividing by nothing."""

MAX_DOUBT = 0.25
"""Share of doubtful slices above which a result is partial. Labelled images as they are reach 0.01; with Dice below
0.85 for want of contrast or by noise, 0.42 and more."""

UNSURE_SCORE = -1.0
"""Median score of the centerline below which it may follow something else than a cord; people left out of the training
have medians above 0. The unit is the log-odds of a cord."""


def find_doubtful(surface: Surface, scene: Scene, line: Centerline) -> NDArray[np.bool_]:
    """Tell in which slices the surface is a guess: carried, without an edge all round, too large, or off its line.

    Slices in which the user drew points of the surface are believed. A line of the user may be rough: only one with
    scores, which OptiC found, speaks against a surface.

    Returns
    -------
    (R,) ndarray of bool
    """
    slices, rings = surface.tube.slices, surface.tube.vertices()
    rise = np.percentile(measure_rise(scene, slices, rings), 100 * (1 - CLOSED_SHARE), axis=1)
    spread = np.maximum(measure_cord(scene, slices, rings)[1], LEAST_NOISE)
    size = max(3, round(SMOOTH_MM / scene.slice_mm) | 1)
    doubtful = ndi.median_filter(rise / spread, size, mode="nearest") < LEAST_RISE
    doubtful |= surface.bridged
    doubtful |= ndi.median_filter(compute_areas(rings), size, mode="nearest") > LARGEST_CORD_MM2
    if np.isfinite(line.score).any():
        off = np.linalg.norm(surface.tube.centers - scene.course.at(slices), axis=1)
        doubtful |= ndi.median_filter(off, size, mode="nearest") > MAX_OFFSET_MM
    if scene.correction is not None:
        away = np.abs(slices[:, None] - scene.correction[:, 0]).min(axis=1) * scene.slice_mm
        doubtful &= away > CORRECTION_REACH_MM
    return doubtful


def is_unsure(line: Centerline) -> bool:
    """Tell whether the detector hardly believes its own centerline; a line of the user has no score and is believed."""
    known = line.score[np.isfinite(line.score)]
    return bool(len(known)) and float(np.median(known)) < UNSURE_SCORE
