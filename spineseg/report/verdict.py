"""A decision in sentences: what to keep, how sure that is, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spineseg.decision.report_text import verdict_sentence
from spineseg.decision.wording import percent
from spineseg.studyfolder.decisions import Decision

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
    tone : str
        The verdict, or missing.
    """

    headline: str
    reason: str = ""
    doubts: tuple[str, ...] = ()
    shares: tuple[Share, ...] = ()
    tone: str = "missing"


def word_verdict(decision: Decision | None) -> Verdict:
    """Put a decision into words; None where none has been made."""
    if decision is None:
        return Verdict(
            "No decision has been made yet.", "spineseg decide writes decision.json from the pilot's tables."
        )
    content = decision.document
    return Verdict(
        verdict_sentence(content),
        _reason(content),
        tuple(_doubts(content)),
        probability_shares(content),
        decision.verdict,
    )


def _reason(decision: Mapping[str, Any]) -> str:
    """Return the difference that the verdict rests on, in a sentence; an empty string where nothing was compared."""
    gap, interval = decision["difference"], decision["ci95"]
    if gap is None:
        return ""
    words = decision["endpoint_words"] or "failures"
    unit = f" {decision['unit']}" if decision["unit"] else ""
    between = f" (95 % interval {interval[0]:+.3g} to {interval[1]:+.3g})" if interval and None not in interval else ""
    text = (
        f"Judged by {words} in {decision['n_compared']} participants: mean advantage of {decision['best']}"
        f" {gap:+.3g}{unit}{between}"
    )
    return f"{text}; differences up to {decision['rope']:g}{unit} count as none." if decision["rope"] else f"{text}."


def _doubts(decision: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know before relying on the verdict."""
    doubts = []
    if decision["verdict"] == "undecided":
        pilots = decision["pilots"]
        if further := pilots["further_needed"]:
            doubts.append(f"About {further} more participants would be needed for a verdict.")
        elif (searched := pilots["searched_up_to"]) is not None:
            doubts.append(f"Even {searched} participants would probably not give a verdict: the methods hardly differ.")
    stability = decision["stability"]
    if stability["n_flips"]:
        n, total = stability["n_flips"], stability["n_drops"]
        which = "one participant" if n == 1 else f"any one of {n} participants"
        doubts.append(f"Leaving out {which} (of {total}) would change it: the evidence is thin.")
    doubts += [_sentence(text) for text in (*decision["notes"], *decision["cautions"])]
    return doubts


def _sentence(text: str) -> str:
    """Return the text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def probability_shares(numbers: Mapping[str, Any]) -> tuple[Share, ...]:
    """Return a comparison's probabilities, the methods in its order with equivalence between them."""
    shares = {name: value for name, value in (numbers.get("probability") or {}).items() if value is not None}
    methods = [name for name in shares if name != EQUIVALENT]
    keys = [*methods[:1], *([EQUIVALENT] if EQUIVALENT in shares else []), *methods[1:]]
    return tuple(Share("no real difference" if k == EQUIVALENT else f"{k} better", shares[k], k) for k in keys)
