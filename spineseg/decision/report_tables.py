"""The tables of decision.md that come after the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spineseg.decision.wording import (
    format_interval,
    format_list,
    format_margin,
    format_number,
    format_table,
    format_value,
)
from spineseg.measures import AREA_UNIT
from spineseg.spelling import name_some


def _verdict_of(row: Mapping[str, Any]) -> str:
    """Say what an endpoint shows by itself."""
    if row["favours"]:
        return f"{row['favours']} better"
    return "equal" if row["is_within_margin"] else "open"


def endpoint_section(d: Mapping[str, Any]) -> list[str]:
    """Table of every endpoint of every pair of methods."""
    if not d["endpoints"]:
        return []
    rows = []
    for row in d["endpoints"]:
        key, (first, second) = row["endpoint"], row["methods"]
        words = row["words"] + (f", {row['unit']}" if row["unit"] else "")
        bias = key == "bias"
        means = [format_value(row["means"][m], key) for m in (first, second)]
        if bias and 0 in row["means"].values():
            means = ["-", "-"]  # without references only their difference is known
        interval = format_interval(row["ci90"], key)
        gap = format_value(row["difference"], key, signed=True) + (f" ({interval})" if interval else "")
        if row.get("ratio") is not None:
            gap += f"; ratio {row['ratio']:.2f}"
        says = _verdict_of(row)
        low, high = (limit if limit is not None else 0.0 for limit in row["ci90"])
        if bias and (low > row["margin"] or high < -row["margin"]):
            says = "areas differ"
        if key == "predicted_dice":
            says = f"for a look only: {says}"
        says += "" if row["is_known_of_enough"] else ", too few people"
        cells = [words, str(row["n"]), f"{first} {means[0]}, {second} {means[1]}", gap]
        rows.append([*cells, f"±{format_margin(row['margin'], key)}", says])
    header = ["Judged by", "People", "Values", "Advantage of the first (90 % interval)", "Counts as none", "Says"]
    text = (
        "Intervals are those of the rule. They are wider than a formula's where a small pilot may have missed the "
        "tail: the SD between people counts as at least three margins, so an interval may leave a score's range. A "
        "limit of exactly 0, or of exactly the margin, means that random exchanges of the methods within people reach "
        "as far."
    )
    return ["## Every endpoint", format_table(header, rows), text]


def part_section(d: Mapping[str, Any], name: str) -> list[str]:
    """Table of the ruling endpoint by contrast or by site."""
    rows, key = [], d["endpoint"]
    for label, row in d[f"per_{name}"].items():
        gap = "-"
        if row["difference"] is not None:
            interval = format_interval(row["ci90"], key)
            value = format_value(row["difference"], key, signed=True)
            gap = f"{value} ({interval})" if interval else "-" if row["n"] < 2 else value  # one person has no spread
        more = []
        if name == "contrast":
            failed = ", ".join(f"{m} {n}" for m, n in row["n_failed"].items())
            alone = f"{row['method']} ({row['verdict']})" if row["method"] else row["verdict"] or "-"
            more = [str(row["n_images"]), failed, alone]
        rows.append([label, str(row["n"]), gap, *more])
    if len(rows) < 2:
        return []
    pair = f"Advantage of {d['best']} over {d['runner_up']} (90 % interval)" if d["runner_up"] else "Advantage"
    header = [name.capitalize(), "People compared", pair]
    header += ["Images", "Failed", "The rule in this contrast alone"] if name == "contrast" else []
    return [f"## By {name}", format_table(header, rows)]


def error_section(d: Mapping[str, Any]) -> list[str]:
    """Table of the errors of the area against references."""
    if not d["area_errors"]:
        return []
    rows = [
        [
            method,
            str(row["n"]),
            *(_with_interval(row[name], row[name.replace("_pct", "") + "_ci95"], 1) for name in ("bias_pct", "sd_pct")),
            _with_interval(row["slope"], row["slope_ci95"], 2),
        ]
        for method, row in d["area_errors"].items()
    ]
    header = ["Method", "People", "Bias, % (95 % interval)", "SD of the error, %", "Slope against the reference"]
    text = (
        "Bias is the mean error; if it is constant, it cancels between groups and over time. The SD of the error "
        "remains, and more of it needs more people. A slope below 1 means that small cords are drawn too large, which "
        "hides atrophy."
    )
    return ["## Errors of the area against references", format_table(header, rows), text]


def _with_interval(value: float | None, limits: Sequence[float | None], digits: int) -> str:
    """Format a value with its interval, to the same digits."""
    known = [f"{round(x, digits) + 0.0:.{digits}f}" for x in (value, *limits) if x is not None]  # no -0.0
    return f"{known[0]} ({known[1]} to {known[2]})" if len(known) == 3 else format_number(value, digits)


def reliability_section(d: Mapping[str, Any]) -> list[str]:
    """Table of the methods' repeatability."""
    if not d["reliability"]:
        return []
    rows = []
    for method, r in d["reliability"].items():
        repeats = [str(r["n_repeated"]), _with_interval(r["repeat_sd_pct"], r["repeat_sd_ci95"], 2)]
        repeats.append(_with_interval(r["icc"], r["icc_ci95"], 2))
        change = _with_interval(r["smallest_detectable_change_pct"], r["smallest_detectable_change_ci95"], 1)
        if r["smallest_detectable_change_pct"] is None and r["n_repeated"]:
            change = "needs ten people"
        contrasts = [str(r["n_contrasts"]), _with_interval(r["inter_contrast_sd_mm2"], r["inter_contrast_sd_ci95"], 2)]
        rows.append([method, *repeats, change, *contrasts])
    header = ["Method", "People with repeats", "Within-person SD, %", "ICC", "Smallest detectable change, %"]
    header += ["People with several contrasts", f"SD between contrasts, {AREA_UNIT}"]
    text = (
        "On the same stretch of cord, with 95 % intervals. Masks that are too small everywhere look consistent too, so "
        "do not rely on this alone."
    )
    return ["## Repeatability of each method", format_table(header, rows), text]


