"""The decision's figure: how many people the study needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spineseg.decision.study_size import people_per_group
from spineseg.report.palette import print_color_of

N_EFFECTS = 40
"""Points of a curve."""


def draw_sample_size(decision: Mapping[str, Any]) -> Figure | None:
    """Draw the people per group against the effect that the study wants to see, by contrast and method."""
    rows = [row for row in decision["study"] if row["sd_pct"] and None not in row.get("sd_over_slope_ci95", [None])]
    if not rows:
        return None
    contrasts, settings = list(dict.fromkeys(row["contrast"] for row in rows)), decision["parameters"]
    effects = np.linspace(settings["effect_pct"] / 2, settings["effect_pct"] * 2, N_EFFECTS)
    figure = Figure(figsize=(max(5.5, 3.2 * len(contrasts)), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(contrasts), squeeze=False, sharey=True)[0]
    for panel, contrast in zip(axes, contrasts, strict=True):
        for number, row in enumerate(row for row in rows if row["contrast"] == contrast):
            low_sd, high_sd = row["sd_over_slope_ci95"]
            low, middle, high = (
                [people_per_group(sd, effect, settings["power"], row["failures"]) for effect in effects]
                for sd in (low_sd, row["sd_pct"] / (row["slope"] or 1.0), high_sd)
            )
            color = print_color_of(row["method"], number)
            label = f"{row['method']} (n = {row['n']})"
            panel.fill_between(effects, low, high, color=color, alpha=0.15, linewidth=0)
            panel.plot(effects, middle, color=color, linestyle=("-", "--", ":", "-.")[number % 4], label=label)
        panel.axvline(settings["effect_pct"], color="#9AA5B1", linewidth=1)
        panel.set(title=contrast, xlabel="difference in CSA, %", yscale="log")
        panel.legend(fontsize=8)
    axes[0].set_ylabel("people per group")
    return figure
