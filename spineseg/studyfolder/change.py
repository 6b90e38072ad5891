"""``change.tsv``: change of the area between sessions, by person and level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spineseg.studyfolder.files import write_table

NAN = float("nan")


@dataclass(frozen=True)
class ChangeRow:
    """Change of one person's area at one level between two sessions.

    Parameters
    ----------
    subject, suffix, method, level : str
    session_a, session_b : str
        The earlier and the later session.
    csa_a_mm2, csa_b_mm2 : float, mm²
        Means over the runs of each session.
    change_pct : float
        Percent of the earlier area.
    years : float
        Time between the sessions; NaN where ``sessions.tsv`` does not give it.
    change_pct_per_year : float
    error_pct : float
        SD of such a change due to the method's own error, percent, from runs of one session; NaN without such runs.
    error_df : int
        Degrees of freedom of `error_pct`.
    flags : str
        Flags of both rows of ``csa.tsv``. If one of them means that the area is not that of the level, there is no
        change.
    form : str
        The part of the images' names beside subject, session and run, such as ``acq-sag_T2w``. Only images of the same
        form are compared.
    """

    subject: str
    suffix: str
    method: str
    level: str
    session_a: str
    session_b: str
    csa_a_mm2: float
    csa_b_mm2: float
    change_pct: float
    years: float = NAN
    change_pct_per_year: float = NAN
    error_pct: float = NAN
    error_df: int = 0
    flags: str = ""
    form: str = ""


COLUMNS = tuple(ChangeRow.__dataclass_fields__)


def write_change(path: str | Path, rows: Sequence[ChangeRow]) -> None:
    """Write ``change.tsv``."""
    write_table(path, COLUMNS, map(vars, rows))
