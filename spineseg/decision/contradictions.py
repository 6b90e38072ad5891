"""Contradictions of the endpoint that rules: by other endpoints of the plan, and between contrasts."""

from __future__ import annotations

from collections.abc import Mapping

from spineseg.decision.comparison import Comparison
from spineseg.decision.evidence import Evidence
from spineseg.decision.params import DecisionParams
from spineseg.decision.wording import format_interval, format_value, people


def people_needed(key: str, params: DecisionParams) -> int:
    """Return the number of people from which on an endpoint counts."""
    if key in ("csa_error", "csa_error_rms", "change_error", "dice", "nsd", "bias"):
        return params.min_references
    return 1 if key in ("failures", "predicted_dice") else params.min_repeats


def is_of_enough(one: Comparison, params: DecisionParams) -> bool:
    """Whether an endpoint is known in enough people to count."""
    return one.n >= people_needed(one.key, params)


def lower_classes(known: Mapping[str, Comparison], ruling: str | None, params: DecisionParams) -> list[Comparison]:
    """Return the endpoints of the plan that may contradict the ruling one, where enough people have them.

    Errors between people cannot contradict errors within people, because they include what cancels in a change.
    """
    keys = [
        key for name in params.endpoints for key in (("csa_error", "csa_error_rms") if name == "csa_error" else (name,))
    ]
    silent = {ruling} | ({"csa_error", "csa_error_rms"} if ruling == "change_error" else set())
    return [known[key] for key in keys if key not in silent and key in known and is_of_enough(known[key], params)]


def contradicting(known: Mapping[str, Comparison], main: Comparison, params: DecisionParams) -> list[Comparison]:
    """Return the lower classes that clearly favour the method that is worse, be it slightly, by the ruling estimate."""
    better = main.pair[0] if main.estimate >= 0 else main.pair[1]
    return [one for one in lower_classes(known, main.key, params) if one.winner not in (None, better)]


def describe_favour(evidence: Evidence, one: Comparison) -> str:
    """Say which method an endpoint clearly favours, and by how much."""
    winner = one.pair[0] if one.winner is None else one.winner
    return f"by {one.kind.words} {evidence.methods[winner]} is better ({_gap_words(one.of(winner))})"


def opposed_contrasts(evidence: Evidence, main: Comparison | None) -> list[str]:
    """Say where contrasts favour different methods beyond the margin."""
    if main is None:
        return []
    sides: dict[int, list[str]] = {}
    for contrast, one in main.by_contrast.items():
        if one.leaning is not None:
            sides.setdefault(one.leaning, []).append(contrast)
    if len(sides) < 2:
        return []
    parts = []
    for m, names in sorted(sides.items()):
        found = [f"{name} ({_gap_words(main.by_contrast[name].of(m))})" for name in names]
        parts.append(f"{evidence.methods[m]} in {', '.join(found)}")
    return [f"contrasts favour different methods by {main.kind.words}: {' and '.join(parts)}"]


def _gap_words(one: Comparison) -> str:
    """Write a difference with its interval and the number of people."""
    gap, *limits = (one.in_unit(value) for value in (one.estimate, *one.interval))
    points = f"by {format_value(gap, one.key)}{' percentage points' * ('%' in one.kind.unit)}"
    return f"{points} in {people(one.n)}, 90 % interval {format_interval(limits, one.key)}"


def missing_contrasts(evidence: Evidence, main: Comparison | None) -> list[str]:
    """Name the contrasts in which the ruling endpoint is not known: the verdict rests on the others alone."""
    missing = [name for name in evidence.contrasts.tolist() if main is not None and name not in main.by_contrast]
    if main is None or evidence.contrasts.size < 2 or not missing:
        return []
    seen = " and ".join(main.by_contrast) or "no contrast alone"
    return [
        f"this rests on images of {seen}: by {main.kind.words} too few people, or nobody, could be compared in "
        f"{' and '.join(missing)}"
    ]
