"""The rule: from evidence to a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.comparison import Comparison
from spineseg.decision.contradictions import (
    contradicting,
    describe_favour,
    is_of_enough,
    missing_contrasts,
    opposed_contrasts,
)
from spineseg.decision.differential_bias import compare_bias_by_group
from spineseg.decision.endpoints import MIN_SITES, compare_pair, failure_shares
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.statistics import enough_people
from spineseg.decision.wording import people

Pairs = Mapping[tuple[int, int], Mapping[str, Comparison]]

GATES = ("dice", "nsd")
"""Overlap with references. To be clearly better a method must not be worse by it; it never outranks the area."""

EQUIVALENCE = (
    *("failures", "csa_error", "csa_error_rms", "change_error", "bias", "dice", "nsd", "preference", "repeats"),
)
"""Endpoints that must all lie within their margins, if known, for methods to be equivalent."""


@dataclass(frozen=True)
class Judgement:
    """What the rule concludes from some evidence.

    Parameters
    ----------
    method : int or None
        Number of the method to keep; None where none passes.
    verdict : {"clear", "equivalent", "undecided", "none"}
    basis : {"endpoint", "failures", "triage", "single", "nothing"}
        What the verdict rests on. ``triage``: no endpoint settles the choice, and the predicted Dice says which method
        looks better.
    ruling : str or None
        The endpoint that rules; with ``triage``, the predicted Dice.
    best, rival : int or None
        The pair that the text is about.
    eligible : tuple of int
        Methods that fail no more than `max_fail`.
    pairs : mapping
        Pair to endpoint to comparison.
    reasons : tuple of str
        What kept the verdict from being clear or equivalent.
    contradictions : tuple of str
        What contradicts the verdict; stated in the headline.
    """

    method: int | None
    verdict: str
    basis: str
    ruling: str | None = None
    best: int | None = None
    rival: int | None = None
    eligible: tuple[int, ...] = ()
    pairs: Pairs = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()

    def comparison(self, key: str | None = None) -> Comparison | None:
        """Return the pair compared by an endpoint, the best method first; None where there is none."""
        if self.best is None or self.rival is None:
            return None
        found = self.pairs[min(self.best, self.rival), max(self.best, self.rival)].get(key or self.ruling or "")
        return None if found is None else found.of(self.best)


def failure_rates(evidence: Evidence) -> NDArray[np.float64]:
    """Compute each method's share of failed images, (M,), averaged over people with contrasts as strata."""
    shares, weights = failure_shares(evidence), evidence.weights
    counts = np.isfinite(shares).all(axis=2).sum(axis=0)
    used = np.where(enough_people(counts) & (counts > 0), weights, 0.0)
    if not used.any():
        return np.zeros(len(evidence.methods))
    means = np.nansum(shares, axis=0) / np.maximum(counts, 1)[:, None]
    return used @ means / used.sum()


def judge(evidence: Evidence, params: DecisionParams) -> Judgement:
    """Apply the rule to evidence.

    References that were corrected from a compared method's output count like any other here; `judge_with_doubt` checks
    whether the verdict holds without them.

    Parameters
    ----------
    evidence : Evidence
    params : DecisionParams

    Returns
    -------
    Judgement
    """
    methods = evidence.methods
    rates = failure_rates(evidence)
    eligible = tuple(m for m, rate in enumerate(rates) if rate <= params.max_fail)
    if not eligible or not len(evidence.image_id):
        return Judgement(None, "none", "nothing", eligible=eligible)
    if len(methods) == 1:
        return Judgement(0, "undecided", "single", best=0, eligible=eligible)
    pairs = {(a, b): compare_pair(evidence, a, b, params) for a, b in combinations(range(len(methods)), 2)}
    ruling = _choose_ruling(pairs, eligible, params)
    shown = ruling or _first_known(pairs, eligible, ("predicted_dice",))
    order = _rank(pairs, shown, eligible, rates, evidence, params)
    safest = _clear_by_failures(pairs, order, ruling, params)
    if safest is not None:  # failures come before every other endpoint
        order = [safest, *(m for m in order if m != safest)]
    best, rival = order[0], order[1]
    reasons: list[str] = []
    contradictions: list[str] = []
    outcomes = {}
    for other in order[1:]:
        known = _turned(pairs, best, other)
        outcomes[other], why, against = _judge_pair(evidence, known, best, other, ruling, params)
        reasons += why
        contradictions += against or opposed_contrasts(evidence, known.get(shown or ""))

    def conclude(method: int, verdict: str, basis: str, key: str | None) -> Judgement:
        main = _turned(pairs, best, rival).get(key or "")
        reasons.extend(missing_contrasts(evidence, main))
        reasons.extend(_few_sites(main) if verdict != "clear" else [])
        words = tuple(dict.fromkeys(reasons)), tuple(dict.fromkeys(contradictions))
        return Judgement(method, verdict, basis, key, best, rival, eligible, pairs, *words)

    if all(outcome == "failures" for outcome in outcomes.values()):
        return conclude(best, "clear", "failures", "failures")
    if all(outcome in ("clear", "failures") for outcome in outcomes.values()):
        return conclude(best, "clear", "endpoint", ruling)
    peers = [best, *(m for m, outcome in outcomes.items() if outcome == "equivalent" and m in eligible)]
    if len(peers) > 1 and all(outcome != "undecided" for m, outcome in outcomes.items() if m in eligible):
        kept = _preferred(evidence, peers, params)
        return conclude(min(peers) if kept is None else kept, "equivalent", "endpoint", ruling)
    if ruling is not None:
        return conclude(best, "undecided", "endpoint", ruling)
    kept = _preferred(evidence, eligible, params)
    if shown is None:
        return conclude(min(eligible) if kept is None else kept, "undecided", "nothing", None)
    return conclude(best if kept is None else kept, "undecided", "triage", shown)


