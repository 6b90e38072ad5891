"""Choose the slices that a row of the table averages: by levels, around discs, or by distance from the junction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.levels.names import (
    HALF_STRETCH_MM,
    JUNCTION_EXTENT_MM,
    Request,
    disc_name,
    find_runs,
    format_runs,
    range_name,
)
from spineseg.levels.slices import Levels
from spineseg.metrics.cord_line import fit_cord_line


@dataclass(frozen=True)
class Stretch:
    """Slices that one row averages, and their name.

    Parameters
    ----------
    chosen : (K,) ndarray of bool
    level : str
        Name, such as ``C2-C3`` or ``C2/C3``; empty if no level was requested.
    vert_level : str
        Levels in SCT's numbers, such as ``2:3``; empty for stretches around discs.
    note : str
        Warning for the reader of the table.
    covered, whole : float
        Length of the stretch that lies in the mask, and its whole length, in the same unit; NaN if not known.
    """

    chosen: NDArray[np.bool_]
    level: str = ""
    vert_level: str = ""
    note: str = ""
    covered: float = np.nan
    whole: float = np.nan

    @property
    def coverage(self) -> float:
        """Share of the stretch that lies in mask and field of view, 0 to 1; NaN if its length is not known."""
        return min(self.covered / self.whole, 1.0)


@dataclass(frozen=True)
class JunctionWindow:
    """Cord at a distance from the pontomedullary junction (PMJ), measured along the cord.

    Parameters
    ----------
    point_mm : (3,) ndarray, mm
        The junction, voxel index times voxel size.
    distance_mm : float or None, mm
        Distance of the middle of the window below the junction; None: all slices count.
    extent_mm : float, mm
        Length of the window.
    source : str
        The file, for messages.
    """

    point_mm: NDArray[np.float64]
    distance_mm: float | None
    extent_mm: float = JUNCTION_EXTENT_MM
    source: str = "pmj"


def choose_stretches(
    levels: Levels,
    request: Request,
    has_cord: NDArray[np.bool_],
    arc_mm: NDArray[np.float64],
    *,
    per_level: bool,
    all_asked: bool = True,
) -> list[Stretch]:
    """Find the slices that belong to a request.

    Parameters
    ----------
    levels : Levels
    request : Request
    has_cord : (K,) ndarray of bool
        Slices that can be measured.
    arc_mm : (K,) ndarray, mm
        Position of each slice along the cord's line.
    per_level : bool
        One stretch for each level and disc; otherwise one for all together.
    all_asked : bool
        Whether every requested level must be present. Otherwise one is enough, and a note names the missing ones.

    Returns
    -------
    list of Stretch
        From inferior to superior, like SCT's rows. Levels that only a missing disc would separate are returned
        together, even if just one was requested; level and note say so.

    Raises
    ------
    InputError
        If a level or disc is not in the file, the file has only one disc, or a level has no slice with cord.
    """
    groups = _requested_groups(levels, request, has_cord, all_asked=all_asked)
    parts = [_level_stretch(levels, group, has_cord, arc_mm) for group in groups]
    around = [(disc, -HALF_STRETCH_MM, HALF_STRETCH_MM) for disc in request.discs]
    parts += [
        _disc_stretch(levels, disc, (low, high), has_cord, arc_mm) for disc, low, high in (*around, *request.points)
    ]
    left_out = _left_out(levels, _lacking(request, groups))
    if per_level:
        lowest = len(groups) - 1
        if left_out:
            parts[lowest] = replace(parts[lowest], note="; ".join(filter(None, (parts[lowest].note, left_out))))
        return sorted(parts, key=lambda part: np.flatnonzero(part.chosen)[0])
    values = sorted({level for first, last in groups for level in range(first, last + 1)})
    names = [range_name(first, last) for first, last in find_runs(values)]
    names += [part.level for part in parts[len(groups) :]]
    notes = [levels.note(first, last) for first, last in find_runs(values)]
    notes += [*(part.note for part in parts[len(groups) :]), left_out]
    chosen = np.any([part.chosen for part in parts], axis=0)
    pairs = [_covered_and_whole(levels, first, last, has_cord, arc_mm) for first, last in find_runs(values)]
    pairs += [(part.covered, part.whole) for part in parts[len(groups) :]]
    lengths = [sum(covered for covered, _ in pairs), sum(whole for _, whole in pairs)]
    return [Stretch(chosen, ";".join(names), format_runs(values), "; ".join(filter(None, notes)), *lengths)]


def request_all(levels: Levels, has_cord: NDArray[np.bool_]) -> Request:
    """Return the request for every level that has slices with cord."""
    groups = [(a, b) for a, b in levels.groups if ((levels.first == a) & has_cord).any()]
    return Request(",".join(range_name(a, b) for a, b in groups), tuple(groups))


def _requested_groups(
    levels: Levels, request: Request, has_cord: NDArray[np.bool_], *, all_asked: bool
) -> list[tuple[int, int]]:
    """Return the groups of levels with cord that overlap the ranges of a request, superior first."""
    if request.ranges and len(levels.disc_arc_mm) == 1:
        only = next(iter(levels.disc_arc_mm))
        raise InputError(
            f"{levels.source}: expected at least two discs to bound a level, found only disc {only} "
            f"({disc_name(only)}); label more discs, or ask for {disc_name(only)}"
        )
    shown = request_all(levels, has_cord).ranges
    wanted = [(a, b) for a, b in shown if any(first <= b and last >= a for first, last in request.ranges)]
    lacking = _lacking(request, wanted)
    if lacking and (all_asked or not wanted):
        raise _is_lacking(levels, lacking)
    return wanted


def _lacking(request: Request, groups: Sequence[tuple[int, int]]) -> list[int]:
    """Return the requested levels that are in none of the groups."""
    asked = {level for first, last in request.ranges for level in range(first, last + 1)}
    return sorted(asked - {level for a, b in groups for level in range(a, b + 1)})


def _unreached(levels: Levels, lacking: list[int]) -> list[int]:
    """Return those of the levels that are labelled, but where there is no cord."""
    labelled = {level for a, b in levels.groups for level in range(a, b + 1)}
    labelled |= {level for value in levels.border_arc_mm for level in (value - 1, value)}
    return [level for level in lacking if level in labelled]


def _names(levels: list[int]) -> str:
    """Name levels by their runs."""
    return ", ".join(range_name(a, b) for a, b in find_runs(levels))


def _is_lacking(levels: Levels, lacking: list[int]) -> InputError:
    """Return the error that explains why requested levels cannot be measured."""
    if beyond := _unreached(levels, lacking):
        return InputError(
            f"{levels.source}: level {_names(beyond)}: labelled, but found no cord there, for the field of view "
            "or the mask ends before it; ask for other levels, or check the mask"
        )
    known = ", ".join(range_name(a, b) for a, b in _joined(levels.groups)) or "no level"
    return InputError(
        f"{levels.source}: expected level {_names(lacking)} ({format_runs(lacking)}), found {known}; "
        "ask for these, or label more where the image shows them"
    )


def _left_out(levels: Levels, lacking: list[int]) -> str:
    """Return a note that names the requested levels that are not in the rows."""
    beyond = _unreached(levels, lacking)
    unknown = [level for level in lacking if level not in beyond]
    told = [f"{_names(unknown)}: asked for, but not labelled"] if unknown else []
    return "; ".join([*told, *([f"{_names(beyond)}: asked for, but found no cord there"] if beyond else [])])


def _joined(groups: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the runs of levels that the groups cover."""
    return find_runs(sorted({level for first, last in groups for level in range(first, last + 1)}))


