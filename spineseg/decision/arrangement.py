"""Arrange the rows of a pilot's tables as evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import LEVEL_AREA, LEVEL_ERROR, REFERENCE_MEASURES, USELESS_DICE, Evidence
from spineseg.decision.params import DecisionParams
from spineseg.errors import InputError
from spineseg.measures import AGREEMENT, METRICS
from spineseg.studyfolder.csa import REFERENCE
from spineseg.studyfolder.marks import Preference
from spineseg.studyfolder.sidecars import is_killed
from spineseg.studyfolder.tables import AgreementRow, MetricsRow

MIN_RATED_TWICE = 5
"""People whom a second rater must have drawn before their difference sets margins; with fewer, one odd image would set
them. It is the number of people with references from which on these rule."""


@dataclass(frozen=True)
class Tables:
    """The rows that evidence is made of.

    Parameters
    ----------
    metrics, agreement : sequence of rows
    columns : mapping
        Columns of participants.tsv: subject to column to value.
    corrected_from : mapping
        Image to the method that its reference was corrected from.
    untrue : mapping
        Image to the reason why its reference does not count as the truth.
    rated_fail : set of (image, method)
        Masks that raters marked as failed.
    other_forms : mapping
        Image to the reason why another image of the same acquisition counts in its place.
    ratings : tuple of Preference
    level_areas : mapping
        Image and method (or `REFERENCE`) to the area at the plan's level, mm².
    """

    metrics: Sequence[MetricsRow]
    agreement: Sequence[AgreementRow] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    corrected_from: Mapping[str, str] = field(default_factory=dict)
    untrue: Mapping[str, str] = field(default_factory=dict)
    rated_fail: frozenset[tuple[str, str]] = frozenset()
    other_forms: Mapping[str, str] = field(default_factory=dict)
    ratings: tuple[Preference, ...] = ()
    level_areas: Mapping[tuple[str, str], float] = field(default_factory=dict)


def make_evidence(
    tables: Tables, methods: Sequence[str], params: DecisionParams, where: str = "the measures"
) -> Evidence:
    """Arrange a pilot's rows.

    Parameters
    ----------
    tables : Tables
    methods : sequence of str
        Methods to compare; rows of other methods are ignored.
    params : DecisionParams
    where : str
        The table's path, for messages.

    Returns
    -------
    Evidence
        Images sorted by name; an image without a row for each method is left out, with the reason.

    Raises
    ------
    InputError
        If the table has two rows for an image and method, or no row for a method.
    """
    table = _rows_by_image(tables.metrics, methods, where)
    kept, excluded = _choose_images(table, methods, params, tables.other_forms)
    grid = [[table[image][method] for method in methods] for image in kept]
    shape = (len(kept), len(methods))
    first = [line[0].image for line in grid]
    values = {
        name: np.array([[row.values.get(name, np.nan) for row in line] for line in grid], np.float64).reshape(shape)
        for name in METRICS
    }
    values |= _areas_at_level(kept, methods, tables.level_areas)
    untrue = np.array([image in tables.untrue for image in kept], bool)
    for name in REFERENCE_MEASURES:
        if name in values:
            values[name][untrue] = np.nan
    failed = np.array(
        [[_is_failed(row, line, params.coverage_limit, tables.rated_fail) for row in line] for line in grid], bool
    ).reshape(shape)
    has_reference = np.isfinite(values["dice"]).any(axis=1, keepdims=True)
    for name in ("dice", "nsd"):  # a method that failed has found nothing of the reference
        values[name] = np.where(has_reference & np.isnan(values[name]) & failed, 0.0, values[name])
    useless = (values["dice"] < USELESS_DICE) & ~failed
    failed |= useless
    for name in ("csa_error_pct", LEVEL_ERROR):
        if name in values:
            values[name] = np.where(failed, np.nan, values[name])  # a failure counts once, as a failure

    def texts(of) -> NDArray[np.str_]:
        return np.array([of(image) for image in first], dtype=str)

    def column(name: str | None) -> NDArray[np.str_]:
        return texts(lambda image: tables.columns.get(image.subject, {}).get(name or "", ""))

    return Evidence(
        methods=tuple(methods),
        image_id=np.array(kept, dtype=str),
        subject=texts(lambda image: image.subject),
        session=texts(lambda image: image.session),
        run=texts(lambda image: image.run),
        contrast=texts(lambda image: image.contrast),
        failed=failed,
        values=values,
        reference_from=texts(lambda image: tables.corrected_from.get(image.image_id, "")),
        group=column(params.group),
        site=column(params.site),
        pairs=_pairs(tables.agreement, methods, kept),
        rater_error=_rater_error([table[i] for i in kept if i not in tables.untrue], params, tables.level_areas),
        ratings=tuple(one for one in tables.ratings if one.blind and one.image in set(kept)),
        excluded=tuple(excluded),
        useless=useless,
        planned={image.contrast: params.weight_of(image.contrast) for image in first},
    )


def _pairs(
    rows: Sequence[AgreementRow], methods: Sequence[str], images: Sequence[str]
) -> dict[tuple[str, str], dict[str, NDArray[np.float64]]]:
    """Agreement of each pair of methods by image; differences are the first method minus the second."""
    place, order = {name: n for n, name in enumerate(images)}, {name: n for n, name in enumerate(methods)}
    found: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for row in rows:
        if row.image.image_id not in place or row.method_a not in order or row.method_b not in order:
            continue
        turned = order[row.method_a] > order[row.method_b]
        pair = (row.method_b, row.method_a) if turned else (row.method_a, row.method_b)
        if pair not in found:
            found[pair] = {name: np.full(len(images), np.nan) for name in AGREEMENT}
        for name, value in row.values.items():
            sign = -1.0 if turned and name == "csa_difference_mm2" else 1.0
            found[pair][name][place[row.image.image_id]] = sign * value
    return found


def _areas_at_level(
    images: Sequence[str], methods: Sequence[str], areas: Mapping[tuple[str, str], float]
) -> dict[str, NDArray[np.float64]]:
    """Areas at the plan's level (mm²) and their errors (percent), each (N, M); empty without levels."""
    if not areas:
        return {}
    truth = np.array([[areas.get((image, REFERENCE), np.nan)] for image in images]).reshape(-1, 1)
    level = np.array([[areas.get((image, m), np.nan) for m in methods] for image in images]).reshape(-1, len(methods))
    return {LEVEL_AREA: level, LEVEL_ERROR: 100 * (level / truth - 1)}


