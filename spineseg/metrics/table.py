"""Make rows of a table of area and shape: for one slice, or the mean and SD over several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.measures import SCT_SOLIDITY, SLICE_SD, SLICE_SHAPE
from spineseg.metrics.shape import MAX_ANGLE_DEG, STEEP_ANGLE_DEG, SliceShape

Row = dict[str, Any]

VALUE_COLUMNS = (*SLICE_SHAPE, "length_mm")

PLACE_COLUMNS = ("slice", "slices", "level", "vert_level", "level_coverage", "distance_pmj_mm", "position_mm")
TABLE_COLUMNS = (
    *("file", *PLACE_COLUMNS, *VALUE_COLUMNS, "tilted", "n_slices"),
    *(*SLICE_SD.values(), *SCT_SOLIDITY, "note"),
)
NAN = float("nan")


def parse_slices(text: str | None, n_slices: int) -> NDArray[np.bool_]:
    """Parse a choice of slices such as ``5:23`` or ``2,5,8:10``, both ends included.

    Parameters
    ----------
    text : str or None
        None chooses all.
    n_slices : int
        Slices of the image.

    Returns
    -------
    (n_slices,) ndarray of bool

    Raises
    ------
    InputError
        If the text is not such a list, or a slice lies outside the image.

    Examples
    --------
    >>> parse_slices("1:2,4", 6).astype(int).tolist()
    [0, 1, 1, 0, 1, 0]
    """
    if text is None:
        return np.ones(n_slices, bool)
    chosen = np.zeros(n_slices, bool)
    for part in text.replace(";", ",").split(","):
        try:
            first, last = (int(end) for end in (part.split(":") if ":" in part else (part, part)))
        except ValueError as error:
            raise InputError(f"-z {text}: expected slices such as 5:23 or 2,5,8:10, found {part!r}") from error
        if first > last:
            raise InputError(f"-z {text}: expected slices with the lower one first, found {part}; write {last}:{first}")
        if not 0 <= first <= last < n_slices:
            raise InputError(f"-z {text}: expected slices within 0:{n_slices - 1}, found {part}")
        chosen[first : last + 1] = True
    return chosen


def slice_row(shape: SliceShape, k: int, spacing_mm: float, **place: Any) -> Row:
    """Return the row of slice `k`; `place` fills further columns."""
    note = f"tilted by {shape.tilt_deg[k]:.0f} degrees" if shape.is_tilted[k] else ""
    return {
        "slice": k,
        "slices": str(k),
        "position_mm": k * spacing_mm,
        **{name: float(getattr(shape, name)[k]) for name in VALUE_COLUMNS},
        "tilted": int(shape.is_tilted[k]),
        "n_slices": int(shape.has_cord[k]),
        "note": f"{note}: no area across the cord" if shape.is_steep[k] else note,
        **place,
    }


def mean_row(shape: SliceShape, chosen: NDArray[np.bool_], **place: Any) -> Row:
    """Return the row that averages slices.

    Parameters
    ----------
    shape : SliceShape
    chosen : (K,) ndarray of bool
        Slices without cord, and those tilted beyond `spineseg.metrics.shape.STEEP_ANGLE_DEG`, are left out. The note
        gives the number of these, and of averaged slices beyond `spineseg.metrics.shape.MAX_ANGLE_DEG`.
    **place
        Fills further columns.

    Returns
    -------
    dict
        Slice ``mean``. Means in the measures' columns and population SD in `SLICE_SD`, each over the slices
        that have the value, NaN where none has; `length_mm` is the sum, `tilted` the number of tilted slices.
    """
    found = chosen & shape.has_cord
    used = found & ~shape.is_steep
    row: Row = {"slice": "mean", "position_mm": NAN}
    for name in VALUE_COLUMNS:
        values = getattr(shape, name)[used]
        values = values[np.isfinite(values)]
        row[name] = float(values.mean()) if values.size else NAN
        if name in SLICE_SD:
            row[SLICE_SD[name]] = float(values.std()) if values.size else NAN
    row["length_mm"] = float(shape.length_mm[used].sum())
    row["tilted"], row["n_slices"] = int(shape.is_tilted[found].sum()), int(used.sum())
    told = []
    if steep := int((found & shape.is_steep).sum()):
        told.append(f"{steep} of {found.sum()} slices are tilted beyond {STEEP_ANGLE_DEG:g} degrees and left out")
    if tilted := int((used & shape.is_tilted).sum()):
        told.append(f"{tilted} of {used.sum()} slices in the mean are tilted beyond {MAX_ANGLE_DEG:g} degrees")
    return row | place | {"note": "; ".join(filter(None, (place.get("note"), *told)))}


def sd_row(mean: Row) -> Row:
    """Return the SD of a row of means as a separate row, slice ``sd``, as tables by slice do at their end."""
    return {"slice": "sd", "position_mm": NAN, **{name: mean[sd] for name, sd in SLICE_SD.items()}, "length_mm": NAN}
