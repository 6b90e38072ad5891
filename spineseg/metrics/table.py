"""The table of one mask's shape that the command line prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.metrics.shape import compute_shape
from spineseg.volume import load_mask

VALUE_COLUMNS = (
    *("csa_mm2", "csa_axial_mm2", "diameter_ap_mm", "diameter_rl_mm", "eccentricity", "solidity"),
    *("orientation_deg", "angle_ap_deg", "angle_rl_deg", "length_mm"),
)
TABLE_COLUMNS = ("file", "slice", "position_mm", *VALUE_COLUMNS, "tilted")


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
        If the text is no such list or leaves the image.

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
        if not 0 <= first <= last < n_slices:
            raise InputError(f"-z {text}: expected slices within 0:{n_slices - 1}, found {part}")
        chosen[first : last + 1] = True
    return chosen


def shape_rows(path: str | Path, correction: str = "product", slices: str | None = None) -> list[dict[str, Any]]:
    """Measure the chosen slices of a mask file from its first to its last slice with cord.

    Parameters
    ----------
    path : str or Path
    correction : str
        As in `compute_shape`.
    slices : str, optional
        As in `parse_slices`.

    Returns
    -------
    list of dict
        One per slice, keys `TABLE_COLUMNS`; empty inner slices have NaN.
    """
    volume, _ = load_mask(path)
    shape = compute_shape(volume.data, volume.zooms, correction=correction)
    chosen = parse_slices(slices, volume.shape[2])
    found = np.flatnonzero(np.isfinite(shape.csa_mm2))
    if not found.size:
        return []
    tilted = shape.is_tilted
    return [
        {
            "file": Path(path).name,
            "slice": int(k),
            "position_mm": float(k * volume.zooms[2]),
            **{name: float(getattr(shape, name)[k]) for name in VALUE_COLUMNS},
            "tilted": int(tilted[k]),
        }
        for k in range(found[0], found[-1] + 1)
        if chosen[k]
    ]


def summary_rows(path: str | Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average per-slice rows: mean and population SD over the slices with a value, length summed.

    Returns
    -------
    list of dict
        Two rows, slice ``mean`` and ``sd``; NaN where no slice has a value.
    """
    summary = []
    for name, reduce in (("mean", np.mean), ("sd", np.std)):
        row: dict[str, Any] = {"file": Path(path).name, "slice": name, "position_mm": float("nan")}
        for column in VALUE_COLUMNS:
            values = np.array([r[column] for r in rows if np.isfinite(r["csa_mm2"])], np.float64)
            values = values[np.isfinite(values)]
            row[column] = float(reduce(values)) if values.size else float("nan")
        row["length_mm"] = float(np.nansum([r["length_mm"] for r in rows])) if name == "mean" else float("nan")
        row["tilted"] = sum(r["tilted"] for r in rows) if name == "mean" else ""
        summary.append(row)
    return summary
