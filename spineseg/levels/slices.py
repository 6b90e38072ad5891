"""Assign vertebral levels to slices, from disc labels or from a labelled cord."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.levels.names import LAST_LEVEL, NOT_DISCS, PMJ_VALUE, disc_name, level_name, range_name
from spineseg.metrics.cord_line import CordLine
from spineseg.metrics.shape import MIN_WEIGHT
from spineseg.volume import NativeGrid, native_index

LABEL_SPREAD_MM = 5.0
"""Largest distance of a disc label's voxels from their center. It allows a few voxels drawn by hand; a label that
extends farther is a level, not a disc."""

BORDER_GAP_MM = 5.0
"""Longest gap without labels between two levels that still counts as their border: the shortest level has 8 mm."""

FARTHEST_MM = 60.0
"""Largest distance of a disc's label from the cord: the largest lumbar disc reaches 50 mm forward."""

CORE_SHARE = 0.25
"""Share of a slice's cord, around its center, that decides the slice's level: a border of levels runs through several
slices of a tilted cord. A quarter of the area is half the cord's width, so labels of a thinner mask still work."""


MAX_OTHERS = 0.25
"""Largest share of the deciding voxels whose level differs from that of their slice. A cord tilted by 45 degrees has
0.1 (borders run through some slices); a file whose levels run sideways or from front to back has more."""


@dataclass(frozen=True)
class Levels:
    """Vertebral levels of K slices.

    Parameters
    ----------
    first, last : (K,) ndarray of int
        Level of each slice, 0 if not known. First and last differ if discs between levels are missing, so
        that the levels cannot be separated.
    source : str
        The file, for messages.
    disc_arc_mm : dict of int to float
        Position of each disc along the cord's line, mm; empty if the levels do not come from discs.
    border_arc_mm : dict of int to float
        Position of each known border along the line, mm, by the level below it. Borders are the discs, or places
        where two levels of a labelled cord meet. The ends of the labels of a labelled cord are not borders.
    """

    first: NDArray[np.intp]
    last: NDArray[np.intp]
    source: str = "levels"
    disc_arc_mm: dict[int, float] = field(default_factory=dict)
    border_arc_mm: dict[int, float] = field(default_factory=dict)

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last level of each group with slices, from superior to inferior."""
        found = {(int(a), int(b)) for a, b in zip(self.first, self.last, strict=True) if a > 0}
        return sorted(found)

    def note(self, first: int, last: int) -> str:
        """Return a note on unknown borders of the levels `first` to `last`; empty if all are known."""
        if not self.disc_arc_mm:
            return "; ".join(self._open_ends(first, last))
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

    def _open_ends(self, first: int, last: int) -> list[str]:
        """Return notes that name the unknown outer borders of levels of a labelled cord."""
        ends = []
        if first not in self.border_arc_mm:
            beyond = f"{level_name(first - 1)} is not labelled" if first > 1 else "the mask does not continue"
            ends.append(f"{level_name(first)}: {beyond} above it, so its upper border is not known")
        if last + 1 not in self.border_arc_mm:
            below = level_name(last + 1) if last < LAST_LEVEL else "the end of the cord"
            ends.append(f"{level_name(last)}: {below} is not labelled below it, so its lower border is not known")
        return ends


def find_discs(
    values: NDArray, zooms: NDArray, source: str = "discs", grid: NativeGrid | None = None
) -> dict[int, NDArray[np.float64]]:
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
        Position of each disc by its value, voxel index times voxel size. The values 49, 50 and 60 are not discs and
        are left out.

    Raises
    ------
    InputError
        If there is no disc, a value is not a disc's, or a value marks several places (touching voxels are one place).
    """
    index = np.argwhere(values != 0)
    found = _whole_numbers(values[tuple(index.T)], source)
    discs = {}
    for value in np.unique(found).tolist():
        if value in NOT_DISCS:
            continue
        if not 1 <= value <= LAST_LEVEL:
            raise InputError(
                f"{source}: expected discs from 1 (top of C1) to {LAST_LEVEL}, found the value {value}; correct it"
            )
        discs[value] = find_place(index[found == value], zooms, f"disc {value} ({disc_name(value)})", source, grid)
    if not discs:
        marks = ", ".join(f"{value} ({NOT_DISCS[value]})" for value in np.unique(found).tolist())
        raise InputError(f"{source}: expected disc labels, found {marks or 'no label'}; label at least two discs")
    return discs


