"""Compute rows of area and shape of one mask: by slice, by level, by range of levels, or over the whole mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spineseg.errors import InputError
from spineseg.levels.choice import JunctionWindow, Stretch, choose_stretches, junction_distance, request_all
from spineseg.levels.names import Request, format_runs, range_name
from spineseg.levels.slices import Levels, levels_from_discs, levels_from_values
from spineseg.metrics.cord_line import CordLine
from spineseg.metrics.shape import SliceShape, compute_sections
from spineseg.metrics.solidity import compute_sct_solidity
from spineseg.metrics.table import Row, mean_row, sd_row, slice_row

MIN_COVERAGE = 0.8
"""Share of a level that must be measured: the area varies along the cord, so a smaller share shifts the mean."""

SHORT_SLICES = 5
"""Number of slices up to which the angles of a mask cannot be separated from the noise of its slice centers."""

SMALL_PART, MAIN_PART = 0.05, 0.5
"""Separate slices with less than the first share of the mask count as a speck, not as cord, if another part holds at
least the second share. The second condition is for masks drawn in, say, every fifth slice."""

CENTER_ERROR, LEAST_OFF_DEG = 0.2, 8.0
"""SD of a slice's center, in in-plane voxels, and the smallest error that is reported, in degrees. Set on 14 drawn
masks of 12 people: in 99 % of 1158 windows of 2 to 5 slices cut from them the error is smaller; of 15 in EPI, in 80 %
(up to 17 degrees)."""


def measure_rows(
    cord: NDArray,
    zooms: ArrayLike,
    *,
    per: str = "request",
    requests: Sequence[Request] = (),
    all_asked: bool = True,
    chosen: NDArray[np.bool_] | None = None,
    discs: Mapping[int, NDArray[np.float64]] | None = None,
    level_values: NDArray | None = None,
    borders: Mapping[int, NDArray[np.float64]] | None = None,
    junction: JunctionWindow | None = None,
    centers_mm: NDArray | None = None,
    correction: str = "product",
    source: str = "labels",
) -> list[Row]:
    """Measure area and shape of one mask by slice, level or range.

    Parameters
    ----------
    cord : (I, J, K) ndarray, bool, or partial volumes in [0, 1]
        Canonical orientation.
    zooms : (3,) array_like, mm
    per : {"request", "level", "slice", "level and slice"}
        ``"level"`` splits the requests into their levels, or takes all levels if there is no request;
        ``"slice"`` adds the rows of the slices before the mean, and the SD after it.
    requests : sequence of Request
        Levels and stretches around discs, from `spineseg.levels.names.parse_request`.
    all_asked : bool
        Whether every level of a request must be present. Otherwise those present are measured, and a note names the
        missing ones.
    chosen : (K,) ndarray of bool, optional
        Only these slices are measured.
    discs : mapping of int to (3,) ndarray, mm, optional
        Positions of discs, from `spineseg.levels.slices.find_discs`.
    level_values : (I, J, K) ndarray, optional
        Level of each cord voxel. Levels need this or `discs`.
    borders : mapping of int to (3,) ndarray, mm, optional
        Positions where these levels meet, from `spineseg.levels.slices.find_level_borders`; by default they are
        found in `level_values`.
    junction : JunctionWindow, optional
        Only slices in this window are measured; a column has the distance from the junction.
    centers_mm : (K, 2) ndarray, mm, optional
        Position of the centerline in each slice, for angles and planes; by default that of the mask.
    correction : {"product", "exact", "none"}
        As in `spineseg.metrics.shape.compute_shape`.
    source : str
        File of the labels, for messages.

    Returns
    -------
    list of dict
        Keys as in `spineseg.metrics.table.TABLE_COLUMNS`, except ``file``.

    Raises
    ------
    InputError
        If the request cannot be measured with these labels and this mask; the message is one line.
    """
    zooms = np.asarray(zooms, np.float64)
    per_level, per_slice = per.startswith("level"), per.endswith("slice")
    spacing = float(zooms[2])
    shape, line = compute_sections(cord, zooms, correction=correction, centers_mm=centers_mm)
    has_cord = shape.has_cord
    n_slices = len(has_cord)
    _check_covered(has_cord, shape, centers_mm)
    allowed = np.ones(n_slices, bool) if chosen is None else chosen
    distance = np.full(n_slices, np.nan)
    if junction is not None:
        centers = shape.centroid_vox[:, :2] * zooms[:2] if centers_mm is None else centers_mm
        distance, window = junction_distance(junction, centers, spacing, has_cord)
        allowed = allowed & window
        if not allowed.any():
            raise InputError(
                f"{junction.source}: none of the slices of -z lies in the window "
                "of -pmj-distance and -pmj-extent; choose others"
            )
    has_window = junction is not None and junction.distance_mm is not None
    known = 1.0 if has_window else np.nan  # a window that is not covered was refused above
    levels = _find_levels(cord, zooms, line, discs, level_values, borders, source)
    stretches = [Stretch(window if has_window else np.ones(n_slices, bool), covered=known, whole=1.0)]
    if levels is None and (requests or per_level):
        raise InputError("levels: expected a file of levels or discs, found none; give -vertfile or -discfile")
    if levels is not None and per_level and not requests:
        requests = [request_all(levels, has_cord & allowed)]
    if levels is not None and line is not None and requests:
        arc = line.arc_of_slices(n_slices, spacing)
        stretches = []
        for request in requests:
            stretches += choose_stretches(levels, request, has_cord, arc, per_level=per_level, all_asked=all_asked)
    told = _note_of_mask(has_cord, spacing, zooms, is_own_line=centers_mm is None and correction != "none")
    stretches = [replace(one, note="; ".join(filter(None, (one.note, told)))) for one in stretches]
    stretches = _restrict(stretches, allowed, source, all_asked=all_asked)
    used = np.any([stretch.chosen for stretch in stretches], axis=0)
    solidity = compute_sct_solidity(cord, zooms, used)
    return [
        row
        for stretch in stretches
        for row in _stretch_rows(shape, stretch, spacing, levels, distance, solidity, per_slice)
    ]


def _find_levels(
    cord: NDArray,
    zooms: NDArray[np.float64],
    line: CordLine | None,
    discs: Mapping[int, NDArray[np.float64]] | None,
    level_values: NDArray | None,
    borders: Mapping[int, NDArray[np.float64]] | None,
    source: str,
) -> Levels | None:
    """Return the levels of the slices, from discs or from labelled voxels; None if neither is given."""
    if discs is None and level_values is None:
        return None
    if line is None:
        raise InputError(f"{source}: expected levels of a cord, found an empty mask; check the mask")
    if discs is not None:
        return levels_from_discs(dict(discs), line, cord.shape[2], float(zooms[2]), source)
    assert level_values is not None  # one of the two is given
    return levels_from_values(level_values, cord, zooms, line, source, borders)


def _note_of_mask(
    has_cord: NDArray[np.bool_], spacing_mm: float, zooms: NDArray[np.float64], *, is_own_line: bool
) -> str:
    """Return the note for every row of an empty mask, or of one too short for reliable angles."""
    found = np.flatnonzero(has_cord)
    if not found.size:
        return "the mask is empty"
    n = found.size
    if not is_own_line or n > SHORT_SLICES:
        return ""
    if n == 1:
        return "one slice: its angle is not known, so its area is as if it lay across the cord"
    spread = np.linalg.norm(found - found.mean()) * spacing_mm
    off = np.degrees(np.arctan(2 * CENTER_ERROR * zooms[:2].mean() / spread))
    length = (found[-1] - found[0]) * spacing_mm
    return f"angles come from {n} slices over {length:.3g} mm and may be off by {max(off, LEAST_OFF_DEG):.0f} degrees"


def _check_covered(has_cord: NDArray[np.bool_], shape: SliceShape, centers_mm: NDArray | None) -> None:
    """Refuse a centerline that does not cover all slices of the mask."""
    lacking = np.flatnonzero(has_cord & np.isnan(shape.length_mm))
    if centers_mm is not None and lacking.size:
        raise InputError(
            f"-centerline: expected a point for each slice of the mask, found none for slices "
            f"{format_runs(lacking.tolist())}; extend the centerline or choose another"
        )


def _restrict(
    stretches: Sequence[Stretch], allowed: NDArray[np.bool_], source: str, *, all_asked: bool
) -> list[Stretch]:
    """Keep the allowed slices of each stretch.

    A stretch without an allowed slice is an error; with `all_asked` False it is dropped, and a note on the
    first remaining stretch names it.
    """
    found, gone = [], []
    for stretch in stretches:
        kept = stretch.chosen & allowed
        if stretch.level and not kept.any():
            gone.append(stretch.level)
            continue
        share = kept.sum() / stretch.chosen.sum() if stretch.chosen.any() else 1.0
        found.append(replace(stretch, chosen=kept, covered=stretch.covered * share))
    if gone and (all_asked or not found):
        raise InputError(
            f"{source}: level {gone[0]}: none of its slices is among those chosen by -z or -pmj; choose others"
        )
    if gone:
        told = f"{', '.join(gone)}: none of the slices is among those chosen by -z or -pmj"
        found[0] = replace(found[0], note="; ".join(filter(None, (found[0].note, told))))
    return found


def _stretch_rows(
    shape: SliceShape,
    stretch: Stretch,
    spacing_mm: float,
    levels: Levels | None,
    distance_mm: NDArray[np.float64],
    sct_solidity: NDArray[np.float64],
    per_slice: bool,
) -> list[Row]:
    """Return the rows of one stretch: its mean, or its slices followed by mean and SD."""
    found = np.flatnonzero(stretch.chosen & shape.has_cord)
    used = found[~shape.is_steep[found]]
    nothing = "no cord in the chosen slices" if not found.size and shape.has_cord.any() else ""
    coverage = stretch.coverage
    if used.size < found.size:  # means leave steep slices out
        lengths = shape.length_mm[found]
        coverage *= np.nansum(shape.length_mm[used]) / total if (total := np.nansum(lengths)) > 0 else 0.0
    apart = _note_of_specks(shape, used, spacing_mm)
    short = f"{stretch.level or 'window'}: {coverage:.2f} of its length is measured" if coverage < MIN_COVERAGE else ""
    mean = mean_row(
        shape,
        stretch.chosen,
        slices=format_runs(used.tolist()),
        level=stretch.level,
        vert_level=stretch.vert_level,
        level_coverage=coverage,
        distance_pmj_mm=float(distance_mm[used].mean()) if used.size else np.nan,
        solidity_sct=float(sct_solidity[used].mean()) if used.size else np.nan,
        solidity_sct_sd=float(sct_solidity[used].std()) if used.size else np.nan,
        note="; ".join(filter(None, (stretch.note, nothing, short, apart))),
    )
    if not per_slice:
        return [mean]
    inside = np.flatnonzero(stretch.chosen[: found[-1] + 1]) if found.size else found
    inside = inside[inside >= found[0]] if found.size else inside
    rows = [
        slice_row(
            shape,
            int(k),
            spacing_mm,
            distance_pmj_mm=float(distance_mm[k]),
            solidity_sct=float(sct_solidity[k]),
            **_level_of(levels, int(k)),
        )
        for k in inside
    ]
    return [*rows, mean, sd_row(mean)]


def _note_of_specks(shape: SliceShape, used: NDArray[np.intp], spacing_mm: float) -> str:
    """Return a note that names slices with a speck of the mask, separate from the rest."""
    found = np.flatnonzero(shape.has_cord)
    if not used.size:
        return ""
    parts = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    area = shape.csa_axial_mm2
    shares = [area[part].sum() / area[found].sum() for part in parts]
    small = [part for part, share in zip(parts, shares, strict=True) if share < SMALL_PART]
    specks = np.intersect1d(np.concatenate([*small, used[:0]]), used)
    if not specks.size or max(shares) < MAIN_PART:
        return ""
    volume = area[specks].sum() * spacing_mm
    return (
        f"slices {format_runs(specks.tolist())} hold {volume:.3g} mm³ of the mask apart from the rest, which count; "
        "remove them where they are no cord"
    )


def _level_of(levels: Levels | None, k: int) -> dict[str, str]:
    """Return the level of one slice, as a name and in SCT's numbers."""
    if levels is None or levels.first[k] == 0:
        return {}
    first, last = int(levels.first[k]), int(levels.last[k])
    return {"level": range_name(first, last), "vert_level": format_runs(list(range(first, last + 1)))}
