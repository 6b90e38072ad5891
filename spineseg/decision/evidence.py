"""The tables of a pilot as arrays: images by methods, with failures and people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.params import DecisionParams
from spineseg.errors import InputError
from spineseg.measures import AGREEMENT, METRICS
from spineseg.studyfolder.csa import REFERENCE
from spineseg.studyfolder.marks import Preference
from spineseg.studyfolder.tables import AgreementRow, MetricsRow

USELESS_DICE = 0.7
"""Below it a mask is a failure: no statistics of the area survive such an overlap (Hippunfold takes the same limit)."""

LEVEL_AREA = "csa_level_mm2"
"""The area at the plan's level, where it is known."""

LEVEL_ERROR = "csa_error_level_pct"
"""The error of the area against the reference at the plan's level, where mask and reference show it."""

MOST_AT_LEVEL = 0.5
"""Share of the people with an area from which on only those count who have it at the plan's level: an SD is of one
measure, and a level that most do not show is not what the pilot can say."""

REFERENCE_MEASURES = ("dice", "nsd", "hd95_mm", "assd_mm", "csa_error_pct", LEVEL_ERROR)
"""Measures that need a reference."""

Profiles = Mapping[tuple[str, str], NDArray[np.float32]]
"""Image and method to (n, 2): height in the scanner (mm) and area (mm²) of every slice."""


@dataclass(frozen=True)
class RepeatSpread:
    """Variance of the area over each person's repeats.

    Parameters
    ----------
    contrasts : (C,) ndarray of str
    variance : (P, C, M) ndarray
        Percent²; NaN without repeats, and where the method failed in one of them: failures count as such, once.
    df : (P, C) ndarray
        Degrees of freedom.
    """

    contrasts: NDArray[np.str_]
    variance: NDArray[np.float64]
    df: NDArray[np.float64]

    def of_people(self, people: NDArray[np.bool_] | NDArray[np.intp]) -> RepeatSpread:
        """Return that of some people: (P,) bool, or their numbers."""
        return replace(self, variance=self.variance[people], df=self.df[people])


