"""Write the report: the decision, its evidence, the figures and every image on one page that works offline."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spineseg.decision.methods_text import REFERENCE_WORDS
from spineseg.decision.next_steps import next_steps, word_preview
from spineseg.measures import MEASURES
from spineseg.methods.registry import sort_methods
from spineseg.report.areas import describe_areas, describe_level_sources, list_level_sources, summarise_areas
from spineseg.report.changes import (
    PeoplesChange,
    count_changes,
    is_manual,
    list_changes,
    list_unseen,
    write_methods,
)
from spineseg.report.decision_figure import SAMPLE_SIZE_COLUMNS, sample_size_rows
from spineseg.report.figures import DrawnFigure, draw_figures
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
from spineseg.report.frames import frame_tables
from spineseg.report.palette import print_color_of
from spineseg.report.qc import entry_name
from spineseg.report.qc_page import content_policy, template_environment
from spineseg.report.references import summarise_references
from spineseg.report.review import ReviewImage, StageRecords, StudyView, collect_reviews, read_stage
from spineseg.report.reviewed import Reviewed, summarise_reviewing
from spineseg.report.summaries import (
    compare_pilots,
    describe_disagreement,
    summarise_contrasts,
    summarise_evidence,
    summarise_failures,
)
from spineseg.report.verdict import EQUIVALENT, word_verdict
from spineseg.spelling import name_some
from spineseg.studyfolder.commands import stage_command
from spineseg.studyfolder.csa import read_csa
from spineseg.studyfolder.decisions import Decision
from spineseg.studyfolder.files import write_table
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import Stage
from spineseg.studyfolder.locks import Lock
from spineseg.version import find_version
from spineseg.writing import write_text

POLICY = content_policy("this.remove()", "'unsafe-hashes'")
"""The only script of the page removes a picture whose file is missing."""

N_WORST = 8
"""Images shown with a picture at the top; the table below lists all."""

N_ROWS = 200
"""Most rows of a list on the page; the full list is in the table that is named below it."""

CITATIONS = {
    "propseg": "De Leener, Kadoury, Cohen-Adad 2014, Robust, accurate and fast automatic segmentation of the spinal"
    " cord, NeuroImage 98, doi:10.1016/j.neuroimage.2014.04.051.",
    "deepseg": "Gros et al. 2019, Automatic segmentation of the spinal cord and intramedullary multiple sclerosis"
    " lesions with convolutional neural networks, NeuroImage 184, doi:10.1016/j.neuroimage.2018.09.081.",
    "": "Gros et al. 2018, Automatic spinal cord localization, robust to MRI contrasts using global curve optimization,"
    " Medical Image Analysis 44, doi:10.1016/j.media.2017.12.001 (the centerline).",
}
"""Method to its citation; the empty key is the centerline's, from which both methods start."""


