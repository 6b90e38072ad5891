"""Recompute reports that other code has written, whatever Snakemake has recorded about them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from spineseg.writing import write_text

HEAD_BYTES = 2000
"""Length of the start of a page that contains the digest of its code."""


def note_old_report(page: Path, code: str, note: Path) -> None:
    """Write to a file whether a report was written by other code.

    The file is an input of the report's rule; its content and time change only when that answer does. It is needed
    because Snakemake does not compare the parameters of a job that has an output without a record, such as a folder of
    figures that an older version did not declare, or results that were copied without Snakemake's records.

    Parameters
    ----------
    page : Path
        The report; it may not exist yet.
    code : str
        Digest of the present code of the report.
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
