"""The rule: from evidence to a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.endpoints import Endpoint, choose_endpoint
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import Posterior, mcnemar_exact

STAGE_JUDGE, STAGE_BOOTSTRAP, STAGE_PILOTS, STAGE_LEAVE_OUT, STAGE_CONTRAST = range(5)
"""Each stage draws from its own stream of random numbers, so that none shifts another's."""


@dataclass(frozen=True)
class Judgement:
    """What the rule concludes from some evidence.

    Parameters
    ----------
    method : int or None
        Index of the method to keep; None where none passes.
    verdict : {"clear", "equivalent", "undecided", "none"}
    basis : {"endpoint", "failures", "single", "nothing"}
        What the verdict rests on.
    best, rival : int or None
        The pair that was compared: the best method and its runner-up.
    posterior : Posterior or None
        Of best against rival.
    eligible : tuple of int
    n : int
        Participants compared.
    """

    method: int | None
    verdict: str
    basis: str
    best: int | None
    rival: int | None
    posterior: Posterior | None
    eligible: tuple[int, ...]
    n: int


def stream(params: DecisionParams, *stage: int) -> np.random.Generator:
    """Return the random stream of a stage."""
    return np.random.default_rng([params.seed, *stage])


def failure_rates(evidence: Evidence) -> NDArray[np.float64]:
    """Share of failed images by method, (M,); 0 without images."""
    return evidence.failed.mean(axis=0) if len(evidence.failed) else np.zeros(len(evidence.methods))


def eligible_methods(evidence: Evidence, params: DecisionParams) -> tuple[int, ...]:
    """Methods that fail in no more than `max_fail` of the images."""
    return tuple(m for m, rate in enumerate(failure_rates(evidence)) if rate <= params.max_fail)


def failing_people(evidence: Evidence) -> NDArray[np.bool_]:
    """Whether a method failed on any image of a participant, (P, M)."""
    return np.stack(
        [evidence.failed[evidence.subject == person].any(axis=0) for person in evidence.people]
        or [np.zeros(len(evidence.methods), bool)]
    )


def judge(
    evidence: Evidence,
    endpoint: Endpoint,
    params: DecisionParams,
    rng: np.random.Generator,
    n_samples: int | None = None,
) -> Judgement:
    """Apply the rule: eligibility by failures, then the endpoint, then the verdict.

    Parameters
    ----------
    evidence : Evidence
    endpoint : Endpoint
        Computed from the same evidence.
    params : DecisionParams
    rng : numpy.random.Generator
    n_samples : int, optional
        Draws from the posterior.

    Returns
    -------
    Judgement
        "clear" needs at least `min_participants` and the probability `min_probability` against every
        other eligible method, and by the composite more than smoothness. "equivalent" needs the same number
        and probability, and without a reference that the methods' masks agree (`min_agreement`).
    """
    n_methods = len(evidence.methods)
    eligible = eligible_methods(evidence, params)
    if not eligible or not len(evidence.image_id):
        return Judgement(None, "none", "nothing", None, None, None, eligible, 0)
    if n_methods == 1:
        return Judgement(0, "undecided", "single", 0, None, None, eligible, evidence.people.size)
    if len(eligible) == 1:
        return _judge_by_failures(evidence, eligible[0], params)
    best, rival = _rank(endpoint, eligible)
    posteriors = {other: endpoint.compare(best, other, params, rng, n_samples) for other in eligible if other != best}
    n = endpoint.advantage(best, rival).size
    verdict = "undecided"
    peers = [m for m in eligible if m == best or _are_equal(evidence, endpoint, posteriors[m], best, m, params)]
    if n >= params.min_participants:
        if all(
            p.better >= params.min_probability
            and endpoint.is_beyond_error(best, m)
            and not doubt_of_proxies(evidence, endpoint, best, m, params)
            for m, p in posteriors.items()
        ):
            verdict = "clear"
        elif rival in peers:
            verdict = "equivalent"
    method = _choose(evidence, verdict, best, peers, eligible, params)
    return Judgement(method, verdict, "endpoint", best, rival, posteriors[rival], eligible, n)


def doubt_of_proxies(evidence: Evidence, endpoint: Endpoint, a: int, b: int, params: DecisionParams) -> str:
    """Say why proxies cannot be clear that method a is better than b; empty where they can."""
    if endpoint.kind.key != "composite":
        return ""
    if not endpoint.is_backed(a, b):
        name = evidence.methods[a]
        return f"only smoothness favours {name}, which some methods have by construction; that is no verdict"
    gap = evidence.area_gap(a, b)
    if gap > params.max_area_gap:
        return f"the methods' areas differ by {100 * gap:.0f} %, and only references can tell which size is right"
    return ""


