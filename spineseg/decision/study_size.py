"""People that the study needs per group to see the effect, and people that would settle the choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.common_stretch import repeat_variances
from spineseg.decision.comparison import Comparison
from spineseg.decision.evidence import LEVEL_AREA, Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import failure_rates
from spineseg.decision.statistics import RULE, sd_limits

MIN_PEOPLE = 6
"""People below whom no sample size is computed: the SD of five is known to a factor of 0.6 to 2.9."""

ALPHA = 0.05


def people_per_group(sd_pct: float, effect_pct: float, power: float, failures: float = 0.0) -> float:
    """Compute the people per group that a two-sided comparison of two means needs at 5 %.

    Parameters
    ----------
    sd_pct, effect_pct : float
        SD between people, and difference of the groups' means, percent of the mean area.
    power : float
    failures : float
        Share of people whose area is lost.

    Returns
    -------
    float
        By the normal formula with Guenther's correction z²/4 for the t test; to be rounded up.
    """
    from scipy.stats import norm

    alpha, beta = norm.ppf(1 - ALPHA / 2), norm.ppf(power)
    n = 2 * (alpha + beta) ** 2 * (sd_pct / effect_pct) ** 2 + alpha**2 / 4
    return float(n / (1 - failures)) if failures < 1 else math.inf


def plan_study(evidence: Evidence, params: DecisionParams) -> list[dict[str, Any]]:
    """Compute the people per group that the study needs, by contrast and method.

    The SD between people is that of the areas as the method measures them, within groups: its error is in it. Where
    the aim is change, it is that of a difference of two scans of one person, from declared repeats.

    Returns
    -------
    list of dict
        contrast, method, area (where it is measured: the plan's level if six people or more have it, else the whole
        mask), n (people measured), sd_pct and sd_ci95, error_sd_pct (None without references), failures,
        people_per_group and its interval.
    """
    rates = failure_rates(evidence)
    if params.aim == "change":
        variances, df = repeat_variances(evidence, params.repeats)
        rows = []
        for m, method in enumerate(evidence.methods):
            known = np.isfinite(variances[:, m])
            if known.sum() >= MIN_PEOPLE:
                free = float(df[known].sum())
                sd = math.sqrt(2 * float((df[known] * variances[known, m]).sum()) / free)
                row = _row("all", method, int(known.sum()), sd, free, None, float(rates[m]), params)
                rows.append(row | {"area": "repeats"})
        return rows
    measured = {"whole mask": evidence.values["csa_mean_mm2"]}
    if LEVEL_AREA in evidence.values:
        measured = {str(params.level): evidence.values[LEVEL_AREA]} | measured
    _, group = np.unique(evidence.of_person(evidence.group), return_inverse=True)
    rows = []
    for c, contrast in enumerate(evidence.contrasts.tolist()):
        if not params.weight_of(contrast):
            continue
        for m, method in enumerate(evidence.methods):
            errors = evidence.by_person(evidence.values["csa_error_pct"][:, [m]])[:, c, 0]
            found = errors[np.isfinite(errors)]
            error = float(found.std(ddof=1)) if found.size >= params.min_references else None
            for where, area in measured.items():
                cells = evidence.by_person(np.where(evidence.failed, np.nan, area)[:, [m]])[:, c, 0]
                known = np.isfinite(cells)
                if known.sum() < MIN_PEOPLE:
                    continue
                sd, df_between = _sd_within(100 * cells[known] / cells[known].mean(), group[known])
                row = _row(contrast, method, int(known.sum()), sd, df_between, error, float(rates[m]), params)
                rows.append(row | {"area": where})
                break
    return rows


def _sd_within(values: NDArray, group: NDArray) -> tuple[float, float]:
    """SD within groups and its degrees of freedom."""
    count = np.bincount(group)
    means = np.bincount(group, values) / np.maximum(count, 1)
    df = values.size - int((count > 0).sum())
    return math.sqrt(float(((values - means[group]) ** 2).sum()) / df) if df > 0 else math.nan, float(df)


def _row(
    contrast: str,
    method: str,
    n: int,
    sd: float,
    df: float,
    error: float | None,
    failures: float,
    params: DecisionParams,
) -> dict[str, Any]:
    """One row of the plan."""
    low, high = sd_limits(sd, df)
    needed = [people_per_group(x, params.effect_pct, params.power, failures) for x in (sd, low, high)]
    return {
        "contrast": contrast,
        "method": method,
        "n": n,
        "sd_pct": sd,
        "sd_ci95": [low, high],
        "error_sd_pct": error,
        "failures": failures,
        "people_per_group": math.ceil(needed[0]) if math.isfinite(needed[0]) else None,
        "people_per_group_ci95": [math.ceil(x) if math.isfinite(x) else None for x in needed[1:]],
    }


def people_for_verdict(comparison: Comparison, params: DecisionParams) -> int | None:
    """Find the smallest number of people that would settle the choice, by simulation.

    Pilots are drawn with replacement from the people who have the endpoint, and judged by Student's t at the rule's
    level: clear, or within the margins with enough people to exclude a difference in failures.

    Returns
    -------
    int or None
        Total number of people; None where not even `max_pilots` would do, or below two people.
    """
    from scipy.stats import t

    values = comparison.pseudo[np.isfinite(comparison.pseudo)]
    if values.size < 2:
        return None
    rng = np.random.default_rng([params.seed, 2])
    floor, margin = comparison.floor_sd, comparison.margin
    enough = math.ceil(math.log((1 - RULE) / 2) / math.log(1 - params.margin_fail))  # without a failure

    def reaches(n: int) -> bool:
        drawn = rng.choice(values, (params.n_simulations, n))
        half = float(t.ppf(0.5 + RULE / 2, n - 1)) * np.maximum(drawn.std(axis=1, ddof=1), floor) / n**0.5
        mean = drawn.mean(axis=1)
        settled = np.abs(mean) - half > margin
        if n >= enough:
            settled |= np.abs(mean) + half < margin
        return float(settled.mean()) >= params.power

    low = high = params.min_participants
    while not reaches(high):  # double, so that small answers are cheap
        if high >= params.max_pilots:
            return None
        low, high = high + 1, min(2 * high, params.max_pilots)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low