def find_place(
    index: NDArray[np.intp], zooms: NDArray, name: str, source: str, grid: NativeGrid | None = None
) -> NDArray[np.float64]:
    """Return the position that voxels mark, (3,), mm: their mean.

    Parameters
    ----------
    index : (n, 3) ndarray of int
        Canonical indices of the voxels of one value.
    zooms : (3,) ndarray, mm
    name : str
        What they mark, for messages.
    source : str
        The file, for messages.
    grid : NativeGrid, optional
        Grid of that file, so that messages give voxel indices as in the file.

    Raises
    ------
    InputError
        If the voxels do not all touch, or extend too far for a mark.
    """
    from scipy.ndimage import label

    low = index.min(axis=0)
    box = np.zeros(index.max(axis=0) - low + 1, bool)
    box[tuple((index - low).T)] = True
    part_of, n_parts = label(box, np.ones((3, 3, 3)))
    parts = [index[part_of[tuple((index - low).T)] == part] for part in range(1, n_parts + 1)]
    spread = np.linalg.norm((index - index.mean(axis=0)) * zooms, axis=1).max()
    if n_parts > 1:
        middles = [part[np.linalg.norm((part - part.mean(axis=0)) * zooms, axis=1).argmin()] for part in parts]
        apart = np.linalg.norm((middles[0] - middles[-1]) * zooms)
        shown = [str(tuple((middle if grid is None else native_index(middle, grid)).tolist())) for middle in middles]
        more = f" and {n_parts - 3} more" if n_parts > 3 else ""
        raise InputError(
            f"{source}: expected one mark for {name}, found {n_parts}, at the voxels {', '.join(shown[:3])}{more}, "
            f"{apart:.1f} mm apart; keep one, or, if it is a file of levels, not of discs, give it as that"
        )
    if spread > LABEL_SPREAD_MM:
        raise InputError(
            f"{source}: expected one voxel for {name}, found {len(index)} up to {spread:.0f} mm from their center; "
            "mark each disc once, or, if it is a file of levels, not of discs, give it as that"
        )
    return index.mean(axis=0) * zooms


def find_junction(values: NDArray, zooms: NDArray, source: str, grid: NativeGrid | None = None) -> NDArray[np.float64]:
    """Find the position of the pontomedullary junction among labels, (3,), mm: the value 50, or the only mark.

    Raises
    ------
    InputError
        If there is no mark, there are several, or the value of the only mark means something else.
    """
    name = f"{NOT_DISCS[PMJ_VALUE]} (value {PMJ_VALUE})"
    is_it = values == PMJ_VALUE
    if not is_it.any():
        found = np.unique(values[values != 0])
        means_other = bool(found.size) and (1 < found[0] <= LAST_LEVEL or found[0] in NOT_DISCS)
        if found.size != 1 or means_other:
            shown = ", ".join(f"{value:g}" for value in found[:5]) or "no label"
            raise InputError(f"{source}: expected one mark for the {name}, found the values {shown}; mark it")
        is_it = values != 0
    return find_place(np.argwhere(is_it), zooms, f"the {name}", source, grid)


def levels_from_discs(
    discs: dict[int, NDArray[np.float64]], line: CordLine, n_slices: int, spacing_mm: float, source: str = "discs"
) -> Levels:
    """Assign to each slice the level between two discs, whose borders are planes across the cord.

    Parameters
    ----------
    discs : dict of int to (3,) ndarray, mm
        Positions from `find_discs`; they may lie beside the cord.
    line : CordLine
    n_slices : int
    spacing_mm : float, mm
    source : str
        The file, for messages.

    Returns
    -------
    Levels
        The slice in which a disc's plane meets the line belongs to the level below the disc, as in SCT. All slices
        above the uppermost disc belong to the level above it, all below the lowest disc to the level below it. If a
        disc between two others is missing, the levels that it separates form one group.

    Raises
    ------
    InputError
        If the discs are not in the order of their values along the cord, or one lies far from the cord.
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
    discs_mm = dict(zip(values, arc.tolist(), strict=True))
    return Levels(first, last, source, discs_mm, discs_mm)


def levels_from_values(
    values: NDArray,
    cord: NDArray,
    zooms: NDArray,
    line: CordLine,
    source: str = "levels",
    borders: Mapping[int, NDArray[np.float64]] | None = None,
) -> Levels:
    """Assign to each slice the level of most voxels in the middle of its cord.

    Parameters
    ----------
    values : (I, J, K) ndarray
        Level of each voxel, 0 for none. 49, 50 and 60 count as none.
    cord : (I, J, K) ndarray
        Mask of the cord; values outside it are ignored.
    zooms : (3,) ndarray, mm
    line : CordLine
        The cord's line, computed from the mask.
    source : str
        The file, for messages.
    borders : mapping of int to (3,) ndarray, mm, optional
        Positions where levels meet, from `find_level_borders`; by default they are found in `values`.

    Returns
    -------
    Levels
        A slice without labels in the middle of its cord has no level.

    Raises
    ------
    InputError
        If no level lies in the mask, a value is not a level's, or the levels are not in order from top to bottom.
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
        raise InputError(
            f"{source}: expected levels from 1 (C1) to {LAST_LEVEL} (S5), found the value {wrong}; correct it"
        )
    if not np.any(values > 1):
        raise InputError(
            f"{source}: expected the vertebral level of each cord voxel, found 1 (C1) alone; is it a mask of the cord?"
        )
    core = _core(i, j, k, zooms)
    level = _vote(found, k, core, cord.shape[2])
    counted = core & (found > 0) & (level[k] > 0)
    if counted.any() and np.mean(found[counted] != level[k][counted]) > MAX_OTHERS:
        raise InputError(
            f"{source}: expected one level across each slice, found several in most; check the values and the "
            "orientation of the file"
        )
    present = np.unique(level[level > 0])
    if not present.size:
        raise InputError(
            f"{source}: expected levels that fill the cord, found {np.count_nonzero(found)} voxels off its middle; "
            "give discs as -discfile"
        )
    _check_order(level, source)
    places = find_level_borders(values, zooms) if borders is None else dict(borders)
    if 1 in places and k.max() <= np.flatnonzero(level)[-1]:
        del places[1]  # labels and mask end together
    _, arc = line.project(np.reshape([*places.values()], (-1, 3)))
    return Levels(level, level.copy(), source, border_arc_mm=dict(zip(places, arc.tolist(), strict=True)))


