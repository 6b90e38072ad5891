"""Find the conus: where the cord ends and fluid and roots begin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.along import Evidence, sample_along
from spineseg.centerline.curve import Centerline, select_slices
from spineseg.volume import Volume

Floats = NDArray[np.float64]

CONUS_FACTOR = 1.44
"""Factor by which the intensity in the middle of the canal changes at the conus, towards the fluid. It is 2.7 in the
real lumbar image, 1.9 to 2.5 in T1w, T2w and STIR phantoms, 1.46 in T2* and dwi phantoms, and 1.41 at most in other
real images."""

CONUS_ABOVE_MM, CONUS_BELOW_MM, LEAST_CORD_MM = 40.0, 15.0, 25.0
"""Lengths of canal above and below the conus that are compared, and the shortest length of cord above it."""

CONUS_SUDDEN, CONUS_NEAR_MM = 0.7, 10.0
"""Share of that change that must occur within this distance on either side: 0.8 and more at the conus, half where a
coil's sensitivity decreases."""

CONUS_LEVEL = 1.2
"""Factor by which the absolute intensity must also change towards fluid: 1.8 and more in lumbar images. Where the canal
seems to change only because its surroundings are darker (a coil whose sensitivity decreases below the neck, in slices
that are blurred or have a ghost or a band), it is mostly 0.5 to 1.1."""

CONUS_PIECE, CONUS_CLEAR = 1.5, 2.0
"""Factor by which the piece around the middle must be larger than the cord above, because below the conus it fills the
canal. A lesion or a syrinx is smaller than the cord. Roots may divide the canal into smaller pieces, so where the
intensity changes by the second factor, it must be larger, by whatever factor."""

CONUS_FLUID = (0.75, 0.65)
"""What takes the cord's place is the fluid itself: where fluid is bright, at least so bright over the brightest of the
canal around it (0.85 and more in phantoms, 0.95 in the real lumbar image), where it is dark, at most so bright (0.52 at
most). Where a coil fades or an artefact has darkened the cord above, it is 0.45 to 0.7. Under a band, or where a slice
is doubled, some slices are as bright: 0.2 to 0.4 of those below the place, against 0.9 and more below a conus."""

TIP_MM = 5.0
"""Length by which the tip of the cord, narrower than the disc, extends below that place: 7 to 10 mm in phantoms."""

LEAST_PIECE_MM2, LARGEST_CORD_MM2, LEAST_CANAL_MM2 = 10.0, 106.0, 60.0
"""Range of the area of a cord piece, and smallest area of a canal: lower cords have 25 to 65 mm², sacs 90 to 190."""

CONUS_SHARE = 0.6
"""Share of the slices from the conus to the end of the curve that must look like this; a sacral canal ends in fat."""


def find_conus(evidence: Evidence, slice_mm: float, darker: bool) -> int | None:
    """Find where the cord ends and fluid and roots begin.

    Parameters
    ----------
    evidence : along the canal, from below
    darker : whether the cord is darker than its fluid in this contrast

    Returns
    -------
    int or None; position of the lowest slice with cord
    """
    n = len(evidence.core)
    above, below = round(CONUS_ABOVE_MM / slice_mm), max(2, round(CONUS_BELOW_MM / slice_mm))
    least, near = max(2, round(LEAST_CORD_MM / slice_mm)), max(2, round(CONUS_NEAR_MM / slice_mm))
    fluid = np.log(np.maximum(evidence.core, 1e-6)) * (1 if darker else -1)
    shown = evidence.bright > np.finfo(np.float32).tiny
    if not shown.any():
        return None
    level = fluid + np.log(evidence.bright) * (1 if darker else -1)
    fluid = np.where(shown, fluid, fluid[shown].min())  # a slice without signal must not count as dark fluid
    level = np.where(shown, level, level[shown].min())
    is_fluid = shown & (evidence.core >= CONUS_FLUID[0] if darker else evidence.core <= CONUS_FLUID[1])
    piece = evidence.piece_mm2
    best, found = np.log(CONUS_FACTOR), None
    for k in range(below, n - least + 1):
        cord = max(np.median(fluid[k : k + above]), np.median(fluid[k : k + below]))
        step = np.median(fluid[k - below : k]) - cord
        like_fluid = is_fluid[:k] & (fluid[:k] - cord > 0.7 * np.log(CONUS_FACTOR))
        if step <= best or like_fluid.sum() < CONUS_SHARE * shown[:k].sum():
            continue
        sudden = np.median(fluid[max(0, k - near) : k]) - np.median(fluid[k : k + near])
        if sudden < CONUS_SUDDEN * step:
            continue
        if np.median(level[max(0, k - above) : k]) - np.median(level[k : k + above]) < np.log(CONUS_LEVEL):
            continue
        near_below = slice(max(0, k - above), k)
        if is_fluid[near_below].sum() < 0.5 * shown[near_below].sum():
            continue
        own = np.median(piece[k : k + above])
        canal = np.median(piece[max(0, k - 2 * below) : k])
        is_clear = step >= np.log(CONUS_CLEAR)
        fills = canal > own if is_clear else canal >= max(CONUS_PIECE * own, LEAST_CANAL_MM2)
        if LEAST_PIECE_MM2 <= own <= LARGEST_CORD_MM2 and fills:
            best, found = step, k
    if found is None:
        return None
    # of the slices around the step, those on the cord's side of the half-way intensity are cord
    cord = np.median(fluid[found : found + above])
    inside = fluid - cord < best / 2
    while found > 0 and inside[found - 1]:
        found -= 1
    while found < n - 1 and not inside[found]:
        found += 1
    return max(0, found - round(TIP_MM / slice_mm))


def stop_at_conus(volume: Volume, line: Centerline, darker: bool, path_vox: Floats | None = None) -> Centerline:
    """Return the part of a curve that lies in the cord, with the conus if the canal is visible below it.

    Parameters
    ----------
    path_vox : (K, 2) ndarray, voxels
        Path through the canal in every slice of the volume; by default only the curve itself is examined.
    """
    if line.is_empty:
        return line
    slices = line.slices if path_vox is None else np.arange(line.slices[-1] + 1)
    centres = line.points_vox[:, :2] if path_vox is None else path_vox[slices]
    found = find_conus(sample_along(volume, slices, centres), float(volume.zooms[2]), darker)
    if found is None:
        return line
    conus = int(slices[found])
    if goes_on(line, conus):
        return line
    return replace(select_slices(line, conus, int(line.slices[-1])), conus=conus)


def goes_on(line: Centerline, conus: int) -> bool:
    """Say whether the detector sees a cord below a place and none above it: the cord does not end there.

    Scores are log-odds. If both are positive or both negative, a higher one below says nothing: a detector takes roots
    in fluid for cord, and knows neither thick sagittal slices nor the lower cord well. Heat (`spineseg.deepseg`) is
    never negative.
    """
    below, above = line.score[line.slices < conus], line.score[line.slices >= conus]
    return bool(len(below) and len(above) and np.median(below) > 0 > np.median(above))


def seek_conus(evidence: Evidence, found: NDArray[np.intp], slice_mm: float, darker: bool) -> int | None:
    """Find the slice of the conus along a mask and below it, as far as its course can be extrapolated."""
    first = max(0, found[0] - round(CONUS_ABOVE_MM / slice_mm))
    part = slice(first, found[-1] + 1)
    conus = find_conus(Evidence(*(values[part] for values in vars(evidence).values())), slice_mm, darker)
    return None if conus is None else first + conus