def _are_equal(
    evidence: Evidence, endpoint: Endpoint, posterior: Posterior, a: int, b: int, params: DecisionParams
) -> bool:
    """Whether two methods are equally good: by the endpoint, and without a reference by their masks too."""
    # few failures move the mean and not the ranks that the probability is made of
    mean = np.mean(endpoint.advantage(a, b)) if endpoint.advantage(a, b).size else 0.0
    if posterior.equivalent < params.min_probability or abs(mean) > endpoint.rope:
        return False
    return endpoint.kind.is_truth or evidence.pair_dice(a, b) >= params.min_agreement


def _rank(endpoint: Endpoint, eligible: tuple[int, ...]) -> tuple[int, int]:
    """Best eligible method and its runner-up by mean advantage over the others; ties by order."""
    mean = {
        a: sum(endpoint.advantage(a, b).mean() if endpoint.advantage(a, b).size else 0.0 for b in eligible if b != a)
        for a in eligible
    }
    best, rival = sorted(eligible, key=lambda m: (-round(mean[m], 12), m))[:2]
    return best, rival


def _choose(
    evidence: Evidence, verdict: str, best: int, peers: list[int], eligible: tuple[int, ...], params: DecisionParams
) -> int:
    """The method to keep under a verdict: the best, the preferred, or among equals the first of `methods`."""
    preferred = evidence.methods.index(params.prefer) if params.prefer in evidence.methods else None
    if verdict == "clear":
        return best
    if preferred is not None and preferred in (peers if verdict == "equivalent" else eligible):
        return preferred
    return min(peers) if verdict == "equivalent" else best


def discordant_people(evidence: Evidence, a: int, b: int) -> tuple[int, int]:
    """Participants in whom only method a failed, and in whom only b failed."""
    failing = failing_people(evidence)
    return int((failing[:, a] & ~failing[:, b]).sum()), int((failing[:, b] & ~failing[:, a]).sum())


def mcnemar(evidence: Evidence, a: int, b: int) -> float:
    """Exact McNemar p of the failures of two methods, by participant."""
    return mcnemar_exact(*discordant_people(evidence, a, b))


def _judge_by_failures(evidence: Evidence, only: int, params: DecisionParams) -> Judgement:
    """Judge where one method alone passes: how sure is it that it fails in fewer people?

    The share of discordant participants in whom the other failed has the posterior Beta(1 + c, 1 + b);
    the probability that it is above one half is the probability that the other method fails more.
    """
    from scipy.stats import beta

    rates = failure_rates(evidence)
    rival = min((m for m in range(len(rates)) if m != only), key=lambda m: (rates[m], m))
    only_failed, rival_failed = discordant_people(evidence, only, rival)
    better = float(beta.sf(0.5, 1 + rival_failed, 1 + only_failed))
    n = evidence.people.size
    is_clear = better >= params.min_probability and n >= params.min_participants
    posterior = Posterior(better, 0.0, 1.0 - better)
    return Judgement(only, "clear" if is_clear else "undecided", "failures", only, rival, posterior, (only,), n)


def leave_one_out(evidence: Evidence, endpoint: Endpoint, params: DecisionParams) -> dict[str, object]:
    """Say how often the conclusion changes when one participant is left out.

    Returns
    -------
    dict
        n_drops, n_flips, share, participants (those whose absence changes the kept method, or the verdict
        if the rule of `min_participants` is set aside: dropping one of six would always break it).
    """
    relaxed = replace(params, min_participants=0)
    n_samples = max(1000, params.n_posterior // 10)  # probabilities to 0.004 are enough to see a flip
    whole = judge(evidence, endpoint, relaxed, stream(params, STAGE_LEAVE_OUT), n_samples)
    flips = []
    people = evidence.people
    for person in people if people.size > 1 else ():
        rest = evidence.subset(evidence.subject != person)
        again = judge(
            rest,
            endpoint.without(person),
            relaxed,
            stream(params, STAGE_LEAVE_OUT),
            n_samples,
        )
        if (again.method, again.verdict) != (whole.method, whole.verdict):
            flips.append(str(person))
    n_drops = people.size if people.size > 1 else 0
    return {
        "n_drops": n_drops,
        "n_flips": len(flips),
        "share": len(flips) / n_drops if n_drops else None,
        "participants": flips,
    }


def decide_by_endpoint(evidence: Evidence, params: DecisionParams) -> tuple[Judgement, Endpoint, list[str]]:
    """Choose the endpoint and judge; the endpoint is chosen among the eligible methods' data.

    Returns
    -------
    judgement : Judgement
    endpoint : Endpoint
    notes : list of str
    """
    endpoint, notes = choose_endpoint(evidence, params, eligible_methods(evidence, params))
    return judge(evidence, endpoint, params, stream(params, STAGE_JUDGE)), endpoint, notes
