"""Change of the cord's area between the sessions of a follow-up, at the levels that both sessions show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path

import numpy as np

from spineseg.errors import InputError
from spineseg.reading import read_table
from spineseg.studyfolder.change import ChangeRow
from spineseg.studyfolder.csa import UNTRUSTED, CsaRow
from spineseg.studyfolder.forms import form_of_id

DAYS_OF_A_YEAR = 365.25

Key = tuple[str, str, str, str, str]
"""Subject, suffix, form of the image (the rest of its name), method and level."""

INCOMPARABLE = UNTRUSTED - {"joined"}
"""Flags of rows whose area is not that of the level, so that no change can be computed from them. "joined" is not among
them, because levels that are joined in both sessions are the same stretch of cord."""


def measure_change(
    rows: Sequence[CsaRow], sessions: Sequence[str], times: Mapping[tuple[str, str], datetime]
) -> list[ChangeRow]:
    """Compare each two sessions of a person.

    Parameters
    ----------
    rows : sequence of CsaRow
        Rows of ``csa.tsv``; those without an area do not count.
    sessions : sequence of str
        In their order in time, without ``ses-``.
    times : mapping
        Subject and session to its time, as from `read_session_times`.

    Returns
    -------
    list of ChangeRow
        One for each subject, suffix, level and pair of sessions.
    """
    areas: dict[Key, dict[str, list[CsaRow]]] = {}
    for row in rows:
        if row.image.session in sessions and np.isfinite(row.values.get("csa_mm2", np.nan)):
            key = (row.image.subject, row.image.suffix, form_of_id(row.image.image_id), row.method, row.level)
            areas.setdefault(key, {}).setdefault(row.image.session, []).append(row)
    areas = {key: {one: _comparable(runs) for one, runs in of.items()} for key, of in areas.items()}
    errors = _own_errors(areas)
    found = []
    for key in sorted(areas):
        shown = [session for session in sessions if session in areas[key]]
        for a, b in combinations(shown, 2):
            found.append(_change(key, a, b, areas[key], times, *errors.get(key[1:], (np.nan, 0))))
    return found


def _comparable(runs: Sequence[CsaRow]) -> list[CsaRow]:
    """Return the runs of a session whose area is that of the level, or all runs if none is."""
    return [row for row in runs if not INCOMPARABLE & set(row.flags)] or [*runs]


def _own_errors(areas: Mapping[Key, Mapping[str, Sequence[CsaRow]]]) -> dict[tuple[str, ...], tuple[float, int]]:
    """Return the SD of a change due to error alone, percent, and its degrees of freedom, by key without the subject.

    It is computed from runs of one session: their variance, pooled over people, counts twice, because a change is the
    difference of two areas.
    """
    sums: dict[tuple[str, ...], tuple[float, int]] = {}
    for key, by_session in areas.items():
        for runs in by_session.values():
            values = np.array([row.values["csa_mm2"] for row in runs if not INCOMPARABLE & set(row.flags)])
            total, df = sums.get(key[1:], (0.0, 0))
            if values.size > 1:
                total += 1e4 * float(values.var(ddof=1)) / float(values.mean()) ** 2 * (values.size - 1)
                sums[key[1:]] = total, df + values.size - 1
    return {key: ((2 * total / df) ** 0.5, df) for key, (total, df) in sums.items()}


def _change(
    key: Key,
    a: str,
    b: str,
    by_session: Mapping[str, Sequence[CsaRow]],
    times: Mapping[tuple[str, str], datetime],
    error_pct: float,
    error_df: int,
) -> ChangeRow:
    """Compare two sessions."""
    subject, suffix, form, method, level = key
    before, after = (float(np.mean([row.values["csa_mm2"] for row in by_session[one]])) for one in (a, b))
    flags = dict.fromkeys(flag for one in (a, b) for row in by_session[one] for flag in row.flags)
    # whole masks, which have no level, end at the end of their field of view
    change = float("nan") if INCOMPARABLE & set(flags) or not level else 100 * (after / before - 1)
    years = float("nan")
    if (subject, a) in times and (subject, b) in times:
        years = (times[subject, b] - times[subject, a]).total_seconds() / 86400 / DAYS_OF_A_YEAR
    yearly = change / years if years > 0 else float("nan")
    more = (years, yearly, error_pct, error_df, ",".join(flags), form)
    return ChangeRow(subject, suffix, method, level, a, b, before, after, change, *more)


def session_files(folder: str | Path) -> list[Path]:
    """Return the tables of sessions of a dataset, ``sub-*/sub-*_sessions.tsv`` (BIDS)."""
    return sorted(Path(folder).glob("sub-*/sub-*_sessions.tsv"))


def read_session_times(folder: str | Path) -> dict[tuple[str, str], datetime]:
    """Read the time of each session from the column ``acq_time``; sessions without one are left out.

    Raises
    ------
    InputError
        If a table cannot be read, or a value is not a time.
    """
    times = {}
    for path in session_files(folder):
        subject = path.parent.name.removeprefix("sub-")
        for line, row in read_table(path, ["session_id"], what="a table of sessions"):
            text = row.get("acq_time", "")
            if text in ("", "n/a"):
                continue
            try:
                when = datetime.fromisoformat(text).replace(tzinfo=None)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {line}: expected acq_time such as 2024-05-31T10:00:00, found {text!r}"
                ) from error
            times[subject, row["session_id"].removeprefix("ses-")] = when
    return times
