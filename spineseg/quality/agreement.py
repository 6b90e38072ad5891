"""Agreement of a mask with deepseg's probability map around the mask's centre, and with OptiC's centerline.

The same network scores the masks of every method, including deepseg's. The predictor is trained on real masks of both
methods, which corrects for the advantage of one (see `spineseg.quality.predictor`). Result columns are called
``network_*``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.centerline.curve import Centerline
from spineseg.centerline.estimate import estimate_centerline
from spineseg.volume import Volume

if TYPE_CHECKING:
    from spineseg.deepseg.network import UNet

Floats = NDArray[np.float64]

LINE_SLICES = 16
"""Number of slices of an image in which OptiC searches the cord: one in 14 mm in the largest field of view, over which
a cord bends by less than its width. It takes a quarter of a second."""

SEEN_MM2 = 10.0
"""Area that the network must find in a slice for it to have a cord: half of the smallest plausible area."""

END_MM = 12.0
END_SLICES = 3
"""Length beyond either end of a mask over which the network searches more cord, and largest number of slices: less than
a vertebra, over which the line is continued straight."""

AWAY_MM = 5.0
"""Distance from OptiC's line beyond which a centre lies outside the cord."""


def find_line(volume: Volume, contrast: str) -> Centerline:
    """Find the cord's centerline on at most `LINE_SLICES` slices; points in the volume's voxels, empty if none."""
    n_slices = volume.shape[2]
    chosen = np.unique(np.linspace(0, n_slices - 1, min(n_slices, LINE_SLICES)).round().astype(int))
    line = estimate_centerline(take_slices(volume, chosen), contrast)
    if line.is_empty:
        return line
    points = line.points_vox.copy()
    points[:, 2] = chosen[line.slices]
    return Centerline(points, line.score)


def take_slices(volume: Volume, chosen: NDArray[np.intp]) -> Volume:
    """Return some slices as a separate volume, with a thickness that makes them adjacent."""
    affine = volume.affine.copy()
    affine[:3, 2] *= np.diff(chosen).mean() if len(chosen) > 1 else 1.0
    return Volume(np.ascontiguousarray(volume.data[:, :, chosen]), affine)


def measure_agreement(
    volume: Volume, mask: NDArray[np.bool_], chosen: NDArray[np.intp], centres: Floats, network: UNet
) -> dict[str, float]:
    """Compare some slices of a mask, and slices beyond its ends, with the network's probability of cord.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
    chosen : (n,) ndarray of int; slices within the mask's extent, gaps included
    centres : (n, 2) ndarray, voxels; the mask's centres there
    network : deepseg's, of the stage "segment"

    Returns
    -------
    network_dice : 0 to 1; expected Dice of the mask if the network's probabilities are correct
    network_overlap : 0 to 1; Dice with the network's own mask, its probabilities cut at one half
    network_ceiling : 0 to 1; the expected Dice of the network's own mask: how certain the network is
    network_area : natural logarithm of the mask's volume over that of the network's own
    network_worst : 0 to 1; tenth percentile over slices of the expected Dice
    network_sees : 0 to 1; share of slices in which the network finds a cord
    extent : float, 0 to 1
        Share of the cord's length that the mask covers, according to the network: slices with mask, divided by these
        plus the gaps, plus the slices up to the image's border at an end beyond which the network finds more cord.
    """
    from spineseg.deepseg.inference import compute_probability

    ends, end_centres, is_upper = _beyond_ends(chosen, centres, volume)
    slices = np.concatenate([ends[~is_upper], chosen, ends[is_upper]])
    points = np.concatenate([end_centres[~is_upper], centres, end_centres[is_upper]])
    points = points.clip(0, np.array(volume.shape[:2]) - 1)
    # one mirrored view around the mask's centres, unlike deepseg's own mask, which uses two views around its centerline
    points[:, 0] = volume.shape[0] - 1 - points[:, 0]
    line = Centerline(np.column_stack([points, np.arange(len(slices))]))
    part = take_slices(volume, slices)
    mirrored = Volume(np.ascontiguousarray(part.data[::-1]), part.affine)
    prob = compute_probability(mirrored, line, network, mirror=False)[0][::-1].astype(np.float64)
    pixel = float(np.prod(volume.zooms[:2]))
    area = pixel * prob.sum(axis=(0, 1))
    n_low = int((~is_upper).sum())
    inner = slice(n_low, n_low + len(chosen))
    held = mask[:, :, chosen].any(axis=(0, 1))  # gaps reduce the extent and must not count twice
    found = _expected_dice(prob[:, :, inner][:, :, held], mask[:, :, chosen[held]])
    filled = np.flatnonzero(mask.any(axis=(0, 1)))
    mask_area = pixel * float(mask.sum()) / len(filled)
    below, above = _seen_beyond(area, n_low, len(chosen), mask_area)
    missed = below * filled[0] + above * (volume.shape[2] - 1 - filled[-1])
    return found | {
        "network_sees": float((area[inner][held] >= SEEN_MM2).mean()),
        "extent": float(len(filled) / (filled[-1] - filled[0] + 1 + missed)),
    }


