"""The tables of a stage as data frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from spineseg.contrasts import CONTRASTS
from spineseg.measures import AGREEMENT, METRICS
from spineseg.methods.registry import sort_methods
from spineseg.studyfolder.csa import CsaRow
from spineseg.studyfolder.manifests import TIMING_COLUMNS, Timing
from spineseg.studyfolder.tables import IDENTITY, AgreementRow, MetricsRow


@dataclass(frozen=True)
class StudyTables:
    """The tables of one stage as data frames, with numeric columns; missing values are NaN."""

    methods: list[str]
    metrics: pd.DataFrame  # Columns of metrics.tsv, and seconds and peak_mb; possibly without rows
    agreement: pd.DataFrame  # Columns of agreement.tsv and slices.tsv.gz; possibly without rows
    slices: pd.DataFrame  # Columns of agreement.tsv and slices.tsv.gz; possibly without rows
    levels: Sequence[CsaRow] = ()  # Areas by level, of every method where there are several


def frame_tables(
    metrics: Sequence[MetricsRow],
    agreement: Sequence[AgreementRow] = (),
    slices: Sequence[pd.DataFrame] = (),
    timings: Sequence[Timing] = (),
    levels: Sequence[CsaRow] = (),
) -> StudyTables:
    """Convert the rows of a stage to data frames."""
    numbers = [vars(row.image) | {"method": row.method, "status": row.status} | dict(row.values) for row in metrics]
    pairs = [
        vars(row.image) | {"method_a": row.method_a, "method_b": row.method_b} | dict(row.values) for row in agreement
    ]
    frame = _frame(numbers, ("method", "status"), METRICS)
    cost = pd.DataFrame(list(map(vars, timings)), columns=list(TIMING_COLUMNS))
    cost = cost.astype(dict.fromkeys(TIMING_COLUMNS[2:], float))
    return StudyTables(
        sort_methods(row.method for row in metrics),
        frame.merge(cost, how="left", on=list(TIMING_COLUMNS[:2])),
        _frame(pairs, ("method_a", "method_b"), AGREEMENT),
        pd.concat(slices) if slices else pd.DataFrame(columns=["image_id", "method", "slice", "csa_mm2"]),
        levels,
    )


def _frame(rows: list[dict], text: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    """Return rows as a data frame with all columns."""
    frame = pd.DataFrame(rows, columns=[*IDENTITY, *text, *numbers])
    return frame.astype(dict.fromkeys(numbers, float))


def contrasts_of(frame: pd.DataFrame) -> list[str]:
    """Return the contrasts in the table, in the usual order."""
    found = set(frame["contrast"])
    return [c for c in CONTRASTS if c in found] + sorted(found - set(CONTRASTS))


MAX_PARTS = 8
"""Most parts into which figures are split: values of a column, or the most frequent ones and all others together."""


def split_tables(study: StudyTables, values: Mapping[str, str]) -> dict[str, StudyTables]:
    """Split the tables by the people's value in a column; empty where it has a single value, or many numbers.

    Parameters
    ----------
    study : StudyTables
    values : mapping
        Subject to value; an unknown value is an empty text.
    """
    people = sorted(set(study.metrics["subject"]))
    part_of = _parts_of({person: values.get(person, "") for person in people})
    found = sorted(set(part_of.values()), key=lambda value: (value in (OTHERS, ""), value == "", value))
    if len(found) < 2:
        return {}
    parts = {}
    for value in found:
        own = {person for person in people if part_of[person] == value}
        metrics = study.metrics[study.metrics["subject"].isin(own)]
        agreement = study.agreement[study.agreement["subject"].isin(own)]
        slices = study.slices[study.slices["image_id"].isin(set(metrics["image_id"]))]
        levels = [row for row in study.levels if row.image.subject in own]
        name = f"{len({values[person] for person in own})} others" if value == OTHERS else value or "not known"
        parts[name] = StudyTables(study.methods, metrics, agreement, slices, levels)
    return parts


OTHERS = "\0"
"""Stands for the values that few people have; no table can contain it."""


def _parts_of(value_of: Mapping[str, str]) -> dict[str, str]:
    """Return the part of each person: the value, or `OTHERS` for rare values; empty where the column has no groups.

    Numbers such as ages are not groups, and neither are values that nobody shares.
    """
    counts = Counter(value_of.values())
    known = sorted(set(counts) - {""}, key=lambda value: (-counts[value], value))
    room = MAX_PARTS - ("" in counts)
    if len(known) <= room:
        return dict(value_of)
    if counts[known[0]] == 1 or all(map(_is_number, known)):
        return {}
    rare = set(known[room - 1 :])
    return {person: OTHERS if value in rare else value for person, value in value_of.items()}


def _is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
