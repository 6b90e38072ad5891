"""A study's images given as a table instead of a BIDS dataset."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spineseg.bids import datatype_of, format_stem, image_stem, parse_name
from spineseg.contrasts import CONTRASTS, SUFFIX_CONTRAST
from spineseg.errors import InputError
from spineseg.spelling import closest
from spineseg.studyfolder.images import StudyImage

REQUIRED = ("subject", "contrast", "path")
COLUMNS = (*REQUIRED, "session", "run", "bval", "reference")
_EMPTY = ("", "n/a")
_CONTRAST_SUFFIX = {"t1": "T1w", "t2": "T2w", "t2s": "T2star", "dwi": "dwi"}


def read_sheet(table: str | Path) -> list[StudyImage]:
    """Read and check a table with the columns subject, session, run, contrast, path, reference, bval.

    Only subject, contrast and path are needed. The table is tab separated, or comma separated when its
    name ends in ``.csv``. Paths are relative to the table's folder or to the working directory.

    Returns
    -------
    images : list of StudyImage
        With what the table can say.

    Raises
    ------
    InputError
        In one line that names the row: an unknown column or contrast, a missing value or file, two rows
        for one image. Row 1 is the heading, as spreadsheets count.
    """
    table = Path(table)
    if not table.is_file():
        raise InputError(f"config key 'images': expected a table, found none at {table}")
    with table.open(newline="", encoding="utf-8-sig") as stream:  # -sig: spreadsheets write a byte order mark
        reader = csv.DictReader(stream, delimiter="," if table.suffix == ".csv" else "\t")
        _check_columns(table, reader.fieldnames or [])
        rows = [_read_row(table, number, row) for number, row in enumerate(reader, start=2)]
    if not rows:
        raise InputError(f"{table}: expected a row per image, found none")
    _check_unique(table, rows)
    return rows


def _check_columns(table: Path, found: Sequence[str]) -> None:
    """Refuse unknown and missing columns."""
    unknown = [name for name in found if name not in COLUMNS]
    if unknown:
        hint = closest(unknown[0], COLUMNS)
        raise InputError(f"{table}: unknown column {unknown[0]!r}{hint}; known: {', '.join(COLUMNS)}")
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise InputError(f"{table}: column {missing[0]!r} is missing; expected {', '.join(REQUIRED)}")


def _read_row(table: Path, number: int, cells: dict[str, str]) -> StudyImage:
    """Check one row and complete it by what its file name says."""
    where = f"{table}, row {number}"
    if None in cells:
        raise InputError(f"{where}: more values than columns; separate columns by one tab")
    row = {name: "" if (cells.get(name) or "").strip() in _EMPTY else cells[name].strip() for name in COLUMNS}
    for name in REQUIRED:
        if not row[name]:
            raise InputError(f"{where}: {name} is empty")
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
    if beside.is_file():
        return str(beside)
    if Path(name).is_file():
        return name
    raise InputError(f"{what}: no such file: {name} (looked in {table.parent} and the working directory)")


def _check_unique(table: Path, images: list[StudyImage]) -> None:
    """Refuse two rows for one image, whether by file or by name."""
    seen: dict[str, int] = {}
    for number, image in enumerate(images, start=2):
        names = (str(Path(image.path).resolve()), image.image_id)
        for name in names:
            if name in seen:
                raise InputError(
                    f"{table}, rows {seen[name]} and {number}: two rows for one image, {image.image_id}"
                    f" ({image.path}); delete one, or tell them apart by session, run or file name"
                )
        seen |= dict.fromkeys(names, number)
