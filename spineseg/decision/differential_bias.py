"""Biases that differ between groups, sites or contrasts. Comparing people does not cancel them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import RULE, TINY_SD

MIN_LEVEL = 3
"""Least number of people in a group, site or contrast that is compared with the others."""


@dataclass(frozen=True)
class LevelGap:
    """Difference of the bias in one group (site, contrast) from that in the others, percent (Welch).

    Parameters
    ----------
    level : str
        The group, site or contrast.
    difference : float
    half, half_of_all : float
        Half the width of the 90 % interval: for this level alone, and corrected for as many comparisons as there are
        levels.
    n : int
        People.
    """

    level: str
    difference: float
    half: float
    half_of_all: float
    n: int

    def is_beyond(self, limit: float) -> bool:
        """Whether it is larger than a limit, with an interval that excludes 0."""
        return abs(self.difference) > limit and abs(self.difference) > self.half_of_all

    def describe(self, limit: float) -> dict[str, Any]:
        """Return it in the form of decision.json."""
        return {
            "level": self.level,
            "difference_pct": self.difference,
            "ci90": [self.difference - self.half_of_all, self.difference + self.half_of_all],
            "n": self.n,
            "is_warned": self.is_beyond(limit),
            "is_excluded": abs(self.difference) + self.half_of_all < limit,
        }


@dataclass(frozen=True)
class BiasByGroup:
    """Differences of two methods' biases between the groups that a study compares.

    Parameters
    ----------
    own, others : LevelGap or None
        The largest difference of the first method, and of the second; None without references.
    between : list of LevelGap
        The same for the difference of the two methods, one for each group.
    margin, limit : float
        Largest difference between the methods that counts as none, and half of the effect, both percent.
    """

    own: LevelGap | None
    others: LevelGap | None
    between: list[LevelGap]
    margin: float
    limit: float

    @property
    def is_within(self) -> bool:
        """Whether both methods' biases differ equally between groups: every interval lies within the margin."""
        return all(abs(gap.difference) + gap.half < self.margin for gap in self.between)

    def doubts(self, name: str, other: str) -> list[str]:
        """Say what keeps the first method from being clearly better."""
        if self.own is None:
            return []
        gap = f"{abs(self.own.difference):.1f} % between {self.own.level} and the others"
        if self.own.is_beyond(self.limit):
            return [f"the bias of {name} differs by {gap}, more than half of the effect, which does not cancel"]
        known = 0.0 if self.others is None else abs(self.others.difference)
        if self.own.is_beyond(known + self.margin) and any(g.is_beyond(self.margin) for g in self.between):
            return [f"the bias of {name} differs by {gap}, more than that of {other} does ({known:.1f} %)"]
        return []


