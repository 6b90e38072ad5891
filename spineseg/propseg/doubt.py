"""Uncertainty of each slice of a finished surface: 0 where an edge is seen all round, 1 where none is seen.

Edges are measured relative to the image itself: to the usual edge of this cord, and to the rise that a ring
finds in pure noise with the standard deviation of the cord.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.propseg.consensus import near_correction
from spineseg.propseg.deform import measure_cord, sample_rays
from spineseg.propseg.parameters import STEP_MM
from spineseg.propseg.shape import WALL_TRUST, measure_usual_rise
from spineseg.propseg.surface import compute_areas, compute_normals

if TYPE_CHECKING:
    from spineseg.centerline.curve import Centerline
    from spineseg.propseg.refine import FilledTube
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

NEAR_MM = 2 * STEP_MM
"""Largest distance at which an edge belongs to the surface: half a voxel in most images."""

CHANCE = 1.5
"""Usual rise (1/mm), in standard deviations of the cord, of a ring that was fitted to noise alone (1.3 to 1.8 in
volumes of 0.5 to 1 mm)."""

LEAST_NOISE = 1.0
"""Smallest noise, on the intensity range of 1000: avoids a division by zero in a cord without noise."""

CERTAIN_AREA_MM2, ABSURD_AREA_MM2 = 106.0, 116.0
"""Three and four standard deviations above the mean of men at C5, where the cord is thickest, 78.1 +- 9.4 mm² (Kato
2012, 1211 people): a larger area more likely includes fluid than shows a large cord."""

CERTAIN_SKEW, ABSURD_SKEW = 0.036, 0.072
"""Left-right asymmetry: third cosine term of the outline over its mean radius. The values are three and six standard
deviations of 499 slices of 30 manual masks (`spineseg.propseg.shape`). A corner with fluid causes 0.07 to 0.11."""

CERTAIN_OFFSET_MM, ABSURD_OFFSET_MM = 1.5, 3.5
"""Distance of the surface's centre from OptiC's centerline, which is 0.5 mm off and 1.5 mm at most in the real images,
2 mm where fluid looks like cord."""

SMOOTH_MM = 9.0
"""Length of the median filter of the uncertainty, so that a single disc or vessel has no effect."""

GUESS = 0.5
"""A slice with an uncertainty above this counts as a guess."""

MAX_DOUBT = 0.5
"""Share of such slices above which a result is partial. Masks that miss cord are recognised by their extent. Of 160
masks (`benchmarks/status.py`, seed 41), the only other bad ones were in legs; in two of these three, nine tenths of the
slices are guesses."""

END_MM, END_SHARE = SMOOTH_MM, 0.2
"""Length, and share of the mask, from which an end that is a guess throughout makes a result partial. Examples: a mask
that continues into the medulla (a third of it), or past a conus that is hardly visible in thick slices (44 %)."""

CERTAIN_SCORE, ABSURD_SCORE = 0.0, -2.4
"""Median score of the centerline, log-odds of a cord: people left out of the training have medians above 0, good masks
of cords of half the size -1.1 and more; below -1.2, half way, it may follow something else than a cord."""

CERTAIN_LEAD, ABSURD_LEAD = 1.0, 0.2
"""Lead of the centerline's mean score over the best curve elsewhere. Of 60 copies of real images with a ghost or a
fold-over (`benchmarks/artefacts.py`), 5 of 13 below 0.6, half way, follow the wrong one of two cords, 1 of 47 above it.
Phantoms and the images themselves have 2.3 and more."""

CONVINCED_SCORE = 2.0
"""At this score (odds of seven to one for a cord) chance is ruled out: the detector saw the cord despite noise
that makes its edges look like chance."""


def measure_uncertainty(surface: FilledTube, scene: Scene, line: Centerline) -> Floats:
    """Measure the uncertainty of each slice.

    Parameters
    ----------
    line : a centerline from the user may be rough: only a centerline with scores, from OptiC, counts against a surface

    Returns
    -------
    (R,) ndarray, 0 to 1
        At least the share of the ring without an edge. It is 1 if the ring was taken over from its neighbours, and
        rises to 1 if the ring is larger or more asymmetric than a cord, its centre is off the line, or the detector
        has little confidence in the line. It is 0 where the user drew points of the surface.
    """
    slices, rings = surface.tube.slices, surface.tube.vertices()
    convinced = _rise_between(_median_score(line), CERTAIN_SCORE, CONVINCED_SCORE)
    unseen = 1 - _measure_belief(scene, slices, rings, convinced)
    large = _rise_between(compute_areas(rings), CERTAIN_AREA_MM2, ABSURD_AREA_MM2)
    skew = _rise_between(_measure_skew(surface.tube.radii), CERTAIN_SKEW, ABSURD_SKEW)
    doubt = np.maximum.reduce([unseen, large, skew, np.full(len(slices), _doubt_line(line))])
    if np.isfinite(line.score).any():
        away = np.linalg.norm(surface.tube.centers - scene.course.at(slices), axis=1)
        doubt = np.maximum(doubt, _rise_between(away, CERTAIN_OFFSET_MM, ABSURD_OFFSET_MM))
    size = max(3, round(SMOOTH_MM / scene.slice_mm) | 1)
    doubt = np.where(surface.bridged, 1.0, ndi.median_filter(doubt, size, mode="nearest"))
    return np.where(near_correction(scene, slices), 0.0, doubt)


def find_guessed_ends(doubt: Floats, slice_mm: float) -> NDArray[np.bool_]:
    """Find the slices (R,) of ends that are a guess over a relevant length, from their uncertainty (R,)."""
    seen = np.flatnonzero(doubt <= GUESS)
    is_end = np.zeros(len(doubt), bool)
    least = max(END_MM / slice_mm, END_SHARE * len(doubt))
    low, high = (int(seen[0]), len(doubt) - 1 - int(seen[-1])) if len(seen) else (len(doubt), 0)
    is_end[: low if low >= least else 0] = True
    is_end[len(doubt) - (high if high >= least else 0) :] = True
    return is_end


def _measure_belief(scene: Scene, slices: NDArray[np.intp], rings: Floats, convinced: float) -> Floats:
    """Measure the share of each ring on an edge, (R,), reduced if the cord's usual edge is little above chance.

    `convinced`, 0 to 1, is the degree to which the detector rules chance out.
    """
    rays = sample_rays(scene, slices, rings, compute_normals(rings), NEAR_MM)
    slope = np.where(rays.known, rays.slope, 0.0)
    usual = measure_usual_rise(scene, slices, rings)
    edge = np.maximum(slope.max(axis=2), WALL_TRUST * -slope.min(axis=2)) / usual[:, None]
    spread = np.maximum(measure_cord(scene, slices, rings)[1], LEAST_NOISE)
    chance = np.minimum((CHANCE * spread / usual) ** 2, 1.0)
    beyond_chance = 1 - (1 - convinced) * chance
    return beyond_chance * np.clip(edge, 0.0, 1.0).mean(axis=1)


def _measure_skew(radii: Floats) -> Floats:
    """Measure the left-right asymmetry of each ring's outline, (R,); axis 0 runs from right to left."""
    wave = np.fft.rfft(radii, axis=1)
    return 2 * np.abs(wave[:, 3].real) / wave[:, 0].real


