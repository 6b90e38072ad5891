"""What methods are judged by: each endpoint compared between two methods, person by person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.common_stretch import repeat_variances
from spineseg.decision.comparison import Comparison, ratio_margin
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.shares import paired_share_limits, paired_share_probabilities
from spineseg.decision.statistics import (
    FLOOR_MARGINS,
    REPORT,
    RULE,
    SWAP_LEVEL,
    TINY_SD,
    Strata,
    log_ratio_strata,
    mean_strata,
    ratio_influence,
)

SHARED_ERROR = 0.02
"""SD of the part of the error of a predicted Dice that all masks of a method share, which more people do not average
out; measured by ``spineseg train quality`` on people not fitted."""

MIN_SITES = 5
"""Sites from which on their spread can be told from chance; below, nothing is clear by all sites together."""


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
    """Make a comparison of a statistic by contrast; sites are clusters.

    `parts` are margin and means of each contrast, where they are not those of all; None for a part itself.
    """
    shared = SHARED_ERROR if key == "predicted_dice" else 0.0
    sites = evidence.of_person(evidence.site)
    names, index = np.unique(sites, return_inverse=True)
    known = np.isfinite(strata.influence).any(axis=1)
    n_sites = max(1, np.unique(index[known]).size)
    found = strata.estimate(index if n_sites > 1 else None, floor_sd).widened(shared)
    for limit, level in ((0.0, SWAP_LEVEL), (margin, RULE)):
        low, high = found.interval(RULE)
        if max(low, -high) > limit and not strata.exceeds_exchanges(limit, level):
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


def _weights(evidence: Evidence, params: DecisionParams) -> NDArray[np.float64]:
    """Weight of each contrast of the evidence."""
    return np.array([params.weight_of(str(name)) for name in evidence.contrasts], np.float64)


def _pooled(values: NDArray, weights: NDArray) -> float:
    """Weighted mean over contrasts of (C,) values that are known."""
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")


def _by_mean(
    evidence: Evidence, key: str, pair: tuple[int, int], values: NDArray, margin: float, params: DecisionParams
) -> Comparison | None:
    """Compare means of (N, 2) values, the first less the second."""
    weights = _weights(evidence, params)
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
    """Difference of areas or of their SDs that counts as none, percent: never finer than two raters' drawings."""
    return max(params.margin_csa_pct, evidence.rater_error.get("csa", 0.0))


