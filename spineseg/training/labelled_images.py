"""The labelled images that models learn from, split by person so that no one is scored on himself."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from spineseg.errors import InputError

N_FOLDS = 3
"""Three leaves two thirds of few people to learn from, and three trainings fit a night of two cores."""


@dataclass(frozen=True)
class LabelledImage:
    """An image with its reference mask; `subject` is the person, across sessions and contrasts."""

    image: Path
    reference: Path
    contrast: str
    subject: str


def load_manifest(path: str | Path) -> list[LabelledImage]:
    """Read a table with the columns image, contrast, reference, subject.

    Paths are relative to the table. Rows without a reference are left out.

    Raises
    ------
    InputError
        If the table is missing, lacks a column, or names a missing file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table of labelled images")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    missing = {"image", "contrast", "reference", "subject"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{path}: expected the columns {', '.join(sorted(missing))}, found none such")
    images = [
        LabelledImage(path.parent / r["image"], path.parent / r["reference"], r["contrast"], r["subject"])
        for r in rows
        if r["reference"]
    ]
    for item in images:
        for file in (item.image, item.reference):
            if not file.is_file():
                raise InputError(f"{file}: named in {path.name}, but there is no such file")
    return images


def assign_folds(images: list[LabelledImage], n_folds: int = N_FOLDS) -> dict[str, int]:
    """Deal people to folds so that each contrast is spread over as many folds as it can be.

    People are sorted by their first contrast and their name and dealt in turn, so the split
    depends on nothing but the list. A person with several contrasts is in one fold only.
    """
    first: dict[str, str] = {}
    for item in images:
        first[item.subject] = min(item.contrast, first.get(item.subject, item.contrast))
    ordered = sorted(first, key=lambda subject: (first[subject], subject))
    return {subject: position % n_folds for position, subject in enumerate(ordered)}


def split_people(
    images: list[LabelledImage], fold: int, n_folds: int = N_FOLDS
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images to learn from and the images of the people held out in `fold`."""
    folds = assign_folds(images, n_folds)
    kept = [item for item in images if folds[item.subject] != fold]
    held_out = [item for item in images if folds[item.subject] == fold]
    return kept, held_out
