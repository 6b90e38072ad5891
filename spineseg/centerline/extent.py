"""Check whether a mask covers all of the cord in the field of view, from image and mask alone, for masks of any method.

Slices without mask are explained if the image shows why they have no cord: they show nothing, the cord has left the
field of view, they show the brain, or fluid and roots below the conus. Unexplained slices may be missed cord.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.centerline.curve import Centerline, select_slices
from spineseg.contrasts import CORD_DARKER
from spineseg.volume import Volume

Floats = NDArray[np.float64]

COMPLETE = 0.91
"""Share of the cord that a complete mask must cover: up to a tenth may have no mask and no explanation."""

CORE_MM, CANAL_MM = 2.5, 12.0
"""Radii of the disc in the middle of the cord (or of the tissue in its place), and of the disc that shows the canal."""

ALIKE = 0.3
"""Largest difference from the intensity in the middle, as a share of it, at which a neighbour belongs to the same
piece."""

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

CONUS_PIECE = 1.5
"""Factor by which the piece around the middle must be larger than the cord above, because below the conus it fills the
canal. A lesion or a syrinx is smaller than the cord."""

CONUS_FLUID = (0.75, 0.65)
"""What takes the cord's place is the fluid itself: where fluid is bright, at least so bright over the brightest of the
canal around it (0.85 and more in phantoms, 0.95 in the real lumbar image), where it is dark, at most so bright (0.52 at
most). Where a coil fades or an artefact has darkened the cord above, it is 0.45 to 0.7."""

TIP_MM = 5.0
"""Length by which the tip of the cord, narrower than the disc, extends below that place: 7 to 10 mm in phantoms."""

LEAST_PIECE_MM2, LARGEST_CORD_MM2, LEAST_CANAL_MM2 = 10.0, 106.0, 60.0
"""Range of the area of a cord piece, and smallest area of a canal: lower cords have 25 to 65 mm², sacs 90 to 190."""

CONUS_SHARE = 0.6
"""Share of the slices from the conus to the end of the curve that must look like this; a sacral canal ends in fat."""

NOISE_ALIKE, NOISE_BRIGHT = 0.3, 0.3
"""Correlation of neighbouring slices, and brightness relative to that along the mask, below which slices show nothing.
Anatomy has a correlation of 0.6 and more; a cord in strong noise has less, but is as bright as the rest."""

BRAIN_MM2, BRAIN_LEVEL = 160.0, 1.7
"""Factor within which a piece larger than any cord must be as bright as the cord below it to be medulla or brain: 0.9
to 1.25 in phantoms. Slices darkened by saturation had 0.4, slices under a bright band 2.0."""

NEXT_MM = 30.0
"""Length of the end of the mask that is compared with the slices beyond it."""

ABSURD_AREA_MM2 = 110.0
"""Area above which a piece is larger than any cord: more than three standard deviations above men at C5, where the cord
is thickest (78.1 +- 9.4 mm², Kato 2012)."""

BORDER_MM = 5.0
"""Distance of the cord's middle from the side of the field of view, about its radius, below which it is cut or has no
edge there."""

JUMP_MM, JUMP_SLOPE = 4.0, 0.7
"""Largest shift of a cord's middle between neighbouring slices: by a slope of at most 35 degrees, plus half its
width."""

FOLLOW_SLOPE, FOLLOW_PENALTY = 1.0, 0.05
"""Steepest slope at which the canal is followed beyond the mask's ends, 45 degrees from the slices' normal, and gain in
correlation that such a slope must bring."""


@dataclass(frozen=True)
class Evidence:
    """Measures of the image along a curve, (n,) each; lengths in mm."""

    bright: Floats  # 90th percentile of the canal and its boundary
    core: Floats  # median intensity in the middle, over the bright of the canal around it
    piece_mm2: Floats  # area of the piece around the middle that is about as bright, within the window
    alike: Floats  # correlation of the window with that of the slice below it; noise has none
    border_mm: Floats  # from the middle to the nearest side of the field, negative outside


def sample_along(volume: Volume, slices: NDArray[np.intp], centres: Floats) -> Evidence:
    """Measure the image along a curve with one centre (n, 2), voxels, in each of consecutive slices (n,)."""
    zooms = np.asarray(volume.zooms, np.float64)
    half = np.ceil(CANAL_MM / zooms[:2]).astype(int)
    grid = np.meshgrid(*[np.arange(-h, h + 1) for h in half], indexing="ij")
    away = np.hypot(grid[0] * zooms[0], grid[1] * zooms[1])
    corner = np.rint(centres).astype(int)
    index = [corner[:, axis, None, None] + grid[axis] for axis in (0, 1)]
    known = (away <= CANAL_MM) & (index[0] >= 0) & (index[0] < volume.shape[0])
    known &= (index[1] >= 0) & (index[1] < volume.shape[1])
    index = [np.clip(index[axis], 0, volume.shape[axis] - 1) for axis in (0, 1)]
    window = np.where(known, volume.data[index[0], index[1], slices[:, None, None]], np.nan).astype(np.float64)
    window[~known.any(axis=(1, 2))] = 0.0  # the whole window is outside the field of view
    middle = np.where(away <= max(CORE_MM, 0.75 * zooms[:2].max()), window, np.nan)
    middle[np.isnan(middle).all(axis=(1, 2))] = 0.0
    level = np.nanmedian(middle, axis=(1, 2))
    bright = np.maximum(np.nanpercentile(window, 90, axis=(1, 2)), np.finfo(np.float32).tiny)
    border = np.minimum((centres + 0.5) * zooms[:2], (np.array(volume.shape[:2]) - 0.5 - centres) * zooms[:2])
    pieces = _measure_pieces(window, level, float(zooms[0] * zooms[1]))
    return Evidence(bright, level / bright, pieces, _correlate(window), border.min(axis=1))


def _measure_pieces(window: Floats, level: Floats, pixel_mm2: float) -> Floats:
    """Measure, in each window, the area of the piece around the middle that is about as bright."""
    areas = np.zeros(len(window))
    middle = tuple(size // 2 for size in window.shape[1:])
    for k, (part, value) in enumerate(zip(window, level, strict=True)):
        pieces, _ = ndi.label(np.abs(part - value) <= ALIKE * abs(value))
        areas[k] = (pieces == pieces[middle]).sum() * pixel_mm2 if pieces[middle] else 0.0
    return areas


def _correlate(window: Floats) -> Floats:
    """Correlate each window with the one below it; the lowest gets the value of the next, a single window gets 1."""
    both = np.isfinite(window[1:]) & np.isfinite(window[:-1])
    count = np.maximum(both.sum(axis=(1, 2)), 1)
    upper, lower = np.where(both, window[1:], 0.0), np.where(both, window[:-1], 0.0)

    def mean(values: Floats) -> Floats:
        return values.sum(axis=(1, 2)) / count

    spread = np.sqrt(np.maximum((mean(upper**2) - mean(upper) ** 2) * (mean(lower**2) - mean(lower) ** 2), 0.0))
    shared = mean(upper * lower) - mean(upper) * mean(lower)
    alike = np.where(spread > 0, shared / np.where(spread > 0, spread, 1.0), 0.0)
    return np.concatenate([alike[:1], alike]) if len(alike) else np.ones(len(window))


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
    piece = evidence.piece_mm2
    best, found = np.log(CONUS_FACTOR), None
    for k in range(below, n - least + 1):
        cord = max(np.median(fluid[k : k + above]), np.median(fluid[k : k + below]))
        step = np.median(fluid[k - below : k]) - cord
        like_fluid = fluid[:k] - cord > 0.7 * np.log(CONUS_FACTOR)
        if step <= best or (like_fluid & shown[:k]).sum() < CONUS_SHARE * shown[:k].sum():
            continue
        sudden = np.median(fluid[max(0, k - near) : k]) - np.median(fluid[k : k + near])
        if sudden < CONUS_SUDDEN * step:
            continue
        if np.median(level[max(0, k - above) : k]) - np.median(level[k : k + above]) < np.log(CONUS_LEVEL):
            continue
        core = np.median(evidence.core[max(0, k - above) : k][shown[max(0, k - above) : k]])
        if not (core >= CONUS_FLUID[0] if darker else core <= CONUS_FLUID[1]):
            continue
        own = np.median(piece[k : k + above])
        canal = np.median(piece[max(0, k - 2 * below) : k])
        if LEAST_PIECE_MM2 <= own <= LARGEST_CORD_MM2 and canal >= max(CONUS_PIECE * own, LEAST_CANAL_MM2):
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
    if _goes_on(line, conus):
        return line
    return replace(select_slices(line, conus, int(line.slices[-1])), conus=conus)


def _goes_on(line: Centerline, conus: int) -> bool:
    """Say whether the detector sees the cord better below a place than above it: it does not end there."""
    below, above = line.score[line.slices < conus], line.score[line.slices >= conus]
    return bool(len(below) and len(above) and np.median(below) > np.median(above))


@dataclass(frozen=True)
class Extent:
    """Coverage of the cord in the field of view by a mask."""

    status: str  # "ok", "partial" or "empty"
    notes: tuple[str, ...] = ()


def describe_extent(
    volume: Volume,
    mask: NDArray[np.bool_],
    contrast: str,
    line: Centerline | None = None,
    asked: tuple[int, int] | None = None,
) -> Extent:
    """Decide whether a mask covers all of the cord in the field of view, and why slices have no cord.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
    contrast : {"t1", "t2", "t2s", "dwi"}
    line : curve that the method followed; its conus is used, and its scores if it has none
    asked : first and last slice that the user asked for; all by default
    """
    found = np.flatnonzero(mask.any(axis=(0, 1)))
    if len(found) == 0:
        return Extent("empty", ("no cord found",))
    zooms = np.asarray(volume.zooms, np.float64)
    every = np.arange(mask.shape[2])
    centres = _prolong(volume, mask, found)
    evidence = sample_along(volume, every, centres)
    above, below = every > found[-1], every < found[0]
    reasons = _explain(evidence, above, below, zooms[2])
    conus = None if line is None else line.conus
    if conus is None:
        conus = _seek_conus(evidence, found, float(zooms[2]), CORD_DARKER[contrast])
        conus = None if conus is not None and line is not None and _goes_on(line, conus) else conus
    if conus is not None and below.any():
        reasons["below the conus"] = below & (every < conus)
    held = np.isin(every, found)
    explained = held | np.logical_or.reduce(list(reasons.values()))
    if asked is not None:
        explained |= (every < asked[0]) | (every > asked[1])
    notes = [f"{_ranges(every[part & ~held])}: no cord, {why}" for why, part in reasons.items() if (part & ~held).any()]
    missing = every[~explained]
    faults = []
    if len(found) < COMPLETE * (len(found) + len(missing)) or _has_gap(found):
        faults.append(f"{_ranges(missing)}: no mask, and nothing shows that there is no cord")
    elif len(missing):
        notes.append(f"{_ranges(missing)}: no mask")
    off = found[1:][_jumps(centres[found], found, zooms)]
    if len(off):
        faults.append(f"{_ranges(off)}: the mask jumps from the slice below")
    area = mask.sum(axis=(0, 1))[found] * zooms[0] * zooms[1]
    large = found[area > ABSURD_AREA_MM2]
    if len(large) > (1 - COMPLETE) * len(found):
        faults.append(f"{_ranges(large)}: larger than a cord: brainstem, or fluid in the mask?")
    cut = found[evidence.border_mm[found] < BORDER_MM]
    if len(cut) > (1 - COMPLETE) * len(found):
        faults.append(f"{_ranges(cut)}: the cord lies at the side of the field, which may cut it")
    beyond = found[found < (0 if conus is None else conus)]
    if len(beyond) * zooms[2] > CONUS_BELOW_MM and len(beyond) > (1 - COMPLETE) * len(found):
        faults.append(f"{_ranges(beyond)}: fluid and roots rather than cord: below the conus?")
    return Extent("partial" if faults else "ok", (*notes, *faults))


def _seek_conus(evidence: Evidence, found: NDArray[np.intp], slice_mm: float, darker: bool) -> int | None:
    """Find the slice of the conus along a mask and below it, as far as its course can be extrapolated."""
    first = max(0, found[0] - round(CONUS_ABOVE_MM / slice_mm))
    part = slice(first, found[-1] + 1)
    conus = find_conus(Evidence(*(values[part] for values in vars(evidence).values())), slice_mm, darker)
    return None if conus is None else first + conus


def _prolong(volume: Volume, mask: NDArray[np.bool_], found: NDArray[np.intp]) -> Floats:
    """Return the mask's centres, (K, 2), voxels, interpolated between slices, and beyond the ends by similarity."""
    zooms = np.asarray(volume.zooms, np.float64)
    own = np.array([np.argwhere(mask[:, :, k]).mean(axis=0) for k in found])
    every = np.arange(mask.shape[2])
    centres = np.column_stack([np.interp(every, found, own[:, axis]) for axis in (0, 1)])
    half = np.ceil(CANAL_MM / zooms[:2]).astype(int)
    reach = [max(1, round(FOLLOW_SLOPE * zooms[2] / zoom)) for zoom in zooms[:2]]
    move = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 2)
    penalty = FOLLOW_PENALTY * (np.hypot(*(move * zooms[:2]).T) / max(zooms[2], 1.0)) ** 2
    pad = half + reach
    image = np.pad(volume.data, ((pad[0], pad[0]), (pad[1], pad[1]), (0, 0)), mode="edge")

    def patch(k: int, at: NDArray[np.intp]) -> Floats:
        rows, columns = (slice(a + p - h, a + p + h + 1) for a, p, h in zip(at, pad, half, strict=True))
        part = image[rows, columns, k].astype(np.float64)
        return part - part.mean()

    size = np.array(volume.shape[:2])
    for path in (every[every < found[0]][::-1], every[every > found[-1]]):
        for k in path:
            before = k + 1 if k < found[0] else k - 1
            at = np.clip(np.rint(centres[before]).astype(int), 0, size - 1)
            old = patch(before, at)
            tried = np.clip(at + move, 0, size - 1)
            new = np.array([patch(k, place) for place in tried])
            norm = np.sqrt((new**2).sum((1, 2)) * (old**2).sum())
            alike = (new * old).sum((1, 2)) / np.where(norm > 0, norm, 1.0)
            best = (alike - penalty).argmax()
            centres[k] = centres[before] + tried[best] - at
    return centres


