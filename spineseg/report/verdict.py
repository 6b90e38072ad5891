"""A decision in sentences: what to keep, how sure that is, and what would change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spineseg.decision.report_text import verdict_sentence
from spineseg.decision.wording import percent

EQUIVALENT = "equivalent"


@dataclass(frozen=True)
class Share:
    """One part of the probability bar: a name, its probability 0 to 1, and the method or "equivalent"."""

    name: str
    probability: float
    key: str

    @property
    def text(self) -> str:
        """The probability in per cent, never as certain."""
        return percent(self.probability)


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    Parameters
    ----------
    headline : str
        One sentence: what to keep.
    reason : str
        Probability, difference and its interval.
    doubts : tuple of str
        What speaks against relying on it.
    shares : tuple of Share
        Empty where nothing was compared.
    tone : {"clear", "equivalent", "undecided", "none", "override", "missing"}
    """

    headline: str
    reason: str = ""
    doubts: tuple[str, ...] = ()
    shares: tuple[Share, ...] = ()
    tone: str = "missing"


def word_verdict(decision: dict[str, Any] | None) -> Verdict:
    """Put a decision into words; whatever it does not hold is left out.

    Parameters
    ----------
    decision : dict or None
        decision.json, or None where none has been made.
    """
    if decision is None:
        return Verdict(
            "No decision has been made yet.", "spineseg decide writes decision.json from the pilot's tables."
        )
    tone = decision.get("verdict") or "missing"
    return Verdict(
        _headline(decision, tone), _reason(decision), tuple(_doubts(decision)), probability_shares(decision), tone
    )


def _headline(decision: dict[str, Any], tone: str) -> str:
    """Return the sentence that says what to keep, the decision's own where it is whole."""
    if "computed" in decision:
        return verdict_sentence(decision)
    method = decision.get("method")
    if tone == "override":
        override = decision.get("override") or {}
        return f"Keep {method}: chosen by {override.get('by', 'hand')}, because {override.get('reason', '?')}."
    if method is None:
        return "Keep neither method: segment or correct by hand."
    words = {"equivalent": "equally good in practice", "undecided": "not settled"}.get(tone)
    return f"Keep {method}: {words}." if words else f"Keep {method}."


def _reason(decision: dict[str, Any]) -> str:
    """Return the difference that the verdict rests on, in a sentence."""
    gap, interval = decision.get("difference"), decision.get("ci95") or [None, None]
    if gap is None:
        return ""
    best = decision.get("best") or decision.get("method")
    words = decision.get("endpoint_words") or _words(decision.get("endpoint"))
    unit = f" {decision['unit']}" if decision.get("unit") else ""
    n = decision.get("n_compared", decision.get("n_participants", "?"))
    between = "" if None in interval else f" (95 % interval {interval[0]:+.3g} to {interval[1]:+.3g})"
    text = f"Judged by {words} in {n} participants: mean advantage of {best} {gap:+.3g}{unit}{between}"
    return (
        f"{text}; differences up to {decision['rope']:g}{unit} count as none." if decision.get("rope") else f"{text}."
    )


def _words(endpoint: str | None) -> str:
    """Return an endpoint's name in words."""
    known = {
        "failure_rate": "failures",
        "dice": "overlap with the reference masks (Dice)",
    }
    return known.get(endpoint or "", (endpoint or "the endpoint").replace("_", " "))


def _doubts(decision: dict[str, Any]) -> list[str]:
    """Return what a reader must know before relying on the verdict."""
    doubts = []
    if decision.get("verdict") == "undecided":
        further = (decision.get("pilots") or {}).get("further_needed")
        if further:
            doubts.append(f"About {further} more participants would be needed for a verdict.")
        elif (searched := (decision.get("pilots") or {}).get("searched_up_to")) is not None:
            doubts.append(f"Even {searched} participants would probably not give a verdict: the methods hardly differ.")
    stability = decision.get("stability") or {}
    if stability.get("n_flips"):
        n, total = stability["n_flips"], stability["n_drops"]
        which = "one participant" if n == 1 else f"any one of {n} participants"
        doubts.append(f"Leaving out {which} (of {total}) would change it: the evidence is thin.")
    doubts += [_sentence(text) for text in [*(decision.get("notes") or ()), *(decision.get("cautions") or ())]]
    return doubts


def _sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def probability_shares(numbers: dict[str, Any]) -> tuple[Share, ...]:
    """Return a comparison's probabilities, the methods in its order with equivalence between them."""
    shares = {name: value for name, value in (numbers.get("probability") or {}).items() if value is not None}
    methods = [name for name in shares if name != EQUIVALENT]
    keys = [*methods[:1], *([EQUIVALENT] if EQUIVALENT in shares else []), *methods[1:]]
    return tuple(Share("no real difference" if k == EQUIVALENT else f"{k} better", shares[k], k) for k in keys)
