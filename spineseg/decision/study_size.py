"""Number of people per group that the study needs to detect the effect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.area_errors import summarise_errors
from spineseg.decision.common_stretch import pool_repeats, repeat_variances
from spineseg.decision.evidence import LEVEL_AREA, Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import failure_rates
from spineseg.decision.statistics import sd_limits

MIN_PEOPLE = 6
"""Least number of people for a sample size: the SD of five is known only to a factor of 0.6 to 2.9."""

ALPHA = 0.05


def people_per_group(sd_pct: float, effect_pct: float, power: float, failures: float = 0.0) -> float:
    """Compute the number of people per group for a two-sided comparison of two means at 5 %.

    Parameters
    ----------
    sd_pct, effect_pct : float
        SD between people, and difference of the groups' means, percent of the mean area.
    power : float
        Chance of detecting the effect, 0 to 1.
    failures : float
        Share of people without an area because the method failed, 0 to 1.

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
    """Compute the number of people per group that the study needs, by contrast and method.

    The SD between people is that of the areas that the method measures, within groups, so it includes the method's
    error. All methods are measured in the same people, in whom none of them failed. If the aim is change, the SD is
    that of the difference of two scans of one person, from declared repeats; it includes no true change. A method's
    slope against the references says which part of a change of the cord's area its own area shows; the effect is
    multiplied by it.

    Returns
    -------
    list of dict
        contrast, method, area (where it is measured: the plan's level if six people or more have it, else the whole
        mask), n (people measured), sd_pct and sd_ci95, error_sd_pct (None without enough references), slope and
        slope_ci95 (None if fewer than six people have references; it is then taken as 1), sd_over_slope_ci95, failures,
        people_per_group and its interval (None if no number is enough).
    """
    if params.aim == "change":
        return _plan_change(evidence, params)
    measured = {"whole mask": evidence.values["csa_mean_mm2"]}
    if LEVEL_AREA in evidence.values:
        measured = {str(params.level): evidence.values[LEVEL_AREA]} | measured
    errors = summarise_errors(evidence)
    _, group = np.unique(evidence.of_person(evidence.group), return_inverse=True)
    rows = []
    for c, contrast in enumerate(evidence.contrasts.tolist()):
        if not params.weight_of(contrast):
            continue
        rates = failure_rates(evidence.subset(evidence.contrast == contrast))
        for where, area in measured.items():
            own = np.where(evidence.failed, np.nan, area)
            methods = _measured_together(np.isfinite(own), evidence.person, evidence.contrast == contrast)
            if not methods:
                continue
            cells = evidence.by_person(own[:, methods])[:, c, :]
            known = np.isfinite(cells).all(axis=1)
            if known.sum() < MIN_PEOPLE:
                continue
            for k, m in enumerate(methods):
                values = cells[known, k]
                sd, df = _sd_within(100 * values / values.mean(), group[known])
                row = _row(contrast, evidence.methods[m], values.size, _Spread(sd, df), errors, float(rates[m]), params)
                rows.append(row | {"area": where, "error_sd_pct": _error_sd(evidence, c, m, params)})
            break
    return rows


def _plan_change(evidence: Evidence, params: DecisionParams) -> list[dict[str, Any]]:
    """Compute the people per group from the SD of a difference of two scans, in people with repeats by all methods."""
    if not params.repeats.is_declared:
        return []
    repeated, weights = repeat_variances(evidence, params.repeats), evidence.weights
    has = np.isfinite(repeated.variance).any(axis=1).sum(axis=0)
    methods = [m for m in range(len(evidence.methods)) if has[m] >= MIN_PEOPLE]
    rates, errors = failure_rates(evidence), summarise_errors(evidence)
    rows = []
    for m in methods:
        known, sd, free = pool_repeats(repeated, weights, methods, m)
        spread, n = _Spread(math.sqrt(2) * sd, free), int(known.any(axis=1).sum())
        if n < MIN_PEOPLE:
            return []
        row = _row("all", evidence.methods[m], n, spread, errors, float(rates[m]), params)
        rows.append(row | {"area": "repeats", "error_sd_pct": None})
    return rows


