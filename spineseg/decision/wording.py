"""Format numbers, lists and tables for decision.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spineseg.decision.comparison import IN_PERCENT
from spineseg.spelling import count_of

FAR = 100
"""Largest percentage or number of points that is printed; a larger one only says that little is known. For scores the
limit is 1, the end of their range."""

SCORES = ("dice", "nsd", "predicted_dice")
"""Endpoints that go from 0 to 1."""


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def format_list(lines: Iterable[str]) -> str:
    """Format a list."""
    return "\n".join(f"- {line}" for line in lines)


def people(n: int) -> str:
    """Count people."""
    return count_of(n, "person", "people")


def percent(share: float | None) -> str:
    """Format a share; 0 and 100 % are never printed, because no sample gives certainty."""
    if share is None:
        return "unknown"
    if share >= 0.995:
        return "over 99 %"
    return "under 1 %" if share < 0.005 else f"{share:.0%}".replace("%", " %")


def format_number(value: float | None, digits: int) -> str:
    """Format a number; one that would round to zero keeps two significant digits."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10**-digits else f"{value:.2g}"


def format_signed(value: float) -> str:
    """Format a difference with its sign."""
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"


def format_value(value: float | None, key: str, *, signed: bool = False) -> str:
    """Format a value of an endpoint in its own unit: Dice with three decimals, percent with one."""
    if value is None:
        return "-"
    if key in IN_PERCENT:
        value *= 100
    far = 1 if key in SCORES else FAR
    if round(abs(value), 6) > far:
        return f"below -{far}" if value < 0 else f"above {'+' * signed}{far}"
    digits = 3 if key in SCORES else 1
    value = round(value, digits) + 0.0  # no -0.0
    return f"{value:{'+' if signed else ''}.{digits}f}"


def format_margin(value: float | None, key: str) -> str:
    """Format a margin with three significant digits, so that 1.25 is not printed as 1.2."""
    return "-" if value is None else f"{value * (100 if key in IN_PERCENT else 1):.3g}"


def format_interval(limits: Sequence[float | None] | None, key: str) -> str:
    """Format an interval; empty where it is not known."""
    if not limits or limits[0] is None or limits[1] is None:
        return ""
    return f"{format_value(limits[0], key, signed=True)} to {format_value(limits[1], key, signed=True)}"


def ruling_endpoint(d: Mapping[str, Any]) -> str:
    """Return the key of the endpoint that a decision rests on, as in its list of endpoints."""
    return "failures" if d["endpoint"] == "failure_rate" else str(d["endpoint"])


@dataclass(frozen=True)
class Gap:
    """The difference that a decision rests on, as text. The interval may be empty; the unit of scores is."""

    signed: str
    size: str
    interval: str
    margin: str
    unit: str


def format_gap(d: Mapping[str, Any]) -> Gap | None:
    """Format the difference that a decision rests on; None where nothing was compared."""
    if d["difference"] is None:
        return None
    key = ruling_endpoint(d)
    return Gap(
        format_value(d["difference"], key, signed=True),
        format_value(abs(d["difference"]), key),
        format_interval(d["ci90"], key),
        format_margin(d["margin"], key),
        " percentage points" if "%" in d["unit"] else "",
    )
