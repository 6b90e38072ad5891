"""The figure of areas by vertebral level: every person, their mean, and how far two methods differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from spineseg.measures import AREA_UNIT
from spineseg.report.palette import print_color_of
from spineseg.studyfolder.csa import UNTRUSTED, CsaRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Areas = dict[str, dict[str, float]]
"""Level to subject to area, mm²."""


def draw_levels(rows: Sequence[CsaRow]) -> Figure | None:
    """Draw the area along the cord by level, and the methods' difference at each level (Bland-Altman).

    Parameters
    ----------
    rows : sequence of CsaRow
        Of ``levels.tsv``, or of ``csa.tsv`` where a version before it left no ``levels.tsv``.

    Returns
    -------
    Figure or None
        A row of panels for each contrast; None where no level was measured. Single levels are drawn where there are
        some, else the ranges and stretches that the study asks for.
    """
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row.method for row in rows if row.method))
    contrasts = [
        c
        for c in dict.fromkeys(row.image.contrast for row in rows)
        if methods and any(_areas(rows, c, m) for m in methods)
    ]
    if not contrasts:
        return None
    pairs = list(combinations(methods, 2))
    figure = Figure(figsize=(4.2 * (len(methods) + len(pairs)), 3.2 * len(contrasts)), layout="constrained")
    axes = figure.subplots(len(contrasts), len(methods) + len(pairs), squeeze=False)
    for contrast, places in zip(contrasts, axes, strict=True):
        for number, (method, place) in enumerate(zip(methods, places[: len(methods)], strict=True)):
            _draw_people(place, _areas(rows, contrast, method), print_color_of(method, number))
            place.set_title(f"{contrast}: {method}")
        for (a, b), place in zip(pairs, places[len(methods) :], strict=True):
            _draw_difference(place, _areas(rows, contrast, a), _areas(rows, contrast, b))
            place.set_title(f"{contrast}: {a} minus {b}")
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
    """Draw every person thin and the mean thick, with the number of people at each level."""
    levels = list(areas)
    for subject in sorted({subject for people in areas.values() for subject in people}):
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
        place.plot(np.full(len(gaps), x), gaps, ".", color="0.55", ms=4)
        place.plot([x - 0.3, x + 0.3], [gaps.mean()] * 2, color="0.1", lw=2)
        if len(gaps) > 1:
            for limit in gaps.mean() + np.array([-1.96, 1.96]) * gaps.std(ddof=1):
                place.plot([x - 0.2, x + 0.2], [limit] * 2, color="0.1", lw=1, ls="--")
        names.append(f"{level}\nn = {len(gaps)}")
    place.axhline(0, color="0.7", lw=0.8)
    place.set_xticks(range(len(levels)), names)
    place.set_ylabel(f"difference of CSA, {AREA_UNIT}")
