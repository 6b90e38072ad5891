"""Vertebral levels by slice, from disc labels or from a labelled cord."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.levels.names import LAST_LEVEL, NOT_DISCS, disc_name, level_name, range_name
from spineseg.metrics.cord_line import CordLine
from spineseg.metrics.shape import MIN_WEIGHT

LABEL_SPREAD_MM = 5.0
"""Voxels of one disc label lie within this distance of their center: a few voxels drawn by hand, no level."""

FARTHEST_MM = 60.0
"""A disc's label lies within this distance of the cord beside it: the largest lumbar disc reaches 50 mm forward."""

CORE_SHARE = 0.25
"""Share of a slice's cord, around its center, that decides its level: a border of levels lies across the cord
and cuts a tilted one over several slices. Half the cord's width, so that a file drawn on a thinner mask serves."""


@dataclass(frozen=True)
class Levels:
    """Vertebral levels of K slices.

    Parameters
    ----------
    first, last : (K,) ndarray of int
        Level of each slice, 0 where none is known. They differ where discs between levels are missing, so
        that the levels cannot be told apart.
    source : str
        The file, for messages.
    disc_arc_mm : dict of int to float
        Position of each disc along the cord's line, mm; empty where the levels do not come from discs.
    whole_slices : dict of int to float
        Length of each level in slices, where the levels come from a labelled cord, inside the mask or not.
    """

    first: NDArray[np.intp]
    last: NDArray[np.intp]
    source: str = "levels"
    disc_arc_mm: dict[int, float] = field(default_factory=dict)
    whole_slices: dict[int, float] = field(default_factory=dict)

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last level of each group that has slices, from superior to inferior."""
        found = {(int(a), int(b)) for a, b in zip(self.first, self.last, strict=True) if a > 0}
        return sorted(found)

    def note(self, first: int, last: int) -> str:
        """Say what is not known of the levels `first` to `last`; empty where all is."""
        if not self.disc_arc_mm:
            return ""
        discs = self.disc_arc_mm
        notes = []
        for a, b in self.groups:
            missing = [d for d in range(a + 1, b + 1) if d not in discs]
            if a <= last and b >= first and missing:
                are = "is" if len(missing) == 1 else "are"
                names = ", ".join(map(str, missing))
                notes.append(f"{range_name(a, b)}: disc{'s' * (len(missing) > 1)} {names} {are} missing")
        if first < min(discs):
            notes.append(f"{level_name(first)}: no disc above, up to the end of the mask")
        if last >= max(discs):
            notes.append(f"{level_name(last)}: no disc below, down to the end of the mask")
        return "; ".join(notes)


def find_discs(values: NDArray, zooms: NDArray, source: str = "discs") -> dict[int, NDArray[np.float64]]:
    """Find the disc labels of a label image.

    Parameters
    ----------
    values : (I, J, K) ndarray
        Canonical orientation; value k marks the disc above vertebra k, 0 is background.
    zooms : (3,) ndarray, mm
    source : str
        The file, for messages.

    Returns
    -------
    dict of int to (3,) ndarray, mm
        Position of each disc by its value, voxel index times voxel size. 49, 50 and 60 are no discs.

    Raises
    ------
    InputError
        If there is none, a value is no disc, or a value marks more than one place.
    """
    index = np.argwhere(values != 0)
    found = _whole_numbers(values[tuple(index.T)], source)
    discs = {}
    for value in np.unique(found).tolist():
        if value in NOT_DISCS:
            continue
        if not 1 <= value <= LAST_LEVEL:
            raise InputError(f"{source}: expected discs from 1 (top of C1) to {LAST_LEVEL}, found the value {value}")
        points = index[found == value] * zooms
        center = points.mean(axis=0)
        spread = np.linalg.norm(points - center, axis=1).max()
        if spread > LABEL_SPREAD_MM:
            raise InputError(
                f"{source}: expected one voxel per disc, found {len(points)} voxels of the value {value} up to "
                f"{spread:.0f} mm from their center; give a file of levels as levels, and mark each disc once"
            )
        discs[value] = center
    if not discs:
        marks = ", ".join(f"{value} ({NOT_DISCS[value]})" for value in np.unique(found).tolist())
        raise InputError(f"{source}: expected disc labels, found {marks or 'no label'}; label at least two discs")
    return discs


def levels_from_discs(
    discs: dict[int, NDArray[np.float64]], line: CordLine, n_slices: int, spacing_mm: float, source: str = "discs"
) -> Levels:
    """Give each slice the level between the discs whose planes across the cord bound it.

    Parameters
    ----------
    discs : dict of int to (3,) ndarray, mm
        As from `find_discs`; they may lie off the cord.
    line : CordLine
    n_slices : int
    spacing_mm : float, mm
    source : str
        The file, for messages.

    Returns
    -------
    Levels
        The slice in which a disc's plane meets the line belongs to the level below it, as in SCT. Above the
        uppermost disc and below the lowest one level each goes on. Where a disc between two others is
        missing, the levels that it separates are one group.

    Raises
    ------
    InputError
        If the order of the discs along the cord is not that of their values, or one lies far from the cord.
    """
    values = sorted(discs)
    places = np.array([discs[value] for value in values])
    feet, arc = line.project(places)
    beside = (feet[:, 2] >= line.points_mm[0, 2]) & (feet[:, 2] <= line.points_mm[-1, 2])
    for value, off in zip(values, np.linalg.norm(places - feet, axis=1) * beside, strict=True):
        if off > FARTHEST_MM:
            raise InputError(
                f"{source}: expected disc {value} ({disc_name(value)}) within {FARTHEST_MM:g} mm of the cord, found it "
                f"{off:.0f} mm away; check that labels and mask belong together"
            )
    for upper, lower, a, b in zip(values, values[1:], arc, arc[1:], strict=False):
        if b >= a:
            raise InputError(
                f"{source}: expected disc {lower} ({disc_name(lower)}) below disc {upper} ({disc_name(upper)}), found "
                f"it {b - a:.1f} mm above along the cord; swap their values or mark them again"
            )
    borders = np.rint(feet[:, 2] / spacing_mm).astype(int)
    slices = np.arange(n_slices)
    first, last = np.full(n_slices, max(values[0] - 1, 0)), np.full(n_slices, max(values[0] - 1, 0))
    for value, following, border in zip(values, [*values[1:], values[-1] + 1], borders, strict=True):
        first[slices <= border], last[slices <= border] = value, following - 1
    return Levels(first, last, source, dict(zip(values, arc.tolist(), strict=True)))


def levels_from_values(
    values: NDArray,
    cord: NDArray,
    zooms: NDArray,
    source: str = "levels",
    whole_slices: Mapping[int, float] | None = None,
) -> Levels:
    """Give each slice the level that most voxels in the middle of its cord have.

    Parameters
    ----------
    values : (I, J, K) ndarray
        Level of each voxel, 0 where none. 49, 50 and 60 count as none.
    cord : (I, J, K) ndarray
        Mask of the cord; values outside do not count.
    zooms : (3,) ndarray, mm
    source : str
        The file, for messages.
    whole_slices : mapping of int to float, optional
        Length of each level in slices of the mask; counted in `values` by default.

    Returns
    -------
    Levels
        A slice whose middle has no level has none.

    Raises
    ------
    InputError
        If no level lies in the mask, a value is no level, or the levels do not follow each other downwards.
    """
    i, j, k = np.nonzero(cord > MIN_WEIGHT)
    found = _whole_numbers(values[i, j, k], source)
    found[np.isin(found, list(NOT_DISCS))] = 0
    if not found.any():
        raise InputError(
            f"{source}: expected the vertebral level of each cord voxel, found no label inside the mask; "
            "check that it belongs to the mask, and give discs as -discfile"
        )
    if found.min() < 0 or found.max() > LAST_LEVEL:
        wrong = found[(found < 0) | (found > LAST_LEVEL)][0]
        raise InputError(f"{source}: expected levels from 1 (C1) to {LAST_LEVEL} (S5), found the value {wrong}")
    level = _vote(found, k, _core(i, j, k, zooms), cord.shape[2])
    present = np.unique(level[level > 0])
    if not present.size:
        raise InputError(
            f"{source}: expected levels that fill the cord, found {np.count_nonzero(found)} voxels off its middle; "
            "give discs as -discfile"
        )
    middle = np.array([np.flatnonzero(level == value).mean() for value in present])
    if (wrong := np.flatnonzero(np.diff(middle) > 0)).size:
        upper, lower = present[wrong[0]], present[wrong[0] + 1]
        raise InputError(
            f"{source}: expected {level_name(lower)} ({lower}) below {level_name(upper)} ({upper}), found it above; "
            "check the values and the orientation of the file"
        )
    whole = count_level_slices(values) if whole_slices is None else dict(whole_slices)
    return Levels(level, level.copy(), source, whole_slices=whole)


def count_level_slices(values: NDArray) -> dict[int, float]:
    """Count the slices that hold each level."""
    levels = [(k, np.unique(values[:, :, k])) for k in range(values.shape[2])]
    found = [int(value) for _, present in levels for value in np.rint(present) if value > 0]
    return {value: float(found.count(value)) for value in sorted(set(found))}


def _core(i: NDArray, j: NDArray, k: NDArray, zooms: NDArray) -> NDArray[np.bool_]:
    """Choose the voxels nearest to the center of their slice, `CORE_SHARE` of each slice."""
    count = np.maximum(np.bincount(k), 1)
    x, y = ((a - (np.bincount(k, a) / count)[k]) * size for a, size in ((i, zooms[0]), (j, zooms[1])))
    order = np.lexsort((np.hypot(x, y), k))
    before = np.concatenate([[0], np.cumsum(np.bincount(k))[:-1]])
    core = np.zeros(len(k), bool)
    core[order] = np.arange(len(k)) - before[k[order]] < np.ceil(CORE_SHARE * count[k[order]])
    return core


def _vote(found: NDArray, k: NDArray, votes: NDArray[np.bool_], n_slices: int) -> NDArray[np.intp]:
    """Return the value of most voting voxels in each slice, (K,); 0 where none votes."""
    size = LAST_LEVEL + 1
    counts = np.bincount(k[votes] * size + found[votes], minlength=n_slices * size)
    return counts.reshape(n_slices, size).argmax(axis=1)


def _whole_numbers(values: NDArray, source: str) -> NDArray[np.intp]:
    """Return labels as whole numbers, or say which is none."""
    whole = np.rint(values)
    if (wrong := values[np.abs(values - whole) > 1e-3]).size:  # 1e-3: rounding of scaled integers
        raise InputError(f"{source}: expected whole numbers as labels, found {wrong[0]:g}; resample to the nearest")
    return whole.astype(np.intp)
