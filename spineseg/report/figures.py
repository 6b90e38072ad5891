"""The figures of a report: which charts there are, their files, and the same charts split by site or group."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase

from spineseg.report import charts
from spineseg.report.decision_figure import draw_sample_size
from spineseg.report.figure_words import BY, FIGURE_WORDS, FigureWords
from spineseg.report.frames import StudyTables, split_tables
from spineseg.report.level_figure import draw_levels
from spineseg.studyfolder.layout import TABLES, Stage, StudyFolder
from spineseg.writing import write_bytes

PNG_DPI = 160  # sharp on screens of twice the usual density at the page's width

RC: dict[Any, Any] = {
    "svg.hashsalt": "spineseg",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures are equal everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E8EAED",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


METRICS, AGREEMENT, SLICES = TABLES
TIMINGS = StudyFolder(Path()).timings(Stage.ALL).name
LEVELS = StudyFolder(Path()).csa(Stage.ALL).name


@dataclass(frozen=True)
class FigureKind:
    """A figure of the report.

    Parameters
    ----------
    table : str
        The table that it is drawn from; empty where that table is written beside the figure.
    draw : callable or None
        A chart of `spineseg.report.charts`; None for the one drawn from the decision.
    """

    table: str
    draw: Any = None


def _draw_levels(study: StudyTables, place: charts.Place = charts.new_figure) -> FigureBase | None:
    """Draw the areas by level."""
    return draw_levels(study.levels, place)


KINDS: Mapping[str, FigureKind] = {
    "failures": FigureKind(METRICS, charts.draw_failures),
    "dice": FigureKind(METRICS, charts.draw_dice),
    "bland_altman": FigureKind(AGREEMENT, charts.draw_bland_altman),
    "csa_along_cord": FigureKind(SLICES, charts.draw_csa_along_cord),
    "csa_levels": FigureKind(LEVELS, _draw_levels),
    "csa_contrasts": FigureKind(METRICS, charts.draw_contrast_agreement),
    "cost": FigureKind(TIMINGS, charts.draw_cost),
    "sample_size": FigureKind(""),
}
"""Name of the file to figure, as in `FIGURE_WORDS`."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure that was drawn: its name, the name of its files without ending, its SVG, table and splitting column."""

    name: str
    file: str
    svg: bytes
    table: str
    column: str = ""

    @property
    def words(self) -> FigureWords:
        """Title and caption."""
        return FIGURE_WORDS[self.name]


def draw_figures(
    study: StudyTables,
    folder: Path,
    decision: Mapping[str, Any] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    levels_table: str = LEVELS,
) -> list[DrawnFigure]:
    """Draw every figure that the tables and the decision allow, as PNG and SVG; figures of an earlier run are removed.

    Parameters
    ----------
    study : StudyTables
    folder : Path
    decision : mapping, optional
        The content of decision.json.
    columns : mapping, optional
        Column of participants.tsv to subject to value. Every figure is also drawn for each value of the column.
    levels_table : str
        Name of the table of areas by level.

    Returns
    -------
    drawn : list of DrawnFigure
        In the order of `KINDS`, then by column.
    """
    drawn = []
    tables = {name: kind.table for name, kind in KINDS.items()} | {"csa_levels": levels_table}
    with mpl.rc_context(RC):
        sizes = {}
        for name, kind in KINDS.items():
            figure = kind.draw(study) if kind.draw else draw_sample_size(decision) if decision else None
            if figure is not None:
                sizes[name] = tuple(figure.get_size_inches())
                figure.suptitle(FIGURE_WORDS[name].title, fontsize=12, fontweight="bold")
                drawn.append(DrawnFigure(name, name, _write(figure, folder / name), tables[name]))
        for column, part in file_parts(columns or {}).items():
            parts = split_tables(study, (columns or {})[column])
            for name in [name for name in sizes if KINDS[name].draw and parts]:
                figure = _draw_parts(name, parts, column, sizes[name])
                file = f"{name}{BY}{part}"
                drawn.append(DrawnFigure(name, file, _write(figure, folder / file), tables[name], column))
    written = {f"{one.file}.{ending}" for one in drawn for ending in ("png", "svg")}
    for path in (path for ending in ("png", "svg") for path in folder.glob(f"*.{ending}")):
        if path.name not in written:
            path.unlink()
    return drawn


def file_parts(columns: Iterable[str]) -> dict[str, str]:
    """Return the part of a file's name for each column; it is different for each."""
    parts: dict[str, str] = {}
    for column in columns:
        part, number = re.sub(r"[^A-Za-z0-9-]", "-", column), 2
        parts[column] = part
        while list(parts.values()).count(parts[column]) > 1:
            parts[column], number = f"{part}-{number}", number + 1
    return parts


def _plain(text: str) -> str:
    """Escape a text from a user's table for matplotlib, in which a dollar begins a formula."""
    return text.replace("$", r"\$")


def _draw_parts(name: str, parts: Mapping[str, StudyTables], column: str, size: Sequence[float]) -> Figure:
    """Draw one chart for each value of a column, one above the other, on the same axes."""
    figure = Figure(figsize=(size[0], (size[1] + 0.3) * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    places: list[list[Axes]] = []
    parts_of_figure = figure.subfigures(len(parts), 1, squeeze=False)[:, 0]
    for place, (value, study) in zip(parts_of_figure, parts.items(), strict=True):

        def at(
            _width: float, _height: float, columns: int = 1, rows: int = 1, here: FigureBase = place, **options: Any
        ) -> tuple[FigureBase, list[Axes]]:
            axes = list(here.subplots(rows, columns, squeeze=False, **options).ravel())
            places.append(axes)
            return here, axes

        n_images, n_people = study.metrics["image_id"].nunique(), study.metrics["subject"].nunique()
        words = f"{_plain(f'{column}: {value}')} ({n_images} images of {n_people} people)"
        found = KINDS[name].draw(study, at)
        place.suptitle(words if found else f"{words}: too few to draw", fontsize=10)
    figure.suptitle(f"{FIGURE_WORDS[name].title}, by {_plain(column)}", fontsize=12, fontweight="bold")
    _share_limits(places)
    return figure


def _share_limits(places: Sequence[Sequence[Axes]]) -> None:
    """Give panels of the same kind the same limits in every part, so that they can be compared."""
    by_title: dict[tuple[int, str], list[Axes]] = {}
    for axes in places:
        for number, panel in enumerate(axes):
            by_title.setdefault((number, panel.get_xlabel()), []).append(panel)
    for panels in by_title.values():
        for get, put in (("get_ylim", "set_ylim"), ("get_xlim", "set_xlim")):
            limits = np.array([getattr(panel, get)() for panel in panels])
            if (np.diff(limits, axis=1) > 0).all():  # not the inverted axes of bars, whose positions are their own
                for panel in panels:
                    getattr(panel, put)(limits[:, 0].min(), limits[:, 1].max())


def _write(figure: Figure, path: Path) -> bytes:
    """Write a figure as PNG and SVG, without date or version in them; return the SVG."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is computed already; not again for each file
    content = b""
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        stream = io.BytesIO()
        figure.savefig(stream, format=ending, dpi=PNG_DPI, metadata=metadata)
        content = stream.getvalue()
        write_bytes(path.with_name(f"{path.name}.{ending}"), content)
    return content