def _rater_error(
    images: Sequence[Mapping[str, MetricsRow]], params: DecisionParams, areas: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    """Mean difference of the second rater's masks from the references; empty where there are none.

    ``n`` is the number of people; below `MIN_RATED_TWICE` it is the only key.
    """
    rows = [row for by_method in images if (row := by_method.get(params.second_rater or ""))]
    rows = [row for row in rows if row.has_cord and np.isfinite(row.values.get("dice", np.nan))]
    people = {row.image.subject for row in rows}
    found: dict[str, float] = {"n": float(len(people))} if people else {}
    if len(people) < MIN_RATED_TWICE:
        return found
    for key, name in (("csa", "csa_error_pct"), ("dice", "dice"), ("nsd", "nsd")):
        known = [row.values[name] for row in rows if row.has_cord and np.isfinite(row.values.get(name, np.nan))]
        if key == "csa" and areas:
            at_level = [
                areas.get((r.image.image_id, r.method), np.nan) / areas.get((r.image.image_id, REFERENCE), np.nan)
                for r in rows
            ]
            known = [100 * (x - 1) for x in at_level if np.isfinite(x)] or known
        if known:
            found[key] = float(np.mean(np.abs(known)) if key == "csa" else (1 - np.mean(known)) / 2)
    return found


def _rows_by_image(rows: Iterable[MetricsRow], methods: Sequence[str], where: str) -> dict[str, dict[str, MetricsRow]]:
    """Return image to method to row; refuse two rows for one image and method, and a method without rows."""
    table: dict[str, dict[str, MetricsRow]] = {}
    for row in rows:
        by_method = table.setdefault(row.image.image_id, {})
        if row.method in by_method:
            raise InputError(f"{where}: two rows for image {row.image.image_id} by {row.method}; gather again")
        by_method[row.method] = row
    known = {method for by_method in table.values() for method in by_method}
    for method in methods:
        if table and method not in known:
            raise InputError(f"{where}: no row for method {method}, found {', '.join(sorted(known))}; measure it first")
    return table


def _choose_images(
    table: Mapping[str, Mapping[str, MetricsRow]], methods: Sequence[str], params: DecisionParams, forms: Mapping
) -> tuple[list[str], list[dict[str, str]]]:
    """Split image names into those that take part and those that do not, with reasons."""
    kept, excluded = [], []
    training = {name.removeprefix("sub-") for name in params.training_subjects}
    for image_id in sorted(table):
        by_method = table[image_id]
        missing = [method for method in methods if method not in by_method]
        image = next(iter(by_method.values())).image
        fault = _image_fault([by_method[method] for method in methods if method in by_method])
        if missing:
            excluded.append({"image_id": image_id, "reason": f"no result by {', '.join(missing)}"})
        elif image.subject.removeprefix("sub-") in training:
            excluded.append({"image_id": image_id, "reason": "a method was trained on this person"})
        elif not (params.plans(image.suffix, image.contrast) and params.weight_of(image.contrast)):
            excluded.append({"image_id": image_id, "reason": "its contrast is not in the plan (decision.contrasts)"})
        elif image_id in forms:
            excluded.append({"image_id": image_id, "reason": forms[image_id]})
        elif fault:
            excluded.append({"image_id": image_id, "reason": fault})
        else:
            kept.append(image_id)
    return kept, excluded


def _image_fault(rows: Sequence[MetricsRow]) -> str:
    """Return why an image says nothing about the methods; empty where its failures may be the methods' own.

    A file that cannot be read fails by every method with the same message. A process that the system killed says
    something about the machine, not the method.
    """
    for row in rows:
        if is_killed(row):
            return f"no result by {row.method}: {row.message}"
    messages = {row.message for row in rows}
    if len(rows) > 1 and len(messages) == 1 and all(row.status == "failed" for row in rows):
        return messages.pop()
    return ""


def _is_failed(row: MetricsRow, line: Sequence[MetricsRow], limit: float, rated: frozenset[tuple[str, str]]) -> bool:
    """Whether the method failed on this image; `line` has the rows of all its methods.

    A mask with status ``ok`` is too short only if another method has a longer mask with status ``ok``. A longer mask
    that its own method doubts may have run into the brain, so it does not count for that.
    """
    coverage = row.values.get("coverage", np.nan)
    longer = [other for other in line if other.status == "ok" and other.values.get("coverage", np.nan) > coverage]
    is_short = bool(coverage < limit) and (row.status != "ok" or bool(longer))
    return not row.has_cord or is_short or (row.image.image_id, row.method) in rated
