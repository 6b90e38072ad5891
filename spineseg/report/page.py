"""The report: the decision, its evidence, the figures and every image on one page that needs no network."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from spineseg import __version__
from spineseg.decision.report_text import next_steps
from spineseg.report import tables
from spineseg.report.figures import FIGURES, draw_figures
from spineseg.report.flags import BAD, LOOK, badness, find_flags
from spineseg.report.frames import StudyTables, column, contrasts_of, load_tables
from spineseg.report.palette import print_color_of
from spineseg.report.qc import entry_name, template_environment
from spineseg.report.review import ReviewImage, collect_reviews
from spineseg.report.verdict import probability_shares, word_verdict
from spineseg.writing import write_text

NONE = "n/a"
"""As in the tables."""

N_WORST = 8
"""Images shown with a picture at the top; the table below has all."""

NO_MASK = ("failed", "empty")

EVIDENCE = (
    ("dice", "Dice with the reference", "", 3, True),
    ("nsd", "surface agreement with the reference (NSD)", "", 3, True),
    ("hd95_mm", "largest distance to the reference (HD95)", "mm", 2, False),
    ("csa_error_pct", "CSA error against the reference", "%", 1, None),
    ("predicted_dice", "predicted Dice", "", 3, True),
    ("csa_mean_mm2", "mean CSA", "mm²", 1, None),
    ("coverage", "coverage of the cord", "", 3, True),
    ("plausible", "share of plausible slices", "", 3, True),
    ("n_components", "separate pieces", "", 1, False),
    ("csa_roughness", "roughness of the CSA", "", 3, False),
    ("centre_roughness", "roughness of the centre line", "mm", 3, False),
    ("perturb_dice", "agreement with itself on changed images (Dice)", "", 3, True),
    ("perturb_csa_cv", "CoV of the CSA over changed images", "%", 2, False),
    ("seconds", "time per image", "s", 1, False),
    ("peak_mb", "peak memory", "MB", 0, False),
)
"""Column, words, unit, decimals, and whether higher is better (None where neither is)."""


@dataclass(frozen=True)
class ReportPaths:
    """Where the report's parts lie.

    Parameters
    ----------
    results : Path
        Results folder of the dataset.
    page : Path
        The report.
    figures : Path
        Folder of the figures.
    qc : Path
        Folder of the quality-control page that the report links to.
    decision : Path
        decision.json; may be missing.
    """

    results: Path
    page: Path
    figures: Path
    qc: Path
    decision: Path


def write_report(paths: ReportPaths, stage: str) -> Path:
    """Write the report of a stage and its figures.

    Whatever the study lacks (a decision, references, a second method, any mask at all) is said
    or left out; the page is written all the same.

    Parameters
    ----------
    paths : ReportPaths
    stage : {"all", "pilot", "study"}

    Returns
    -------
    page : Path

    Raises
    ------
    InputError
        If the folder holds no images.tsv.
    """
    decision = tables.read_decision(paths.decision)
    reviews = collect_reviews(paths.results, stage)
    study = load_tables(paths.results, stage)
    drawn = draw_figures(study, paths.figures)
    images = describe_images(reviews, _relative(paths.qc, paths.page))
    context = {
        "dataset": paths.results.resolve().name,
        "stage": stage,
        "version": __version__,
        "verdict": word_verdict(decision),
        "departures": list_departures(paths.results, reviews),
        "decision": decision or {},
        "colors": {name: print_color_of(name, number) for number, name in enumerate(study.methods)},
        "methods": study.methods or tables.sort_methods(r.name for review in reviews for r in review.methods),
        "counts": _counts(paths, reviews, images),
        "evidence": summarise_evidence(study),
        "by_contrast": summarise_contrasts(study, decision),
        "figures": [_figure(name, svg, _relative(paths.figures, paths.page)) for name, svg in drawn.items()],
        "images": images,
        "worst": [image for image in images if image["severity"] >= LOOK][:N_WORST],
        "excluded": list_excluded(paths.results, decision),
        "advice": advise(decision, images, stage, _relative(paths.qc, paths.page)),
        "qc": f"{_relative(paths.qc, paths.page)}/index.html",
    }
    write_text(paths.page, template_environment().get_template("report.html").render(context))
    return paths.page


def list_departures(results: Path, reviews: list[ReviewImage]) -> list[str]:
    """Return where the study departs from one method, one version, one set of weights throughout."""
    excepted = [review.row["image_id"] for review in reviews if review.exception]
    departures = tables.read_accepted(results)
    if excepted:
        verb = "is" if len(excepted) == 1 else "are"
        departures.append(
            f"{', '.join(excepted)} {verb} kept by another method (see the warnings): areas may not compare."
        )
    return departures


def _relative(path: Path, page: Path) -> str:
    """Return a folder as a link from the page."""
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def _counts(paths: ReportPaths, reviews: list[ReviewImage], images: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the numbers under the headline."""
    rows = tables.read_rows(paths.results / "images.tsv")
    people = {review.row["subject"] for review in reviews}
    bad = sum(image["severity"] >= BAD for image in images)
    look = sum(image["severity"] == LOOK for image in images)
    excluded = sum(row["included"] != "true" for row in rows)
    return [
        (str(len(people)), "participant" if len(people) == 1 else "participants"),
        (str(len(reviews)), "image" if len(reviews) == 1 else "images"),
        (str(bad), "failed or wrong"),
        (str(look), "to look at"),
        (str(excluded), "excluded"),
    ]


