"""Check the surface slice by slice: repair rings that do not fit their neighbours, drop those beyond repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from spineseg.propseg.refine import FilledTube
from spineseg.propseg.scene import runs_of
from spineseg.propseg.surface import Tube, compute_areas

if TYPE_CHECKING:
    from spineseg.propseg.scene import Scene

Floats = NDArray[np.float64]

MAX_OFFSET_MM = 3.0
"""Distance of a centre from the line of its neighbours from which the ring is not cord; SCT's wrapper uses this value
in its check."""

NEIGHBOURHOOD_MM = 30.0
"""Length of cord with which a slice is compared."""

AREA_FACTOR = 2.0
"""Factor by which the area of a ring may differ from its neighbourhood: a cord does not double or halve within it."""


def find_incoherent(tube: Tube, slice_mm: float) -> NDArray[np.bool_]:
    """Find rings that lie off the line of their neighbours or differ from their area by a factor of two.

    Returns
    -------
    (R,) ndarray of bool
    """
    bad = np.zeros(len(tube.slices), bool)
    area = compute_areas(tube.vertices())
    runs = runs_of(tube.slices)
    half = max(1, round(NEIGHBOURHOOD_MM / 2 / slice_mm))
    for n in range(runs[-1] + 1 if len(runs) else 0):
        own = np.flatnonzero(runs == n)
        if len(own) < 3:  # no majority to compare with
            continue
        usual = ndi.median_filter(area[own], size=2 * half + 1, mode="nearest")
        line = np.column_stack([_running_line(tube.centers[own, a], half) for a in (0, 1)])
        far = np.linalg.norm(tube.centers[own] - line, axis=1) >= MAX_OFFSET_MM
        bad[own] = far | (area[own] > AREA_FACTOR * usual) | (area[own] < usual / AREA_FACTOR)
    return bad


def _running_line(values: Floats, half: int) -> Floats:
    """Median of the predictions by pairs of neighbours at equal distances on either side: robust, exact on a slope."""
    n = len(values)
    padded = np.concatenate(
        [2 * values[0] - values[1 : half + 1][::-1], values, 2 * values[-1] - values[-half - 1 : -1][::-1]]
    )
    pad = min(half, n - 1)
    index = np.arange(n) + pad
    moves = np.arange(0, pad + 1)
    return np.median([(padded[index - m] + padded[index + m]) / 2 for m in moves], axis=0)


def repair_surface(
    surface: FilledTube, scene: Scene, max_gap_mm: float
) -> tuple[FilledTube, tuple[int, ...], tuple[int, ...]]:
    """Replace incoherent rings from their neighbours; drop those without neighbours on both sides.

    Parameters
    ----------
    max_gap_mm : mm; longest run that is interpolated

    Returns
    -------
    surface : FilledTube
    repaired, dropped : tuples of int; slices
    """
    tube = surface.tube
    bad = find_incoherent(tube, scene.slice_mm)
    if not bad.any():
        return surface, (), ()
    good = np.flatnonzero(~bad)
    if len(good) == 0:
        return surface, (), ()
    position = np.flatnonzero(bad)
    after = np.searchsorted(good, position)
    inner = (after > 0) & (after < len(good))
    left, right = good[np.clip(after - 1, 0, None)], good[np.clip(after, None, len(good) - 1)]
    inner &= (tube.slices[right] - tube.slices[left] - 1) * scene.slice_mm <= max_gap_mm
    inner &= runs_of(tube.slices)[left] == runs_of(tube.slices)[right]
    fix, left, right = position[inner], left[inner], right[inner]
    part = ((tube.slices[fix] - tube.slices[left]) / np.maximum(1, tube.slices[right] - tube.slices[left]))[:, None]
    centers, radii, bridged = tube.centers.copy(), tube.radii.copy(), surface.bridged.copy()
    centers[fix] = (1 - part) * centers[left] + part * centers[right]
    radii[fix] = (1 - part) * radii[left] + part * radii[right]
    bridged[fix] = True
    keep = ~bad
    keep[fix] = True
    whole = FilledTube(Tube(tube.slices, centers, radii).take(keep), bridged[keep])
    return whole, tuple(tube.slices[fix].tolist()), tuple(tube.slices[~keep].tolist())
