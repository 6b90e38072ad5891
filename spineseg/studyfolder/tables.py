"""The tables of measures: ``metrics.tsv``, ``agreement.tsv`` and ``slices.tsv.gz``, of a chunk or of a stage."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spineseg.errors import InputError
from spineseg.measures import AGREEMENT, METRICS, SLICE_SHAPE
from spineseg.studyfolder.files import (
    MEND,
    NOT_AVAILABLE,
    parse_numbers,
    read_rows,
    read_text_table,
    stream_table,
    write_table,
)
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder
from spineseg.studyfolder.sidecars import NO_CORD
from spineseg.writing import open_whole, write_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

IDENTITY = ("image_id", "subject", "session", "run", "suffix", "contrast")


@dataclass(frozen=True)
class Identity:
    """Identity of an image: the first columns of the tables."""

    image_id: str
    subject: str
    session: str = ""
    run: str = ""
    suffix: str = ""
    contrast: str = ""

    @classmethod
    def of(cls, image: StudyImage) -> Identity:
        """Return the identity of an image of the study."""
        return cls(*(getattr(image, name) for name in IDENTITY))

    @classmethod
    def parse(cls, cells: Mapping[str, str]) -> Identity:
        """Read the identity from a table's cells."""
        return cls(*(cells.get(name, "") for name in IDENTITY))


@dataclass(frozen=True)
class MetricsRow:
    """Measures of one image by one method.

    Parameters
    ----------
    image : Identity
    method, status : str
    values : dict
        Name of a measure (`spineseg.measures.METRICS`) to its value; an unknown value is missing or NaN.
    guessed_contrast, contrast_doubt : str
        Contrast that the image seems to have, and why that is not the one it was segmented as.
    message : str
        Why the status is not ok, and what could not be measured.
    """

    image: Identity
    method: str
    status: str
    values: Mapping[str, float] = field(default_factory=dict)
    guessed_contrast: str = ""
    contrast_doubt: str = ""
    message: str = ""

    @property
    def has_cord(self) -> bool:
        """Whether the method has found a cord."""
        return self.status not in NO_CORD


@dataclass(frozen=True)
class AgreementRow:
    """Measures of two methods' masks of one image (`spineseg.measures.AGREEMENT`)."""

    image: Identity
    method_a: str
    method_b: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceRow:
    """Shape of one mask in one canonical slice, counted from below."""

    image_id: str
    method: str
    slice: int
    values: Mapping[str, float]


