"""Names in messages: what was meant when one is not known, some of many, several in a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` for the known name most like `name`, or nothing.

    Examples
    --------
    >>> closest("metods", ["methods", "dataset"])
    "; did you mean 'methods'?"
    >>> closest("xyz", ["methods", "dataset"])
    ''
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    # 0.5: one wrong letter in a name of two or three must still be found
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


def name_some(names: Sequence[str], limit: int = 8) -> str:
    """List names, the first few of many.

    Examples
    --------
    >>> name_some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def join_names(names: Sequence[str]) -> str:
    """Join names as a sentence does.

    Examples
    --------
    >>> join_names(["a"]), join_names(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
