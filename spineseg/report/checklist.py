"""A reporting checklist for a paper, filled in from a study's own results.

The items are those of CLAIM that concern a segmentation, in our words; numbers are those of its first version.

References
----------
.. [1] Mongan, Moy and Kahn, 2020, Checklist for Artificial Intelligence in Medical Imaging (CLAIM), Radiology:
   Artificial Intelligence 2(2):e200029, doi:10.1148/ryai.2020200029.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spineseg.decision.methods_text import AIM_WORDS, VERDICT_WORDS, methods_text
from spineseg.decision.wording import format_gap
from spineseg.measures import MEASURES
from spineseg.studyfolder.decisions import Decision, KeptRow, find_decision, read_kept
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import Stage, StudyFolder
from spineseg.studyfolder.locks import Lock, find_lock
from spineseg.version import find_version
from spineseg.writing import write_text

SCORES = ("dice", "nsd", "hd95_mm", "csa_error_pct")
"""Measures against references that papers report."""

NEEDS_PILOT = "no decision yet: run the pilot"


@dataclass(frozen=True)
class Item:
    """One line of the checklist.

    Parameters
    ----------
    number : int
        Number of the item in CLAIM 2020.
    asks : str
        What the item asks for.
    found : str
        The answer from the results; empty where they have none.
    add : str
        What only the authors can add; empty where nothing is missing.
    """

    number: int
    asks: str
    found: str
    add: str = ""


@dataclass(frozen=True)
class StudyFacts:
    """The results from which the checklist is filled in."""

    images: list[StudyImage]
    decision: Decision | None
    lock: Lock | None
    kept: list[KeptRow]


def read_facts(folder: StudyFolder) -> StudyFacts:
    """Read the results that a study has so far.

    Raises
    ------
    InputError
        If there is no images.tsv, or a file is damaged.
    """
    tables = [folder.kept(stage) for stage in (Stage.STUDY, Stage.ALL)]
    kept = next((read_kept(path) for path in tables if path.is_file()), [])
    return StudyFacts(read_images(folder.images), find_decision(folder.decision), find_lock(folder), kept)


def write_checklist(folder: StudyFolder, path: Path) -> Path:
    """Write the checklist as Markdown.

    Raises
    ------
    InputError
        If there is no images.tsv, or a file is damaged.
    """
    facts = read_facts(folder)
    rows = [f"| {i.number} | {i.asks} | {_cell(i.found)} | {_cell(i.add)} |" for i in list_items(facts)]
    text = [
        f"# Reporting checklist: {folder.name}",
        "",
        "Items of CLAIM (Mongan 2020, doi:10.1148/ryai.2020200029) that concern a segmentation, filled in by spineseg",
        f"{find_version()} from the results. The last column is for you; items that are not listed are yours as well.",
        "",
        "| item | asks for | in this study | to add |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    if facts.decision:
        text += ["", "## For the methods section", "", methods_text(facts.decision.document)]
    write_text(path, "\n".join(text) + "\n")
    return path


def list_items(facts: StudyFacts) -> list[Item]:
    """Return the items in their order."""
    document = facts.decision.document if facts.decision else None
    items = [*_data_items(facts), *_model_items(facts), *_result_items(facts, document)]
    return sorted(items, key=lambda item: item.number)


def _data_items(facts: StudyFacts) -> list[Item]:
    included = [image for image in facts.images if image.included]
    left_out = [image for image in facts.images if not image.included]
    reasons = Counter(image.reason for image in left_out)
    kinds = Counter(image.reference_kind or "unknown" for image in included if image.reference)
    pilot = {image.subject for image in included if image.pilot}
    contrasts = Counter(image.contrast for image in included)
    reference_words = _listed(kinds) if kinds else "no references"
    return [
        Item(7, "sources of data", f"{_people(included)}; {_listed(contrasts)}", "sites, scanners, dates, licence"),
        Item(
            8,
            "who was eligible",
            f"{len(left_out)} images left out: {_listed(reasons)}" if left_out else "all images",
            "how people were recruited",
        ),
        Item(
            9,
            "pre-processing",
            "by spineseg: series averaged over time, canonical axes; masks are on the image's own grid",
            "whatever was done before (defacing, conversion, motion correction)",
        ),
        Item(10, "subsets", f"pilot of {len(pilot)} people, on whom the method was chosen", ""),
        Item(13, "missing data", _missing(facts), ""),
        Item(14, "ground truth", reference_words, "how masks were drawn" if kinds else "why none was drawn"),
        Item(16, "who drew it", "", "raters, training, tool (items 16 and 17)" if kinds else ""),
        Item(
            20,
            "partitions",
            f"{len(pilot)} people choose the method; the rest do not take part in the choice",
            "whether the method was trained on any of them",
        ),
        Item(21, "level of partitions", "by person: all images of a person are in the pilot or none is", ""),
    ]


def _missing(facts: StudyFacts) -> str:
    if not facts.kept:
        return "no masks kept yet"
    statuses = Counter(row.status for row in facts.kept)
    return f"{len(facts.kept)} images: {_listed(statuses)}"


def _model_items(facts: StudyFacts) -> list[Item]:
    lock, decision = facts.lock, facts.decision
    libraries: dict[str, str] = {}
    if lock:
        kept = lock.kept
        rows = [(name, made.version, made.code, made.weights) for name, made in lock.made_by.items()]
        for made in lock.made_by.values():
            libraries |= made.libraries
    elif decision and (names := {decision.method, *decision.kept.by_contrast.values()} - {None}):
        kept, document = decision.kept, decision.document
        libraries = document["versions"]
        rows = [
            (
                name,
                libraries.get("spineseg", ""),
                document["code_sha256"].get(name, ""),
                document["weights_sha256"].get(name),
            )
            for name in sorted(map(str, names))
        ]
    else:
        return [Item(22, "the method", NEEDS_PILOT)]
    used = "; ".join(f"{name}, spineseg {version}, code {code[:12]}" for name, version, code, _ in rows)
    if kept.by_contrast:
        used = f"{kept.words()}: {used}"
    files = ", ".join(f"{name} ({digest[:12]})" for *_, own in rows for name, digest in (own or {}).items()) or "none"
    accepted = "".join(
        f"; changed within the study: {', '.join(change.changes)} (accepted by {change.by}: {change.reason})"
        for change in (lock.accepted if lock else ())
    )
    return [
        Item(22, "the method", used, "its paper (docs/citing.md)"),
        Item(23, "software", ", ".join(f"{name} {number}" for name, number in libraries.items()), ""),
        Item(24, "parameters and weights", f"weights {files}{accepted}"),
        Item(
            25,
            "training",
            "see the model cards of the shipped weights" if files != "none" else "",
            "for weights of your own or another program: data and training",
        ),
    ]


def _result_items(facts: StudyFacts, document: Mapping[str, Any] | None) -> list[Item]:
    if document is None:
        return [Item(28, "metrics", NEEDS_PILOT)]
    plan = document["plan"]
    content = plan["content"]
    fixed = "fixed before the pilot" if plan["fixed_sha256"] else "not fixed before the pilot"
    stable = document["stability"]
    truth = document["prediction_against_truth"]
    n_corrected = sum(row.status == "corrected" for row in facts.kept)
    predicted = (
        f"; predicted Dice: mean error {truth['mean_abs_error']:.3f}, interval holds the truth in "
        f"{100 * truth['covered']:.0f} % of {truth['n']} masks"
        if truth
        else ""
    )
    return [
        Item(
            4, "aim and hypotheses", f"{AIM_WORDS[content['aim']]}; effect of {content['effect_pct']:g} % of area", ""
        ),
        Item(
            26,
            "how the method was chosen",
            f"{document['method'] or 'none'}: "
            f"{VERDICT_WORDS[document['verdict']]}, by {document['endpoint_words'] or 'nothing'}; plan "
            f"{plan['sha256'][:12]}, {fixed}",
            "" if plan["fixed_sha256"] else "why the plan was not fixed beforehand",
        ),
        Item(
            28,
            "metrics",
            _scores(document),
            "" if _has_scores(document) else "no reference: say how masks were checked",
        ),
        Item(29, "uncertainty", _difference(document), ""),
        Item(
            30,
            "robustness",
            f"leaving out one of {stable['n_people']} people changes the verdict in "
            f"{stable['n_flips']} of {stable['n_drops']} cases",
            "",
        ),
        Item(32, "other data", "", "results on people of another site, if there are any"),
        Item(
            33,
            "flow of participants",
            f"{_people(facts.images)} found, {_people([image for image in facts.images if image.included])} included",
            "",
        ),
        Item(34, "demographics", "", "age, sex, diagnosis (participants.tsv)"),
        Item(35, "performance", f"{_failures(document)}; {n_corrected} masks corrected by a person", ""),
        Item(37, "failures", _failed_images(document) + predicted, "what they had in common"),
        Item(38, "limits", " ".join([*document["cautions"], *document["reasons"]]), "of the images and people"),
        Item(
            41,
            "protocol and code",
            f"plan.json ({plan['sha256'][:12]}), configuration "
            f"{document['config_sha256'][:12]}, spineseg {document['versions'].get('spineseg', '')}",
            "where they are public",
        ),
    ]


def _has_scores(document: Mapping[str, Any]) -> bool:
    return any(of_method.get(name) is not None for of_method in document["summary"].values() for name in SCORES)


def _scores(document: Mapping[str, Any]) -> str:
    """Return the means of each method in the pilot, each measure with its usual decimals."""
    parts = []
    for method, means in document["summary"].items():
        shown = [
            f"{MEASURES[name].heading} {means[name]:.{MEASURES[name].decimals}f}"
            for name in SCORES
            if means.get(name) is not None
        ]
        parts.append(f"{method}: {', '.join(shown) or 'no reference'}")
    return "; ".join(parts)


def _difference(document: Mapping[str, Any]) -> str:
    gap = format_gap(document)
    if gap is None or not gap.interval:
        return "no endpoint is known of both methods"
    return (
        f"advantage of {document['best']} over {document['runner_up']} {gap.signed}{gap.unit}, 90 % interval "
        f"{gap.interval}, margin {gap.margin}, {document['n_compared']} people"
    )


def _failures(document: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{method} failed in {found['n_failed']} of {found['n_images']} images of the pilot"
        for method, found in document["failures"].items()
    )


def _failed_images(document: Mapping[str, Any]) -> str:
    named = {method: found["images"] for method, found in document["failures"].items() if found["images"]}
    return (
        "; ".join(f"{method}: {', '.join(map(str, images))}" for method, images in named.items()) or "none in the pilot"
    )


def _people(images: list[StudyImage]) -> str:
    return f"{len(images)} images of {len({image.subject for image in images})} people"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'no reason given'} {number}" for name, number in counts.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
