"""The charts of a study: agreement of the methods, areas, failures, time and memory.

Every chart takes the tables of a stage (`StudyTables`) and a function that provides the axes. It returns the figure, or
None where the tables hold nothing to draw. Few images are drawn as points, many as distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from spineseg.measures import MEASURES
from spineseg.report.frames import StudyTables, contrasts_of
from spineseg.report.palette import print_color_of

STATUS_STYLE = {
    "ok": ("#7CB89A", ""),
    "partial": ("#F2C14E", "//"),
    "empty": ("#E07A5F", "xx"),
    "failed": ("#8E2F2A", ".."),
}
"""Status to colour and hatch, so that statuses differ in grey print too."""

CONTRAST_COLORS = ("#7A4FA3", "#3E4650", "#A3195B", "#6B7F00")
"""Colours of contrasts; none is a method's colour."""

BOXED: dict[str, Any] = {"frameon": True, "framealpha": 1.0, "edgecolor": "#9AA5B1"}
"""Options of a legend inside the axes: without a box its markers look like data."""

MARKERS = ("o", "s", "^", "D", "v", "P")
N_POSITIONS = 25
"""Positions along the cord, between which curves are interpolated; 15 slices are enough for most of them."""

MIN_PROFILE_SLICES = 4
"""Least number of slices for a curve of the area along the cord."""

MIN_PEOPLE = 3
"""Least number of people for a chart of one contrast against another."""

MIN_LIMITS = 3
"""Least number of images for limits of agreement: an SD of two values is only their distance."""

AREA_UNIT = MEASURES["csa_mean_mm2"].unit
JITTER = 0.09  # of a category's width, so that equal values do not hide each other
BOXES: dict[str, Any] = {
    "fill": False,
    "fliersize": 0,
    "whis": (5, 95),
    "linewidth": 1.2,
    "legend": False,
    "vert": None,
}
"""Options of box plots. seaborn 0.13 passes ``vert=``, deprecated by matplotlib; None lets ``orientation`` decide."""


MAX_POINTS = 400
"""Most points of one colour in one panel. More would hide each other and make the file large, so that a distribution is
drawn instead."""

N_BINS = 12
"""Bins of a median line, each with about a tenth of the people."""

Place = Callable[..., tuple[FigureBase, list[Axes]]]
"""Function that takes width and height in inches, columns, rows and options of the axes, and returns a figure with its
axes."""


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with its axes, row by row; it does not use pyplot, whose state is global."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).ravel())


def draw_dice(study: StudyTables, place: Place = new_figure) -> FigureBase | None:
    """Draw Dice by contrast: against the reference per method, and between the methods."""
    metrics, agreement = study.metrics, study.agreement
    scored, paired = metrics[metrics["dice"].notna()], agreement[agreement["dice"].notna()]
    panels = [part for part in (scored, paired) if len(part)]
    if not panels:
        return None
    widths = [max(2, len(contrasts_of(part))) for part in panels]
    figure, axes = place(9, 3.9, len(panels), sharey=True, width_ratios=widths)
    if len(scored):
        _draw_groups(axes[0], scored, "dice", study.methods)
        axes[0].set(title="Against the reference", ylabel="Dice")
    if len(paired):
        pairs = paired.assign(method=paired["method_a"] + " and " + paired["method_b"])
        _draw_groups(axes[-1], pairs, "dice", sorted(set(pairs["method"])), colors=["#5F6B7A", "#9AA5B1", "#3E4650"])
        axes[-1].set(title="Between methods")
        axes[-1].axhline(0.7, color="#8E2F2A", linewidth=1, linestyle=":")
        axes[-1].text(1.0, 0.705, "below: one has failed", transform=axes[-1].get_yaxis_transform(),
                      color="#8E2F2A", fontsize=8, ha="right", va="bottom")  # fmt: skip
    axes[0].set_ylabel("Dice")
    axes[0].set_ylim(min(0.6, *(part["dice"].min() - 0.03 for part in panels)), 1.005)
    return figure


