"""A study's images given as a table instead of a BIDS dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spineseg.bids import datatype_of, format_stem, image_stem, parse_name
from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.reading import read_table
from spineseg.spelling import closest
from spineseg.studyfolder.images import StudyImage

REQUIRED = ("subject", "contrast", "path")
COLUMNS = (*REQUIRED, "session", "run", "bval", "reference")
_EMPTY = ("", "n/a")
_CONTRAST_SUFFIX = {"t1": "T1w", "t2": "T2w", "t2s": "T2star", "dwi": "dwi"}


def read_image_table(table: str | Path) -> list[StudyImage]:
    """Read and check a table with the columns subject, session, run, contrast, path, reference, bval.

    Only subject, contrast and path are required. The table is tab separated, or comma separated if its name ends in
    ``.csv``. Paths are relative to the table's folder or to the working directory.

    Returns
    -------
    images : list of StudyImage
        With the values that the table gives.

    Raises
    ------
    InputError
        In one line that names the line: an unknown column or contrast, a missing value or file, two lines
        for one image.
    """
    table = Path(table)
    if not table.is_file():
        raise InputError(f"config key 'images': expected a table, found none at {table}")
    rows: dict[int, StudyImage] = {}
    for number, cells in read_table(table, REQUIRED, what="a table of images"):
        if not rows:
            _check_columns(table, list(cells))
        rows[number] = _read_row(f"{table}, line {number}", table, cells)
    if not rows:
        raise InputError(f"{table}: expected a line per image, found none; add them")
    _check_unique(table, rows)
    return list(rows.values())


def _check_columns(table: Path, found: Sequence[str]) -> None:
    """Refuse unknown columns."""
    unknown = [name for name in found if name not in COLUMNS]
    if unknown:
        hint = closest(unknown[0], COLUMNS)
        raise InputError(f"{table}: unknown column {unknown[0]!r}{hint}; known: {', '.join(COLUMNS)}")


def _read_row(where: str, table: Path, cells: dict[str, str]) -> StudyImage:
    """Check one row and complete it from its file name."""
    row = {name: "" if cells.get(name, "") in _EMPTY else cells[name] for name in COLUMNS}
    for name in REQUIRED:
        if not row[name]:
            raise InputError(f"{where}: {name} is empty; fill it in")
    subject, session = row["subject"].removeprefix("sub-"), row["session"].removeprefix("ses-")
    if not all(part.replace("+", "").isalnum() for part in (subject, session or "0", row["run"] or "0")):
        raise InputError(f"{where}: expected letters and digits as subject, session and run, found {row['subject']!r}"
                         f" {row['session']!r} {row['run']!r}")  # fmt: skip
    named = ("path", "bval", "reference")
    files: dict[str, Any] = {name: _find_file(table, row[name], f"{where}: {name}") for name in named}
    identity = _identify(row, subject, session, where)
    return StudyImage(subject=subject, session=session, run=row["run"], **files, **identity)


def _identify(row: dict[str, str], subject: str, session: str, where: str) -> dict[str, Any]:
    """Return image_id, source_stem, suffix, datatype and contrast of a row."""
    contrast = SUFFIX_CONTRAST.get(row["contrast"], row["contrast"])
    if contrast not in CONTRASTS:
        known = (*CONTRASTS, *SUFFIX_CONTRAST)
        raise InputError(
            f"{where}: unknown contrast {row['contrast']!r}{closest(row['contrast'], known)};"
            f" expected one of {', '.join(known)}"
        )
    stem = image_stem(row["path"])
    if stem is None:
        raise InputError(f"{where}: expected an image named .nii or .nii.gz, found {row['path']}")
    name = parse_name(stem)
    suffix = name.suffix if name and name.suffix in SUFFIX_CONTRAST else _CONTRAST_SUFFIX[contrast]
    if row["contrast"] in SUFFIX_CONTRAST:
        suffix = row["contrast"]
    same_person = name is not None and name.subject == subject and name.session in ("", session)
    image_id = stem if same_person else format_stem(subject, suffix, session=session, run=row["run"])
    return {
        "image_id": image_id,
        "source_stem": "" if image_id == stem else stem,
        "suffix": suffix,
        "datatype": datatype_of(suffix),
        "contrast": contrast,
    }


def _find_file(table: Path, name: str, what: str) -> str:
    """Return the path of a file named in the table, from the working directory."""
    if not name:
        return ""
    beside = table.parent / name
    if os.path.isfile(beside):  # noqa: PTH113  a name that is too long is no file either
        return str(beside)
    if os.path.isfile(name):  # noqa: PTH113
        return name
    raise InputError(f"{what}: no such file: {name[:300]} (looked in {table.parent} and the working directory)")


def _check_unique(table: Path, images: dict[int, StudyImage]) -> None:
    """Refuse two rows for one image, with the same file or the same name."""
    seen: dict[str, int] = {}
    for number, image in images.items():
        names = (str(Path(image.path).resolve()), image.image_id)
        for name in names:
            if name in seen:
                raise InputError(
                    f"{table}, lines {seen[name]} and {number}: two lines for one image, {image.image_id}"
                    f" ({image.path}); delete one, or give them different sessions, runs or file names"
                )
        seen |= dict.fromkeys(names, number)