def _seen_beyond(area: Floats, n_low: int, n_inner: int, mask_area: float) -> tuple[float, float]:
    """Return the cord that the network finds beyond either end, as shares of the mask's mean area, at most 1."""
    parts = area[:n_low], area[n_low + n_inner :]
    low, high = (min(1.0, float(part.mean()) / mask_area) if part.size else 0.0 for part in parts)
    return low, high


def _expected_dice(prob: Floats, mask: NDArray[np.bool_]) -> dict[str, float]:
    """Return the expected Dice of the mask and of the network's own mask, their areas and the worst slices."""
    both, seen, own = (prob * mask).sum((0, 1)), prob.sum((0, 1)), mask.sum((0, 1))
    best = prob >= 0.5
    by_slice = 2 * both / np.maximum(seen + own, 1e-9)
    return {
        "network_dice": float(2 * both.sum() / max(seen.sum() + own.sum(), 1e-9)),
        "network_overlap": float(2 * (mask & best).sum() / max(own.sum() + best.sum(), 1)),
        "network_ceiling": float(2 * (prob * best).sum() / max(seen.sum() + best.sum(), 1e-9)),
        "network_area": float(np.log(max(own.sum(), 1.0) / max(best.sum(), 1.0))),
        "network_worst": float(np.quantile(by_slice, 0.1)),
    }


def _beyond_ends(chosen: NDArray, centres: Floats, volume: Volume) -> tuple[NDArray, Floats, NDArray[np.bool_]]:
    """Return slices beyond the ends, the centres of the straight continuation, and which are at the upper end."""
    reach = max(1, int(END_MM / volume.zooms[2]))
    slices, points, upper = [], [], []
    for sign, end in ((-1, 0), (1, -1)):
        last = chosen[end]
        limit = 0 if sign < 0 else volume.shape[2] - 1
        n = min(reach, abs(int(limit - last)))
        steps = np.unique(np.linspace(1, n, min(n, END_SLICES)).round().astype(int)) if n else np.zeros(0, int)
        steps = steps[::-1] if sign < 0 else steps
        near = np.abs(chosen - last) <= max(2 * reach, 1)
        slope = np.zeros(2)
        if near.sum() > 1:
            slope = np.polyfit(chosen[near], centres[near], 1)[0]
        slices.append(last + sign * steps)
        points.append(centres[end] + slope * (sign * steps)[:, None])
        upper.append(np.full(len(steps), sign > 0))
    return np.concatenate(slices).astype(int), np.concatenate(points), np.concatenate(upper)


def measure_place(mask: NDArray[np.bool_], centroids: Floats, zooms: Floats, line: Centerline) -> dict[str, float]:
    """Compare a mask's centres, (K, 2) voxels, with OptiC's line.

    Returns
    -------
    line_distance_mm : mm; median distance between the mask's centres and OptiC's line
    line_away : 0 to 1; share of slices farther than `AWAY_MM` from it, or beyond its ends
    line_coverage : 0 to 1; share of the slices of OptiC's line that hold mask
    """
    filled = np.any(mask, axis=(0, 1))
    if line.is_empty:
        return {"line_distance_mm": np.nan, "line_away": float(filled.any()), "line_coverage": np.nan}
    points, heights = line.points_vox, np.flatnonzero(filled)
    low, high = points[0, 2], points[-1, 2]
    on_line = np.column_stack([np.interp(heights, points[:, 2], points[:, axis]) for axis in (0, 1)])
    distance = np.linalg.norm((centroids[heights] - on_line) * zooms[:2], axis=1)
    step = (high - low) / max(1, len(points) - 1)
    beyond = (heights < low - step) | (heights > high + step)
    return {
        "line_distance_mm": float(np.median(distance[~beyond])) if (~beyond).any() else np.nan,
        "line_away": float(((distance > AWAY_MM) | beyond).mean()) if heights.size else np.nan,
        "line_coverage": float(filled[int(low) : int(high) + 1].mean()),
    }