def _first_known(pairs: Pairs, eligible: tuple[int, ...], keys: tuple[str, ...], params: DecisionParams | None = None):
    """Return the first endpoint that is known for all pairs of eligible methods (with `params`, in enough people)."""
    wanted = [pairs[pair] for pair in combinations(eligible, 2)] or list(pairs.values())
    for key in keys:
        if all(key in each and (params is None or is_of_enough(each[key], params)) for each in wanted):
            return key
    return None


def _choose_ruling(pairs: Pairs, eligible: tuple[int, ...], params: DecisionParams) -> str | None:
    """Choose the endpoint that rules: the first of the plan that is known, or overlap where no area is known."""
    keys: list[str] = []
    for key in params.endpoints:
        keys += ["csa_error", "csa_error_rms", "dice", "nsd"] if key == "csa_error" else [key]
    return _first_known(pairs, eligible, tuple(keys), params)


def _turned(pairs: Pairs, a: int, b: int) -> dict[str, Comparison]:
    """Return the comparisons of a pair with method `a` first."""
    return {key: one.of(a) for key, one in pairs[min(a, b), max(a, b)].items()}


def _rank(
    pairs: Pairs, key: str | None, eligible: tuple[int, ...], rates: NDArray, evidence: Evidence, params: DecisionParams
) -> list[int]:
    """Order methods: eligible ones first, by the mean advantage over the other eligible ones, then by failures.

    Among equally good methods the preferred one comes first; otherwise the order of `methods` counts.
    """
    preferred = _preferred(evidence, eligible, params)

    def advantage(m: int) -> float:
        if key is None or m not in eligible:
            return 0.0
        found = [_turned(pairs, m, other).get(key) for other in eligible if other != m]
        known = [one.estimate for one in found if one is not None and np.isfinite(one.estimate)]
        return float(np.mean(known)) if known else 0.0

    return sorted(
        range(len(evidence.methods)),
        key=lambda m: (
            *(m not in eligible, -round(advantage(m), 12), round(float(rates[m]), 12)),
            *(m != preferred, m),
        ),
    )


def _clear_by_failures(pairs: Pairs, order: list[int], ruling: str | None, params: DecisionParams) -> int | None:
    """Return the method that clearly fails least, unless another is clearly better where neither failed."""
    for m in order:
        known = [_turned(pairs, m, other) for other in order if other != m]
        if all(
            each["failures"].winner == m
            and each["failures"].n >= params.min_participants
            and _enough_sites(each["failures"])
            and (ruling is None or ruling not in each or each[ruling].winner in (None, m))
            for each in known
        ):
            return m
    return None


def _preferred(evidence: Evidence, among, params: DecisionParams) -> int | None:
    """Return the preferred method if it is one of `among`."""
    found = evidence.methods.index(params.prefer) if params.prefer in evidence.methods else None
    return found if found in among else None