@dataclass(frozen=True)
class ReportPaths:
    """Paths of the report's parts.

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


def write_report(view: StudyView, paths: ReportPaths, code: str = "") -> Path:
    """Write the report of a stage and its figures.

    If the study lacks a decision, references, a second method or any mask, the page is written nevertheless; it says
    so, or leaves that part out.

    Parameters
    ----------
    view : StudyView
    paths : ReportPaths
    code : str
        Digest of the code that writes the report. The page contains it, so that one by other code is written again.

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
    csa, of_methods = view.folder.csa(view.stage), view.folder.levels(view.stage)
    by_level = of_methods if of_methods.is_file() else csa
    levels = read_csa(by_level) if by_level.is_file() else []
    study = frame_tables(records.metrics, records.agreement, records.slices, records.timings, levels)
    document = decision.document if decision else None
    drawn = draw_figures(study, paths.figures, document, view.columns, by_level.name)
    qc, tables = _relative(paths.qc, paths.page), _relative(view.folder.table(view.stage, ""), paths.page)
    images = describe_images(view, reviews, qc)
    changes = list_changes(view, records, reviews)
    kept = records.kept
    verdict = word_verdict(decision)
    # a study by the kept method alone still shows how the others did in the pilot
    shown = dict.fromkeys([*study.methods, *(share.key for share in verdict.shares if share.key != EQUIVALENT)])
    methods = study.methods or sort_methods(r.name for review in reviews for r in review.methods)
    of_kept = read_csa(csa) if csa.is_file() else []
    areas, level_sources = summarise_areas(of_kept), list_level_sources(of_kept)
    failures, reviewed = summarise_failures(reviews, methods), summarise_reviewing(view.marks, reviews)
    held = records.lock.kept.words() if records.lock and view.decision == view.folder.preview else ""
    context = {
        "dataset": view.folder.name,
        "stage": view.stage,
        "version": find_version(),
        "code": code,
        "measures": MEASURES,
        "verdict": verdict,
        "departures": _warn_first(view, records, reviews, held),
        "decision": decision.document if decision else {},
        "colors": {name: print_color_of(name, number) for number, name in enumerate(shown)},
        "methods": methods,
        "counts": _counts(records.images, reviews, images),
        "evidence": summarise_evidence(study),
        "by_contrast": summarise_contrasts(study, decision),
        "disagreement": describe_disagreement(decision),
        "failures": failures,
        "pilots": compare_pilots(records.images, view.columns, study, kept),
        "areas": areas,
        "level_sources": level_sources,
        "level_sources_words": describe_level_sources(level_sources),
        "csa": f"{tables}/{quote(csa.name)}",
        **_describe_figures(drawn, view.columns, _relative(paths.figures, paths.page), tables),
        "images": images,
        "n_rows": N_ROWS,
        "worst": [image for image in images if image["severity"] >= LOOK][:N_WORST],
        "changes": changes,
        "changes_words": count_changes(changes, len(reviews)),
        "methods_text": " ".join(filter(None, (write_methods(view, records, reviews, changes), describe_areas(areas)))),
        "reviewed": reviewed,
        "excluded": list_excluded(records.images, decision),
        "references": summarise_references(view.folder, records.metrics),
        "table_of_references": _relative(view.folder.references, paths.page),
        "advice": advise(decision, images, view.stage, qc, held),
        "citations": [words for method, words in CITATIONS.items() if not method or method in methods],
        "lists": _write_lists(paths, images, changes, reviewed, document),
        "tables": tables,
        "table_of_images": _relative(view.folder.images, paths.page),
        "qc": f"{qc}/index.html",
    }  # fmt: skip
    write_text(paths.page, template_environment().get_template("report.html").render(policy=POLICY, **context))
    return paths.page


def _warn_first(view: StudyView, records: StageRecords, reviews: Sequence[ReviewImage], held: str) -> list[str]:
    """Return what a reader is told first: a preview, departures from the choice, what the pilot did not show."""
    return [
        *([word_preview(held)] if held else []),
        *list_departures(records.lock, reviews),
        *(f"{text[:1].upper()}{text[1:]}." for text in list_unseen(view, records.images)),
    ]


def _write_lists(
    paths: ReportPaths,
    images: Sequence[Mapping[str, Any]],
    changes: Sequence[PeoplesChange],
    reviewed: Reviewed,
    decision: Mapping[str, Any] | None,
) -> dict[str, str]:
    """Write the page's lists in full as tables beside the figures; return the link to each by name."""
    warned = [
        {"image_id": image["id"], "contrast": image["contrast"], "severity": flag.severity, "method": flag.method,
         "warning": flag.text}
        for image in images for flag in image["flags"]
    ]  # fmt: skip
    lists: dict[str, tuple[Sequence[str], list[dict[str, Any]]]] = {
        "warnings": (("image_id", "contrast", "severity", "method", "warning"), warned),
        "people": (("image_id", "kind", "words"), [vars(change) for change in changes]),
        "not_reviewed": (("image_id",), [{"image_id": name} for name in reviewed.unseen]),
        "sample_size": (SAMPLE_SIZE_COLUMNS, [vars(row) for row in sample_size_rows(decision)] if decision else []),
    }
    links = {}
    for name, (columns, rows) in lists.items():
        path = paths.figures / f"{name}.tsv"
        write_table(path, columns, rows)
        links[name] = _relative(path, paths.page)
    return links


