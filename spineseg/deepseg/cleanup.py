"""Convert probabilities to one coherent mask: one piece per slice, no holes, short gaps bridged."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[:, :, 1] = ndi.generate_binary_structure(2, 1)
"""Neighbours that share an edge within a slice, so that one call labels each slice separately."""

MIN_AREA_MM2 = 8.0
"""Area below which a piece is not cord: the thinnest compressed cord keeps about 20 mm²."""

EDGE_FRACTION = 0.35
"""Share of its neighbours' area below which an end slice is cut off or false."""

MAX_BRIDGE_MM = 20.0
"""Longest gap that is bridged; longer gaps are left open and reported."""


def clean_mask(
    prob: NDArray[np.float32], threshold: float, centres: NDArray[np.float64], slices: NDArray, zooms: NDArray
) -> tuple[NDArray[np.bool_], NDArray[np.float32], list[str]]:
    """Threshold the probabilities and keep the pieces that can be cord.

    Parameters
    ----------
    prob : (I, J, K) ndarray, 0 to 1
    centres : (n, 2) ndarray, voxels; the centerline in `slices`
    slices : (n,) ndarray of int

    Returns
    -------
    mask : (I, J, K) ndarray of bool
    prob : (I, J, K) ndarray of float32; with bridged slices filled in, and 0 where pieces were dropped
    notes : list of str
    """
    mask = prob >= threshold
    if not mask.any():
        return mask, prob, []
    box = ndi.find_objects(ndi.binary_dilation(mask.any(axis=2), iterations=2).astype(int))[0]
    box = (*box, slice(None))
    part = mask[box]
    part = _keep_central_piece(part, centres - [box[0].start, box[1].start], slices, zooms)
    part = _fill_holes(part)
    notes = _drop_weak_ends(part, zooms)
    dropped = mask[box] & ~part
    soft = prob.copy()
    soft[box][ndi.binary_dilation(dropped, IN_PLANE) & ~part] = 0
    soft[:, :, ~part.any(axis=(0, 1))] = 0
    notes += _bridge_gaps(part, soft[box], zooms)
    mask = np.zeros_like(mask)
    mask[box] = part
    return mask, soft, notes


UNSURE = 0.35
"""Expected loss of Dice from which slices at a mask's end are not cord. Of 8654 slices of held-out people, changed
copies included, 96 have more than 0.2 and 25 more than 0.3; the roots below the conus have 0.35 to 0.5."""

UNSURE_MM = 10.0
"""Length over which the median decides, so that one corrupted slice does not end the cord."""

MOSTLY_UNSURE, REST_UNSURE = 0.4, 0.18
"""Share of a run's slices that are this unsure, and median expected loss of its other slices, from which the whole run
is not cord. In the 12 phantoms in which the limit alone left a mask in the sacral canal, 11 have shares of 0.45 and
more and medians of 0.19 to 0.44. Runs of cord whose end is dropped have medians of 0.13 at most."""

MIN_RUN_MM = 8.0
"""Shortest run that counts as cord if it lies beyond a gap too long to bridge or is the rest of an unsure run; a
shorter one is a vessel or a root."""


def find_unsure_slices(
    found: NDArray[np.bool_], uncertainty: NDArray[np.floating], slice_mm: float
) -> NDArray[np.bool_]:
    """Find the slices in which the mask is not cord: uncertain ends, and uncertain or short runs beyond long gaps.

    Parameters
    ----------
    found : (K,) ndarray of bool; slices with mask
    uncertainty : (K,) ndarray, 0 to 1
        Uncertainty of the network in each slice; nan counts as sure in slices with mask (bridged slices).

    Returns
    -------
    (K,) ndarray of bool; True only in slices with mask. Unsure slices between sure ones of a run are kept, unless
    most of the run is unsure.
    """
    doubt = np.where(found, np.nan_to_num(uncertainty, nan=0.0), 1.0)
    size = max(1, round(UNSURE_MM / slice_mm) | 1)
    runs, n_runs = ndi.label(ndi.binary_closing(np.pad(found, 50), np.ones(1 + int(MAX_BRIDGE_MM / slice_mm)))[50:-50])
    runs *= found
    dropped = np.zeros(len(found), dtype=bool)
    for run in range(1, n_runs + 1):
        slices = np.flatnonzero(runs == run)
        sure = slices[_smooth_doubt(doubt[slices], size) < UNSURE]
        is_short = (doubt[sure] < UNSURE).sum() * slice_mm < MIN_RUN_MM
        is_guess = 0 < len(sure) <= (1 - MOSTLY_UNSURE) * len(slices) and np.median(doubt[sure]) >= REST_UNSURE
        if is_guess or (is_short and (n_runs > 1 or len(sure) < len(slices))):
            dropped[slices] = True
        else:
            dropped[slices] = (slices < sure[0]) | (slices > sure[-1])
    return dropped