def study_section(d: Mapping[str, Any]) -> list[str]:
    """Table of the number of people that the study needs."""
    plan = d["parameters"]
    if not d["study"]:
        return ["## What it means for the study", _no_study(d)] if d["n_images"] else []
    rows = []
    for row in d["study"]:
        needed = "-" if row["people_per_group"] is None else str(row["people_per_group"])
        low, high = row["people_per_group_ci95"]
        if low is not None:
            needed += f" ({low} to {high})" if high is not None else f" ({low} to no limit)"
        error = "-" if row["error_sd_pct"] is None else f"{row['error_sd_pct']:.1f}"
        between = _with_interval(row["sd_pct"], row["sd_ci95"], 1)
        slope = _with_interval(row["slope"], row["slope_ci95"], 2)
        rows.append([row["contrast"], row["method"], str(row["n"]), between, error, slope, needed])
    is_change = plan["aim"] == "change"
    what = "of a change" if is_change else "between people"
    header = [
        "Contrast",
        "Method",
        "People measured",
        f"SD {what}, %",
        "of it the method's error, %",
        "Slope",
        "People per group",
    ]
    seen = "changes" if is_change else "means"
    text = (
        f"To see a difference of {plan['effect_pct']:g} % in CSA between the {seen} of two groups at "
        f"{100 * plan['power']:.0f} % power (two-sided, 5 %), with more people to replace failures; 95 % intervals. "
        "All methods are measured in the same people, in whom none failed; these must be like the study's. Each method "
        "shows the effect multiplied by its slope against the references of all contrasts"
    )
    text += "; if a slope is not known, it is taken to be 1." if any(r["slope"] is None for r in d["study"]) else "."
    if is_change:
        text += (
            " The SD of a change is that of the difference of two scans of one person, from the declared repeats: it is"
            " measurement error alone. True changes differ between people too, which adds to it: the study needs more"
            " people than this."
        )
    if any(row["area"] == "whole mask" for row in d["study"]):
        text += (
            " Areas are means over whole masks, which differ between people in what they show: at a level"
            " (`decision.level`, with labels of discs) people differ less."
        )
    return ["## What it means for the study", format_table(header, rows), text]


def _no_study(d: Mapping[str, Any]) -> str:
    """Say why no number of people is given."""
    if d["parameters"]["aim"] == "change":
        return (
            "People per group for a change follow from repeats: six people scanned twice at one time, declared in "
            "`decision.repeats`, in whom no method failed. There are too few here."
        )
    return "People per group are computed from six people with areas by every method in one contrast; there are fewer."


def _capital(reason: str) -> str:
    """Return a reason with a capital letter, unless a path comes first."""
    return reason if "/" in reason.split(" ")[0] else f"{reason[:1].upper()}{reason[1:]}"


def left_out_section(d: Mapping[str, Any]) -> list[str]:
    """List of the images and people that did not take part."""
    if not d["excluded"]:
        return []
    by_reason: dict[str, list[str]] = {}
    for row in d["excluded"]:
        by_reason.setdefault(row["reason"], []).append(row.get("image_id") or row.get("participant", ""))
    lines = [f"{_capital(reason)}: {name_some(names)}." for reason, names in by_reason.items()]
    return ["## Left out", format_list(lines)]
