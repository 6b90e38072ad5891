"""The study's table of images, ``images.tsv``: its columns, reading and writing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from spineseg.errors import InputError
from spineseg.writing import write_json, write_text

COLUMNS = {
    "image_id": "Name of the image in this study: its file name without extension.",
    "subject": "Participant, without sub-.",
    "session": "Session, without ses-; n/a where there is none.",
    "run": "Run as in the file name; n/a where there is none.",
    "suffix": "BIDS suffix.",
    "datatype": "BIDS folder: anat, dwi or func.",
    "contrast": "What the segmentation is told: t1, t2, t2s or dwi; n/a where none is known.",
    "path": "The image file, relative to the working directory unless absolute.",
    "bval": "b-values of a diffusion series, s/mm2, one per volume.",
    "reference": "Manual cord mask of the image.",
    "included": "true: part of the study.",
    "reason": "Why the image is not included.",
    "pilot": "true: every method runs on it and the decision rests on it.",
    "chunk": "Images of one chunk are segmented by one job.",
    "source_stem": "File name of the image without extension, where image_id had to differ from it.",
}
"""Column to meaning, in the order of the table."""

NOT_AVAILABLE = "n/a"


def read_images(table: str | Path) -> list[dict[str, str]]:
    """Read ``images.tsv``, one dict per row; ``n/a`` becomes an empty string.

    Raises
    ------
    InputError
        If there is no such table, or it lacks a column.
    """
    path = Path(table)
    if not path.is_file():
        raise InputError(f"{path}: no such table of images; run spineseg index first")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        missing = COLUMNS.keys() - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{path}: column {min(missing)} is missing; delete the table to have it made again")
        return [{key: "" if value == NOT_AVAILABLE else value for key, value in row.items()} for row in reader]


def read_included(table: str | Path) -> list[dict[str, str]]:
    """Read the rows of ``images.tsv`` that are part of the study."""
    return [row for row in read_images(table) if row["included"] == "true"]


def write_images(table: str | Path, rows: list[dict[str, str]]) -> None:
    """Write ``images.tsv`` and, beside it, a JSON file that says what its columns mean."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(COLUMNS), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: row.get(key) or NOT_AVAILABLE for key in COLUMNS} for row in rows)
    write_text(table, stream.getvalue())
    write_json(Path(table).with_suffix(".json"), {key: {"Description": text} for key, text in COLUMNS.items()})