def _level_stretch(
    levels: Levels, group: tuple[int, int], has_cord: NDArray[np.bool_], arc_mm: NDArray[np.float64]
) -> Stretch:
    """Return the slices with cord of one group of levels."""
    first, last = group
    chosen = (levels.first == first) & (levels.last == last) & has_cord
    name = range_name(first, last)
    numbers = format_runs(list(range(first, last + 1)))
    lengths = _covered_and_whole(levels, first, last, has_cord, arc_mm)
    return Stretch(chosen, name, numbers, levels.note(first, last), *lengths)


def _covered_and_whole(
    levels: Levels, first: int, last: int, has_cord: NDArray[np.bool_], arc_mm: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the length of the levels within labelled slices with cord, and their whole length, mm; NaN if unknown."""
    high, low = levels.border_arc_mm.get(first, np.nan), levels.border_arc_mm.get(last + 1, np.nan)
    return _covered_mm(arc_mm, has_cord & (levels.first > 0), low, high), high - low


def _covered_mm(arc_mm: NDArray[np.float64], has_cord: NDArray[np.bool_], low: float, high: float) -> float:
    """Return the length of the line between two positions that lies in slices with cord, mm."""
    if len(arc_mm) < 2:
        return np.nan
    middle = (arc_mm[1:] + arc_mm[:-1]) / 2
    edges = np.concatenate([[2 * arc_mm[0] - middle[0]], middle, [2 * arc_mm[-1] - middle[-1]]])
    inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return float(np.maximum(inside, 0.0)[has_cord].sum())


def _disc_stretch(
    levels: Levels,
    disc: int,
    below_mm: tuple[float, float],
    has_cord: NDArray[np.bool_],
    arc_mm: NDArray[np.float64],
) -> Stretch:
    """Return the slices with cord between two distances below one disc, `below_mm`; negative distances are above it."""
    low, high = below_mm
    is_around = (low, high) == (-HALF_STRETCH_MM, HALF_STRETCH_MM)
    name = disc_name(disc) if is_around else f"{disc_name(disc)} {low:g}:{high:g}"
    places = levels.border_arc_mm  # the discs, or the borders between the levels of a labelled cord
    if disc not in places:
        known = ", ".join(map(disc_name, sorted(places))) or "no such border"
        what = f"disc {disc} ({disc_name(disc)})" if levels.disc_arc_mm else f"levels that meet at {disc_name(disc)}"
        mend = "label it" if levels.disc_arc_mm else "label both levels, or the discs"
        raise InputError(f"{levels.source}: expected {what}, found {known}; {mend}")
    below = places[disc] - arc_mm
    near = (below >= low - 1e-6) & (below <= high + 1e-6)  # 1e-6 allows for rounding
    chosen = near & has_cord
    if not chosen.any():
        where = "within 10 mm of the disc" if is_around else f"{low:g} to {high:g} mm below the disc"
        raise InputError(
            f"{levels.source}: {name}: expected cord {where}, found none: the field of view or the mask ends before"
        )
    half = np.gradient(arc_mm)[has_cord].mean() / 2 if len(arc_mm) > 1 else HALF_STRETCH_MM
    short = below[has_cord].min() - half > low or below[has_cord].max() + half < high or (near & ~has_cord).any()
    reach = "10 mm to each side" if is_around else "all of it"
    note = f"{name}: the mask does not reach {reach}" if short else ""
    bottom, top = places[disc] - high, places[disc] - low
    return Stretch(chosen, name, "", note, _covered_mm(arc_mm, has_cord, bottom, top), high - low)


def junction_distance(
    window: JunctionWindow, centers_mm: NDArray[np.float64], spacing_mm: float, has_cord: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Measure the distance of each slice below the junction, and choose the slices in the window.

    Parameters
    ----------
    window : JunctionWindow
    centers_mm : (K, 2) ndarray, mm
        Center of the cord in each slice, NaN where there is none.
    spacing_mm : float, mm
    has_cord : (K,) ndarray of bool

    Returns
    -------
    distance_mm : (K,) ndarray, mm
        Distance below the junction, along a smooth line through cord and junction.
    chosen : (K,) ndarray of bool

    Raises
    ------
    InputError
        If the mask does not cover the window without a gap.
    """
    centers = centers_mm.copy()
    k = round(window.point_mm[2] / spacing_mm)
    if np.isnan(centers[k]).any():
        centers[k] = window.point_mm[:2]
    line = fit_cord_line(centers, spacing_mm)
    assert line is not None  # the junction itself is a point
    distance = line.project(window.point_mm[None])[1][0] - line.arc_of_slices(len(centers), spacing_mm)
    if window.distance_mm is None:
        return distance, np.ones(len(distance), bool)
    low, high = window.distance_mm - window.extent_mm / 2, window.distance_mm + window.extent_mm / 2
    chosen = (distance >= low) & (distance <= high)
    covered = distance[has_cord]
    found_in = np.flatnonzero(has_cord)
    gap = " with a gap" if (chosen & ~has_cord)[slice(*found_in[[0, -1]]) if found_in.size else slice(0)].any() else ""
    half = np.abs(np.diff(distance)).mean() / 2 if len(distance) > 1 else 0.0
    if gap or not covered.size or covered.min() - half > low or covered.max() + half < high:
        found = f"{max(covered.min(), 0):.0f} to {covered.max():.0f} mm{gap}" if covered.size else "no cord"
        raise InputError(
            f"{window.source}: expected cord {low:g} to {high:g} mm below the junction, found {found}; "
            "choose another -pmj-distance or -pmj-extent"
        )
    if not chosen.any():
        raise InputError(f"{window.source}: no slice lies {low:g} to {high:g} mm below the junction; widen -pmj-extent")
    return distance, chosen
