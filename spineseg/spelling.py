"""Names in messages: the known name closest to an unknown one, some of many names, several names in a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` with the known name closest to `name`, or an empty text.

    Examples
    --------
    >>> closest("metods", ["methods", "dataset"])
    "; did you mean 'methods'?"
    >>> closest("xyz", ["methods", "dataset"])
    ''
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    # 0.5, so that a name of two or three letters with one wrong letter is still found
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


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
