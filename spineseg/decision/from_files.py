"""Decide which method to keep, from the tables of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spineseg.code_digest import digest_code
from spineseg.decision.arrangement import Tables, make_evidence
from spineseg.decision.common_stretch import contrast_groups, repeat_groups
from spineseg.decision.document import Context, build_decision
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.plan import Scope
from spineseg.decision.training import find_taught
from spineseg.errors import InputError
from spineseg.provenance import sha256_json
from spineseg.spelling import count_of, name_some
from spineseg.studyfolder.csa import REFERENCE, CsaRow, read_csa
from spineseg.studyfolder.decisions import find_plan, read_membership
from spineseg.studyfolder.forms import find_other_forms
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import read_manifest
from spineseg.studyfolder.marks import Mark, Marks
from spineseg.studyfolder.sidecars import MadeBy
from spineseg.studyfolder.tables import MetricsRow, read_agreement, read_metrics, read_profiles
from spineseg.version import find_version

NO_MARKS = Marks()


@dataclass(frozen=True)
class Question:
    """What to decide, beside the tables.

    Parameters
    ----------
    dataset : str
        Name of the dataset; if empty, that of the folder of the tables.
    methods : sequence of str
        Methods to compare; their order breaks ties. If empty, the methods of the tables.
    params : DecisionParams
    override : mapping or None
        ``{"method", "reason", "by"}``: a person's choice, which replaces the rule's.
    config : mapping
        The keys of the configuration that the decision depends on; the decision stores their hash.
    code : mapping
        Digest of the code of the steps before the decision.
    fitted : sequence of str
        Methods on whose masks the prediction of Dice was fitted.
    marks : Marks
        Raters' marks and preferences.
    participants : mapping
        Subject to the columns of participants.tsv.
    strata : sequence of str
        Columns whose every value the pilot should have.
    reference_kinds : sequence of str, optional
        Kinds of references that count as the truth, according to the plan.
    """

    dataset: str = ""
    methods: Sequence[str] = ()
    params: DecisionParams = field(default_factory=DecisionParams)
    override: Mapping[str, str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    fitted: Sequence[str] = ()
    marks: Marks = NO_MARKS
    participants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    strata: Sequence[str] = ()
    reference_kinds: Sequence[str] | None = None


def decide_from_files(
    metrics: str | Path,
    agreement: str | Path | None = None,
    *,
    slices: str | Path | None = None,
    table: str | Path | None = None,
    levels: str | Path | None = None,
    question: Question | None = None,
) -> dict[str, Any]:
    """Read a pilot's tables and decide.

    Parameters
    ----------
    metrics : path
        metrics.tsv.
    agreement, slices, table, levels : path, optional
        agreement.tsv, slices.tsv.gz, images.tsv, levels.tsv. The plan and the manifests of a study are looked for in
        the folder of images.tsv.
    question : Question, optional

    Returns
    -------
    dict
        The content of decision.json.

    Raises
    ------
    InputError
        If a table or a setting cannot be used.
    """
    question = question or Question()
    params = question.params
    rows = read_metrics(metrics)
    methods = _compared_methods(rows, question, metrics)
    _check_columns(question)
    images = read_images(table) if table else []
    folder = StudyFolder(Path(table).parent) if table else None
    marks = question.marks
    if folder:
        marks = marks.of_masks(_pilot_masks(folder, images, marks, methods))
    empty = {(row.image.image_id, row.method) for row in rows if not row.has_cord}
    tables = Tables(
        rows,
        read_agreement(agreement) if agreement else (),
        columns=question.participants,
        corrected_from={i.image_id: i.reference_from for i in images if i.reference_from},
        untrue={
            i.image_id: f"a reference of kind {i.reference_kind}" for i in images if i.reference_use == "agreement"
        },
        rated_fail=marks.failures(methods, empty),
        other_forms=find_other_forms(i for i in images if i.included and i.pilot),
        ratings=marks.preferences,
        level_areas=_areas_at(params.level, read_csa(levels)) if levels and params.level else {},
    )
    evidence = make_evidence(tables, methods, params, str(metrics))
    if slices:
        evidence = replace(evidence, profiles=read_profiles(slices, _profiled(evidence, params)))
    notes = (
        *_absent_contrasts(images),
        *_absent_strata(images, question),
        *_doubted_contrasts(rows),
        *_untrue_references(images),
        *_unknown_training(images, params),
        *_other_masks(question.marks, marks),
        *_one_sided_fails(marks.one_sided_failures(methods, empty)),
    )
    context = _make_context(question, question.dataset or _folder_name(metrics), methods, images, folder, notes)
    decision = build_decision(evidence, params, context)
    counted = set(evidence.image_id.tolist())
    true = [i for i in images if i.image_id in counted and i.reference_use == "truth"]
    truths = Counter(image.reference_kind or "unknown" for image in true)
    decision["references"]["kinds"] = dict(sorted(truths.items()))
    left_out = [{"image_id": i.image_id, "reason": i.reason or "not included"} for i in images if not i.included]
    decision["excluded"] = left_out + decision["excluded"]
    return decision


def _make_context(
    question: Question,
    dataset: str,
    methods: Sequence[str],
    images: Sequence[StudyImage],
    folder: StudyFolder | None,
    notes: tuple[str, ...],
) -> Context:
    """Return what a decision records beside the numbers: their origin, the plan, and who trained which method."""
    made_by = _made_by(folder, images, methods) if folder else {}
    steps = {**question.code, "decision": digest_code("spineseg.decision.from_files")}
    return Context(
        dataset=dataset,
        override=question.override,
        versions={"spineseg": find_version(), **_libraries(made_by)},
        code_sha256={name: made.code for name, made in made_by.items()} | steps,
        weights_sha256={name: dict(made.weights) for name, made in made_by.items()},
        config_sha256=sha256_json(dict(question.config)),
        plan=find_plan(folder) if folder else None,
        scope=Scope(question.methods, question.reference_kinds),
        fitted=frozenset(question.fitted),
        taught=find_taught(
            [i for i in images if i.included and i.pilot],
            {name: made_by[name].weights if name in made_by else {} for name in methods},
        ),
        notes=notes,
    )


def _compared_methods(rows: Sequence[MetricsRow], question: Question, metrics: str | Path) -> list[str]:
    """Return the methods to compare: those of the configuration or the table, without the second rater."""
    rater = question.params.second_rater
    present = dict.fromkeys(row.method for row in rows)
    if rater and rater not in present:
        raise InputError(f"decision.second_rater: {metrics} has no row of {rater!r}; declare it as a method")
    methods = [method for method in question.methods or present if method != rater]
    if not methods:
        raise InputError(f"{metrics}: expected rows of at least one method, found none")
    return methods


def _check_columns(question: Question) -> None:
    """Refuse columns that the plan names and participants.tsv lacks."""
    params = question.params
    for key, name in (("group", params.group), ("site", params.site)):
        is_asked_for = name and name != DecisionParams.site  # a table need not have the usual column of sites
        if is_asked_for and not any(name in columns for columns in question.participants.values()):
            raise InputError(f"decision.{key}: participants.tsv has no column {name!r}; the bias by {key} needs it")


UNUSABLE = {"unmeasured", "coverage", "unbounded", "doubted"}
"""Flags of areas that are not those of the level, or that cover less than 0.8 of it."""


def _areas_at(level: str, rows: Sequence[CsaRow]) -> dict[tuple[str, str], float]:
    """Image and method to the area at a level, mm².

    A reference counts even where the labels of levels are doubted: the doubt is about both masks of the image alike.
    """
    found = {}
    for row in rows:
        usable = UNUSABLE - {"doubted"} if row.method == REFERENCE else UNUSABLE
        if row.level == level and not usable & set(row.flags):
            found[row.image.image_id, row.method] = row.values["csa_mm2"]
    return found


def _profiled(evidence: Evidence, params: DecisionParams) -> set[str]:
    """Images whose areas by slice are needed: repeats, and images of one person in several contrasts."""
    groups = [*repeat_groups(evidence, params.repeats), *contrast_groups(evidence)]
    return {str(evidence.image_id[n]) for parts in groups for part in parts for n in part.tolist()}


def _libraries(made_by: Mapping[str, MadeBy]) -> dict[str, str]:
    """Versions of the libraries that computed the masks, and of those that decide."""
    found = {name: number for made in made_by.values() for name, number in made.libraries.items()}
    return found | {"numpy": version("numpy"), "scipy": version("scipy")}


def _absent_contrasts(images: Sequence[StudyImage]) -> list[str]:
    """Say which contrasts of the study have no image in the pilot."""
    absent = {i.contrast for i in images if i.included} - {i.contrast for i in images if i.included and i.pilot}
    if not absent:
        return []
    return [f"no image of the pilot is {' or '.join(sorted(absent))}: the decision says nothing about such images"]


def _absent_strata(images: Sequence[StudyImage], question: Question) -> list[str]:
    """Name the sites, groups and other strata that have nobody in the pilot."""
    lines = []
    for column in question.strata:
        pilot, others = (
            {question.participants.get(i.subject, {}).get(column, "") for i in images if i.included and i.pilot == seen}
            for seen in (True, False)
        )
        if absent := sorted(others - pilot - {""}):
            listed = ", ".join(absent)
            lines.append(f"nobody in the pilot has {column} {listed}: the decision says nothing about such people")
    return lines


def _untrue_references(images: Sequence[StudyImage]) -> list[str]:
    """Say which references are compared with masks but do not count as the truth."""
    kinds = Counter(i.reference_kind for i in images if i.included and i.pilot and i.reference_use == "agreement")
    if not kinds:
        return []
    counts = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    verb = "reference is" if sum(kinds.values()) == 1 else "references are"
    return [f"{counts} {verb} not counted as the truth (config key references.kinds)"]


def _unknown_training(images: Sequence[StudyImage], params: DecisionParams) -> list[str]:
    """Say which of `training_subjects` are not in the study: a name may be misspelt."""
    unknown = {name.removeprefix("sub-") for name in params.training_subjects} - {i.subject for i in images}
    if not images or not unknown:
        return []
    return [f"nobody in the study is called {name_some(sorted(unknown))} (config key decision.training_subjects)"]


def _doubted_contrasts(rows: Sequence[MetricsRow]) -> list[str]:
    """Say which images look like another contrast than the one they were segmented as."""
    doubted = sorted({row.image.image_id for row in rows if row.contrast_doubt})
    if not doubted:
        return []
    return [
        f"{count_of(len(doubted), 'image')} may have another contrast than configured: {name_some(doubted)} (column"
        " contrast_doubt of metrics.tsv); check the config key contrasts, because a method that is given the wrong"
        " contrast cannot be compared fairly"
    ]


def _made_by(folder: StudyFolder, images: Sequence[StudyImage], methods: Sequence[str]) -> dict[str, MadeBy]:
    """Code, weights and libraries that made the pilot's masks, by method, from the manifest of one chunk.

    One is enough, because gathering has checked that all chunks agree.
    """
    if not folder.membership.is_file():
        return {}
    chunk_of = read_membership(folder).chunks
    first = next((chunk_of[i.image_id] for i in images if i.pilot and i.image_id in chunk_of), None)
    paths = {method: folder.manifest(method, first) for method in methods} if first else {}
    return {method: read_manifest(path).made_by for method, path in paths.items() if path.is_file()}


def _pilot_masks(
    folder: StudyFolder, images: Sequence[StudyImage], marks: Marks, methods: Sequence[str]
) -> dict[tuple[str, str], str]:
    """Image and method to the checksum of the present mask, for those of the pilot's images that raters marked."""
    marked = {mark.image for mark in marks.marks} | {one.image for one in marks.preferences}
    marked &= {i.image_id for i in images if i.pilot}
    if not marked or not folder.membership.is_file():
        return {}
    chunk_of = read_membership(folder).chunks
    chunks = sorted({chunk_of[image] for image in marked if image in chunk_of})
    paths = [path for method in methods for chunk in chunks if (path := folder.manifest(method, chunk)).is_file()]
    entries = [entry for path in paths for entry in read_manifest(path).images]
    return {(entry.image_id, entry.method): entry.mask_sha256 or "" for entry in entries if entry.image_id in marked}


def _one_sided_fails(one_sided: Sequence[Mark]) -> list[str]:
    """Name the fails that do not count because their rater marked only one method."""
    if not one_sided:
        return []
    names = name_some([f"{mark.method} in {mark.image} by {mark.rater}" for mark in one_sided])
    return [
        f"{count_of(len(one_sided), 'fail')} by hand {'counts' if len(one_sided) == 1 else 'count'} for nothing here, "
        f"because the rater did not mark every method's mask of the image: {names}"
    ]


def _other_masks(given: Marks, counted: Marks) -> list[str]:
    """Say how many of the raters' marks and preferences are about other masks than those compared."""
    n = len(given.marks) - len(counted.marks) + len(given.preferences) - len(counted.preferences)
    if not n:
        return []
    verb, them = ("is", "it is") if n == 1 else ("are", "they are")
    return [f"{count_of(n, 'judgement')} of raters {verb} not counted, because {them} about other masks than these"]


def _folder_name(metrics: str | Path) -> str:
    """Name of the results folder in which the tables lie."""
    folders = [name for name in Path(metrics).resolve().parent.parts if name not in ("tables", "pilot", "study")]
    return folders[-1]