def describe_images(reviews: list[ReviewImage], qc: str) -> list[dict[str, Any]]:
    """Return one record per image for the page, the worst first."""
    images = []
    for review in reviews:
        flags, row = find_flags(review), review.row
        name = entry_name(row["image_id"])
        images.append(
            {
                "id": row["image_id"],
                "subject": row["subject"],
                "session": row["session"],
                "suffix": row["suffix"],
                "contrast": row["contrast"],
                "link": f"{qc}/index.html#{quote(name)}",
                "preview": f"{qc}/images/{quote(name)}/preview.webp",
                "flags": flags,
                "severity": max((flag.severity for flag in flags), default=0),
                "badness": badness(flags),
                "methods": {result.name: result for result in review.methods},
                "agreement": min((p["dice"] for p in review.agreement if p["dice"] is not None), default=None),
            }
        )
    return sorted(images, key=lambda image: (-image["badness"], image["id"]))


def summarise_evidence(study: StudyTables) -> list[dict[str, Any]]:
    """Return the table of evidence: per measure the median and quartiles of every method.

    A best is named only where all methods have the same images; in a study with exceptions they have not.
    """
    if not len(study.metrics):
        return []
    images = {frozenset(part["image_id"]) for _, part in study.metrics.groupby("method")}
    done = study.metrics[study.metrics["status"] != "failed"]  # the time to give up is no measure of a method
    rows = [_failure_row(study), *_flag_row(study)]
    for name, words, unit, decimals, higher in EVIDENCE:
        values = {m: column(done[done["method"] == m], name).dropna() for m in study.methods}
        if not any(len(v) for v in values.values()):
            continue
        medians = {m: round(float(v.median()), decimals) for m, v in values.items() if len(v)}
        rows.append(
            {
                "words": words,
                "unit": unit,
                "cells": {m: _quartiles(v, decimals) for m, v in values.items()},
                "best": _best(medians, higher),
                "hint": {True: "higher is better", False: "lower is better", None: ""}[higher],
            }
        )
    return rows if len(images) == 1 else [row | {"best": None} for row in rows]


def _failure_row(study: StudyTables) -> dict[str, Any]:
    """Return the row that counts failed and empty images."""
    failed, total = {}, {}
    for method in study.methods:
        status = study.metrics.loc[study.metrics["method"] == method, "status"]
        failed[method], total[method] = int(status.isin(NO_MASK).sum()), len(status)
    return {
        "words": "images without a cord mask",
        "unit": "",
        "cells": {m: f"{failed[m]} of {total[m]}" for m in study.methods},
        "best": _best(failed, False),
        "hint": "lower is better",
    }


def _flag_row(study: StudyTables) -> list[dict[str, Any]]:
    """Return the row that counts masks flagged by their predicted Dice; none where the table lacks it."""
    if not column(study.metrics, "flagged").notna().any():
        return []
    flags = {m: column(study.metrics[study.metrics["method"] == m], "flagged").dropna() for m in study.methods}
    counts = {m: int(values.sum()) for m, values in flags.items()}
    return [
        {
            "words": "masks flagged for a look (low predicted Dice)",
            "unit": "",
            "cells": {m: f"{counts[m]} of {len(values)}" for m, values in flags.items()},
            "best": _best(counts, False),
            "hint": "lower is better",
        }
    ]


def _quartiles(values: pd.Series, decimals: int) -> str:
    """Return median and quartiles as text."""
    if not len(values):
        return NONE
    low, middle, high = np.round(np.percentile(values, [25, 50, 75]), decimals) + 0.0  # no minus zero
    return f"{middle:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def _best(values: dict[str, float], higher: bool | None) -> str | None:
    """Return the method with the best value, None where they tie or neither direction is better."""
    if higher is None or len(values) < 2 or len(set(values.values())) < len(values):
        return None
    return max(values, key=lambda m: values[m] if higher else -values[m])


