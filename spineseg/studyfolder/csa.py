"""``csa.tsv``: area and shape of the kept masks by vertebral level."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spineseg.measures import LEVEL_SHAPE, SCT_SOLIDITY, SLICE_SD
from spineseg.studyfolder.files import parse_bool, parse_numbers, read_rows, write_table
from spineseg.studyfolder.tables import IDENTITY, Identity
from spineseg.version import find_version
from spineseg.writing import write_text


@dataclass(frozen=True)
class CsaRow:
    """Area and shape of one kept mask at one level or range, or over the whole mask.

    Parameters
    ----------
    image : Identity
    method : str
        The method that made the mask; empty where no mask is kept.
    level : str
        Such as ``C2-C3`` or ``C2/C3``; empty for the whole mask.
    vert_level, slices : str
        Levels by SCT's numbers, and slices, counted from below.
    n_slices, tilted : int
        Number of slices with cord, and of those among them whose angle to the cord is beyond 30 degrees.
    values : dict
        Name of a measure (`spineseg.measures.LEVEL_SHAPE`) to its value; an unknown value is missing or NaN.
    flags : tuple of str
        Keys of `FLAGS`.
    mark : str
        What raters said about the mask.
    corrected : bool
        Whether a person has changed the mask.
    levels_from : str
        The file from which the level was taken.
    levels_distance_mm : float, mm
        Distance between the middle of the cord in that file's image and that of the mask; 0 for the image itself.
    note : str
    participant : dict
        Columns of participants.tsv.
    """

    image: Identity
    method: str = ""
    level: str = ""
    vert_level: str = ""
    slices: str = ""
    n_slices: int = 0
    tilted: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    mark: str = ""
    corrected: bool = False
    levels_from: str = ""
    levels_distance_mm: float = float("nan")
    note: str = ""
    participant: Mapping[str, str] = field(default_factory=dict)


REFERENCE = "(reference)"
"""Name of the reference in the column method of ``levels.tsv``; no method has brackets in its name."""

FLAGS = {
    "unmeasured": "nothing could be measured; the note says why",
    "coverage": "less than 0.8 of the level lies in mask and field of view, in slices not too steep to measure",
    "unbounded": "no label bounds the level on one side, so how much of it is covered is not known",
    "joined": "a disc is missing, so that a level is reported together with one that was not asked for",
    "tilted": "slices are tilted beyond 30 degrees",
    "doubted": "the cord of the labelled image lies elsewhere, or could not be compared",
    "failed": "a rater marked the mask as failed, or the image as an artefact",
}
"""Reasons not to trust a row without a look."""

UNTRUSTED = frozenset(FLAGS) - {"tilted"}
"""Flags of rows whose area is not that of the level that they name; tilt alone is counted in a column."""

COLUMNS = (
    *(*IDENTITY, "method", "level", "vert_level", "slices", "n_slices", *LEVEL_SHAPE, "tilted", "flags", "mark"),
    *("corrected", "levels_from", "levels_distance_mm", "note"),
)


def read_csa(path: str | Path) -> list[CsaRow]:
    """Read ``csa.tsv``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """

    def parse(cells: dict[str, str]) -> CsaRow:
        return CsaRow(
            Identity.parse(cells),
            method=cells["method"],
            level=cells["level"],
            vert_level=cells["vert_level"],
            slices=cells["slices"],
            n_slices=int(cells["n_slices"]),
            tilted=int(cells["tilted"]),
            values=parse_numbers(cells, LEVEL_SHAPE),
            flags=tuple(filter(None, cells["flags"].split(","))),
            mark=cells["mark"],
            corrected=parse_bool(cells["corrected"]),
            levels_from=cells["levels_from"],
            levels_distance_mm=parse_numbers(cells, ["levels_distance_mm"]).get("levels_distance_mm", float("nan")),
            note=cells["note"],
            participant={name: value for name, value in cells.items() if name not in COLUMNS and value},
        )

    return read_rows(path, parse, COLUMNS)


def write_csa(path: str | Path, rows: Sequence[CsaRow], columns: Sequence[str] = ()) -> None:
    """Write ``csa.tsv``; `columns` are those of participants.tsv, at the end."""
    write_table(path, [*COLUMNS, *columns], map(_cells, rows))


def _cells(row: CsaRow) -> dict[str, object]:
    """Return the cells of a row."""
    own = {name: value for name, value in vars(row).items() if name not in ("image", "values", "participant")}
    return vars(row.image) | own | dict(row.values) | dict(row.participant) | {"flags": ",".join(row.flags)}


SCT_MEASURES = {
    **{"csa_mm2": "area", "angle_ap_deg": "angle_AP", "angle_rl_deg": "angle_RL", "diameter_ap_mm": "diameter_AP"},
    **{"diameter_rl_mm": "diameter_RL", "eccentricity": "eccentricity", "orientation_deg": "orientation"},
    "solidity_sct": "solidity",
}
"""Measure to its name in the tables of ``sct_process_segmentation``, in their order."""


def _distance_of(level: str) -> str:
    """Return the middle of ``PMJ 54:74`` or ``PMJ 64``, mm: SCT's -pmj-distance; empty for other levels."""
    if not re.fullmatch(r"pmj\s+[\d.:-]+", level.strip(), re.IGNORECASE):
        return ""
    ends = [float(end) for end in level.split()[1].split(":")]
    return f"{sum(ends) / len(ends):g}"


def write_sct_tables(folder: Path, rows: Sequence[CsaRow], masks: Mapping[str, str]) -> list[Path]:
    """Write ``csa-SC_<suffix>.csv`` for each suffix, with the columns of ``sct_process_segmentation``.

    Parameters
    ----------
    folder : Path
    rows : sequence of CsaRow
        Rows without a slice are left out, as in SCT. So are rows with flags of `UNTRUSTED`: SCT has no column for them.
    masks : mapping of str to str
        Image to the path of its mask, the column Filename.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{kind}({name})" for name in SCT_MEASURES.values() for kind in ("MEAN", "STD")]
    heading = [
        "Timestamp",
        "SCT Version",
        "Filename",
        "Slice (I->S)",
        "VertLevel",
        "DistancePMJ",
        *names,
        "SUM(length)",
    ]
    spread = {**SLICE_SD, SCT_SOLIDITY[0]: SCT_SOLIDITY[1]}
    written = []
    for suffix in sorted({row.image.suffix for row in rows}):
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(heading)
        for row in rows:
            if row.image.suffix != suffix or not row.n_slices or UNTRUSTED & set(row.flags):
                continue
            pairs = [(row.values.get(name), row.values.get(spread[name])) for name in SCT_MEASURES]
            numbers = [*(value for pair in pairs for value in pair), row.values.get("length_mm")]
            cells = ["" if value is None or value != value else f"{value:.6g}" for value in numbers]
            # no time, so that equal results give equal bytes
            made_by = f"spineseg {find_version()}"
            level = row.vert_level or row.level  # C2/C3 has no number
            table.writerow(["", made_by, masks[row.image.image_id], row.slices, level, _distance_of(row.level), *cells])
        written.append(folder / f"csa-SC_{suffix}.csv")
        write_text(written[-1], stream.getvalue())
    return written
