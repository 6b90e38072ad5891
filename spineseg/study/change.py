"""Change of the cord's area between sessions that are follow-up, at the levels that both show."""

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
"""Subject, suffix, what an image's name says beside session and run, method and level."""

INCOMPARABLE = UNTRUSTED - {"joined"}
"""Flags of rows whose area is not that of the level: there is no change from or to one. Levels that are joined in both
sessions are the same cord."""


def measure_change(
    rows: Sequence[CsaRow], sessions: Sequence[str], times: Mapping[tuple[str, str], datetime]
) -> list[ChangeRow]:
    """Compare each two sessions of a person.

    Parameters
    ----------
    rows : sequence of CsaRow
        Of ``csa.tsv``; those without an area do not count.
    sessions : sequence of str
        In their order in time, without ``ses-``.
    times : mapping
        Subject and session to when it was, as from `read_session_times`.

    Returns
    -------
    list of ChangeRow
        By subject, suffix, level and pair of sessions.
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
    """Return the runs of a session whose area is that of the level, or all of them where none is."""
    return [row for row in runs if not INCOMPARABLE & set(row.flags)] or [*runs]


def _own_errors(areas: Mapping[Key, Mapping[str, Sequence[CsaRow]]]) -> dict[tuple[str, ...], tuple[float, int]]:
    """Return a key without its subject to the SD of a change by error alone, percent, and its degrees of freedom.

    From the runs of a session: variance over them pooled over people, twice, for a change has two ends.
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
    # whole masks, without a level, end where their fields of view do
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
    """Read when each session was, from the column ``acq_time``; those that do not tell are left out.

    Raises
    ------
    InputError
        If a table cannot be read, or a time is none.
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
