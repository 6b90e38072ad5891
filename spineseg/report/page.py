"""The report: the decision, its evidence, the figures and every image on one page that needs no network."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from spineseg.decision.methods_text import REFERENCE_WORDS
from spineseg.decision.report_text import next_steps
from spineseg.decision.wording import name_some
from spineseg.measures import MEASURES
from spineseg.methods.registry import sort_methods
from spineseg.report.changes import count_changes, is_manual, list_changes, list_unseen, write_methods
from spineseg.report.decision_figure import CAPTION
from spineseg.report.figures import FIGURES, draw_figures
from spineseg.report.flags import (
    BAD,
    LOOK,
    NOTE,
    badness,
    find_common_notes,
    find_flags,
    lower_common_notes,
    shown_status,
)
from spineseg.report.frames import StudyTables, contrasts_of, frame_tables
from spineseg.report.palette import print_color_of
from spineseg.report.qc import entry_name
from spineseg.report.qc_page import content_policy, template_environment
from spineseg.report.review import ReviewImage, StudyView, collect_reviews, read_stage
from spineseg.report.verdict import probability_shares, word_verdict
from spineseg.studyfolder.decisions import Decision
from spineseg.studyfolder.files import NOT_AVAILABLE
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.locks import Lock
from spineseg.studyfolder.sidecars import NO_CORD
from spineseg.version import find_version
from spineseg.writing import write_text

POLICY = content_policy("this.remove()", "'unsafe-hashes'")
"""The only script of the page takes a picture away that is not there."""

N_WORST = 8
"""Images shown with a picture at the top; the table below has all."""

EVIDENCE = (
    *("dice", "nsd", "hd95_mm", "csa_error_pct", "predicted_dice", "csa_mean_mm2", "coverage", "plausible"),
    *("n_components", "csa_roughness", "centre_roughness", "perturb_dice", "perturb_csa_cv", "seconds", "peak_mb"),
)
"""Measures in the table of evidence, in its order."""

HINTS = {True: "higher is better", False: "lower is better", None: ""}


@dataclass(frozen=True)
class ReportPaths:
    """Where the report's parts lie.

    Parameters
    ----------
    page : Path
        The report.
    figures : Path
        Folder of the figures.
    qc : Path
        Folder of the quality-control page that the report links to.
    """

    page: Path
    figures: Path
    qc: Path


def write_report(view: StudyView, paths: ReportPaths) -> Path:
    """Write the report of a stage and its figures.

    Whatever the study lacks (a decision, references, a second method, any mask at all) is said
    or left out; the page is written all the same.

    Parameters
    ----------
    view : StudyView
    paths : ReportPaths

    Returns
    -------
    page : Path

    Raises
    ------
    InputError
        If the folder holds no images.tsv, or a file of the study is damaged.
    """
    records = read_stage(view)
    decision = records.decision
    reviews = collect_reviews(view, records)
    study = frame_tables(records.metrics, records.agreement, records.slices, records.timings)
    drawn = draw_figures(study, paths.figures, decision.document if decision else None)
    qc = _relative(paths.qc, paths.page)
    images = describe_images(view, reviews, qc)
    changes = list_changes(view, records)
    context = {
        "dataset": view.folder.name,
        "stage": view.stage,
        "version": find_version(),
        "measures": MEASURES,
        "verdict": word_verdict(decision),
        "departures": [
            *list_departures(records.lock, reviews),
            *(f"{text[:1].upper()}{text[1:]}." for text in list_unseen(view, records.images)),
        ],
        "decision": decision.document if decision else {},
        "colors": {name: print_color_of(name, number) for number, name in enumerate(study.methods)},
        "methods": study.methods or sort_methods(r.name for review in reviews for r in review.methods),
        "counts": _counts(records.images, reviews, images),
        "evidence": summarise_evidence(study),
        "by_contrast": summarise_contrasts(study, decision),
        "figures": [_figure(name, svg, _relative(paths.figures, paths.page)) for name, svg in drawn.items()],
        "images": images,
        "worst": [image for image in images if image["severity"] >= LOOK][:N_WORST],
        "changes": changes,
        "changes_words": count_changes(changes, len(reviews)),
        "methods_text": write_methods(view, records, reviews, changes),
        "excluded": list_excluded(records.images, decision),
        "advice": advise(decision, images, view.stage, qc),
        "qc": f"{qc}/index.html",
    }
    write_text(paths.page, template_environment().get_template("report.html").render(policy=POLICY, **context))
    return paths.page


def list_departures(lock: Lock | None, reviews: Sequence[ReviewImage]) -> list[str]:
    """Return where the study departs from one method, one version, one set of weights throughout."""
    departures = [
        f"Changed within the study and accepted by {a.by} ({a.reason}): {', '.join(a.changes)}."
        for a in (lock.accepted if lock else ())
    ]
    excepted = [r.image.image_id for r in reviews if r.exception and not is_manual(r)]
    if excepted:
        verb = "is" if len(excepted) == 1 else "are"
        departures.append(
            f"{name_some(excepted)} {verb} kept by another method (see the warnings): areas may not compare."
        )
    if manual := Counter(r.image.reference_kind for r in reviews if is_manual(r)):
        kinds = ", ".join(f"{n} {REFERENCE_WORDS[kind]}" for kind, n in sorted(manual.items()))
        departures.append(
            f"{manual.total()} of {len(reviews)} masks are the dataset's own ({kinds}; config key manual): drawn and"
            " computed areas differ by a constant, so do not compare one with the other."
        )
    return departures


def _relative(path: Path, page: Path) -> str:
    """Return a folder as a link from the page."""
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def _counts(
    table: Sequence[StudyImage], reviews: Sequence[ReviewImage], images: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Return the numbers under the headline."""
    people = {review.image.subject for review in reviews}
    bad = sum(image["severity"] >= BAD for image in images)
    look = sum(image["severity"] == LOOK for image in images)
    excluded = sum(not image.included for image in table)
    return [
        (str(len(people)), "participant" if len(people) == 1 else "participants"),
        (str(len(reviews)), "image" if len(reviews) == 1 else "images"),
        (str(bad), "failed or wrong"),
        (str(look), "to look at"),
        (str(excluded), "excluded"),
    ]