def _check_order(level: NDArray[np.intp], source: str) -> None:
    """Refuse levels that are not in order from top to bottom."""
    labelled = np.flatnonzero(level)
    wrong = np.flatnonzero(np.diff(level[labelled]) > 0)
    if wrong.size:
        below, above = labelled[wrong[0]], labelled[wrong[0] + 1]
        raise InputError(
            f"{source}: expected levels that follow each other downwards, found {level_name(level[above])} "
            f"({level[above]}, slice {above}) above {level_name(level[below])} ({level[below]}, slice {below}); check "
            "the values and the orientation of the file"
        )


def find_level_borders(values: NDArray, zooms: NDArray) -> dict[int, NDArray[np.float64]]:
    """Find the borders between the levels of a labelled cord.

    Parameters
    ----------
    values : (I, J, K) ndarray
        Level of each voxel, 0 for none.
    zooms : (3,) ndarray, mm

    Returns
    -------
    dict of int to (3,) ndarray, mm
        Middle of the border above each level, voxel index times voxel size, if the level above follows
        within `BORDER_GAP_MM`. The top of C1 is a border if its labels end inside the field of view. The end of
        the labels of any other level is not a border, because mask or field of view may have cut the level.
    """
    index = np.argwhere((values > 0) & (values <= LAST_LEVEL))
    found, k = np.rint(values[tuple(index.T)]).astype(np.intp), index[:, 2]
    level = _vote(found, k, np.ones(len(k), bool), values.shape[2])
    index = index[found == level[k]]
    count = np.maximum(np.bincount(index[:, 2], minlength=len(level)), 1)
    middle = np.column_stack([np.bincount(index[:, 2], axis, len(level)) / count for axis in index.T]) * zooms
    labelled = np.flatnonzero(level)
    borders: dict[int, list[NDArray[np.float64]]] = {}
    for low, high in pairwise(labelled):
        if level[low] == level[high] + 1 and (high - low - 1) * zooms[2] <= BORDER_GAP_MM:
            borders.setdefault(int(level[low]), []).append((middle[low] + middle[high]) / 2)
    if labelled.size and level[labelled[-1]] == 1 and labelled[-1] < len(level) - 1:
        borders[1] = [middle[labelled[-1]] + np.array([0.0, 0.0, zooms[2] / 2])]
    return {value: places[0] for value, places in borders.items() if len(places) == 1}


def _core(i: NDArray, j: NDArray, k: NDArray, zooms: NDArray) -> NDArray[np.bool_]:
    """Select the share `CORE_SHARE` of each slice's voxels that is nearest to the center of the slice's cord."""
    count = np.maximum(np.bincount(k), 1)
    x, y = ((a - (np.bincount(k, a) / count)[k]) * size for a, size in ((i, zooms[0]), (j, zooms[1])))
    order = np.lexsort((np.hypot(x, y), k))
    before = np.concatenate([[0], np.cumsum(np.bincount(k))[:-1]])
    core = np.zeros(len(k), bool)
    core[order] = np.arange(len(k)) - before[k[order]] < np.ceil(CORE_SHARE * count[k[order]])
    return core


def _vote(found: NDArray, k: NDArray, votes: NDArray[np.bool_], n_slices: int) -> NDArray[np.intp]:
    """Return the most frequent value among the voting voxels of each slice, (K,); 0 if none votes."""
    size = LAST_LEVEL + 1
    counts = np.bincount(k[votes] * size + found[votes], minlength=n_slices * size)
    return counts.reshape(n_slices, size).argmax(axis=1)


def _whole_numbers(values: NDArray, source: str) -> NDArray[np.intp]:
    """Return labels as whole numbers; raise InputError for a value that is not whole."""
    whole = np.rint(values)
    if (wrong := values[np.abs(values - whole) > 1e-3]).size:  # 1e-3 allows for the rounding of scaled integers
        raise InputError(f"{source}: expected whole numbers as labels, found {wrong[0]:g}; resample to the nearest")
    return whole.astype(np.intp)