def summarise_contrasts(study: StudyTables, decision: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return one row per contrast: images, failures and medians by method, and the decision's numbers."""
    compared = (decision or {}).get("per_contrast") or {}
    rows = []
    for contrast in contrasts_of(study.metrics):
        part = study.metrics[study.metrics["contrast"] == contrast]
        numbers = compared.get(contrast) if isinstance(compared, dict) else None
        pairs = study.agreement[study.agreement["contrast"] == contrast] if len(study.agreement) else study.agreement
        rows.append(
            {
                "contrast": contrast,
                "n": part["image_id"].nunique(),
                "cells": {method: _contrast_cells(part[part["method"] == method]) for method in study.methods},
                "between": _between(pairs),
                "better": _better_in(numbers if isinstance(numbers, dict) else {}),
            }
        )
    return rows


def _between(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """Return how the methods agree, one entry per pair: its name, empty where there is one pair only, and its Dice."""
    if not len(pairs):
        return [("", NONE)]
    grouped = pairs.groupby(["method_a", "method_b"], sort=False)
    rows = [(f"{a} and {b}", _quartiles(column(rows, "dice").dropna(), 3)) for (a, b), rows in grouped]
    return rows if len(rows) > 1 else [("", rows[0][1])]


def _contrast_cells(own: pd.DataFrame) -> dict[str, str]:
    """Return what one method made of one contrast."""
    return {
        "failed": f"{int(own['status'].isin(NO_MASK).sum())} of {len(own)}",
        "dice": _quartiles(column(own, "dice").dropna(), 3),
        "csa": _quartiles(column(own, "csa_mean_mm2").dropna(), 1),
    }


def _better_in(numbers: dict[str, Any]) -> str:
    """Return the decision's probabilities within one contrast as text."""
    return ", ".join(f"{share.name} {share.text}" for share in probability_shares(numbers))


def _figure(name: str, svg: bytes, folder: str) -> dict[str, str]:
    """Return a figure for the page: the SVG inside the page, links to the files."""
    data = base64.b64encode(svg).decode()
    return {"name": name, "caption": FIGURES[name][0], "data": f"data:image/svg+xml;base64,{data}", "folder": folder}


def list_excluded(results: Path, decision: dict[str, Any] | None) -> list[dict[str, str]]:
    """Return what did not take part: images left out of the study, then of the decision, with reasons."""
    left_out = [
        {"name": row["image_id"], "from": "the study", "reason": row.get("reason") or "no reason given"}
        for row in tables.read_rows(results / "images.tsv")
        if row["included"] != "true"
    ]
    names = {row["name"] for row in left_out}
    for item in (decision or {}).get("excluded") or ():
        item = item if isinstance(item, dict) else {"image_id": str(item)}
        name = str(item.get("image_id") or item.get("participant") or item.get("subject") or "?")
        if name not in names:
            left_out.append({"name": name, "from": "the decision", "reason": str(item.get("reason") or "")})
    return left_out


def advise(decision: dict[str, Any] | None, images: list[dict[str, Any]], stage: str, qc: str) -> list[dict[str, str]]:
    """Return what to do next, as sentences with an optional link."""
    bad = [image for image in images if image["severity"] >= BAD]
    advice = []
    if bad:
        which = "image that" if len(bad) == 1 else f"{len(bad)} images that"
        text = f"Look at the {which} failed or went wrong in the quality control."
        advice.append({"text": text, "link": f"{qc}/index.html"})
    elif images:
        advice.append({"text": "Review the masks in the quality control, slice by slice.", "link": f"{qc}/index.html"})
    if decision is None:
        return [*advice, {"text": "Run snakemake pilot to have the methods compared and a decision made."}]
    if "computed" in decision:  # a whole decision words its own advice
        advice += [{"text": text} for text in next_steps(decision) if "QC page" not in text]
    if decision.get("verdict") == "none":
        advice.append({"text": "Check contrast and orientation of the images; then correct masks by hand."})
    elif stage == "pilot":
        advice.append({"text": f"Run snakemake study to segment every image with {decision.get('method')} alone."})
    else:
        advice.append({"text": f"The masks by {decision.get('method')} are in derivatives/labels."})
    if decision.get("method"):
        text = "Correct a mask in derivatives/labels by hand where needed: corrected masks are never overwritten."
        advice.append({"text": text})
    advice.append(
        {"text": "To choose otherwise, set override (method, reason, by) in the config; the report will say so."}
    )
    return advice