def _draw_groups(
    axes: Axes, frame: pd.DataFrame, value: str, groups: list[str], *, colors: list[str] | None = None
) -> None:
    """Draw boxes and points of `value` by contrast, one colour and marker per group."""
    contrasts = contrasts_of(frame)
    colors = colors or [print_color_of(name, number) for number, name in enumerate(groups)]
    palette = {name: colors[number % len(colors)] for number, name in enumerate(groups)}
    common = {"data": frame, "x": "contrast", "y": value, "hue": "method", "order": contrasts, "hue_order": groups}
    sns.boxplot(**common, **BOXES, ax=axes, palette=palette, width=0.7, gap=0.15, orientation="vertical")
    rng = np.random.default_rng(0)
    for number, name in enumerate(groups):
        part = frame[frame["method"] == name]
        centre = (number - (len(groups) - 1) / 2) * 0.7 / len(groups)
        x = part["contrast"].map({c: i for i, c in enumerate(contrasts)}) + centre
        x = x + rng.uniform(-JITTER, JITTER, len(part))
        few = part["contrast"].map(part["contrast"].value_counts()) <= MAX_POINTS
        axes.scatter(x[few], part[value][few], s=16, color=palette[name], alpha=0.75, linewidths=0, label=name,
                     marker=MARKERS[number % len(MARKERS)])  # fmt: skip
    labels = [f"{c}\nn = {frame[frame['contrast'] == c]['image_id'].nunique()}" for c in contrasts]
    axes.set_xticks(range(len(contrasts)), labels)
    axes.set(xlabel="", ylabel="")
    axes.legend(loc="lower left", fontsize=9, **BOXED)


MAX_PAIRS = 6
"""Most pairs of methods that are drawn: all pairs of four methods; more do not fit on a page."""