def _smooth_doubt(doubt: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """Return the median over `size` slices, so that one corrupted end slice has no effect; one slice is unchanged."""
    return ndi.median_filter(doubt, size, mode="mirror") if len(doubt) > 1 else doubt


def _keep_central_piece(
    mask: NDArray[np.bool_], centres: NDArray, slices: NDArray, zooms: NDArray
) -> NDArray[np.bool_]:
    """Keep in each slice the piece with the most pixels near the centerline, unless it is tiny."""
    pieces, n_pieces = ndi.label(mask, IN_PLANE)
    if n_pieces == 0:
        return mask
    centre = np.full((mask.shape[2], 2), 1e6)
    centre[slices] = centres
    i, j, k = np.nonzero(pieces)
    distance2 = ((np.stack([i, j], axis=1) - centre[k]) * zooms[:2]) ** 2
    weight = np.exp(-distance2.sum(axis=1) / (2 * 6.0**2))  # 6 mm: radius of a wide cord
    member = pieces[i, j, k] - 1
    total = np.bincount(member, weight, minlength=n_pieces)
    area = np.bincount(member, minlength=n_pieces) * zooms[0] * zooms[1]
    slice_of = np.zeros(n_pieces, dtype=int)
    slice_of[member] = k
    best = np.zeros(mask.shape[2])
    np.maximum.at(best, slice_of, total)
    kept = (total >= best[slice_of]) & (area >= MIN_AREA_MM2)
    return np.concatenate([[False], kept])[pieces]


def _fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill background that is not connected to the slice's border within the slice."""
    outside, n_pieces = ndi.label(~mask, IN_PLANE)
    border = np.zeros(n_pieces + 1, dtype=bool)
    for edge in (outside[0], outside[-1], outside[:, 0], outside[:, -1]):
        border[np.unique(edge)] = True
    return mask | ~border[outside]


def _drop_weak_ends(mask: NDArray[np.bool_], zooms: NDArray) -> list[str]:
    """Empty an end slice, in place, that is far smaller than the five slices next to it."""
    notes = []
    area = mask.sum(axis=(0, 1)) * zooms[0] * zooms[1]
    found = np.flatnonzero(area)
    for end, neighbours in ((found[:1], found[1:6]), (found[-1:], found[-6:-1])):
        if len(neighbours) >= 3 and area[end[0]] < EDGE_FRACTION * np.median(area[neighbours]):
            mask[:, :, end[0]] = False
            notes.append(f"end slice {end[0]} dropped: {area[end[0]]:.0f} mm², far below its neighbours")
    return notes


def _bridge_gaps(mask: NDArray[np.bool_], soft: NDArray[np.float32], zooms: NDArray) -> list[str]:
    """Fill short gaps, in place, by linear interpolation of the signed distances of the slices around them."""
    notes = []
    found = np.flatnonzero(mask.any(axis=(0, 1)))
    for below, above in itertools.pairwise(found):
        if above - below == 1:
            continue
        name = f"{below + 1}" if above - below == 2 else f"{below + 1}-{above - 1}"
        if (above - below) * zooms[2] > MAX_BRIDGE_MM:
            notes.append(f"no cord found in slices {name}")
            continue
        ends = [_signed_distance(mask[:, :, k], zooms) for k in (below, above)]
        for k in range(below + 1, above):
            part = (k - below) / (above - below)
            mask[:, :, k] = (1 - part) * ends[0] + part * ends[1] > 0
            soft[:, :, k] = mask[:, :, k] * ((1 - part) * soft[:, :, below] + part * soft[:, :, above]).clip(0.5)
        notes.append(f"slices {name} bridged from their neighbours")
    return notes


def _signed_distance(mask: NDArray[np.bool_], zooms: NDArray) -> NDArray[np.float64]:
    """Return the distance to the border, mm, positive inside."""
    spacing = zooms[:2]
    return ndi.distance_transform_edt(mask, spacing) - ndi.distance_transform_edt(~mask, spacing)
