"""The tables of decision.md that come after the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spineseg.decision.wording import (
    format_list,
    format_number,
    format_p,
    format_signed,
    format_table,
    name_some,
)
from spineseg.measures import MEASURES


def contrast_section(d: Mapping[str, Any]) -> list[str]:
    """Table by contrast."""
    if not d["per_contrast"]:
        return []
    rows = []
    for contrast, row in d["per_contrast"].items():
        interval = row["ci95"]
        difference = "-" if row["difference"] is None else format_signed(row["difference"])
        if interval and interval[0] is not None:
            difference += f" ({format_signed(interval[0])} to {format_signed(interval[1])})"
        failed = ", ".join(f"{m} {n}" for m, n in row["n_failed"].items())
        rows.append(
            [
                contrast,
                str(row["n_images"]),
                failed,
                MEASURES[row["endpoint"]].words,
                difference,
                format_p(row["p_holm"]),
            ]
        )
    pair = f"{d['best']} minus {d['runner_up']}" if d["runner_up"] else "Difference"
    header = ["Contrast", "Images", "Failed", "Judged by", f"Advantage ({pair})", "p (Holm)"]
    return ["## By contrast", format_table(header, rows)]


def secondary_section(d: Mapping[str, Any]) -> list[str]:
    """Table of the further metrics of the pair."""
    if not d["secondary"]:
        return []
    best, rival = d["best"], d["runner_up"]
    rows = [
        [
            MEASURES[name].heading,
            format_number(r["means"][best], 3),
            format_number(r["means"][rival], 3),
            r["better"] or "-",
            format_p(r["p_holm"]),
        ]
        for name, r in d["secondary"].items()
    ]
    header = ["Measure (mean over participants)", best, rival, "Better", "p (Holm)"]
    return ["## Further measures (they do not decide)", format_table(header, rows)]


def reliability_section(d: Mapping[str, Any]) -> list[str]:
    """Table of how the methods repeat themselves."""
    if not d["reliability"]:
        return []
    rows = []
    for method, r in d["reliability"].items():
        icc = format_number(r["icc"], 2)
        if r["icc_low"] is not None:
            icc += f" ({r['icc_low']:.2f} to {r['icc_high']:.2f})"
        rows.append(
            [
                method,
                str(r["n_repeated"]),
                format_number(r["scan_rescan_cov_pct"], 2),
                icc,
                format_number(r["minimal_detectable_change_mm2"], 1),
                str(r["n_contrasts"]),
                format_number(r["inter_contrast_sd_mm2"], 2),
            ]
        )
    header = ["Method", "People scanned again", "CoV, %", "ICC", "Smallest detectable change, mm²"]
    header += ["People with several contrasts", "SD between contrasts, mm²"]
    return ["## How each method repeats itself", format_table(header, rows)]


def left_out_section(d: Mapping[str, Any]) -> list[str]:
    """List of what did not take part."""
    if not d["excluded"]:
        return []
    by_reason: dict[str, list[str]] = {}
    for row in d["excluded"]:
        by_reason.setdefault(row["reason"], []).append(row.get("image_id") or row.get("participant", ""))
    lines = [f"{reason[0].upper()}{reason[1:]}: {name_some(names)}." for reason, names in by_reason.items()]
    return ["## Left out", format_list(lines)]