def _rise_between(values: Any, low: float, high: float) -> Any:
    """Map values to 0 up to `low`, to 1 from `high`, and linearly between."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def is_unsure(line: Centerline) -> bool:
    """Return whether the detector has little confidence in its own centerline."""
    return _doubt_line(line) > GUESS


def _median_score(line: Centerline) -> float:
    """Return the median score of a centerline. One from the user has no scores and gets 0, which is neutral."""
    known = line.score[np.isfinite(line.score)]
    return float(np.median(known)) if len(known) else CERTAIN_SCORE


def _doubt_line(line: Centerline) -> float:
    """Return the uncertainty of a centerline, 0 to 1: a weak line that has a rival is less certain for both reasons."""
    weak = float(_rise_between(-_median_score(line), -CERTAIN_SCORE, -ABSURD_SCORE))
    return 1 - (1 - weak) * (1 - _doubt_lead(line))


def has_rival(line: Centerline) -> bool:
    """Decide whether another curve in the image looks as much like a cord."""
    return _doubt_lead(line) > GUESS


def _doubt_lead(line: Centerline) -> float:
    """Return the uncertainty that a rival curve gives a centerline, 0 to 1; 0 if its lead is unknown."""
    return 0.0 if np.isnan(line.lead) else float(_rise_between(-line.lead, -CERTAIN_LEAD, -ABSURD_LEAD))
