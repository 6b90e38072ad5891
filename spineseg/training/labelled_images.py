"""Labelled images for training, split by person so that no model is scored on a person it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spineseg.errors import InputError
from spineseg.reading import read_table

N_FOLDS = 3
"""With three folds, each training uses two thirds of the few people, and the three trainings take a night on two
cores."""


RECIPE_TABLES = ("data", "extra")
"""Tables from which a recipe may take images: the one given by -data, and those given by -extra."""


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
    rows = [row for _, row in read_table(path, ("image", "contrast", "reference", "subject"))]
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


@dataclass(frozen=True)
class Recipe:
    """The images, and so the people, that a training uses, even if its tables have grown since."""

    path: Path
    # Name of a table, "data" or "extra", to the (subject, file name of the image) pairs that are taken from it
    named: dict[str, frozenset[tuple[str, str]]]

    def choose(self, images: Sequence[LabelledImage], table: str, say: Callable[[str], None]) -> list[LabelledImage]:
        """Return the images of a table that the recipe names, in the table's order; report the others with `say`.

        Raises
        ------
        InputError
            If the table lacks a labelled image that the recipe names.
        """
        found = {(item.subject, item.image.name): item for item in images}
        for subject, image in sorted(self.named[table] - found.keys()):
            raise InputError(
                f"{self.path}: names {image} of {subject} ({table}), found no such labelled image in that table;"
                " give the data that the recipe was written for, or another recipe"
            )
        left_out = sorted(found.keys() - self.named[table])
        if left_out:
            names = ", ".join(f"{image} of {subject}" for subject, image in left_out)
            say(f"{self.path.name} does not name {names}: left out")
        return [item for key, item in found.items() if key in self.named[table]]


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe: a table with the columns subject, image (file name) and table (data or extra).

    Raises
    ------
    InputError
        If the file is missing, lacks a column, or has another value in the column table.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such recipe")
    rows = [row for _, row in read_table(path, ("subject", "image", "table"), what="a recipe")]
    wrong = [row["table"] for row in rows if row["table"] not in RECIPE_TABLES]
    if wrong:
        raise InputError(f"{path}: expected {' or '.join(RECIPE_TABLES)} in the column table, found {wrong[0]!r}")
    named = {t: frozenset((r["subject"], r["image"]) for r in rows if r["table"] == t) for t in RECIPE_TABLES}
    return Recipe(path, named)


def load_tables(
    data: Path, extra: Sequence[Path], recipe: Path | None, say: Callable[[str], None] = print
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Read the tables of a training, each image once.

    Parameters
    ----------
    data : table of labelled images
    extra : sequence of Path; more tables; an image that several tables name is used once
    recipe : if given, only the images that it names are returned
    say : called with a line about images that are left out

    Returns
    -------
    images, more : list of LabelledImage
        Images of `data`, and those that the other tables add.

    Raises
    ------
    InputError
        If a table or the recipe cannot be read, or a named image is missing.
    """
    images = load_manifest(data)
    seen = {item.image.resolve() for item in images}
    added = {item.image.resolve(): item for table in extra for item in load_manifest(table)}
    more = [item for path, item in added.items() if path not in seen]
    if recipe is not None:
        chosen = load_recipe(recipe)
        images = chosen.choose(images, "data", say)
        more = chosen.choose(more, "extra", say) if extra else []
    return images, more


def assign_folds(images: Sequence[LabelledImage], n_folds: int = N_FOLDS) -> dict[str, int]:
    """Assign people to folds so that each contrast is spread over as many folds as possible.

    People are sorted by their first contrast and their name and assigned to the folds in turn, so the split
    depends only on the list. A person with several contrasts is in one fold only.
    """
    first: dict[str, str] = {}
    for item in images:
        first[item.subject] = min(item.contrast, first.get(item.subject, item.contrast))
    ordered = sorted(first, key=lambda subject: (first[subject], subject))
    return {subject: position % n_folds for position, subject in enumerate(ordered)}


def split_people(
    images: Sequence[LabelledImage], fold: int, n_folds: int = N_FOLDS
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images for training and the images of the people held out in `fold`."""
    folds = assign_folds(images, n_folds)
    kept = [item for item in images if folds[item.subject] != fold]
    held_out = [item for item in images if folds[item.subject] == fold]
    return kept, held_out
