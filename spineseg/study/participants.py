"""The people of a dataset: ``participants.tsv``."""

from __future__ import annotations

import csv
from pathlib import Path

from spineseg.errors import InputError

ABSENT = ("", "n/a")
"""Cells without a value."""


def read_participants(bids_dir: str | Path | None) -> dict[str, dict[str, str]]:
    """Read the columns of each participant; nothing without a dataset or without the file.

    Returns
    -------
    dict
        Subject, without ``sub-``, to column to value; what is not known is missing.

    Raises
    ------
    InputError
        If the file cannot be read, has no column participant_id, or names a participant twice.
    """
    path = Path(bids_dir or ".") / "participants.tsv"
    if bids_dir is None or not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a table of text ({' '.join(str(error).split())[:120]}); mend the file"
        ) from error
    found: dict[str, dict[str, str]] = {}
    for number, cells in enumerate(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
        if not cells.get("participant_id"):
            raise InputError(f"{path}, line {number}: expected a participant_id, found none; mend the file")
        name = cells["participant_id"].removeprefix("sub-")
        if name in found:
            raise InputError(f"{path}, line {number}: participant {name} stands twice; mend the file")
        found[name] = {key: str(value) for key, value in cells.items() if key and value not in (None, *ABSENT)}
    return found