def _explain(
    evidence: Evidence, above: NDArray[np.bool_], below: NDArray[np.bool_], slice_mm: float
) -> dict[str, NDArray[np.bool_]]:
    """Return the slices without cord by reason, (K,) each."""
    size = max(1, round(10 / slice_mm) | 1)
    alike = ndi.median_filter(evidence.alike, size, mode="nearest")
    beyond = above | below
    usual = np.median(evidence.bright[~beyond])
    nothing = beyond & (alike < NOISE_ALIKE) & (evidence.bright < NOISE_BRIGHT * usual)
    reasons = {
        "the image shows nothing there": nothing,
        "it has left the field": beyond & (evidence.border_mm < 0),
    }
    # the canal is not followed through slices without signal, each one large piece: cord may continue above them
    reached = above & (np.cumsum(above & nothing) == 0)
    level = np.log(np.maximum(evidence.core * evidence.bright, np.finfo(np.float32).tiny))
    own = np.median(level[~beyond][-max(1, round(NEXT_MM / slice_mm)) :])
    piece = ndi.median_filter(np.where(nothing, 0.0, evidence.piece_mm2), size, mode="nearest")
    # where the cord cannot be distinguished from its surroundings, the size is meaningless
    bounded = np.median(evidence.piece_mm2[~beyond]) <= LARGEST_CORD_MM2
    brain = reached & (piece > BRAIN_MM2) & (np.abs(level - own) < np.log(BRAIN_LEVEL)) & bounded
    if brain.any() and brain[reached].mean() >= CONUS_SHARE:
        reasons["brainstem and brain"] = above
    return reasons


def _has_gap(found: NDArray[np.intp]) -> bool:
    """Return whether slices without mask lie between slices with mask."""
    return bool((np.diff(found) > 1).any())


def _jumps(centres: Floats, found: NDArray[np.intp], zooms: Floats) -> NDArray[np.bool_]:
    """Return for each slice but the first whether the mask's middle lies too far from that of the slice before."""
    move = np.linalg.norm(np.diff(centres, axis=0) * zooms[:2], axis=1)
    return move > JUMP_MM + JUMP_SLOPE * zooms[2] * np.diff(found)


def _ranges(slices: NDArray[np.intp]) -> str:
    """Write slices as ranges, for instance "slices 3-7, 12"."""
    parts = np.split(slices, np.flatnonzero(np.diff(slices) > 1) + 1)
    return "slices " + ", ".join(f"{p[0]}" if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts if len(p))
