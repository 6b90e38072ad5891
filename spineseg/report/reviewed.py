"""Summarise what raters have reviewed, how far they agree, and which images nobody has reviewed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from spineseg.report.review import ReviewImage
from spineseg.studyfolder.marks import Mark, Marks, Preference


@dataclass(frozen=True)
class RaterRow:
    """Work of one rater: marks by kind, blind comparisons, and how often repeated ones got the same answer.

    `n_not_blind` comparisons were answered after the rater had seen the methods' names with the image, and do not
    count.
    """

    rater: str
    n_marks: dict[str, int]
    n_ratings: int
    n_comparisons: int
    n_not_blind: int
    again: str


@dataclass(frozen=True)
class Reviewed:
    """Summary of the review of a stage.

    Parameters
    ----------
    raters : list of RaterRow
    agreement : list of str
        A sentence for each pair of raters who judged the same.
    chosen : dict
        Answer to a blind comparison to how often it was given, without repeated comparisons.
    unseen : list of str
        Images that nobody has marked or compared.
    """

    raters: list[RaterRow]
    agreement: list[str]
    chosen: dict[str, int]
    unseen: list[str]


def summarise_reviewing(marks: Marks, reviews: Sequence[ReviewImage]) -> Reviewed:
    """Summarise who has reviewed which images of a stage."""
    shown = {review.image.image_id: review for review in reviews}
    of_image: dict[str, list[Mark]] = {}
    for mark in marks.marks:
        if mark.image in shown:
            of_image.setdefault(mark.image, []).append(mark)
    own = [mark for name, given in of_image.items() for mark in shown[name].marks_shown(given)]
    compared = [one for one in marks.preferences if one.image in shown]
    blind = [one for one in compared if one.blind]
    not_blind = Counter(one.rater for one in compared if not one.blind)
    raters = sorted({mark.rater for mark in own} | {one.rater for one in compared})
    rows = []
    for rater in raters:
        of_rater = [mark for mark in own if mark.rater == rater]
        answers = [one for one in blind if one.rater == rater]
        kinds = Counter(mark.mark for mark in of_rater if mark.mark)
        n_rated = sum(mark.rating is not None for mark in of_rater)
        first = sum(not one.repeat for one in answers)
        rows.append(RaterRow(rater, dict(kinds), n_rated, first, not_blind[rater], _same_again(answers)))
    seen = {mark.image for mark in own if mark.mark} | {one.image for one in compared}
    chosen = Counter(one.answer for one in blind if not one.repeat)
    unseen = [review.image.image_id for review in reviews if review.image.image_id not in seen]
    return Reviewed(rows, _agreement(raters, own, blind), dict(chosen.most_common()), unseen)


def _same_again(compared: Sequence[Preference]) -> str:
    """Say how often a rater answered a repeated comparison the same way."""
    first = {(one.image, frozenset((one.x, one.y))): one.answer for one in compared if not one.repeat}
    again = [(first.get((one.image, frozenset((one.x, one.y)))), one.answer) for one in compared if one.repeat]
    known = [(a, b) for a, b in again if a is not None]
    return _kappa_words(known) if known else ""


def _agreement(raters: Sequence[str], marks: Iterable[Mark], blind: Sequence[Preference]) -> list[str]:
    """Return a sentence for each pair of raters that judged the same masks or comparisons."""
    of_marks = {r: {f"{m.image} {m.method}": m.mark for m in marks if m.rater == r and m.mark} for r in raters}
    of_pairs = {
        r: {" ".join([p.image, *sorted((p.x, p.y))]): p.answer for p in blind if p.rater == r and not p.repeat}
        for r in raters
    }
    sentences = []
    for a, b in combinations(raters, 2):
        for what, judged in (("marks", of_marks), ("blind comparisons", of_pairs)):
            both = [(judged[a][key], judged[b][key]) for key in judged[a].keys() & judged[b].keys()]
            if both:
                sentences.append(f"{a} and {b}, {what}: {_kappa_words(both)}.")
    return sentences


def _kappa_words(pairs: Sequence[tuple[str | None, str]]) -> str:
    """Return how many of the answers are the same, with Cohen's kappa where it is defined."""
    same = sum(a == b for a, b in pairs)
    kappa = compute_kappa(pairs)
    return f"{same} of {len(pairs)} the same" + ("" if kappa is None else f", kappa {kappa:.2f}")


def compute_kappa(pairs: Sequence[tuple[str | None, str]]) -> float | None:
    """Return Cohen's kappa of pairs of answers [1]_; None where both sides always give one and the same answer.

    References
    ----------
    .. [1] Cohen 1960, A coefficient of agreement for nominal scales, doi:10.1177/001316446002000104.

    Examples
    --------
    >>> compute_kappa([("a", "a"), ("a", "a"), ("b", "b"), ("b", "a")])
    0.5
    """
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    n = len(pairs)
    chance = sum(first[answer] * second[answer] for answer in first) / n**2
    return None if chance == 1 else (sum(a == b for a, b in pairs) / n - chance) / (1 - chance)