METRICS_COLUMNS = (
    *(*IDENTITY, "method", "status", *METRICS),
    *("guessed_contrast", "contrast_doubt", "message"),
)
AGREEMENT_COLUMNS = (*IDENTITY, "method_a", "method_b", *AGREEMENT)
SLICES_COLUMNS = (
    *("image_id", "method", "slice", "position_mm", *SLICE_SHAPE),
    *("centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "uncertainty"),
)


@dataclass(frozen=True)
class ChunkTables:
    """The rows of the tables of a chunk."""

    metrics: list[MetricsRow] = field(default_factory=list)
    agreement: list[AgreementRow] = field(default_factory=list)
    slices: list[SliceRow] = field(default_factory=list)


def read_metrics(path: str | Path) -> list[MetricsRow]:
    """Read ``metrics.tsv``; columns of measures may be missing.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """

    def parse(cells: dict[str, str]) -> MetricsRow:
        text = (cells.get(name, "") for name in ("guessed_contrast", "contrast_doubt", "message"))
        return MetricsRow(Identity.parse(cells), cells["method"], cells["status"], parse_numbers(cells, METRICS), *text)

    return read_rows(path, parse, ("image_id", "subject", "method", "status"))


def read_agreement(path: str | Path) -> list[AgreementRow]:
    """Read ``agreement.tsv``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """

    def parse(cells: dict[str, str]) -> AgreementRow:
        return AgreementRow(
            Identity.parse(cells), cells["method_a"], cells["method_b"], parse_numbers(cells, AGREEMENT)
        )

    return read_rows(path, parse, ("image_id", "method_a", "method_b"))


def read_slices(path: str | Path) -> pd.DataFrame:
    """Read ``slices.tsv.gz``: one row per image, method and slice, with numeric columns, NaN for missing values.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    import pandas as pd

    numbers = dict.fromkeys(SLICES_COLUMNS[3:], "float64")
    text = read_text_table(path)
    _check_cells(path, text)
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep="\t",
            dtype={"image_id": str, "method": str, "slice": "int64"} | numbers,
            keep_default_na=False,
            na_values=dict.fromkeys(numbers, "n/a"),
            quoting=3,  # csv.QUOTE_NONE
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a table of slices ({' '.join(str(error).split())[:120]}); {MEND}") from error
    for name in numbers.keys() & set(frame.columns):
        if frame[name].abs().eq(float("inf")).any():
            raise InputError(f"{path}: column {name}: expected numbers, found infinity; {MEND}")
    if missing := [name for name in ("image_id", "method", "slice", "csa_mm2") if name not in frame]:
        raise InputError(f"{path}: expected the column {missing[0]}, found {', '.join(frame.columns)}; {MEND}")
    return frame


def _check_cells(path: str | Path, text: str) -> None:
    """Refuse a row with too few or too many cells, which pandas would fill up or shift."""
    heading, *lines = text.split("\n")
    wanted = heading.count("\t")
    for number, line in enumerate(lines, start=2):
        if line.count("\t") != wanted and (line or number <= len(lines)):
            found = line.count("\t") + 1
            raise InputError(f"{path}, line {number}: expected {wanted + 1} cells, found {found}; {MEND}")


def read_profiles(path: str | Path, images: Collection[str]) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Read the areas of some images' slices from ``slices.tsv.gz`` line by line, to save memory with large cohorts.

    Returns
    -------
    dict
        Image and method to (n, 2): height of the slice's centroid in the scanner (mm) and area (mm²), where both are
        known.

    Raises
    ------
    InputError
        If the table is missing or damaged.
    """
    import numpy as np

    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    wanted = set(images)
    for line, cells in stream_table(path, ("image_id", "method", "centroid_z_mm", "csa_mm2")):
        if cells[0] in wanted and NOT_AVAILABLE not in cells[2:]:
            try:
                found.setdefault((cells[0], cells[1]), []).append((float(cells[2]), float(cells[3])))
            except ValueError as error:
                raise InputError(f"{path}, line {line}: expected numbers, found {cells[2:]}; {MEND}") from error
    return {key: np.array(values, np.float32) for key, values in found.items()}


def count_filled_slices(path: str | Path) -> Counter[tuple[str, str]]:
    """Count the slices with cord of each image and method in ``slices.tsv.gz``, line by line.

    Raises
    ------
    InputError
        If the table is missing or damaged, or has a slice twice or out of order.
    """
    filled: Counter[tuple[str, str]] = Counter()
    last: tuple[tuple[str, str], int] | None = None
    for line, (image, method, number, z) in stream_table(path, ("image_id", "method", "slice", "centroid_z_mm")):
        mask = image, method
        if not number.isdecimal() or (last and last[0] == mask and int(number) != last[1] + 1):
            expected = f"slice {last[1] + 1}" if last and last[0] == mask else "the number of a slice"
            raise InputError(f"{path}, line {line}: expected {expected}, found '{number}'; {MEND}")
        last = mask, int(number)
        filled[mask] += z != NOT_AVAILABLE
    return filled


def write_chunk_tables(folder: StudyFolder, stage: Stage, chunk: str, tables: ChunkTables) -> list[Path]:
    """Write the tables of a chunk and return their paths; equal rows give equal bytes."""
    metrics = (vars(row.image) | dict(row.values) | _without(row, "image", "values") for row in tables.metrics)
    agreement = (vars(row.image) | dict(row.values) | _without(row, "image", "values") for row in tables.agreement)
    slices = (_without(row, "values") | dict(row.values) for row in tables.slices)
    columns = (METRICS_COLUMNS, AGREEMENT_COLUMNS, SLICES_COLUMNS)
    written = []
    for name, names, rows in zip(TABLES, columns, (metrics, agreement, slices), strict=True):
        written.append(folder.chunk_table(stage, chunk, name))
        write_table(written[-1], names, rows)
    return written


def _without(row: object, *names: str) -> dict[str, object]:
    """Return a row's fields without some."""
    return {name: value for name, value in vars(row).items() if name not in names}


def join_chunk_tables(
    folder: StudyFolder, stage: Stage, name: str, images: Sequence[str], chunk_of: Mapping[str, str]
) -> Path:
    """Write a table of a stage from those of its chunks, rows in the order of `images`, and return its path.

    Raises
    ------
    InputError
        If a chunk's table is missing or damaged, or has other columns than that of the first chunk.
    """
    path = folder.table(stage, name)
    lines = _ordered_lines(folder, stage, name, images, chunk_of)
    if path.suffix == ".gz":
        _write_gzip(path, lines)
    else:
        write_text(path, "".join(lines))
    return path


def _ordered_lines(
    folder: StudyFolder, stage: Stage, name: str, images: Sequence[str], chunk_of: Mapping[str, str]
) -> Iterator[str]:
    """Yield the heading, then each image's lines, from whichever chunk they are."""
    parts: dict[str, dict[str, list[str]]] = {}
    heading = None
    for image in images:
        chunk = chunk_of[image]
        if chunk not in parts:
            path = folder.chunk_table(stage, chunk, name)
            found, parts[chunk] = _lines_by_image(path)
            if heading is None:
                heading = found
                yield heading
            if found != heading:
                raise InputError(f"{path}: its columns differ from the other chunks'; {MEND}")
        yield from parts[chunk].pop(image, ())


def _lines_by_image(path: Path) -> tuple[str, dict[str, list[str]]]:
    """Return the heading of a chunk's table and its lines by image."""
    heading, *lines = read_text_table(path).splitlines(keepends=True) or [""]
    if "image_id" not in (columns := heading.rstrip("\n").split("\t")):
        raise InputError(f"{path}: not a whole table; {MEND}")
    column = columns.index("image_id")
    by_image: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns) or not line.endswith("\n"):
            raise InputError(f"{path}, line {number}: expected {len(columns)} cells, found {len(cells)}; {MEND}")
        by_image.setdefault(cells[column].rstrip("\n"), []).append(line)
    return heading, by_image


def _write_gzip(path: Path, lines: Iterable[str]) -> None:
    """Write lines compressed, without a time stamp, one by one, to save memory with the slices of large cohorts."""
    with (
        open_whole(path) as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        text.writelines(lines)
