"""Recompute reports that other code has written, whatever Snakemake still records about them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from spineseg.writing import write_text

HEAD_BYTES = 2000
"""Part of a page in which it names its code."""


def note_old_report(page: Path, code: str, note: Path) -> None:
    """Write into a file that a report was made by other code, or that it was not.

    The report's rule has the file as an input: only its content and its time change, and only then. Snakemake compares
    no parameters of a job that has an output without a record: a folder of figures that an older version did not
    declare, or results that came without its records.

    Parameters
    ----------
    page : Path
        The report; there may be none yet.
    code : str
        Digest of today's code of the report.
    note : Path
    """
    if page.is_file():
        with page.open("rb") as stream:
            is_old = code.encode() not in stream.read(HEAD_BYTES)
        if is_old:
            write_text(note, str(time.time_ns()))
            return
    if not note.is_file() or note.stat().st_mtime:
        write_text(note, "")
        os.utime(note, (0, 0))
