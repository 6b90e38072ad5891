"""``images.tsv``: every image of a study, included or with the reason for leaving it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from spineseg.studyfolder.files import parse_bool, read_rows, write_table
from spineseg.writing import write_json


def _column(meaning: str, default: Any = "") -> Any:
    """Declare a column with its meaning, which is written to the JSON beside the table."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class StudyImage:
    """One image of a study: a row of ``images.tsv``. Its fields are the columns."""

    image_id: str = field(metadata={"meaning": "Name of the image in this study: its file name without extension."})
    subject: str = field(metadata={"meaning": "Participant, without sub-."})
    session: str = _column("Session, without ses-; n/a if there is none.")
    run: str = _column("Run as in the file name; n/a if there is none.")
    suffix: str = _column("BIDS suffix.")
    datatype: str = _column("BIDS folder: anat, dwi or func.", "anat")
    contrast: str = _column("Contrast given to the segmentation: t1, t2, t2s or dwi; n/a if it is not known.")
    path: str = _column("The image file, relative to the working directory unless absolute.")
    bval: str = _column("b-values of a diffusion series, s/mm2, one per volume.")
    reference: str = _column("Cord mask to compare with.")
    included: bool = _column("true: part of the study.", default=False)
    reason: str = _column("Why the image is not included.")
    pilot: bool = _column("true: every method runs on it and the decision rests on it.", default=False)
    source_stem: str = _column("File name of the image without extension, if image_id had to differ from it.")
    reference_kind: str = _column(
        "Who made the reference, as its sidecar says: manual, corrected, silver, automatic or unknown."
    )
    reference_from: str = _column("The method whose mask it was made from; n/a if none is known.")
    reference_use: str = _column("truth: errors are measured against it; agreement: it is only compared with.")
    reference_label: int | None = _column("Label of the cord in the reference, if the configuration names one.", None)

    @property
    def stem(self) -> str:
        """File name of the image without extension."""
        return self.source_stem or self.image_id

    @property
    def exclusion(self) -> str:
        """Why people have excluded the image, without the name of the list; empty if nobody has.

        Examples
        --------
        >>> words = word_exclusion("moved (twice)", "sub-01", "exclude.yml (new), list csa_t2")
        >>> StudyImage("sub-01_T2w", "01", reason=words).exclusion
        'moved (twice)'
        """
        if not self.reason.startswith(_EXCLUDED):
            return ""
        # the last brackets, because a reason may contain brackets too
        named = re.compile(r"(.*) \((?:'[^']*'|\"[^\"]*\") in .*\)", re.DOTALL)
        return named.sub(r"\1", self.reason.removeprefix(_EXCLUDED))

    @property
    def bval_path(self) -> Path | None:
        """The file of b-values, or None."""
        return Path(self.bval) if self.bval else None


IMAGE_COLUMNS = {column.name: str(column.metadata["meaning"]) for column in fields(StudyImage)}
"""Column to meaning, in the order of the table."""

_FLAGS = ("included", "pilot")

_LATER = ("reference_label",)
"""Columns that tables of earlier versions lack."""

_EXCLUDED = "excluded: "
"""Start of the reason of an image that people have excluded."""


def word_exclusion(reason: str, entry: str = "", where: str = "") -> str:
    """Return why people exclude an image, and by which entry of a list, in the form of `images.tsv`."""
    return f"{_EXCLUDED}{reason}" + (f" ({entry!r} in {where})" if where else "")


def read_images(path: str | Path) -> list[StudyImage]:
    """Read ``images.tsv``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_rows(path, _parse, [name for name in IMAGE_COLUMNS if name not in _LATER])


def read_included(path: str | Path) -> list[StudyImage]:
    """Read the images of ``images.tsv`` that are part of the study."""
    return [image for image in read_images(path) if image.included]


def write_images(path: str | Path, images: Sequence[StudyImage]) -> None:
    """Write ``images.tsv`` and, beside it, a JSON file with the meaning of its columns."""
    write_table(path, list(IMAGE_COLUMNS), map(vars, images))
    described = {name: {"Description": meaning} for name, meaning in IMAGE_COLUMNS.items()}
    write_json(Path(path).with_suffix(".json"), described)


def _parse(cells: dict[str, str]) -> StudyImage:
    """Make an image from its cells."""
    values: dict[str, Any] = {name: cells.get(name, "") for name in IMAGE_COLUMNS}
    label = values["reference_label"]
    if label and not (label.isascii() and label.isdecimal()):
        raise ValueError(f"column reference_label: expected a whole number or n/a, found {label[:40]!r}")
    values |= {name: parse_bool(values[name] or "false") for name in _FLAGS}
    return StudyImage(**values | {"reference_label": int(label) if label else None})