def compare_bias_by_group(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> BiasByGroup | None:
    """Compare the biases of two methods between groups; None where no two groups are known.

    With too few references the difference of the two methods' areas is used instead: it shows whether both biases
    differ equally.
    """
    groups = evidence.of_person(evidence.group)
    if np.unique(groups[groups != ""]).size < 2:
        return None
    margin = max(params.margin_csa_pct, evidence.rater_error.get("csa", 0.0))
    cells = evidence.by_person(evidence.area_errors(pair)[0])
    own: list[LevelGap | None] = [None, None]
    if np.isfinite(cells[:, :, 0]).any(axis=1).sum() >= params.min_references:
        differences = cells[:, :, 0] - cells[:, :, 1]
        for k in range(2):
            gaps = compare_levels(cells[:, :, k], np.broadcast_to(groups[:, None], differences.shape))
            own[k] = max(gaps, key=lambda gap: abs(gap.difference), default=None)
    elif (gap := evidence.area_gap(*pair)) is not None:
        differences = evidence.by_person(gap[:, None])[:, :, 0]
    else:
        return None
    between = compare_levels(differences, np.broadcast_to(groups[:, None], differences.shape))
    return BiasByGroup(own[0], own[1], between, margin, params.effect_pct / 2) if between else None


def find_differential_bias(evidence: Evidence, params: DecisionParams) -> list[dict[str, Any]]:
    """Find where a method's bias differs between groups, sites or contrasts: comparing people does not cancel that.

    Returns
    -------
    list of dict
        For each of group, site and contrast, and each method, the level that differs most from the others. Without
        references it is each pair of methods, because then one of the two has the bias. Keys: by, column, of (method or
        pair), level, difference_pct, ci90 (corrected for as many comparisons as there are levels), n, is_warned (beyond
        half of the effect, and more than chance), is_excluded (the whole interval lies within half of the effect).
    """
    rows = []
    labels = {
        "group": (evidence.of_person(evidence.group)[:, None], params.group or "group"),
        "site": (evidence.of_person(evidence.site)[:, None], params.site or "site"),
        "contrast": (evidence.contrasts[None, :], "contrast"),
    }
    for name, values in _errors_by_method(evidence, params).items():
        for by, (label, words) in labels.items():
            levels = np.broadcast_to(label, values.shape)
            gaps = compare_levels(values, levels)
            if gaps:
                one = max(gaps, key=lambda gap: (gap.is_beyond(params.effect_pct / 2), abs(gap.difference)))
                rows.append({"by": by, "column": words, "of": name} | one.describe(params.effect_pct / 2))
    return rows


def _errors_by_method(evidence: Evidence, params: DecisionParams) -> dict[str, NDArray[np.float64]]:
    """Errors of each method by person and contrast, (P, C); with too few references, differences of two methods."""
    errors = {
        method: evidence.by_person(evidence.area_errors([m])[0])[:, :, 0] for m, method in enumerate(evidence.methods)
    }
    errors = {name: x for name, x in errors.items() if np.isfinite(x).any(axis=1).sum() >= params.min_references}
    if errors:
        return errors
    found = {}
    for a, b in combinations(range(len(evidence.methods)), 2):
        first, second = evidence.methods[a], evidence.methods[b]
        if (gap := evidence.area_gap(a, b)) is not None:
            found[f"{first} less {second}"] = evidence.by_person(gap[:, None])[:, :, 0]
    return found


def compare_levels(values: NDArray[np.float64], levels: NDArray[np.str_]) -> list[LevelGap]:
    """Compare each level that has enough people with all others (Welch); empty below two levels.

    Parameters
    ----------
    values : (P, C) ndarray
        Errors of the area, percent; NaN where unknown.
    levels : (P, C) ndarray of str
        Group, site or contrast of each value; empty where unknown.
    """
    from scipy.stats import t

    known = np.isfinite(values) & (levels != "")
    names = [
        str(name) for name in np.unique(levels[known]) if (known & (levels == name)).any(axis=1).sum() >= MIN_LEVEL
    ]
    gaps: list[LevelGap] = []
    for name in names if len(names) > 1 else ():
        parts = []
        for side in (known & (levels == name), known & (levels != name)):
            means = np.where(side, values, 0.0).sum(axis=1)[side.any(axis=1)] / side.sum(axis=1)[side.any(axis=1)]
            error = float(means.var(ddof=1)) / means.size if means.size > 1 else math.nan
            parts.append((float(means.mean()), error, means.size))
        (mean, error, n), (others, other_error, n_others) = parts
        total = error + other_error
        if not np.isfinite(total):
            continue
        freedom = error**2 / (n - 1) + other_error**2 / (n_others - 1)
        df = total**2 / freedom if freedom > 0 else n + n_others - 2.0
        total = max(total, TINY_SD**2)  # errors that are all the same must still give an interval
        tail = (1 - RULE) / 2
        half, half_of_all = (
            float(t.ppf(1 - tail / tests, df)) * math.sqrt(total) for tests in (1, len(names) if len(names) > 2 else 1)
        )
        gaps.append(LevelGap(name, mean - others, half, half_of_all, n))
    return gaps


def untested_bias(evidence: Evidence, params: DecisionParams) -> list[str]:
    """Say which differences of bias are not tested, and why: not mentioned must not read as absent."""
    groups, sites = evidence.of_person(evidence.group), evidence.of_person(evidence.site)
    lines = []
    if params.aim == "groups" and params.group is None:
        lines.append("whether a bias differs between the groups of the study is not tested: decision.group names none")
    values = next(iter(_errors_by_method(evidence, params).values()), np.full((groups.size, 1), np.nan))
    known = np.isfinite(values).any(axis=1)
    for words, labels in ((params.group, groups), (params.site, sites)):
        names = np.unique(labels[labels != ""])
        few = [str(name) for name in names if (known & (labels == name)).sum() < MIN_LEVEL]
        if few and names.size > 1:
            lines.append(
                f"whether a bias differs is not tested for {words} {', '.join(few)}: fewer than {MIN_LEVEL} people "
                "have errors of the area there"
            )
    if np.unique(groups[groups != ""]).size > 1 and np.unique(sites[sites != ""]).size > 1:
        pairs = np.unique(np.stack([groups, sites], axis=1), axis=0)
        if len(pairs) == np.unique(groups).size == np.unique(sites).size:
            lines.append(f"each {params.group} has its own {params.site}: a bias by one may be a bias by the other")
    return lines