def draw_bland_altman(study: StudyTables, place: Place = new_figure) -> FigureBase | None:
    """Draw the difference of two methods' CSA against its mean, with bias and limits of agreement, pair by pair."""
    pairs = {(a, b): _csa_pairs(study, a, b) for a, b in combinations(study.methods, 2)}
    drawn = [(pair, frame) for pair, frame in pairs.items() if len(frame) > 1][:MAX_PAIRS]
    if not drawn:
        return None
    n_columns, n_rows = min(2, len(drawn)), -(-len(drawn) // 2)
    size = (6.4, 4.2) if len(drawn) == 1 else (9.5, 3.6 * n_rows)
    figure, panels = place(*size, n_columns, n_rows)
    for axes, ((first, second), frame) in zip(panels, drawn, strict=False):
        _draw_differences(axes, frame, first, second)
    for axes in panels[len(drawn) :]:
        axes.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        panels[0].legend(handles, labels, fontsize=9, loc="best", **BOXED)
    return figure


def _draw_differences(axes: Axes, pairs: pd.DataFrame, first: str, second: str) -> None:
    """Draw one pair of methods."""
    from spineseg.decision.bland_altman import bland_altman

    is_many = len(pairs) > MAX_POINTS
    if is_many:
        counts = axes.hexbin(pairs["mean"], pairs["difference"], gridsize=30, mincnt=1, cmap="Blues", linewidths=0.1)
        axes.figure.colorbar(counts, ax=axes, label="images", pad=0.12)
    for number, contrast in enumerate([] if is_many else contrasts_of(pairs)):
        color = CONTRAST_COLORS[number % len(CONTRAST_COLORS)]
        part = pairs[pairs["contrast"] == contrast]
        axes.scatter(part["mean"], part["difference"], s=26, alpha=0.8, linewidths=0, label=contrast,
                     color=color, marker=MARKERS[number % len(MARKERS)])  # fmt: skip
    axes.axhline(0, color="#9AA5B1", linewidth=1)
    axes.set(xlabel=f"mean CSA of both methods, {AREA_UNIT}", ylabel=f"{first} - {second}, {AREA_UNIT}",
             title=f"n = {len(pairs)}, too few for limits of agreement")  # fmt: skip
    if len(pairs) < MIN_LIMITS:
        return
    limits = bland_altman(pairs["difference"].to_numpy())
    low, high = limits["loa_low"], limits["loa_high"]
    axes.axhspan(low, high, color="#5F6B7A", alpha=0.07, linewidth=0)
    for value, name in ((limits["bias"], "bias"), (low, "lower limit"), (high, "upper limit")):
        axes.axhline(value, color="#3E4650", linewidth=1.2, linestyle="-" if name == "bias" else "--")
        axes.text(1.0, value, f" {value:+.1f}\n {name}", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_title(f"bias and 95 % limits of agreement (n = {len(pairs)})")


def _csa_pairs(study: StudyTables, first: str, second: str) -> pd.DataFrame:
    """Return mean and difference of two methods' CSA by image, on the slices common to both where these are known."""
    wide = study.metrics.pivot_table("csa_mean_mm2", ["image_id", "contrast"], "method").reset_index()
    if not {first, second} <= set(wide.columns):
        return pd.DataFrame()
    wide = wide.dropna(subset=[first, second])
    wide = wide.assign(mean=(wide[first] + wide[second]) / 2, difference=wide[first] - wide[second])
    for a, b, sign in ((first, second, 1), (second, first, -1)):
        known = study.agreement[(study.agreement["method_a"] == a) & (study.agreement["method_b"] == b)]
        on_common = wide["image_id"].map(sign * known.set_index("image_id")["csa_difference_mm2"])
        wide["difference"] = on_common.fillna(wide["difference"])
    return wide


def draw_csa_along_cord(study: StudyTables, place: Place = new_figure) -> FigureBase | None:
    """Draw the area along the cord: median and interquartile range by method, one panel per contrast."""
    if not len(study.slices) or not len(study.metrics):
        return None
    contrast_of = study.metrics.drop_duplicates("image_id").set_index("image_id")["contrast"]
    slices = study.slices.assign(contrast=study.slices["image_id"].map(contrast_of))
    slices = slices[slices["csa_mm2"].notna() & slices["contrast"].notna()]
    contrasts = [c for c in contrasts_of(slices)]
    profiles = {c: _profiles(slices[slices["contrast"] == c]) for c in contrasts}
    contrasts = [c for c in contrasts if profiles[c]]
    if not contrasts:
        return None
    figure, axes = place(max(5.5, 3.0 * len(contrasts)), 3.8, len(contrasts), sharey=True)
    position = np.linspace(0, 100, N_POSITIONS)
    for panel, contrast in zip(axes, contrasts, strict=True):
        for number, method in enumerate(study.methods):
            curves = profiles[contrast].get(method)
            if curves is None:
                continue
            low, middle, high = _quartiles_along(curves)
            color = print_color_of(method, number)
            panel.fill_between(position, low, high, color=color, alpha=0.18, linewidth=0)
            panel.plot(position, middle, color=color, linewidth=1.8, linestyle=("-", "--", ":", "-.")[number % 4],
                       label=f"{method} (n = {len(curves)})")  # fmt: skip
        panel.set(title=contrast, xlabel="from the upper end, %")
        panel.legend(fontsize=8, loc="best", **BOXED)
    axes[0].set_ylabel(f"CSA, {AREA_UNIT}")
    axes[0].set_ylim(bottom=0)
    return figure


def _quartiles_along(curves: np.ndarray) -> np.ndarray:
    """Return quartiles (3, N_POSITIONS) of curves (n, N_POSITIONS); NaN where no curve has a value."""
    reached = np.isfinite(curves).any(axis=0)
    found = np.full((3, curves.shape[1]), np.nan)
    found[:, reached] = np.nanpercentile(curves[:, reached], [25, 50, 75], axis=0)
    return found


def _profiles(slices: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the area of every image on common positions, (n, N_POSITIONS) per method.

    Position 0 is the uppermost slice in which any method found cord, 100 the lowest; beyond a
    mask's own ends its curve is NaN.
    """
    ends = slices.groupby("image_id")["slice"].agg(["min", "max"])
    extent = dict(zip(ends.index, zip(ends["min"].tolist(), ends["max"].tolist(), strict=True), strict=True))
    curves: dict[str, list[np.ndarray]] = {}
    for (image, method), part in slices.sort_values("slice").groupby(["image_id", "method"]):
        low, high = extent[image]
        if high - low + 1 < MIN_PROFILE_SLICES:
            continue
        at = high - np.linspace(0, 1, N_POSITIONS) * (high - low)
        curve = np.interp(at, part["slice"], part["csa_mm2"], left=np.nan, right=np.nan)
        curves.setdefault(str(method), []).append(curve)
    return {method: np.stack(found) for method, found in curves.items()}


def draw_contrast_agreement(study: StudyTables, place: Place = new_figure) -> FigureBase | None:
    """Draw each person's CSA in one contrast against another: a precise method finds the same area in both."""
    contrasts = contrasts_of(study.metrics)
    if len(contrasts) < 2 or not study.metrics["csa_mean_mm2"].notna().any():
        return None
    wide = study.metrics.pivot_table("csa_mean_mm2", ["subject", "session", "method"], "contrast").reset_index()
    counted = [(int(wide.dropna(subset=[a, b])["subject"].nunique()), a, b)
               for i, a in enumerate(contrasts) for b in contrasts[i + 1 :] if {a, b} <= set(wide.columns)]  # fmt: skip
    n, x, y = max(counted, default=(0, "", ""), key=lambda item: item[0])
    if n < MIN_PEOPLE:
        return None
    figure, (axes,) = place(4.8, 4.4)
    for number, method in enumerate(study.methods):
        part = wide[wide["method"] == method].dropna(subset=[x, y])
        look: dict[str, Any] = {"color": print_color_of(method, number), "label": f"{method} (n = {len(part)})"}
        if len(part) > MAX_POINTS:
            _draw_median(axes, part[x], part[y], **look)
        else:
            marker = MARKERS[number % len(MARKERS)]
            axes.scatter(part[x], part[y], s=28, alpha=0.8, linewidths=0, marker=marker, **look)
    both = wide[[x, y]].dropna().to_numpy()
    ends = [both.min() - 3, both.max() + 3]
    axes.plot(ends, ends, color="#9AA5B1", linewidth=1, zorder=0)
    axes.set(
        xlim=ends,
        ylim=ends,
        xlabel=f"CSA in {x}, {AREA_UNIT}",
        ylabel=f"CSA in {y}, {AREA_UNIT}",
        title="The same people in two contrasts",
    )
    axes.set_aspect("equal")
    axes.legend(fontsize=9, **BOXED)
    return figure


def _draw_median(axes: Axes, x: pd.Series, y: pd.Series, **look: Any) -> None:
    """Draw the median and the quartiles of y in bins of x with equal numbers of points."""
    bins = pd.qcut(x, N_BINS, duplicates="drop")
    low, middle, high = (y.groupby(bins, observed=True).quantile(q) for q in (0.25, 0.5, 0.75))
    at = x.groupby(bins, observed=True).median()
    axes.plot(at, middle, linewidth=1.8, **look)
    axes.fill_between(at, low, high, color=look["color"], alpha=0.18, linewidth=0)


def draw_failures(study: StudyTables, place: Place = new_figure) -> FigureBase | None:
    """Draw the number of images of each status, by method and contrast."""
    if not len(study.metrics):
        return None
    counts = study.metrics.groupby(["contrast", "method", "status"]).size().unstack(fill_value=0)
    bars = [(c, m) for c in contrasts_of(study.metrics) for m in study.methods if (c, m) in counts.index]
    figure, (axes,) = place(7.4, 0.9 + 0.34 * len(bars))
    start = np.zeros(len(bars))
    for status, (color, hatch) in STATUS_STYLE.items():
        width = np.array([counts.at[bar, status] if status in counts else 0 for bar in bars], dtype=float)
        drawn = axes.barh(
            range(len(bars)), width, left=start, color=color, hatch=hatch, edgecolor="white", label=status
        )
        labels = axes.bar_label(drawn, [f"{n:.0f}" if n else "" for n in width], label_type="center", fontsize=8,
                                color="white" if status == "failed" else "#202020")  # fmt: skip
        for label in labels:
            label.set_bbox({"facecolor": color, "edgecolor": "none", "pad": 3})  # legible on the hatching
        start += width
    axes.set_yticks(range(len(bars)), [f"{c}  {m}, n = {int(counts.loc[c, m].sum())}" for c, m in bars])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlabel="images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return figure


def draw_cost(study: StudyTables, place: Place = new_figure) -> FigureBase | None:
    """Draw seconds and peak memory per image, by method."""
    finished = study.metrics[study.metrics["status"] != "failed"]
    panels = [name for name in ("seconds", "peak_mb") if (finished[name] > 0).any()]
    if not panels:
        return None
    figure, axes = place(4.2 * len(panels), 0.9 + 0.62 * len(study.methods), len(panels))
    rng = np.random.default_rng(0)
    for panel, name in zip(axes, panels, strict=True):
        done = finished[finished[name] > 0]
        palette = {method: print_color_of(method, number) for number, method in enumerate(study.methods)}
        sns.boxplot(done, x=name, y="method", hue="method", order=study.methods, hue_order=study.methods,
                    palette=palette, ax=panel, width=0.55, orientation="horizontal", **BOXES)  # fmt: skip
        for number, method in enumerate(study.methods):
            values = done[done["method"] == method][name]
            if len(values) <= MAX_POINTS:
                panel.scatter(values, number + rng.uniform(-0.16, 0.16, len(values)), s=12, alpha=0.6, linewidths=0,
                              color=palette[method], marker=MARKERS[number % len(MARKERS)])  # fmt: skip
        n_images = [int((done["method"] == method).sum()) for method in study.methods]
        panel.set_yticks(range(len(n_images)), [f"{m}\nn = {n}" for m, n in zip(study.methods, n_images, strict=True)])
        panel.set(xlabel=MEASURES[name].heading, ylabel="")
        panel.set_xlim(left=0)
    return figure
