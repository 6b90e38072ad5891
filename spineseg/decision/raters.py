"""Raters' preferences, and how well raters agree with themselves and with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from spineseg.decision.evidence import Evidence
from spineseg.studyfolder.marks import Preference

MIN_AGAIN = 3
"""Least number of pairs shown to a rater twice before their answers are doubted: two reversals may be chance."""

Shown = tuple[str, frozenset[str]]
"""An image, and the pair of methods whose masks were shown."""


def chance_corrected(answers: Sequence[tuple[str, str]]) -> float:
    """Compute the chance-corrected agreement of pairs of answers: 1 is always, 0 is chance; NaN without any.

    This is Gwet's AC1 (2008, Br J Math Stat Psychol 61:29). Unlike Cohen's kappa it does not fall to 0 where nearly
    all answers are the same.
    """
    if not answers:
        return float("nan")
    counts = Counter(answer for pair in answers for answer in pair)
    shares = [count / (2 * len(answers)) for count in counts.values()]
    chance = sum(p * (1 - p) for p in shares) / max(1, len(shares) - 1)
    return (sum(a == b for a, b in answers) / len(answers) - chance) / (1 - chance)


def _answers(ratings: Sequence[Preference]) -> tuple[dict[str, dict[Shown, str]], dict[str, list[tuple[str, str]]]]:
    """First answers by rater and pair shown, and (first, again) answers by rater."""
    first: dict[str, dict[Shown, str]] = {}
    for one in ratings:
        if not one.repeat:
            first.setdefault(one.rater, {})[one.image, frozenset((one.x, one.y))] = one.answer
    again: dict[str, list[tuple[str, str]]] = {}
    for one in ratings:
        shown = one.image, frozenset((one.x, one.y))
        if one.repeat and shown in first.get(one.rater, {}):
            again.setdefault(one.rater, []).append((first[one.rater][shown], one.answer))
    return first, again


def contradictory_raters(ratings: Sequence[Preference]) -> list[str]:
    """Return raters whose repeated answers agree no better than chance: their answers carry no information."""
    _, again = _answers(ratings)
    return sorted(rater for rater, own in again.items() if len(own) >= MIN_AGAIN and chance_corrected(own) <= 0)


def trusted_ratings(ratings: Sequence[Preference]) -> list[Preference]:
    """Return the ratings by raters who do not contradict themselves."""
    left_out = set(contradictory_raters(ratings))
    return [one for one in ratings if one.rater not in left_out]


def summarise_ratings(evidence: Evidence) -> dict[str, Any]:
    """Count blind ratings, raters and people, and how often the same pair got the same answer.

    Returns
    -------
    dict
        n, n_participants, raters; n_again, n_same (pairs shown to the same rater again, and how many got the same
        answer); contradictory (raters who do not count); n_shared, n_alike, agreement (pairs of answers of two raters
        to the same masks, how many are the same, and their chance-corrected agreement; None without any).
    """
    person_of = dict(zip(evidence.image_id.tolist(), evidence.subject.tolist(), strict=True))
    first, by_rater = _answers(evidence.ratings)
    again = [pair for own in by_rater.values() for pair in own]
    pairs = ((first[a], first[b]) for a, b in combinations(sorted(first), 2))
    shared = [(own[shown], other[shown]) for own, other in pairs for shown in own if shown in other]
    return {
        "n": sum(map(len, first.values())),
        "n_participants": len({person_of[image] for own in first.values() for image, _ in own}),
        "raters": sorted(first),
        "n_again": len(again),
        "n_same": sum(a == b for a, b in again),
        "contradictory": contradictory_raters(evidence.ratings),
        "n_shared": len(shared),
        "n_alike": sum(a == b for a, b in shared),
        "agreement": chance_corrected(shared) if shared else None,
    }
