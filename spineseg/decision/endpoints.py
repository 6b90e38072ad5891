"""Compare two methods by each endpoint, person by person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.common_stretch import change_error_variances, repeat_variances
from spineseg.decision.comparison import Comparison, ratio_margin
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.raters import trusted_ratings
from spineseg.decision.shares import paired_share_limits, paired_share_probabilities
from spineseg.decision.statistics import (
    FLOOR_MARGINS,
    REPORT,
    RULE,
    SWAP_LEVEL,
    SWAPS,
    TINY_SD,
    Strata,
    enough_people,
    log_ratio_strata,
    mean_strata,
    ratio_influence,
)

SHARED_ERROR = 0.02
"""SD of the error of a predicted Dice that all masks of a method share, so that more people do not average it out.
Measured by ``spineseg train quality`` on people who were not fitted."""

MIN_SITES = 6
"""Least number of sites whose spread can be estimated; with fewer, no difference is clear by all sites. With five, 7 %
of pilots of equal methods would give a clear difference (ratings of 150 people, area errors of 50)."""


def _from_strata(
    evidence: Evidence,
    key: str,
    pair: tuple[int, int],
    strata: Strata,
    margin: float,
    means: tuple[float, float],
    floor_sd: float = 0.0,
    *,
    parts: Sequence[tuple[float, tuple[float, float]]] | None = (),
) -> Comparison:
    """Make a comparison from a statistic by contrast; sites are clusters.

    `parts` are margin and means of each contrast where they differ from those of all; None if this is such a part.
    """
    shared = SHARED_ERROR if key == "predicted_dice" else 0.0
    sites = evidence.of_person(evidence.site)
    names, index = np.unique(sites, return_inverse=True)
    known = np.isfinite(strata.influence).any(axis=1)
    n_sites = max(1, np.unique(index[known]).size)
    clusters = index if n_sites > 1 else None
    found = strata.estimate(clusters, floor_sd).widened(shared)
    for limit, level in ((0.0, SWAP_LEVEL), (margin, RULE)):
        low, high = found.interval(RULE)
        if max(low, -high) > limit and not strata.exceeds_exchanges(limit, level, clusters):
            found = found.reaching(limit)
    contrasts, by_site = {}, {}
    if parts is not None and strata.values.size == evidence.contrasts.size > 1:
        of_parts = parts or [(margin, means)] * strata.values.size
        contrasts = {
            str(name): _from_strata(evidence, key, pair, strata.only(c), *of_parts[c], floor_sd, parts=None)
            for c, name in enumerate(evidence.contrasts)
            if np.isfinite(strata.values[c])
        }
    pseudo = found.value + found.n * strata.contributions()
    if parts is not None and n_sites > 1:
        for s in np.unique(index[known]).tolist():
            rows = np.where(index == s, pseudo, np.nan)[:, None]
            inside = mean_strata(rows, np.ones(1))
            by_site[str(names[s]) or "unknown"] = _from_strata(
                evidence, key, pair, inside, margin, means, floor_sd, parts=None
            )
    return Comparison(
        key,
        pair,
        found.value,
        found.interval(RULE),
        found.interval(REPORT),
        margin,
        found.probabilities(margin),
        found.n,
        means,
        n_sites,
        contrasts,
        by_site,
        pseudo,
        floor_sd,
    )


def _pooled(values: NDArray, weights: NDArray) -> float:
    """Weighted mean over contrasts of the known ones of (C,) values."""
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")


def _by_mean(evidence: Evidence, key: str, pair: tuple[int, int], values: NDArray, margin: float) -> Comparison | None:
    """Compare means of (N, 2) values, the first minus the second."""
    weights = evidence.weights
    cells = evidence.by_person(values)
    cells[:, weights == 0] = np.nan
    if not np.isfinite(cells).any():
        return None
    strata = mean_strata(cells[:, :, 0] - cells[:, :, 1], weights)
    with np.errstate(invalid="ignore"):
        sums = np.nansum(cells, axis=0) / np.isfinite(cells).sum(axis=0)
    used = np.where(np.isfinite(strata.values), weights, 0.0)
    means = (_pooled(sums[:, 0], used), _pooled(sums[:, 1], used))
    return _from_strata(evidence, key, pair, strata, margin, means, FLOOR_MARGINS * margin)


def area_margin(evidence: Evidence, params: DecisionParams) -> float:
    """Difference of areas or of their SDs that counts as none, percent; no finer than two raters' drawings differ."""
    return max(params.margin_csa_pct, evidence.rater_error.get("csa", 0.0))


