"""Words of messages: the known name closest to an unknown one, several names, counts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` with the known name closest to `name`, or an empty text.

    Examples
    --------
    >>> closest("metods", ["methods", "dataset"])
    "; did you mean 'methods'?"
    >>> closest("xyz", ["methods", "dataset"])
    ''
    >>> closest("sub-77", ["sub-03"])
    ''
    """
    wrong = str(name).lower()
    by_lower = {one.lower(): one for one in known if not _has_another_number(wrong, one.lower())}
    # one wrong letter in a name of two or three must still be found; in longer names 0.5 finds what nobody meant
    matches = difflib.get_close_matches(wrong, by_lower, n=1, cutoff=0.5 if len(wrong) <= 3 else 0.65)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


def _has_another_number(name: str, candidate: str) -> bool:
    """Whether names differ only in numbers of two digits or more: sub-77 is no misspelt sub-03; sub-1 may be sub-01."""
    if re.sub(r"\d+", "#", name) != re.sub(r"\d+", "#", candidate):
        return False
    pairs = zip(re.findall(r"\d+", name), re.findall(r"\d+", candidate), strict=True)
    return any(int(a) != int(b) and max(len(a), len(b)) > 1 for a, b in pairs)


def name_some(names: Sequence[str], limit: int = 8) -> str:
    """List names, but only the first few of many.

    Examples
    --------
    >>> name_some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def join_names(names: Sequence[str]) -> str:
    """Join names as in a sentence.

    Examples
    --------
    >>> join_names(["a"]), join_names(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def count_of(number: float, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> count_of(1, "image"), count_of(3, "image"), count_of(2, "person", "people")
    ('1 image', '3 images', '2 people')
    """
    return f"{number:.0f} {noun if number == 1 else plural or f'{noun}s'}"