@dataclass(frozen=True)
class Evidence:
    """What is known of N images by M methods.

    Parameters
    ----------
    methods : (M,) tuple of str
    image_id, subject, session, run, contrast : (N,) ndarray of str
    failed : (N, M) ndarray of bool
    values : dict of (N, M) ndarray
        By column of metrics.tsv; NaN where missing.
    pairs : dict of (str, str) to dict of (N,) ndarray
        Measures of agreement of two methods, in the order of `methods`.
    reference_from : (N,) ndarray of str
        Method whose output the reference was corrected from; empty where a person drew it.
    group, site : (N,) ndarray of str
        Of the participant; empty where not known.
    rater_error : dict of str to float
        By how much two people's drawings differ: ``csa`` (percent), ``dice`` and ``nsd`` (half the way to 1).
    profiles : dict
        Areas by slice of images that repeat each other or show one person in several contrasts.
    ratings : tuple of Preference
        Blind ones only.
    excluded : tuple of dict
        Images and people that do not take part, with the reason.
    repeats : RepeatSpread, optional
        Where it is computed already.
    useless : (N, M) ndarray of bool, optional
        Failed for nothing else than a Dice with the reference below `USELESS_DICE`.
    planned : mapping
        Contrast to its weight in the plan; 1 where it is not there.
    """

    methods: tuple[str, ...]
    image_id: NDArray[np.str_]
    subject: NDArray[np.str_]
    session: NDArray[np.str_]
    run: NDArray[np.str_]
    contrast: NDArray[np.str_]
    failed: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]
    reference_from: NDArray[np.str_]
    group: NDArray[np.str_]
    site: NDArray[np.str_]
    pairs: Mapping[tuple[str, str], Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    rater_error: Mapping[str, float] = field(default_factory=dict)
    profiles: Profiles = field(default_factory=dict)
    ratings: tuple[Preference, ...] = ()
    excluded: tuple[dict[str, str], ...] = ()
    repeats: RepeatSpread | None = None
    useless: NDArray[np.bool_] | None = None
    planned: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _people(self) -> tuple[NDArray[np.str_], NDArray[np.intp], NDArray[np.intp]]:
        """Participants, the first image of each, and the number of each image's participant."""
        return np.unique(self.subject, return_index=True, return_inverse=True)

    @cached_property
    def _contrasts(self) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
        """Contrasts, and the number of each image's contrast."""
        return np.unique(self.contrast, return_inverse=True)

    @property
    def people(self) -> NDArray[np.str_]:
        """Participants, sorted, (P,)."""
        return self._people[0]

    @property
    def person(self) -> NDArray[np.intp]:
        """Number of each image's participant, (N,)."""
        return self._people[2]

    @property
    def contrasts(self) -> NDArray[np.str_]:
        """Contrasts, sorted, (C,)."""
        return self._contrasts[0]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each contrast, (C,)."""
        return np.array([self.planned.get(name, 1.0) for name in self.contrasts.tolist()], np.float64)

    def subset(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Evidence:
        """Return the evidence of some images only; `keep` is (N,) bool, or their numbers."""
        by_image = ("image_id", "subject", "session", "run", "contrast", "failed", "reference_from", "group", "site")
        kept = set(self.image_id[keep].tolist())
        return replace(
            self,
            **{name: getattr(self, name)[keep] for name in by_image},
            values={key: value[keep] for key, value in self.values.items()},
            pairs={pair: {key: value[keep] for key, value in each.items()} for pair, each in self.pairs.items()},
            ratings=tuple(rating for rating in self.ratings if rating.image in kept),
            repeats=None,
            useless=None if self.useless is None else self.useless[keep],
        )

    def without_references(self, doubtful: NDArray[np.bool_]) -> Evidence:
        """Return the evidence as if some images, (N,) bool, had no reference."""
        values = {key: value.copy() for key, value in self.values.items()}
        for key in REFERENCE_MEASURES:
            if key in values:
                values[key][doubtful] = np.nan
        failed = self.failed if self.useless is None else self.failed & ~(self.useless & doubtful[:, None])
        return replace(self, values=values, failed=failed, repeats=None)

    def area_gap(self, a: int, b: int) -> NDArray[np.float64] | None:
        """Return by how much method a's areas are larger than b's, (N,), percent of their mean; None if not known.

        At the plan's level, or on the slices where both have cord (`one_measure`); NaN where one failed.
        """
        pair, sign = (self.methods[a], self.methods[b]), 1.0
        if pair not in self.pairs:
            pair, sign = pair[::-1], -1.0
        level = self.values.get(LEVEL_AREA)
        if pair not in self.pairs and level is None:
            return None
        nothing = np.full(len(self.image_id), np.nan)
        common = sign * self.pairs.get(pair, {}).get("csa_difference_mm2", nothing)
        gap = 100 * common / self.values["csa_mean_mm2"][:, [a, b]].mean(axis=1)
        if level is not None:
            at_level = 100 * (level[:, a] - level[:, b]) / level[:, [a, b]].mean(axis=1)
            gap = at_level if self.is_at_level(at_level[:, None], gap[:, None]) else gap.copy()
        gap[self.failed[:, [a, b]].any(axis=1)] = np.nan
        return gap

    def is_at_level(self, level: NDArray, other: NDArray) -> bool:
        """Whether (N, m) areas at the level stand for (N, m) others: an SD of both would be of no measure.

        They do where at least `MOST_AT_LEVEL` of the people who have either have theirs at the level.
        """
        at_level = np.unique(self.person[np.isfinite(level).all(axis=1)]).size
        either = np.unique(self.person[np.isfinite(level).all(axis=1) | np.isfinite(other).all(axis=1)]).size
        return at_level > 0 and at_level >= MOST_AT_LEVEL * either

    def area_errors(self, methods: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
        """Return the errors of the area against references of some methods, all of one measure.

        Returns
        -------
        error, area : (N, m) ndarray
            Percent, and mm². An image that one of the methods does not know at the level counts for none of them there.
        at_level : bool
            Whether they are those at the plan's level; else those over the whole mask.
        """
        wanted = list(methods)
        whole = self.values["csa_error_pct"][:, wanted]
        level = self.values.get(LEVEL_ERROR)
        if level is not None and self.is_at_level(level[:, wanted], whole):
            known = np.isfinite(level[:, wanted]).all(axis=1, keepdims=True)
            return np.where(known, level[:, wanted], np.nan), self.values[LEVEL_AREA][:, wanted], True
        return whole, self.values["csa_mean_mm2"][:, wanted], False

    def without(self, person: str) -> Evidence:
        """Return the evidence without one participant; what is known of the others stays."""
        rest = self.subset(self.subject != person)
        if self.repeats is None:
            return rest
        return replace(rest, repeats=self.repeats.of_people(self.people != person))

    def by_person(self, values: NDArray) -> NDArray[np.float64]:
        """Average (N, m) values within each participant and contrast, (P, C, m).

        An image counts only where all m values are known, so that methods are compared on the same images; NaN
        where a participant has no such image.
        """
        n_contrasts = self.contrasts.size
        cell, n_cells = self.person * n_contrasts + self._contrasts[1], self.people.size * n_contrasts
        known = np.isfinite(values).all(axis=1)
        count = np.bincount(cell[known], minlength=n_cells)
        sums = np.stack([np.bincount(cell[known], column[known], n_cells) for column in values.T], axis=1)
        means = np.divide(sums, count[:, None], out=np.full(sums.shape, np.nan), where=count[:, None] > 0)
        return means.reshape(self.people.size, n_contrasts, values.shape[1])

    def person_mean(self, values: NDArray) -> NDArray[np.float64]:
        """Average (N, m) values within each participant, contrasts equally weighted, (P, m)."""
        cells = self.by_person(values)
        known = np.isfinite(cells)
        count = known.sum(axis=1)
        sums = np.where(known, cells, 0.0).sum(axis=1)
        return np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)

    def of_person(self, labels: NDArray[np.str_]) -> NDArray[np.str_]:
        """Return a label of images, such as the site, by participant, (P,)."""
        return labels[self._people[1]]


@dataclass(frozen=True)
class Tables:
    """The rows that evidence is made of; columns of participants are given by subject.

    Parameters
    ----------
    metrics, agreement : sequence of rows
    columns : mapping
        Subject to column to value.
    corrected_from : mapping
        Image to the method that its reference was corrected from.
    untrue : mapping
        Image to the reason why its reference is no truth.
    rated_fail : set of (image, method)
        What raters have failed.
    other_forms : mapping
        Image to the reason why another form of its acquisition counts in its place.
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
        Methods to compare; rows of others are left aside.
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
        If a row is there twice, or a method has no row.
    """
    table: dict[str, dict[str, MetricsRow]] = {}
    for row in tables.metrics:
        by_method = table.setdefault(row.image.image_id, {})
        if row.method in by_method:
            raise InputError(f"{where}: two rows for image {row.image.image_id} by {row.method}; gather again")
        by_method[row.method] = row
    for method in methods:
        if table and not any(method in by_method for by_method in table.values()):
            found = ", ".join(sorted({row.method for row in tables.metrics}))
            raise InputError(f"{where}: no row for method {method}, found {found}; measure it first")
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
        [[_is_failed(row, params.coverage_limit, tables.rated_fail) for row in line] for line in grid], bool
    ).reshape(shape)
    has_reference = np.isfinite(values["dice"]).any(axis=1, keepdims=True)
    for name in ("dice", "nsd"):  # a method that failed where a reference exists has found none of it
        values[name] = np.where(has_reference & np.isnan(values[name]) & failed, 0.0, values[name])
    useless = (values["dice"] < USELESS_DICE) & ~failed
    failed |= useless
    for name in ("csa_error_pct", LEVEL_ERROR):
        if name in values:
            values[name] = np.where(failed, np.nan, values[name])  # failures count as such, once

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
    """Agreement of each pair of methods by image, the first minus the second where it is a difference."""
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
    """Areas at the plan's level and their errors; nothing without levels."""
    if not areas:
        return {}
    truth = np.array([[areas.get((image, REFERENCE), np.nan)] for image in images]).reshape(-1, 1)
    level = np.array([[areas.get((image, m), np.nan) for m in methods] for image in images]).reshape(-1, len(methods))
    return {LEVEL_AREA: level, LEVEL_ERROR: 100 * (level / truth - 1)}


def _rater_error(
    images: Sequence[Mapping[str, MetricsRow]], params: DecisionParams, areas: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    """By how much the second rater's masks differ from the references, mean over images; empty where unknown."""
    rows = [row for by_method in images if (row := by_method.get(params.second_rater or ""))]
    found = {}
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
        elif not params.weight_of(image.contrast):
            excluded.append({"image_id": image_id, "reason": "its contrast is not in the plan (decision.contrasts)"})
        elif image_id in forms:
            excluded.append({"image_id": image_id, "reason": forms[image_id]})
        elif fault:
            excluded.append({"image_id": image_id, "reason": fault})
        else:
            kept.append(image_id)
    return kept, excluded


def _image_fault(rows: Sequence[MetricsRow]) -> str:
    """Return why no method could use an image, or nothing where that may be a method's failure.

    A file that cannot be read fails with the same words by every method; it says nothing about them.
    """
    messages = {row.message for row in rows}
    if len(rows) > 1 and len(messages) == 1 and all(row.status == "failed" for row in rows):
        return messages.pop()
    return ""


def _is_failed(row: MetricsRow, coverage_limit: float, rated: frozenset[tuple[str, str]]) -> bool:
    """Whether the method failed on this image."""
    is_short = bool(row.values.get("coverage", np.nan) < coverage_limit)  # whatever the method calls its mask
    return not row.has_cord or is_short or (row.image.image_id, row.method) in rated