def _compare_errors(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare the precision of the area against references; by the aim ``absolute``, its whole error."""
    weights, margin = _weights(evidence, params), area_margin(evidence, params)
    cells = evidence.by_person(evidence.values["csa_error_pct"][:, pair])
    cells[:, weights == 0] = np.nan
    whole = params.aim == "absolute"
    a, b = cells[:, :, 0], cells[:, :, 1]
    strata = log_ratio_strata(a, b, weights, about_zero=whole, margin=margin)
    if not np.isfinite(strata.values).any():
        return None
    used = np.where(np.isfinite(strata.values), weights, 0.0)
    sds = [np.log([max(TINY_SD * margin, _spread(x[:, c], whole)) for c in range(x.shape[1])]) for x in (a, b)]
    sd_a, sd_b = (exp(_pooled(x, used)) for x in sds)
    own = [(float(x), float(y)) for x, y in np.exp(sds).T]
    parts = [(ratio_margin(margin, *pair_of_sds), pair_of_sds) for pair_of_sds in own]
    key = "csa_error_rms" if whole else "csa_error"
    return _from_strata(evidence, key, pair, strata, ratio_margin(margin, sd_a, sd_b), (sd_a, sd_b), parts=parts)


def _spread(errors: NDArray, about_zero: bool) -> float:
    """SD, or root mean square, of known errors; 0 where there are too few."""
    known = errors[np.isfinite(errors)]
    if about_zero:
        return float(np.mean(known**2) ** 0.5) if known.size else 0.0
    return float(known.std(ddof=1)) if known.size > 1 else 0.0


def _compare_bias(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare mean areas: by the errors against references; where there are none, by the masks' common slices."""
    margin = area_margin(evidence, params)
    errors = evidence.values["csa_error_pct"][:, pair]
    if np.isfinite(evidence.person_mean(errors)).all(axis=1).sum() >= params.min_references:
        return _by_mean(evidence, "bias", pair, errors, margin, params)
    gap = evidence.area_gap(*pair)
    if gap is None or np.isfinite(evidence.values["dice"]).any():
        return None
    return _by_mean(evidence, "bias", pair, np.stack([gap, np.where(np.isfinite(gap), 0.0, np.nan)], 1), margin, params)


def compare_failures(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison:
    """Compare failures, as a share of each person's images; people of one site fail together."""
    person, count = evidence.person, np.bincount(evidence.person)
    shares = np.stack([np.bincount(person, evidence.failed[:, m].astype(float)) / count for m in pair], axis=1)
    advantage = shares[:, 1] - shares[:, 0]
    return _by_shares(
        evidence, "failures", pair, advantage, params.margin_fail, tuple(shares.mean(axis=0).tolist()), params
    )


def _by_shares(
    evidence: Evidence,
    key: str,
    pair: tuple[int, int],
    advantage: NDArray,
    margin: float,
    means,
    params: DecisionParams,
) -> Comparison:
    """Compare by exclusive shares of people, whose advantages lie between -1 and 1."""
    known = np.isfinite(advantage)
    values, sites = advantage[known], evidence.of_person(evidence.site)[known]
    n, effective = values.size, float(values.size)
    _, index = np.unique(sites, return_inverse=True)
    n_sites = int(index.max(initial=0)) + 1
    if n_sites > 1:
        strata = mean_strata(values[:, None], np.ones(1))
        plain, clustered = strata.estimate(), strata.estimate(index)
        if plain.se > 0:
            effective = n * min(1.0, (plain.se / clustered.se) ** 2)
    scale = effective / n if n else 1.0
    better, worse = scale * float(values[values > 0].sum()), scale * float(-values[values < 0].sum())
    probability = paired_share_probabilities(better, worse, effective, margin)
    return Comparison(
        key,
        pair,
        float(values.mean()) if n else float("nan"),
        paired_share_limits(better, worse, effective, RULE),
        paired_share_limits(better, worse, effective, REPORT),
        margin,
        probability,
        n,
        means,
        n_sites,
        pseudo=advantage,
    )


def _compare_preference(evidence: Evidence, pair: tuple[int, int], params: DecisionParams) -> Comparison | None:
    """Compare what raters preferred, by the majority of each person's ratings."""
    names = [evidence.methods[m] for m in pair]
    person_of = dict(zip(evidence.image_id.tolist(), evidence.subject.tolist(), strict=True))
    votes: dict[str, Counter[str]] = {}
    for rating in evidence.ratings:
        if {rating.x, rating.y} == set(names) and rating.image in person_of and not rating.repeat:
            votes.setdefault(person_of[rating.image], Counter())[rating.answer] += 1
    if not votes:
        return None
    advantage = np.full(evidence.people.size, np.nan)
    for n, person in enumerate(evidence.people.tolist()):
        if person in votes:
            first, second = (votes[person][name] for name in names)
            others = votes[person].total() - first - second
            advantage[n] = float(first > max(second, others)) - float(second > max(first, others))
    known = advantage[np.isfinite(advantage)]
    means = (float((known > 0).mean()), float((known < 0).mean()))
    return _by_shares(evidence, "preference", pair, advantage, params.margin_preference, means, params)


def _compare_repeats(
    evidence: Evidence, pair: tuple[int, int], params: DecisionParams, variances: NDArray, df: NDArray
) -> Comparison | None:
    """Compare within-person SDs over declared repeats."""
    known = np.isfinite(variances[:, pair]).all(axis=1)
    n = int(known.sum())
    if n < 2:
        return None
    margin = area_margin(evidence, params)
    share = df[known] / df[known].sum()
    v = variances[known][:, pair]
    pooled = np.maximum((share[:, None] * v).sum(axis=0), (TINY_SD * margin) ** 2)
    influence = np.full((evidence.people.size, 1), np.nan)
    # half: the same images, so that both methods' errors go together
    influence[known, 0] = ratio_influence(n * share[:, None] * v / pooled, pooled, float(df[known].sum()), 0.5, margin)
    sd_a, sd_b = (float(x) ** 0.5 for x in pooled)
    errors = np.full((*influence.shape, 2), np.nan)
    errors[known, 0] = np.sqrt(share[:, None] * v)
    strata = Strata(np.array([log(sd_b / sd_a)]), influence, np.ones(1), errors)
    return _from_strata(evidence, "repeats", pair, strata, ratio_margin(margin, sd_a, sd_b), (sd_a, sd_b))


def compare_pair(evidence: Evidence, a: int, b: int, params: DecisionParams) -> dict[str, Comparison]:
    """Compare two methods by every endpoint that the evidence knows.

    Parameters
    ----------
    evidence : Evidence
    a, b : int
        Numbers of the methods.
    params : DecisionParams

    Returns
    -------
    dict
        Key of `KINDS` to the comparison, a first.
    """
    pair = (a, b)
    found: dict[str, Comparison | None] = {"failures": compare_failures(evidence, pair, params)}
    errors = _compare_errors(evidence, pair, params)
    if errors is not None:
        found[errors.key] = errors
    found["bias"] = _compare_bias(evidence, pair, params)
    for key, least in (("dice", params.margin_dice), ("nsd", params.margin_nsd)):
        margin = max(least, evidence.rater_error.get(key, 0.0))
        found[key] = _by_mean(evidence, key, pair, evidence.values[key][:, pair], margin, params)
    found["preference"] = _compare_preference(evidence, pair, params)
    if params.repeats.is_declared:
        found["repeats"] = _compare_repeats(evidence, pair, params, *repeat_variances(evidence, params.repeats))
    predicted = np.where(evidence.failed[:, pair], 0.0, evidence.values["predicted_dice"][:, pair])
    if np.isfinite(evidence.values["predicted_dice"][:, pair]).any():
        found["predicted_dice"] = _by_mean(evidence, "predicted_dice", pair, predicted, params.margin_dice, params)
    return {key: one for key, one in found.items() if one is not None and one.n}
