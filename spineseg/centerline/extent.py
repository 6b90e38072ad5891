"""Check whether a mask covers all of the cord in the field of view, from image and mask alone, for masks of any method.

Slices without mask are explained if the image shows why they have no cord: they show nothing, the cord has left the
field of view, they show the brain, or fluid and roots below the conus. Unexplained slices may be missed cord.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.centerline.along import CANAL_MM, Evidence, sample_along
from spineseg.centerline.conus import (
    CONUS_BELOW_MM,
    CONUS_SHARE,
    LARGEST_CORD_MM2,
    goes_on,
    seek_conus,
)
from spineseg.centerline.curve import Centerline
from spineseg.contrasts import CORD_DARKER
from spineseg.volume import Volume

Floats = NDArray[np.float64]

COMPLETE = 0.91
"""Share of the cord that a complete mask must cover: up to a tenth may have no mask and no explanation."""

NOISE_ALIKE, NOISE_BRIGHT = 0.3, 0.3
"""Correlation of neighbouring slices, and brightness relative to that along the mask, below which slices show nothing.
Anatomy has a correlation of 0.6 and more; a cord in strong noise has less, but is as bright as the rest."""

BRAIN_MM2, BRAIN_LEVEL = 160.0, 1.7
"""Factor within which a piece larger than any cord must be as bright as the cord below it to be medulla or brain: 0.9
to 1.25 in phantoms. Slices darkened by saturation had 0.4, slices under a bright band 2.0."""

BRAIN = "brainstem and brain"
"""Reason why the slices above a mask hold no cord."""

NEXT_MM = 30.0
"""Length of the end of the mask that is compared with the slices beyond it."""

ABSURD_AREA_MM2 = 110.0
"""Area above which a piece is larger than any cord: more than three standard deviations above men at C5, where the cord
is thickest (78.1 +- 9.4 mm², Kato 2012)."""

SWELLING, TOP_MM = 1.2, 30.0
"""Factor by which a mask that continues into the medulla is larger in its upper part, at most this long, than in the
part below: 1.2 to 1.8 in phantoms in which the brain is seen, 1.17 at most in masks that end below it."""

CORD_SWELLING = 1.15
"""Factor over the area below up to which such a slice is still cord: masks of phantoms then end within 6 mm of the
foramen magnum, 1 mm above it on average."""

FOLLOWED, GROWTH, GROWTH_MM = 0.83, 1.45, 5.0
"""Where a cord grows into the medulla, the mask has at least this share of the piece over the last millimetres before
the piece is larger than any cord (0.90 and more in phantoms), and over the same length the piece grows by this factor
at most (1.2 to 1.4 in 98 % of them). Where the fluid around a cord is lost, the piece is suddenly as large as the
canal: it grows by a factor of 1.7 and more, or the mask has 0.75 of it at most."""

LEAST_BELOW_MM, INSIDE_BRAIN_MM2 = 25.0, 240.0
"""Shortest length of cord that the area of the medulla can be compared with. Above less cord, the piece must be larger
than this: phantoms have 240 to 430 mm² in the brain, a canal whose fluid is as dark as the cord has 150 to 230."""

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
class Extent:
    """Coverage of the cord in the field of view by a mask."""

    status: str  # "ok", "partial" or "empty"
    notes: tuple[str, ...] = ()
    cord_top: int | None = None  # highest slice with cord if the mask continues into the brain: to be cut there


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
    area = mask.sum(axis=(0, 1)) * zooms[0] * zooms[1]
    n_brain = _count_brain(evidence.piece_mm2[found], area[found], float(zooms[2]))
    top = _find_top(area[found], n_brain, BRAIN in reasons, float(zooms[2]))
    into_brain = found[min(top, len(found) - n_brain) :] if asked is None or asked[1] > found[-1] else found[:0]
    is_cut = len(into_brain) > 0 and len(found) > top >= LEAST_BELOW_MM / zooms[2]
    if is_cut:
        found = found[:top]
        reasons[BRAIN] = every > found[-1]
    conus = None if line is None else line.conus
    if conus is None:
        conus = seek_conus(evidence, found, float(zooms[2]), CORD_DARKER[contrast])
        conus = None if conus is not None and line is not None and goes_on(line, conus) else conus
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
    large = found[area[found] > ABSURD_AREA_MM2]
    if len(large) > (1 - COMPLETE) * len(found):
        faults.append(f"{_ranges(large)}: larger than a cord: brainstem, or fluid in the mask?")
    if len(into_brain) and not is_cut:
        faults.append(f"{_ranges(into_brain)}: medulla or brain rather than cord?")
    cut = found[evidence.border_mm[found] < BORDER_MM]
    if len(cut) > (1 - COMPLETE) * len(found):
        faults.append(f"{_ranges(cut)}: the cord lies at the side of the field, which may cut it")
    beyond = found[found < (0 if conus is None else conus)]
    if len(beyond) * zooms[2] > CONUS_BELOW_MM and len(beyond) > (1 - COMPLETE) * len(found):
        faults.append(f"{_ranges(beyond)}: fluid and roots rather than cord: below the conus?")
    return Extent("partial" if faults else "ok", (*notes, *faults), int(found[-1]) if is_cut else None)


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
    alike = _smooth(evidence.alike, slice_mm)
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
    piece = _smooth(np.where(nothing, 0.0, evidence.piece_mm2), slice_mm)
    # where the cord cannot be distinguished from its surroundings, the size is meaningless
    bounded = np.median(evidence.piece_mm2[~beyond]) <= LARGEST_CORD_MM2
    brain = reached & (piece > BRAIN_MM2) & (np.abs(level - own) < np.log(BRAIN_LEVEL)) & bounded
    if brain.any() and brain[reached].mean() >= CONUS_SHARE:
        reasons[BRAIN] = above
    return reasons


def _count_brain(piece_mm2: Floats, area: Floats, slice_mm: float) -> int:
    """Count the slices at a mask's upper end that show medulla or brain: larger than any cord, and grown out of one.

    Where the same occurs further down, the size is meaningless, and there are none.
    """
    piece = _smooth(piece_mm2, slice_mm)
    large = piece > ABSURD_AREA_MM2
    n, step = int(large.sum()), max(1, round(GROWTH_MM / slice_mm))
    first = len(large) - n
    if n < max(2, step) or first < step or not large[first:].all():
        return 0
    before = slice(first - step, first)
    followed = np.median(area[before]) >= FOLLOWED * np.median(piece_mm2[before])
    is_inside = (piece > INSIDE_BRAIN_MM2).sum() >= max(2, step)
    if not is_inside and not (followed and first * slice_mm >= LEAST_BELOW_MM):
        return 0
    fine = _smooth(piece_mm2, slice_mm, GROWTH_MM)[first - step :]
    growth = fine[step:] / np.maximum(fine[:-step], 1.0)
    return n if growth[fine[:-step] <= BRAIN_MM2].max(initial=0.0) < GROWTH else 0


def _find_top(area: Floats, n_brain: int, is_below_brain: bool, slice_mm: float) -> int:
    """Return how many slices of a mask, (n,) from below, are cord: the others are medulla, larger, and brain."""
    n_cord = len(area) - n_brain
    n = min(round(TOP_MM / slice_mm), n_cord // 2)
    if n == 0 or not (is_below_brain or n_brain):
        return len(area)
    smooth = _smooth(area[:n_cord], slice_mm)
    below = np.median(smooth[n_cord - 2 * n : n_cord - n])
    widest = n_cord - n + int(smooth[-n:].argmax())
    if smooth[widest] < SWELLING * below and not n_brain:
        return len(area)
    top = int(np.flatnonzero(smooth[:widest] <= CORD_SWELLING * below)[-1]) + 1
    # the medulla is wider than any part of the cord; a tube that follows it keeps its width in the brain
    return top if np.median(area[top:]) > max(smooth[:top].max(), CORD_SWELLING * below) else len(area)


def _smooth(values: Floats, slice_mm: float, length_mm: float = 10.0) -> Floats:
    """Return the running median of values along the cord."""
    smooth: Floats = ndi.median_filter(values, max(1, round(length_mm / slice_mm) | 1), mode="nearest")
    return smooth


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