def _judge_pair(
    evidence: Evidence, known: Mapping[str, Comparison], a: int, b: int, ruling: str | None, params: DecisionParams
) -> tuple[str, list[str], list[str]]:
    """Judge whether method a is better than b.

    Returns
    -------
    outcome : {"clear", "failures", "equivalent", "undecided"}
    why, against : list of str
        What keeps the outcome from being clear or equivalent, and what contradicts it.
    """
    name, other = evidence.methods[a], evidence.methods[b]
    failures, main = known["failures"], known.get(ruling or "")
    against = [] if main is None else [describe_favour(evidence, one) for one in contradicting(known, main, params)]
    if main is not None and failures.winner is not None and main.winner not in (None, failures.winner):
        against.append(f"{evidence.methods[main.winner]} is better by {main.kind.words}, but fails more often")
    against += opposed_contrasts(evidence, main) + opposed_contrasts(evidence, failures)
    differing = compare_bias_by_group(evidence, (a, b), params)
    uneven = [] if differing is None else differing.doubts(name, other)
    doubts = uneven if main is None else [*_doubts(known, main, name, other, params), *uneven]
    if uneven and failures.winner == a:
        return "undecided", uneven, against
    if failures.winner == a and failures.n >= params.min_participants and not against and _enough_sites(failures):
        return "failures", [], []
    if main is None:
        return "undecided", [], against
    if main.winner == a and not doubts and not against:
        return "clear", [], []
    even = differing is None or differing.is_within
    if not against and even and _is_equivalent(known, main, params):
        return "equivalent", [], []
    is_reason = main.winner == a or main.n < params.min_participants
    why = doubts if is_reason else _why_not_equivalent(known, main, params, even=even)
    return "undecided", why, against


def _few_sites(main: Comparison | None) -> list[str]:
    """Say that people from so few sites cannot make a difference clear."""
    if main is None or _enough_sites(main):
        return []
    return [
        f"the participants come from {main.n_sites} sites; with fewer than {MIN_SITES} no difference is clear over all "
        "sites, because their spread is not known"
    ]


def _enough_sites(one: Comparison) -> bool:
    """Whether there is one site, or enough sites to estimate their spread."""
    return one.n_sites == 1 or one.n_sites >= MIN_SITES


def _doubts(
    known: Mapping[str, Comparison], main: Comparison, name: str, other: str, params: DecisionParams
) -> list[str]:
    """Say what keeps a difference from being clear."""
    doubts = []
    if main.n < params.min_participants:
        doubts.append(
            f"{people(main.n)} could be compared; fewer than {params.min_participants} never give a clear verdict"
        )
    doubts += _few_sites(main)
    failures = known["failures"]
    if failures.estimate < -failures.margin:
        doubts.append(f"{name} fails more often than {other}, by {-100 * failures.estimate:.0f} points")
    for key in GATES:
        gate = known.get(key)
        if gate is not None and key != main.key and gate.n >= params.min_references and gate.estimate < -gate.margin:
            doubts.append(f"{name} is worse by {gate.kind.words}, by {-gate.estimate:.3f}")
    return doubts


def _is_equivalent(known: Mapping[str, Comparison], main: Comparison, params: DecisionParams) -> bool:
    """Whether every known endpoint lies within its margins over all contrasts, and in no contrast beyond them."""
    if main.n < params.min_participants:
        return False
    if any(abs(one.estimate) > one.margin for one in main.by_contrast.values()):
        return False
    return all(known[key].is_within for key in EQUIVALENCE if key in known and is_of_enough(known[key], params))


def _why_not_equivalent(
    known: Mapping[str, Comparison], main: Comparison, params: DecisionParams, *, even: bool
) -> list[str]:
    """Name the endpoints whose interval crosses a margin although the ruling one's does not."""
    if not main.is_within:
        return []
    crossing = [
        known[key].kind.words
        for key in EQUIVALENCE
        if key in known and is_of_enough(known[key], params) and not known[key].is_within
    ]
    crossing += [] if even else ["how their biases differ between groups"]
    if not crossing:
        return []
    return [f"the methods are equal by {main.kind.words}, but not proven so by {', '.join(crossing)}"]


def judge_with_doubt(evidence: Evidence, params: DecisionParams) -> tuple[Judgement, Judgement | None]:
    """Judge with all references, and without those corrected from the output of a compared method.

    Returns
    -------
    judgement : Judgement
        Undecided where the two disagree.
    without : Judgement or None
        Without the corrected references; None where there are none.
    """
    whole = judge(evidence, params)
    doubtful = np.isin(evidence.reference_from, evidence.methods)
    if not doubtful.any():
        return whole, None
    without = judge(evidence.without_references(doubtful), params)
    falls = whole.verdict in ("clear", "equivalent") and (without.verdict, without.method) != (
        whole.verdict,
        whole.method,
    )
    knows = {"endpoint": " leads", "failures": " leads", "triage": " looks better by the prediction"}
    other = without.method if without.basis in knows and without.method != whole.method else None
    leads = "" if other is None else evidence.methods[other] + knows[without.basis]
    if not falls and not leads:
        return whole, without
    sources = ", ".join(sorted(set(evidence.reference_from[doubtful].tolist())))
    made = f"references that were made by correcting masks of {sources}"
    why = f"without the {made}, {leads}"
    if falls:
        why = f"the verdict rests on {made}; without them it does not hold" + f", and {leads}" * bool(leads)
    return replace(whole, verdict="undecided", contradictions=(*whole.contradictions, why)), without