def describe_images(view: StudyView, reviews: Sequence[ReviewImage], qc: str) -> list[dict[str, Any]]:
    """Return one record per image for the page, the worst first."""
    found = [find_flags(review, view.limits) for review in reviews]
    common = find_common_notes((review.image.suffix, flags) for review, flags in zip(reviews, found, strict=True))
    images = []
    for review, own in zip(reviews, found, strict=True):
        image, flags = review.image, lower_common_notes(review.image.suffix, own, common)
        name = entry_name(image.image_id)
        images.append(
            {
                "id": image.image_id,
                "contrast": image.contrast,
                "link": f"{qc}/index.html#{quote(name)}",
                "preview": f"{qc}/images/{quote(name)}/preview.webp",
                "flags": [flag for flag in flags if flag.severity >= NOTE],
                "severity": max((flag.severity for flag in flags), default=0),
                "badness": badness(flags),
                "methods": {result.name: result for result in review.methods},
                "status": {r.name: shown_status(r.name, r.status, flags) for r in review.methods},
                "agreement": min((p.values["dice"] for p in review.agreement if "dice" in p.values), default=None),
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
    for measure in (MEASURES[name] for name in EVIDENCE):
        values = {m: done.loc[done["method"] == m, measure.name].dropna() for m in study.methods}
        if not any(len(v) for v in values.values()):
            continue
        medians = {m: round(float(v.median()), measure.decimals) for m, v in values.items() if len(v)}
        cells = {m: _quartiles(v, measure.decimals) for m, v in values.items()}
        rows.append(_evidence_row(measure.heading, cells, medians, measure.higher_is_better))
    return rows if len(images) == 1 else [row | {"best": None} for row in rows]


def _evidence_row(
    heading: str, cells: dict[str, str], values: Mapping[str, float], higher_is_better: bool | None
) -> dict[str, Any]:
    """Return a row of the table of evidence; `values` tell which method is best."""
    best = _best(values, higher_is_better)
    return {"heading": heading, "cells": cells, "best": best, "hint": HINTS[higher_is_better]}


def _failure_row(study: StudyTables) -> dict[str, Any]:
    """Return the row that counts failed and empty images."""
    found = {m: study.metrics.loc[study.metrics["method"] == m, "status"].isin(NO_CORD) for m in study.methods}
    failed = {m: int(values.sum()) for m, values in found.items()}
    cells = {m: f"{failed[m]} of {len(values)}" for m, values in found.items()}
    return _evidence_row("images without a cord mask", cells, failed, False)


def _flag_row(study: StudyTables) -> list[dict[str, Any]]:
    """Return the row that counts masks flagged by their predicted Dice; none where the table lacks it."""
    flags = {m: study.metrics.loc[study.metrics["method"] == m, "flagged"].dropna() for m in study.methods}
    if not any(len(values) for values in flags.values()):
        return []
    counts = {m: int(values.sum()) for m, values in flags.items()}
    cells = {m: f"{counts[m]} of {len(values)}" for m, values in flags.items()}
    return [_evidence_row("masks flagged for a look (low predicted Dice)", cells, counts, False)]


def _quartiles(values: pd.Series, decimals: int) -> str:
    """Return median and quartiles as text."""
    if not len(values):
        return NOT_AVAILABLE
    low, middle, high = np.round(np.percentile(values, [25, 50, 75]), decimals) + 0.0  # no minus zero
    return f"{middle:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def _best(values: Mapping[str, float], higher: bool | None) -> str | None:
    """Return the method with the best value, None where they tie or neither direction is better."""
    if higher is None or len(values) < 2 or len(set(values.values())) < len(values):
        return None
    return max(values, key=lambda m: values[m] if higher else -values[m])


def summarise_contrasts(study: StudyTables, decision: Decision | None) -> list[dict[str, Any]]:
    """Return one row per contrast: images, failures and medians by method, and the decision's numbers."""
    compared = decision.document["per_contrast"] if decision else {}
    rows = []
    for contrast in contrasts_of(study.metrics):
        part = study.metrics[study.metrics["contrast"] == contrast]
        pairs = study.agreement[study.agreement["contrast"] == contrast]
        rows.append(
            {
                "contrast": contrast,
                "n": part["image_id"].nunique(),
                "cells": {method: _contrast_cells(part[part["method"] == method]) for method in study.methods},
                "between": _between(pairs),
                "better": _better_in(compared.get(contrast, {})),
            }
        )
    return rows


def _between(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """Return how the methods agree, one entry per pair: its name, empty where there is one pair only, and its Dice."""
    if not len(pairs):
        return [("", NOT_AVAILABLE)]
    grouped = pairs.groupby(["method_a", "method_b"], sort=False)
    rows = [(f"{a} and {b}", _quartiles(rows["dice"].dropna(), MEASURES["dice"].decimals)) for (a, b), rows in grouped]
    return rows if len(rows) > 1 else [("", rows[0][1])]


def _contrast_cells(own: pd.DataFrame) -> dict[str, str]:
    """Return what one method made of one contrast."""
    return {
        "failed": f"{int(own['status'].isin(NO_CORD).sum())} of {len(own)}",
        **{name: _quartiles(own[name].dropna(), MEASURES[name].decimals) for name in ("dice", "csa_mean_mm2")},
    }


def _better_in(numbers: Mapping[str, Any]) -> str:
    """Return the decision's probabilities within one contrast as text."""
    return ", ".join(f"{share.name} {share.text}" for share in probability_shares(numbers))


def _figure(name: str, svg: bytes, folder: str) -> dict[str, str]:
    """Return a figure for the page: the SVG inside the page, links to the files."""
    data = base64.b64encode(svg).decode()
    return {
        "name": name,
        "caption": FIGURES[name][0] if name in FIGURES else CAPTION,
        "data": f"data:image/svg+xml;base64,{data}",
        "folder": folder,
    }


def list_excluded(images: Sequence[StudyImage], decision: Decision | None) -> list[dict[str, str]]:
    """Return what did not take part: images left out of the study, then of the decision, with reasons."""
    left_out = [
        {"name": image.image_id, "from": "the study", "reason": image.reason or "no reason given"}
        for image in images
        if not image.included
    ]
    names = {row["name"] for row in left_out}
    for item in decision.document["excluded"] if decision else ():
        name = item.get("image_id") or item["participant"]
        if name not in names:
            left_out.append({"name": name, "from": "the decision", "reason": item["reason"]})
    return left_out


def advise(
    decision: Decision | None, images: Sequence[Mapping[str, Any]], stage: Stage, qc: str
) -> list[dict[str, str]]:
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
    advice += [{"text": text} for text in next_steps(decision.document) if "QC page" not in text]
    if decision.verdict == "none":
        advice.append({"text": "Check contrast and orientation of the images; then correct masks by hand."})
    elif stage == Stage.PILOT:
        text = (
            f"Run snakemake study to segment every image by its contrast's method ({decision.kept.words()})."
            if decision.kept.by_contrast
            else f"Run snakemake study to segment every image with {decision.method} alone."
        )
        advice.append({"text": text})
    else:
        advice.append({"text": f"The masks by {decision.kept.words()} are in derivatives/labels."})
    if decision.method:
        text = "Correct a mask in derivatives/labels by hand where needed: corrected masks are never overwritten."
        advice.append({"text": text})
    advice.append(
        {"text": "To choose otherwise, set override (method, reason, by) in the config; the report will say so."}
    )
    return advice
