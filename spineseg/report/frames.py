"""The gathered tables of a stage as data frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spineseg.report import tables

CONTRAST_ORDER = ("t1", "t2", "t2s", "dwi")


@dataclass(frozen=True)
class StudyTables:
    """The tables of one stage as data frames; numbers are numbers, missing ones NaN.

    Parameters
    ----------
    methods : list of str
    metrics, agreement, slices : DataFrame
        Columns as in metrics.tsv, agreement.tsv and slices.tsv.gz; possibly without rows.
    """

    methods: list[str]
    metrics: pd.DataFrame
    agreement: pd.DataFrame
    slices: pd.DataFrame


TEXT_COLUMNS = {
    *("image_id", "subject", "session", "run", "suffix", "contrast", "method", "status", "message"),
    *("method_a", "method_b", "guessed_contrast", "contrast_doubt"),
}


def load_tables(results: Path, stage: str) -> StudyTables:
    """Read the gathered tables of a stage; a missing table counts as one without rows."""
    frames = [_frame(results, stage, name) for name in ("metrics.tsv", "agreement.tsv", "slices.tsv.gz")]
    metrics, agreement, slices = frames
    methods = tables.sort_methods(metrics["method"]) if len(metrics) else []
    return StudyTables(methods, metrics, agreement, slices)


def _frame(results: Path, stage: str, name: str) -> pd.DataFrame:
    """Read one table."""
    path = tables.table_path(results, stage, name)
    if not path.is_file():
        return pd.DataFrame()
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=["n/a", ""])
    for column in frame.columns:
        if column in TEXT_COLUMNS:
            frame[column] = frame[column].fillna("")
        else:
            frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as numbers, NaN throughout where the table lacks it."""
    return frame[name] if name in frame else pd.Series(np.nan, index=frame.index)


def contrasts_of(frame: pd.DataFrame) -> list[str]:
    """Return the contrasts in the table, in the usual order."""
    found = set(frame["contrast"]) if "contrast" in frame else set()
    return [c for c in CONTRAST_ORDER if c in found] + sorted(found - set(CONTRAST_ORDER))
