"""What would settle an open choice: more people, by simulations of the rule, and the obstacles beside their number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg.decision.common_stretch import repeat_variances
from spineseg.decision.comparison import Comparison
from spineseg.decision.contradictions import contradicting, is_of_enough
from spineseg.decision.differential_bias import BiasByGroup, compare_bias_by_group
from spineseg.decision.endpoints import MIN_SITES
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.rule import EQUIVALENCE, GATES, Judgement, judge_with_doubt
from spineseg.decision.wording import format_margin, format_value
from spineseg.studyfolder.marks import Preference

SETTLED = ("clear", "equivalent")

BATCH = 10
"""Simulated pilots after which it is checked, each time, whether more are needed."""

SURE = 3.0
"""Distance from the wanted chance, in standard errors, at which no more pilots of that size are simulated."""

STEP = 0.05
"""Relative precision to which the number of people is searched: a pilot cannot predict it better."""


@dataclass(frozen=True)
class Obstacle:
    """Something that keeps a choice open and that more people alone may not settle.

    Parameters
    ----------
    kind : str
        One of sites, corrected, contrasts, contradiction, failures, groups, bias, near, overlap and unproven.
    words : str
        What stands in the way, to follow "because".
    helps : str
        A sentence on what would help; empty if nothing is known to help.
    """

    kind: str
    words: str
    helps: str = ""


def settle_choice(evidence: Evidence, judgement: Judgement, params: DecisionParams) -> dict[str, Any]:
    """Say how many further participants would settle an open choice, and what stands in the way.

    Returns
    -------
    dict
        total_needed, further_needed (people; None if no number up to `max_pilots` is enough, or if not computed),
        searched_up_to (None where nothing was simulated), chance_at_most (share of the largest simulated pilots with a
        verdict), obstacles (list of dict).
    """
    nothing: dict[str, Any] = {"total_needed": None, "further_needed": None, "searched_up_to": None}
    nothing |= {"chance_at_most": None, "obstacles": []}
    main = judgement.comparison()
    if judgement.verdict != "undecided" or judgement.basis != "endpoint" or main is None:
        return nothing
    found = nothing | {"obstacles": [vars(one) for one in _obstacles(evidence, judgement, main, params)]}
    if main.n < params.min_participants or main.n >= params.max_pilots:
        return found  # too few people to predict others by, or so many that more would not help
    draw = _Draw(evidence, judgement, main, params)
    most = params.max_pilots - main.n
    settles, chance = draw.settles(most)
    found |= {"searched_up_to": params.max_pilots, "chance_at_most": chance}
    if settles:
        further = draw.fewest(most)
        found |= {"total_needed": main.n + further, "further_needed": further}
    return found


def draw_people(evidence: Evidence, numbers: NDArray[np.intp]) -> Evidence:
    """Return the evidence of people by their numbers, (n,); a person who is drawn twice becomes two people."""
    order = np.argsort(evidence.person, kind="stable")
    count = np.bincount(evidence.person, minlength=evidence.people.size)
    first = np.cumsum(count) - count
    images = np.concatenate([order[first[p] : first[p] + count[p]] for p in numbers.tolist()])
    names = np.array([f"{n:06d}" for n in range(numbers.size)])[np.repeat(np.arange(numbers.size), count[numbers])]
    rest = evidence.subset(images)
    new = np.char.add(np.char.add(names, "_"), rest.image_id)
    ratings: dict[str, list[Preference]] = {}
    for one in evidence.ratings:
        ratings.setdefault(one.image, []).append(one)
    pairs = list(zip(rest.image_id.tolist(), new.tolist(), strict=True))
    return replace(
        rest,
        image_id=new,
        subject=names,
        ratings=tuple(replace(one, image=name) for old, name in pairs for one in ratings.get(old, ())),
        profiles={
            (name, m): evidence.profiles[old, m]
            for old, name in pairs
            for m in evidence.methods
            if (old, m) in evidence.profiles
        },
        repeats=None if evidence.repeats is None else evidence.repeats.of_people(numbers),
    )


class _Draw:
    """Simulated pilots of the present people and further ones like them, each judged by the rule.

    Further people are drawn from those who have the ruling endpoint, with their sites, contrasts, ratings and
    references. Where a method failed there is no area to compare, so people with failures are drawn separately, as
    often as they occurred.
    """

    def __init__(self, evidence: Evidence, judgement: Judgement, main: Comparison, params: DecisionParams) -> None:
        whole = repeat_variances(evidence, params.repeats) if params.repeats.is_declared else evidence.repeats
        self.evidence = replace(evidence, repeats=whole)
        self.params = params
        compared = [m for m in range(len(evidence.methods)) if m in judgement.eligible]
        failed = evidence.failed[:, compared].any(axis=1)
        has_failed = np.bincount(evidence.person, failed, evidence.people.size) > 0
        has_endpoint = np.isfinite(main.pseudo)
        has_truth = np.isfinite(evidence.values["dice"]).any(axis=1)
        has_truth = np.bincount(evidence.person, has_truth, evidence.people.size) > 0
        self.failing = np.flatnonzero(has_failed)
        self.others = np.flatnonzero(has_endpoint & ~has_failed)
        shares = [has_failed.mean(), has_failed[has_truth].mean() if has_truth.any() else 0.0]
        self.share = float(max(shares)) if self.others.size else 1.0  # only a reference reveals a useless mask

    def settles(self, further: int) -> tuple[bool, float]:
        """Whether `further` people give a verdict with the wanted chance, and the share of simulated pilots that do."""
        rng = np.random.default_rng([self.params.seed, 2])
        power, wanted = self.params.power, self.params.n_simulations
        present, settled = np.arange(self.evidence.people.size), 0
        for tried in range(1, wanted + 1):
            failing = rng.random(further) < self.share
            joined = np.where(failing, self._some(rng, self.failing, further), self._some(rng, self.others, further))
            pilot = draw_people(self.evidence, np.concatenate([present, joined]))
            settled += judge_with_doubt(pilot, self.params)[0].verdict in SETTLED
            doubt = SURE * math.sqrt(power * (1 - power) / tried)
            if tried % BATCH == 0 and abs(settled / tried - power) > min(doubt, 0.75):
                break
        return settled / tried >= power, settled / tried

    @staticmethod
    def _some(rng: np.random.Generator, people: NDArray[np.intp], n: int) -> NDArray[np.intp]:
        """Draw people with replacement; zeros, which the caller does not use, where there is nobody to draw."""
        return rng.choice(people, n) if people.size else np.zeros(n, np.intp)

    def fewest(self, most: int) -> int:
        """Find the fewest further people that give a verdict, to within `STEP`, given that `most` do."""
        low, high = 0, 1
        while high < most and not self.settles(high)[0]:
            low, high = high, min(2 * high, most)
        while high - low > max(1, round(STEP * high)):
            middle = (low + high) // 2
            low, high = (low, middle) if self.settles(middle)[0] else (middle, high)
        return high


def _obstacles(evidence: Evidence, judgement: Judgement, main: Comparison, params: DecisionParams) -> list[Obstacle]:
    """Name what keeps the verdict from being clear besides the uncertainty of the ruling endpoint."""
    pairs = judgement.pairs[min(main.pair), max(main.pair)]
    known = {key: one.of(main.pair[0]) for key, one in pairs.items()}
    return [
        *_in_the_sample(evidence, main, params),
        *_in_other_endpoints(known, main, params),
        *_in_the_better_method(evidence, known, main, params),
    ]


def _in_the_sample(evidence: Evidence, main: Comparison, params: DecisionParams) -> list[Obstacle]:
    """Name too few sites, references that favour a method, and contrasts that disagree."""
    found = []
    if 1 < main.n_sites < MIN_SITES:
        found.append(
            Obstacle(
                "sites",
                f"the people come from {main.n_sites} sites, and with fewer than {MIN_SITES} no difference is clear "
                "over all sites",
                f"People from at least {MIN_SITES} sites would help; or decide for the images of one scanner.",
            )
        )
    doubtful = np.isin(evidence.reference_from, evidence.methods) & np.isfinite(evidence.values["dice"]).any(axis=1)
    if doubtful.any():
        found.append(
            Obstacle(
                "corrected",
                "references were made by correcting a compared method's masks, and a verdict must hold without them",
                f"References drawn from scratch in {params.min_participants} people or more would help.",
            )
        )
    leanings = {one.leaning for one in main.by_contrast.values()} - {None}
    if len(leanings) > 1:
        found.append(
            Obstacle(
                "contrasts",
                "contrasts favour different methods",
                "`decision.by: contrast` keeps one method for each, where areas of different contrasts are never "
                "compared.",
            )
        )
    return found


def _in_other_endpoints(known: Mapping[str, Comparison], main: Comparison, params: DecisionParams) -> list[Obstacle]:
    """Name the endpoints that favour the other method in enough people."""
    against = [one.kind.words for one in contradicting(known, main, params)]
    if not against:
        return []
    mend = (
        "More people do not settle that: look at the masks, and say in `decision.endpoints` what the study needs most."
    )
    return [Obstacle("contradiction", f"{' and '.join(against)} says the opposite", mend)]


def _unequal(
    known: Mapping[str, Comparison], uneven: BiasByGroup | None, better: str, worse: str, params: DecisionParams
) -> list[Obstacle]:
    """Name differences of bias between equally precise methods: no number of people makes these equal."""
    found, bias = [], known.get("bias")
    if bias is not None and is_of_enough(bias, params) and bias.winner is not None:
        found.append(
            Obstacle(
                "bias",
                f"the methods are not equal, because their mean areas differ by {abs(bias.estimate):.1f} %",
                "A constant difference cancels between groups and over time. Then use either method, but never both.",
            )
        )
    if uneven is not None and any(gap.is_beyond(uneven.margin) for gap in uneven.between):
        gap = max(uneven.between, key=lambda one: abs(one.difference))
        found.append(
            Obstacle(
                "groups",
                f"the biases of {better} and {worse} differ unequally between groups: the gap between their areas "
                f"changes by {abs(gap.difference):.1f} % between {gap.level} and the others",
                "Keep the one whose own bias differs less between groups (see the warnings), not the cheaper one.",
            )
        )
    return found


def _hard_to_prove(known: Mapping[str, Comparison], main: Comparison, params: DecisionParams) -> list[Obstacle]:
    """Name endpoints that differ by more than half of their margin: proof of equality takes very many people."""
    found = []
    for key in EQUIVALENCE:
        one = known.get(key)
        if one is None or key in ("failures", main.key) or one.is_within or not is_of_enough(one, params):
            continue
        if abs(one.estimate) > one.margin / 2 and one.winner is None:
            gap, margin = format_value(abs(one.in_unit(one.estimate)), key), format_margin(one.in_unit(one.margin), key)
            unit = " %" if "%" in one.kind.unit else ""
            words = f"by {one.kind.words} equality is hard to prove: {gap}{unit}, where up to {margin}{unit}"
            found.append(Obstacle("near", f"{words} counts as none", ""))
    return found


def _in_the_better_method(
    evidence: Evidence, known: Mapping[str, Comparison], main: Comparison, params: DecisionParams
) -> list[Obstacle]:
    """Name the weaknesses of the method that looks better: more failures, a bias by group, or less overlap."""
    found = []
    pair = [evidence.methods[m] for m in main.pair]
    failures, leads = known["failures"], main.estimate >= 0
    advantage = failures.estimate if leads else -failures.estimate
    better, worse = pair if leads else pair[::-1]
    if advantage < -failures.margin:
        found.append(
            Obstacle(
                "failures",
                f"{better} fails more often than {worse}",
                f"Find out why {better} fails in these images: other settings may help.",
            )
        )
    elif main.is_within and not failures.is_within:
        few = f"that the methods fail equally often, within {100 * failures.margin:g} points, is not proven"
        found.append(
            Obstacle("unproven", few, "Proof needs about 60 people of whom none fails, and many more if some do.")
        )
    first, second = main.pair if leads else main.pair[::-1]
    uneven = compare_bias_by_group(evidence, (first, second), params)
    for words in [] if uneven is None else uneven.doubts(better, worse):
        found.append(
            Obstacle(
                "groups", words, "See on the QC page in which group its masks are off, or let raters correct them."
            )
        )
    if main.is_within:
        found += _unequal(known, uneven, better, worse, params) if not found else []
        found += _hard_to_prove(known, main, params) if not any(one.kind == "bias" for one in found) else []
    for key in GATES:
        gate = known.get(key)
        if gate is None or key == main.key or gate.n < params.min_references:
            continue
        if (gate.estimate if leads else -gate.estimate) < -gate.margin:
            found.append(
                Obstacle(
                    "overlap",
                    f"{better} is worse by {gate.kind.words}",
                    "See on the QC page where its masks differ from the references: at the ends, or all along.",
                )
            )
    return found
