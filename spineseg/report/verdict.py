"""Put a decision into sentences: which method to keep, how sure that is, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spineseg.decision.report_text import verdict_sentences
from spineseg.decision.report_trust import trust_lines
from spineseg.decision.wording import format_gap, percent
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
        """The probability in per cent; 0 and 100 are never given."""
        return percent(self.probability)


@dataclass(frozen=True)
class Verdict:
    """The verdict at the top of the report.

    Parameters
    ----------
    headline : str
        One sentence: which method to keep.
    by_contrast : tuple of str
        The verdict of each contrast, where contrasts are decided separately.
    reason : str
        Probability, difference and its interval.
    doubts : tuple of str
        What speaks against relying on it.
    shares : tuple of Share
        Empty where nothing was compared.
    tone : str
        The verdict, or ``missing``.
    """

    headline: str
    reason: str = ""
    doubts: tuple[str, ...] = ()
    shares: tuple[Share, ...] = ()
    tone: str = "missing"
    by_contrast: tuple[str, ...] = ()


def word_verdict(decision: Decision | None) -> Verdict:
    """Put a decision into words; None stands for no decision yet."""
    if decision is None:
        return Verdict(
            "No decision has been made yet.", "spineseg decide writes decision.json from the pilot's tables."
        )
    content = decision.document
    headline, *by_contrast = verdict_sentences(content)
    return Verdict(
        headline,
        _reason(content),
        tuple(trust_lines(content)),
        probability_shares(content),
        decision.verdict,
        tuple(by_contrast),
    )


def _reason(decision: Mapping[str, Any]) -> str:
    """Return the difference that the verdict rests on, in a sentence; an empty string where nothing was compared."""
    gap = format_gap(decision)
    if gap is None:
        return ""
    people = "participant" if decision["n_compared"] == 1 else "participants"
    return (
        f"Judged by {decision['endpoint_words']} in {decision['n_compared']} {people}: advantage of "
        f"{decision['best']} {gap.signed}{gap.unit}"
        f"{f' (90 % interval {gap.interval})' if gap.interval else ''}; differences up to {gap.margin} count as none."
    )


def probability_shares(numbers: Mapping[str, Any]) -> tuple[Share, ...]:
    """Return a comparison's probabilities in its order of methods, with equivalence between them."""
    shares = {name: value for name, value in (numbers.get("probability") or {}).items() if value is not None}
    methods = [name for name in shares if name != EQUIVALENT]
    keys = [*methods[:1], *([EQUIVALENT] if EQUIVALENT in shares else []), *methods[1:]]
    return tuple(Share("no real difference" if k == EQUIVALENT else f"{k} better", shares[k], k) for k in keys)
