"""The decision's figure: how many people the study needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spineseg.decision.study_size import people_per_group
from spineseg.report.palette import print_color_of

N_EFFECTS = 40
"""Number of points of a curve."""


@dataclass(frozen=True)
class SampleSizeRow:
    """A point of a curve: people per group who are needed for an effect, with the limits of the 95 % interval.

    A limit is None where no number of people is enough.
    """

    contrast: str
    method: str
    n_pilots: int
    effect_pct: float
    people: float
    people_low: float
    people_high: float | None


SAMPLE_SIZE_COLUMNS = tuple(field.name for field in fields(SampleSizeRow))


def sample_size_rows(decision: Mapping[str, Any]) -> list[SampleSizeRow]:
    """Return the points of the figure, by contrast and method."""
    settings = decision["parameters"]
    found = []
    for row in decision["study"]:
        low, high = row.get("sd_over_slope_ci95", [None, None])
        if not row["sd_pct"] or low is None:
            continue
        spreads = (row["sd_pct"] / (row["slope"] or 1.0), low, math.inf if high is None else high)
        for effect in np.linspace(settings["effect_pct"] / 2, settings["effect_pct"] * 2, N_EFFECTS).tolist():
            people, least, most = (people_per_group(sd, effect, settings["power"], row["failures"]) for sd in spreads)
            limit = most if math.isfinite(most) else None
            found.append(SampleSizeRow(row["contrast"], row["method"], row["n"], effect, people, least, limit))
    return found


def draw_sample_size(decision: Mapping[str, Any]) -> Figure | None:
    """Draw the people per group against the effect that the study wants to detect, by contrast and method."""
    curves: dict[str, dict[str, list[SampleSizeRow]]] = {}
    for row in sample_size_rows(decision):
        curves.setdefault(row.contrast, {}).setdefault(row.method, []).append(row)
    if not curves:
        return None
    points = [row for of_methods in curves.values() for rows in of_methods.values() for row in rows]
    top = 2 * max(row.people_high or row.people for row in points)
    figure = Figure(figsize=(max(5.5, 3.2 * len(curves)), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    effect = f"difference in {'the change of ' * (decision['parameters'].get('aim') == 'change')}CSA, %"
    axes = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for panel, (contrast, of_methods) in zip(axes, curves.items(), strict=True):
        for number, (method, rows) in enumerate(of_methods.items()):
            effects, color = [row.effect_pct for row in rows], print_color_of(method, number)
            low = [row.people_low for row in rows]
            high = [top if row.people_high is None else row.people_high for row in rows]
            panel.fill_between(effects, low, high, color=color, alpha=0.15, linewidth=0)
            style, label = ("-", "--", ":", "-.")[number % 4], f"{method} (n = {rows[0].n_pilots})"
            panel.plot(effects, [row.people for row in rows], color=color, linestyle=style, label=label)
        panel.axvline(decision["parameters"]["effect_pct"], color="#9AA5B1", linewidth=1)
        panel.set(title=contrast, xlabel=effect, yscale="log")
        panel.legend(fontsize=8)
    axes[0].set_ylabel("people per group")
    axes[0].set_ylim(top=top)
    return figure
