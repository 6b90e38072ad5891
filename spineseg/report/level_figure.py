"""The figure of areas by vertebral level: every person, their mean, and the difference between two methods."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from spineseg.measures import AREA_UNIT
from spineseg.report.charts import MAX_POINTS, Place, new_figure
from spineseg.report.palette import print_color_of
from spineseg.studyfolder.csa import UNTRUSTED, CsaRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

Areas = dict[str, dict[str, float]]
"""Level to subject to area, mm²."""


def draw_levels(rows: Sequence[CsaRow], place: Place = new_figure) -> FigureBase | None:
    """Draw the area along the cord by level, and the methods' difference at each level (Bland-Altman).

    Parameters
    ----------
    rows : sequence of CsaRow
        Rows of ``levels.tsv``, or of ``csa.tsv`` in a study by an earlier version, which wrote no ``levels.tsv``.

    Returns
    -------
    figure or None
        A row of panels for each contrast; None where no level was measured. Single levels are drawn if there are any,
        else the ranges and stretches that the study asks for.
    """
    methods = list(dict.fromkeys(row.method for row in rows if row.method))
    contrasts = [
        c
        for c in dict.fromkeys(row.image.contrast for row in rows)
        if methods and any(_areas(rows, c, m) for m in methods)
    ]
    if not contrasts:
        return None
    pairs = list(combinations(methods, 2))
    n_columns = len(methods) + len(pairs)
    figure, axes = place(4.2 * n_columns, 3.2 * len(contrasts), n_columns, len(contrasts))
    for row, contrast in enumerate(contrasts):
        places = axes[row * n_columns : (row + 1) * n_columns]
        for number, (method, panel) in enumerate(zip(methods, places[: len(methods)], strict=True)):
            _draw_people(panel, _areas(rows, contrast, method), print_color_of(method, number))
            panel.set_title(f"{contrast}: {method}")
        for (a, b), panel in zip(pairs, places[len(methods) :], strict=True):
            _draw_difference(panel, _areas(rows, contrast, a), _areas(rows, contrast, b))
            panel.set_title(f"{contrast}: {a} minus {b}")
    return figure


def _areas(rows: Sequence[CsaRow], contrast: str, method: str) -> Areas:
    """Return the areas by level in one contrast by one method, from superior to inferior."""
    found: dict[tuple[int, str], dict[str, list[float]]] = {}
    has_single = any(row.vert_level.isdigit() for row in rows)
    for row in rows:
        number = int(row.vert_level) if row.vert_level.isdigit() else 0
        area = row.values.get("csa_mm2", np.nan)
        is_asked = (row.image.contrast, row.method) == (contrast, method) and not UNTRUSTED & set(row.flags)
        if is_asked and row.level and bool(number) == has_single and np.isfinite(area):
            found.setdefault((number, row.level), {}).setdefault(row.image.subject, []).append(area)
    return {level: {s: float(np.mean(v)) for s, v in people.items()} for (_, level), people in sorted(found.items())}


def _draw_people(place: Axes, areas: Areas, color: str) -> None:
    """Draw a thin line for every person (quartiles if there are many) and a thick one for the mean, with n by level."""
    levels = list(areas)
    subjects = sorted({subject for people in areas.values() for subject in people})
    if len(subjects) > MAX_POINTS:
        low, high = np.transpose([np.percentile(list(areas[level].values()), [25, 75]) for level in levels])
        place.fill_between(range(len(levels)), low, high, color=color, alpha=0.18, linewidth=0)
        subjects = []
    for subject in subjects:
        place.plot(range(len(levels)), [areas[level].get(subject, np.nan) for level in levels], color=color, lw=0.6,
                   alpha=0.4, marker=".", ms=2)  # fmt: skip
    place.plot(range(len(levels)), [np.mean(list(areas[level].values())) for level in levels], color=color, lw=2.5,
               marker="o", ms=5)  # fmt: skip
    place.set_xticks(range(len(levels)), [f"{level}\nn = {len(areas[level])}" for level in levels])
    place.set_ylabel(f"CSA, {AREA_UNIT}")
    areas_mm2 = [area for people in areas.values() for area in people.values()]
    place.set_ylim(0, 1.1 * max(areas_mm2, default=1.0))


def _draw_difference(place: Axes, a: Areas, b: Areas) -> None:
    """Draw each person's difference at each level, with its mean and limits of agreement (1.96 SD)."""
    levels = [level for level in a if a[level].keys() & b.get(level, {}).keys()]
    names = []
    for x, level in enumerate(levels):
        shared = sorted(a[level].keys() & b[level].keys())
        gaps = np.array([a[level][subject] - b[level][subject] for subject in shared])
        if len(gaps) <= MAX_POINTS:
            place.plot(np.full(len(gaps), x), gaps, ".", color="0.55", ms=4)
        place.plot([x - 0.3, x + 0.3], [gaps.mean()] * 2, color="0.1", lw=2)
        if len(gaps) > 1:
            for limit in gaps.mean() + np.array([-1.96, 1.96]) * gaps.std(ddof=1):
                place.plot([x - 0.2, x + 0.2], [limit] * 2, color="0.1", lw=1, ls="--")
        names.append(f"{level}\nn = {len(gaps)}")
    place.axhline(0, color="0.7", lw=0.8)
    place.set_xticks(range(len(levels)), names)
    place.set_ylabel(f"difference of CSA, {AREA_UNIT}")