def _measured_together(has_area: NDArray[np.bool_], person: NDArray[np.intp], keep: NDArray[np.bool_]) -> list[int]:
    """Return the methods to measure in the same people: those with six people, of whom six have an area by each.

    The method with the fewest people is left out until that holds.
    """
    has = np.stack([np.bincount(person[keep], column[keep], person.max() + 1) > 0 for column in has_area.T])
    methods = [m for m in range(len(has)) if has[m].sum() >= MIN_PEOPLE]
    while methods and has[methods].all(axis=0).sum() < MIN_PEOPLE:
        methods.remove(min(methods, key=lambda m: has[m].sum()))
    return methods


def _error_sd(evidence: Evidence, contrast: int, method: int, params: DecisionParams) -> float | None:
    """SD of the area's error in a contrast; None where too few people have references."""
    errors = evidence.by_person(evidence.area_errors([method])[0])[:, contrast, 0]
    found = errors[np.isfinite(errors)]
    return float(found.std(ddof=1)) if found.size >= params.min_references else None


def _sd_within(values: NDArray, group: NDArray) -> tuple[float, float]:
    """SD within groups and its degrees of freedom."""
    count = np.bincount(group)
    means = np.bincount(group, values) / np.maximum(count, 1)
    df = values.size - int((count > 0).sum())
    return math.sqrt(float(((values - means[group]) ** 2).sum()) / df) if df > 0 else math.nan, float(df)


@dataclass(frozen=True)
class _Spread:
    """An SD, percent, and its degrees of freedom."""

    sd: float
    df: float


def _row(
    contrast: str,
    method: str,
    n: int,
    spread: _Spread,
    errors: Mapping[str, Any],
    failures: float,
    params: DecisionParams,
) -> dict[str, Any]:
    """Make the row of one contrast and method."""
    limits = sd_limits(spread.sd, spread.df)
    slope, slope_limits = 1.0, (1.0, 1.0)
    own = errors.get(method)
    is_known = own is not None and own["n"] >= MIN_PEOPLE and math.isfinite(own["slope"]) and own["slope"] > 0
    if own is not None and is_known:
        slope, slope_limits = own["slope"], tuple(own["slope_ci95"])
    ratio, ratio_limits = spread.sd / slope, _ratio_limits(spread.sd, limits, slope, slope_limits)
    needed = [people_per_group(x, params.effect_pct, params.power, failures) for x in (ratio, *ratio_limits)]
    counts = [math.ceil(x) if math.isfinite(x) and spread.sd > 0 else None for x in needed]
    return {
        "contrast": contrast,
        "method": method,
        "n": n,
        "sd_pct": spread.sd,
        "sd_ci95": list(limits),
        "slope": slope if is_known else None,
        "slope_ci95": list(slope_limits) if is_known else [None, None],
        "sd_over_slope_ci95": list(ratio_limits),
        "failures": failures,
        "people_per_group": counts[0],
        "people_per_group_ci95": counts[1:],
    }


def _ratio_limits(
    sd: float, sd_limits_: tuple[float, float], slope: float, slope_limits: tuple[float, float]
) -> tuple[float, float]:
    """Compute the limits of an SD over a slope from the limits of both, on logarithms (Zou and Donner 2008, MOVER).

    The upper limit is infinite where the slope may be 0, because the method may then show no effect at all.
    """
    if not sd > 0:
        return sd, sd
    low, high = (math.log(limit / sd) if limit > 0 else -math.inf for limit in sd_limits_)
    least, most = (math.log(limit / slope) if limit > 0 else -math.inf for limit in slope_limits)
    ratio = sd / slope
    widest = ratio * math.exp(math.hypot(high, least)) if least > -math.inf else math.inf
    return ratio * math.exp(-math.hypot(low, most)), widest