def list_departures(lock: Lock | None, reviews: Sequence[ReviewImage]) -> list[str]:
    """Return where the study departs from using one method, one version and one set of weights for all images."""
    departures = [
        f"Changed within the study and accepted by {a.by} ({a.reason}): {', '.join(a.changes)}."
        for a in (lock.accepted if lock else ())
    ]
    excepted = [r.image.image_id for r in reviews if r.exception and not is_manual(r)]
    if excepted:
        verb = "is" if len(excepted) == 1 else "are"
        departures.append(
            f"{name_some(excepted)} {verb} kept by another method (see the warnings): areas may not be comparable."
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
    return sorted(
        images,
        key=lambda image: (-image["badness"], 1.0 if image["agreement"] is None else image["agreement"], image["id"]),
    )


def _describe_figures(
    drawn: Sequence[DrawnFigure], columns: Collection[str], folder: str, tables: str
) -> dict[str, Any]:
    """Return the figures of all images, those by each column of participants, and the columns without a figure."""
    shown = {column: [_figure(one, folder, tables) for one in drawn if one.column == column]
             for column in ("", *columns)}  # fmt: skip
    return {"figures": shown.pop(""), "split": shown, "unsplit": sorted(set(columns) - {one.column for one in drawn})}


def _figure(figure: DrawnFigure, folder: str, tables: str) -> dict[str, str]:
    """Return a figure for the page: embedded if it shows all images, as a link to its file if only a part."""
    data = base64.b64encode(figure.svg).decode()
    file = f"{folder}/{quote(figure.file)}"
    return {
        "title": figure.words.title,
        "caption": figure.words.caption,
        "source": f"{file}.svg" if figure.column else f"data:image/svg+xml;base64,{data}",
        "file": file,
        "table": f"{tables}/{figure.table}" if figure.table else f"{file}.tsv",
    }


def list_excluded(images: Sequence[StudyImage], decision: Decision | None) -> list[dict[str, str]]:
    """Return the images left out of the study, then those left out of the decision, with reasons."""
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
    decision: Decision | None, images: Sequence[Mapping[str, Any]], stage: Stage, qc: str, held: str = ""
) -> list[dict[str, str]]:
    """Return what to do next, as sentences with an optional link; `held` as in `next_steps`."""
    bad = [image for image in images if image["severity"] >= BAD]
    advice = []
    if bad:
        which = "image that" if len(bad) == 1 else f"{len(bad)} images that"
        text = f"Look at the {which} failed or went wrong in the quality control."
        advice.append({"text": text, "link": f"{qc}/index.html"})
    elif images:
        advice.append({"text": "Review the masks in the quality control, slice by slice.", "link": f"{qc}/index.html"})
    if decision is None:
        run = f"Run {stage_command(Stage.PILOT)} to have the methods compared and a decision made."
        return [*advice, {"text": run}]
    if held:
        return [*advice, {"text": word_preview(held)}]
    kept = decision.kept
    mend = {"text": "Correct a mask in derivatives/labels by hand where needed: corrected masks are never overwritten."}
    if stage == Stage.STUDY:  # do not advise what is done already
        held = (
            f"The study is held to {kept.words()}: another choice needs another dataset name, or accept_changes in the"
            " config."
        )
        return [*advice, {"text": f"The masks by {kept.words()} are in derivatives/labels."}, mend, {"text": held}]
    advice += [
        {"text": text}
        for text in next_steps(decision.document)
        if not text.startswith(("Look through", "Look at the failed"))
    ]
    if decision.verdict == "none":
        advice.append({"text": "Check contrast and orientation of the images; then correct masks by hand."})
    elif stage == Stage.PILOT:
        whose = f"by its contrast's method ({kept.words()})" if kept.by_contrast else f"with {decision.method} alone"
        advice.append({"text": f"Run {stage_command(Stage.STUDY)} to segment every image {whose}."})
    else:
        advice.append({"text": f"The masks by {kept.words()} are in derivatives/labels."})
    if decision.method:
        advice.append(mend)
    advice.append(
        {"text": "To choose otherwise, set override (method, reason, by) in the config; the report will say so."}
    )
    return advice
