"""The tables of a pilot as arrays: images by methods, with failures and people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spineseg.studyfolder.marks import Preference

USELESS_DICE = 0.7
"""Dice below which a mask is a failure: its area means nothing for statistics (Hippunfold takes the same limit)."""

LEVEL_AREA = "csa_level_mm2"
"""Key of the area at the plan's level, mm², where it is known."""

LEVEL_ERROR = "csa_error_level_pct"
"""Key of the area's error at the plan's level, percent, where both mask and reference show the level."""

MOST_AT_LEVEL = 0.5
"""Share of the people with an area who must have it at the plan's level for areas to be compared there. An SD must be
that of one measure, so only those people then count; if fewer have it, areas over whole masks are compared instead."""

REFERENCE_MEASURES = ("dice", "nsd", "hd95_mm", "assd_mm", "csa_error_pct", LEVEL_ERROR)
"""Measures that need a reference."""

Profiles = Mapping[tuple[str, str], NDArray[np.float32]]
"""Image and method to (n, 2) array: height in the scanner (mm) and area (mm²) of every slice."""


@dataclass(frozen=True)
class RepeatSpread:
    """Variance of the area over each person's repeats.

    Parameters
    ----------
    contrasts : (C,) ndarray of str
    variance : (P, C, M) ndarray
        Percent²; NaN without repeats. Also NaN where the method failed in one of them, because a failure counts only
        once, as a failure.
    df : (P, C) ndarray
        Degrees of freedom.
    """

    contrasts: NDArray[np.str_]
    variance: NDArray[np.float64]
    df: NDArray[np.float64]

    def of_people(self, people: NDArray[np.bool_] | NDArray[np.intp]) -> RepeatSpread:
        """Return the part of some people, given as (P,) bool or by their numbers."""
        return replace(self, variance=self.variance[people], df=self.df[people])


@dataclass(frozen=True)
class Evidence:
    """All that is known about N images segmented by M methods.

    Parameters
    ----------
    methods : (M,) tuple of str
    image_id, subject, session, run, contrast : (N,) ndarray of str
    failed : (N, M) ndarray of bool
    values : dict of (N, M) ndarray
        Column of metrics.tsv to its values; NaN where missing.
    pairs : dict of (str, str) to dict of (N,) ndarray
        Measures of agreement of two methods, in the order of `methods`.
    reference_from : (N,) ndarray of str
        Method whose output the reference was corrected from; empty where a person drew it.
    group, site : (N,) ndarray of str
        Group and site of the participant; empty where not known.
    rater_error : dict of str to float
        Difference of two people's drawings: ``csa`` (percent), ``dice`` and ``nsd`` (half of the distance to 1).
    profiles : dict
        Areas by slice of images that repeat each other or show one person in several contrasts.
    ratings : tuple of Preference
        Blind ratings only.
    excluded : tuple of dict
        Images and people that do not take part, with the reason.
    repeats : RepeatSpread, optional
        Where it is computed already.
    useless : (N, M) ndarray of bool, optional
        Masks whose only failure is a Dice with the reference below `USELESS_DICE`.
    planned : mapping
        Contrast to its weight in the plan; a contrast that is missing weighs 1.
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
        """Return the evidence of some images only; `keep` is (N,) bool or the images' numbers."""
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
        """Return how much larger method a's areas are than b's, (N,), percent of their mean; None if not known.

        Areas are those at the plan's level where `is_at_level` holds, else those on the slices where both have cord.
        NaN where one of the methods failed.
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
        """Whether (N, m) areas at the level are used in place of (N, m) other areas; the two are never mixed.

        They are used where at least `MOST_AT_LEVEL` of the people who have either area have the one at the level.
        """
        at_level = np.unique(self.person[np.isfinite(level).all(axis=1)]).size
        either = np.unique(self.person[np.isfinite(level).all(axis=1) | np.isfinite(other).all(axis=1)]).size
        return at_level > 0 and at_level >= MOST_AT_LEVEL * either

    def area_errors(self, methods: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
        """Return some methods' errors of the area against references, all at the level or all over whole masks.

        Returns
        -------
        error, area : (N, m) ndarray
            Percent, and mm². At the level an image counts only where all m methods have an error there.
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
        """Return the evidence without one participant; computed repeats of the others are kept."""
        rest = self.subset(self.subject != person)
        if self.repeats is None:
            return rest
        return replace(rest, repeats=self.repeats.of_people(self.people != person))

    def by_person(self, values: NDArray) -> NDArray[np.float64]:
        """Average (N, m) values within each participant and contrast, (P, C, m).

        An image counts only where all m values are known, so that methods are compared on the same images. NaN where a
        participant has no such image.
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