def _compare_errors(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare the SD of the area's error against references; for the aim ``absolute``, its root mean square."""
    margin, whole = area_margin(evidence, params), params.aim == "absolute"
    cells = evidence.by_person(evidence.area_errors(pair)[0])
    a, b = cells[:, :, 0], cells[:, :, 1]
    strata = log_ratio_strata(a, b, evidence.weights, about_zero=whole, margin=margin)
    if not np.isfinite(strata.values).any():
        return None
    sds = np.array([[_spread(x[:, c], whole) for c in range(x.shape[1])] for x in (a, b)])
    return _from_sds(evidence, "csa_error_rms" if whole else "csa_error", pair, strata, sds, margin)


def _from_sds(
    evidence: Evidence, key: str, pair: tuple[int, int], strata: Strata, sds: NDArray[np.float64], margin: float
) -> Comparison:
    """Make a comparison from (2, C) SDs, percent, whose contrasts are combined by the geometric mean."""
    used = np.where(np.isfinite(strata.values), evidence.weights, 0.0)
    logs = np.log(np.maximum(TINY_SD * margin, np.nan_to_num(sds)))
    both = (exp(_pooled(logs[0], used)), exp(_pooled(logs[1], used)))
    own = [(float(x), float(y)) for x, y in np.exp(logs).T]
    parts = [(ratio_margin(margin, *pair_of_sds), pair_of_sds) for pair_of_sds in own]
    return _from_strata(evidence, key, pair, strata, ratio_margin(margin, *both), both, parts=parts)


def _spread(errors: NDArray, about_zero: bool) -> float:
    """SD, or root mean square, of known errors; 0 where there are too few."""
    known = errors[np.isfinite(errors)]
    if about_zero:
        return float(np.mean(known**2) ** 0.5) if known.size else 0.0
    return float(known.std(ddof=1)) if known.size > 1 else 0.0


def _compare_bias(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare mean areas: by their errors against references, or without references on the masks' common slices."""
    margin = area_margin(evidence, params)
    errors = evidence.area_errors(pair)[0]
    if np.isfinite(evidence.person_mean(errors)).all(axis=1).sum() >= params.min_references:
        return _by_mean(evidence, "bias", pair, errors, margin)
    gap = evidence.area_gap(*pair)
    if gap is None or np.isfinite(evidence.values["dice"]).any():
        return None
    return _by_mean(evidence, "bias", pair, np.stack([gap, np.where(np.isfinite(gap), 0.0, np.nan)], 1), margin)


def failure_shares(evidence: Evidence) -> NDArray[np.float64]:
    """Failures by person, contrast and method, (P, C, M), as a share of the person's images of the contrast."""
    return evidence.by_person(evidence.failed.astype(np.float64))


def compare_failures(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison:
    """Compare failures, as a share of each person's images; people of one site fail together."""
    shares = failure_shares(evidence)[:, :, pair]
    return _by_shares(evidence, "failures", pair, shares, params.margin_fail, sign=-1.0)


def _by_shares(
    evidence: Evidence,
    key: str,
    pair: tuple[int, int],
    shares: NDArray[np.float64],
    margin: float,
    *,
    sign: float = 1.0,
    with_parts: bool = True,
) -> Comparison:
    """Compare (P, C, 2) shares of people, from 0 to 1, the first minus the second; a `sign` of -1 reverses that.

    Contrasts are strata, so a person weighs as much as the contrasts that he has. With unequal weights the number of
    people is that of equal weights with the same precision (Kish 1965). It is smaller where the people of one site, or
    of a rare contrast, differ together.
    """
    strata = mean_strata(sign * (shares[:, :, 0] - shares[:, :, 1]), evidence.weights)
    known = np.isfinite(strata.influence)
    counts, people = known.sum(axis=0), np.asarray(known.any(axis=1))
    names, index = np.unique(evidence.of_person(evidence.site), return_inverse=True)
    n, n_sites = int(people.sum()), max(1, np.unique(index[people]).size)
    used = np.where(counts > 0, evidence.weights, 0.0)
    share = used / max(float(used.sum()), 1e-300) / np.maximum(counts, 1)
    own = (known * share).sum(axis=1)[people]
    advantage = np.full(len(people), np.nan)
    gaps = np.where(known, sign * (shares[:, :, 0] - shares[:, :, 1]), 0.0)[people]
    advantage[people] = (gaps * share).sum(axis=1) / own
    values = advantage[people]
    value = float((own * values).sum()) if n else float("nan")
    effective = 1 / float((own**2).sum()) if n else 0.0
    if n > 1 and (known.shape[1] > 1 or n_sites > 1):
        plain = float((own * (values - value) ** 2).sum()) * n / (n - 1) / effective
        seen = strata.estimate(index if n_sites > 1 else None).se ** 2
        effective *= min(1.0, plain / seen) if seen > 0 else 1.0
    limits = [0.0, 0.0] if n_sites > 1 and not _exceeds_site_signs(own * values, index[people]) else [1.0, -1.0]
    better, worse = (effective * float((own * np.maximum(0.0, x)).sum()) for x in (values, -values))
    sums = np.where(known[:, :, None], shares, 0.0).sum(axis=0)
    means = np.where(counts > 0, sums.T / np.maximum(counts, 1), np.nan)

    def part(rows: NDArray) -> Comparison:
        return _by_shares(evidence, key, pair, rows, margin, sign=sign, with_parts=False)

    contrasts, sites = {}, {}
    if with_parts and counts.size > 1:
        for c in np.flatnonzero(counts):
            only = np.arange(counts.size) == c
            contrasts[str(evidence.contrasts[c])] = part(np.where(only[None, :, None], shares, np.nan))
    if with_parts and n_sites > 1:
        for s in np.unique(index[people]):
            sites[str(names[s]) or "unknown"] = part(np.where((index == s)[:, None, None], shares, np.nan))
    low, high = paired_share_limits(better, worse, effective, RULE)
    return Comparison(
        key,
        pair,
        value,
        (min(low, limits[0]), max(high, limits[1])),
        paired_share_limits(better, worse, effective, REPORT),
        margin,
        paired_share_probabilities(better, worse, effective, margin),
        n,
        (_pooled(means[0], used), _pooled(means[1], used)),
        n_sites,
        contrasts,
        sites,
        advantage,
    )


def _exceeds_site_signs(parts: NDArray[np.float64], sites: NDArray[np.intp]) -> bool:
    """Whether sites favour one method as clearly as in 5 % of the cases in which each favours one at random.

    With six sites that each have a favourite, intervals alone are wrong in 5.3 % of pilots.
    """
    totals = np.bincount(sites, parts)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (SWAPS + 1, totals.size))  # the same each time
    signs[0] = 1.0
    sums = np.abs(signs @ totals)
    return bool((sums >= sums[0] * (1 - 1e-9)).mean() <= 1 - SWAP_LEVEL)


def _compare_preference(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare raters' preferences, by the majority of each person's ratings of a contrast."""
    names = [evidence.methods[m] for m in pair]
    contrast = np.searchsorted(evidence.contrasts, evidence.contrast)
    cells = zip(evidence.person.tolist(), contrast.tolist(), strict=True)
    cell_of = dict(zip(evidence.image_id.tolist(), cells, strict=True))
    votes: dict[tuple[int, int], Counter[str]] = {}
    for rating in trusted_ratings(evidence.ratings):
        if {rating.x, rating.y} == set(names) and rating.image in cell_of and not rating.repeat:
            votes.setdefault(cell_of[rating.image], Counter())[rating.answer] += 1
    if not votes:
        return None
    shares = np.full((evidence.people.size, evidence.contrasts.size, 2), np.nan)
    for cell, found in votes.items():
        first, second = (found[name] for name in names)
        others = found.total() - first - second
        shares[cell] = first > max(second, others), second > max(first, others)
    return _by_shares(evidence, "preference", pair, shares, params.margin_preference)


def _compare_repeats(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare within-person SDs over declared repeats."""
    spread = repeat_variances(evidence, params.repeats)
    # fewer contrasts are left where the people who had one are left out
    place = np.searchsorted(spread.contrasts, evidence.contrasts)
    return _compare_within(
        evidence, "repeats", pair, spread.variance[:, place][:, :, pair], spread.df[:, place], params
    )


def _compare_within(
    evidence: Evidence, key: str, pair: tuple[int, int], variance: NDArray, free: NDArray, params: DecisionParams
) -> Comparison | None:
    """Compare within-person SDs, from (P, C, 2) variances and their degrees of freedom, (P, C)."""
    known = np.asarray(np.isfinite(variance).all(axis=2))
    margin, shape = area_margin(evidence, params), known.shape
    values, influence, sds = np.full(shape[1], np.nan), np.full(shape, np.nan), np.zeros((2, shape[1]))
    errors = np.full((*shape, 2), np.nan)
    for c in np.flatnonzero(enough_people(known.sum(axis=0), 2)):
        rows = known[:, c]
        df, v = free[rows, c], variance[rows, c]
        share = df / df.sum()
        pooled = np.maximum((share[:, None] * v).sum(axis=0), (TINY_SD * margin) ** 2)
        relative = rows.sum() * share[:, None] * v / pooled
        # squared correlation of one half: both methods see the same images, so their errors go together
        influence[rows, c] = ratio_influence(relative, pooled, float(df.sum()), 0.5, margin)
        errors[rows, c] = np.sqrt(share[:, None] * v)
        sds[:, c] = np.sqrt(pooled)
        values[c] = log(sds[1, c] / sds[0, c])
    if not np.isfinite(values).any():
        return None
    return _from_sds(evidence, key, pair, Strata(values, influence, evidence.weights, errors), sds, margin)


def compare_pair(evidence: Evidence, a: int, b: int, params: DecisionParams) -> dict[str, Comparison]:
    """Compare two methods by every endpoint for which there is evidence.

    Parameters
    ----------
    evidence : Evidence
    a, b : int
        Numbers of the methods.
    params : DecisionParams

    Returns
    -------
    dict
        Key of `KINDS` to the comparison, with `a` as the first method.
    """
    pair = (a, b)
    found: dict[str, Comparison | None] = {"failures": compare_failures(evidence, pair, params)}
    errors = _compare_errors(evidence, pair, params)
    if errors is not None:
        found[errors.key] = errors
    if "change_error" in params.endpoints:
        of_change = change_error_variances(evidence, evidence.area_errors(pair)[0])
        found["change_error"] = _compare_within(evidence, "change_error", pair, *of_change, params)
    found["bias"] = _compare_bias(evidence, pair, params)
    for key, least in (("dice", params.margin_dice), ("nsd", params.margin_nsd)):
        margin = max(least, evidence.rater_error.get(key, 0.0))
        found[key] = _by_mean(evidence, key, pair, evidence.values[key][:, pair], margin)
    found["preference"] = _compare_preference(evidence, pair, params)
    if params.repeats.is_declared:
        found["repeats"] = _compare_repeats(evidence, pair, params)
    predicted = np.where(evidence.failed[:, pair], 0.0, evidence.values["predicted_dice"][:, pair])
    if np.isfinite(evidence.values["predicted_dice"][:, pair]).any():
        found["predicted_dice"] = _by_mean(evidence, "predicted_dice", pair, predicted, params.margin_dice)
    return {key: one for key, one in found.items() if one is not None and one.n}
