"""``references.tsv``: every mask of the references' folder, used or with the reason for not using it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from spineseg.studyfolder.files import read_rows, write_table


@dataclass(frozen=True)
class ReferenceMask:
    """A row of ``references.tsv``. Its fields are the columns.

    Parameters
    ----------
    path : str
    image_id : str
        The image that it belongs to; empty where the dataset has none.
    name : str
        The part of its name after that of the image, such as ``_seg-manual``; empty if a table of images names it.
    kind, made_from, use : str
        As the columns reference_kind, reference_from and reference_use of ``images.tsv``; `use` is empty if it is not
        used.
    reason : str
        Why it is not used.
    """

    path: str
    image_id: str = ""
    name: str = ""
    kind: str = ""
    made_from: str = ""
    use: str = ""
    reason: str = ""


COLUMNS = tuple(column.name for column in fields(ReferenceMask))


def write_references(path: str | Path, references: Sequence[ReferenceMask]) -> None:
    """Write ``references.tsv``."""
    write_table(path, COLUMNS, map(vars, references))


def read_references(path: str | Path) -> list[ReferenceMask]:
    """Read ``references.tsv``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_rows(path, lambda cells: ReferenceMask(**{name: cells[name] for name in COLUMNS}), COLUMNS)
