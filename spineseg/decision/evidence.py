"""The tables of a pilot as arrays: images by methods, with failures and people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.measures import METRICS
from spineseg.studyfolder.tables import AgreementRow, MetricsRow, read_agreement, read_metrics, read_slices

if TYPE_CHECKING:
    import pandas as pd

_REPEAT_ENTITIES = re.compile(r"_(ses|run)-[^_]+")


@dataclass(frozen=True)
class Evidence:
    """What is known of N images by M methods.

    Parameters
    ----------
    methods : (M,) tuple of str
    image_id, subject, session, contrast : (N,) ndarray of str
    failed : (N, M) ndarray of bool
    values : dict of (N, M) ndarray
        By column of metrics.tsv; NaN where missing.
    agreement : tuple of AgreementRow
    slices : DataFrame, optional
        As `read_slices` returns it.
    excluded : tuple of dict
        Images and people that do not take part, with the reason.
    """

    methods: tuple[str, ...]
    image_id: NDArray[np.str_]
    subject: NDArray[np.str_]
    session: NDArray[np.str_]
    contrast: NDArray[np.str_]
    failed: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]
    agreement: tuple[AgreementRow, ...] = ()
    slices: pd.DataFrame | None = None
    excluded: tuple[dict[str, str], ...] = ()

    @property
    def people(self) -> NDArray[np.str_]:
        """Participants, sorted, (P,)."""
        return np.unique(self.subject)

    @property
    def repeat_key(self) -> NDArray[np.str_]:
        """Image name without session and run, (N,): images of one key repeat each other."""
        return np.array([_REPEAT_ENTITIES.sub("", name) for name in self.image_id], dtype=str)

    def subset(self, keep: NDArray[np.bool_]) -> Evidence:
        """Return the evidence of some images only; `keep` is (N,) bool."""
        return replace(
            self,
            image_id=self.image_id[keep],
            subject=self.subject[keep],
            session=self.session[keep],
            contrast=self.contrast[keep],
            failed=self.failed[keep],
            values={key: value[keep] for key, value in self.values.items()},
        )

    def pair_values(self, a: int, b: int, measure: str) -> NDArray[np.float64]:
        """Return a measure of two methods' masks by image, (N,), a minus b where it is a difference; NaN if unknown."""
        found = {}
        for row in self.agreement:
            if {row.method_a, row.method_b} == {self.methods[a], self.methods[b]}:
                turned = measure == "csa_difference_mm2" and row.method_a != self.methods[a]
                found[row.image.image_id] = row.values.get(measure, np.nan) * (-1 if turned else 1)
        return np.array([found.get(name, np.nan) for name in self.image_id.tolist()], np.float64)

    def pair_dice(self, a: int, b: int) -> float:
        """Mean Dice between the masks of two methods over participants; NaN where it is not known."""
        return _known_mean(self.person_mean(self.pair_values(a, b, "dice")[:, None]))

    def area_gap(self, a: int, b: int) -> float:
        """Mean over participants of how much two methods' areas differ, relative to them; NaN if unknown."""
        gap = np.abs(self.pair_values(a, b, "csa_difference_mm2"))
        return _known_mean(self.person_mean((gap / self.values["csa_mean_mm2"][:, [a, b]].mean(axis=1))[:, None]))

    def person_mean(self, values: NDArray) -> NDArray[np.float64]:
        """Average (N, m) values within each participant, (P, m).

        An image counts only where all m values are known, so that methods are compared on the same
        images; NaN for a participant without such an image.
        """
        people, index = np.unique(self.subject, return_inverse=True)
        known = np.isfinite(values).all(axis=1)
        count = np.bincount(index[known], minlength=people.size)
        sums = np.stack([np.bincount(index[known], column[known], people.size) for column in values.T], axis=1)
        return np.divide(sums, count[:, None], out=np.full(sums.shape, np.nan), where=count[:, None] > 0)


def _known_mean(values: NDArray[np.float64]) -> float:
    """Mean of the finite values, NaN if there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def load_evidence(
    metrics: str | Path,
    methods: Sequence[str],
    *,
    coverage_limit: float,
    agreement: str | Path | None = None,
    slices: str | Path | None = None,
    training_subjects: Sequence[str] = (),
) -> Evidence:
    """Read a pilot's tables.

    Parameters
    ----------
    metrics : path
        metrics.tsv.
    methods : sequence of str
        Methods to compare; rows of others are left aside.
    coverage_limit : float
        A partial mask below it counts as failed.
    agreement, slices : path, optional
    training_subjects : sequence of str
        People left out because a method was trained on them.

    Returns
    -------
    Evidence
        Images sorted by name; an image without a row for each method is left out, with the reason.

    Raises
    ------
    InputError
        If a table or a column is missing, a row is there twice, or a method has no row.
    """
    rows = read_metrics(metrics)
    table: dict[str, dict[str, MetricsRow]] = {}
    for row in rows:
        by_method = table.setdefault(row.image.image_id, {})
        if row.method in by_method:
            raise InputError(f"{metrics}: two rows for image {row.image.image_id} by {row.method}; gather again")
        by_method[row.method] = row
    for method in methods:
        if rows and not any(method in by_method for by_method in table.values()):
            found = ", ".join(sorted({row.method for row in rows}))
            raise InputError(f"{metrics}: no row for method {method}, found {found}; measure it first")
    kept, excluded = _choose_images(table, methods, {str(s).removeprefix("sub-") for s in training_subjects})
    known = set(kept)
    frame = read_slices(slices) if slices else None
    grid = [[table[image][method] for method in methods] for image in kept]
    shape = (len(kept), len(methods))
    first = [row.image for row in (line[0] for line in grid)]
    return Evidence(
        methods=tuple(methods),
        image_id=np.array(kept, dtype=str),
        subject=np.array([image.subject for image in first], dtype=str),
        session=np.array([image.session for image in first], dtype=str),
        contrast=np.array([image.contrast for image in first], dtype=str),
        failed=np.array([[_is_failed(row, coverage_limit) for row in line] for line in grid], bool).reshape(shape),
        values={
            name: np.array([[row.values.get(name, np.nan) for row in line] for line in grid], np.float64).reshape(shape)
            for name in METRICS
        },
        agreement=tuple(row for row in read_agreement(agreement) if row.image.image_id in known) if agreement else (),
        slices=None if frame is None else frame[frame["image_id"].isin(known)],
        excluded=tuple(excluded),
    )


def _choose_images(
    table: Mapping[str, Mapping[str, MetricsRow]], methods: Sequence[str], training: set[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Split image names into those that take part and those that do not, with reasons."""
    kept, excluded = [], []
    for image_id in sorted(table):
        by_method = table[image_id]
        missing = [method for method in methods if method not in by_method]
        subject = next(iter(by_method.values())).image.subject
        fault = _image_fault([by_method[method] for method in methods if method in by_method])
        if missing:
            excluded.append({"image_id": image_id, "reason": f"no result by {', '.join(missing)}"})
        elif subject.removeprefix("sub-") in training:
            excluded.append({"image_id": image_id, "reason": "a method was trained on this person"})
        elif fault:
            excluded.append({"image_id": image_id, "reason": fault})
        else:
            kept.append(image_id)
    return kept, excluded


def _image_fault(rows: Sequence[MetricsRow]) -> str:
    """Return why no method could use an image, or nothing where that may be a method's failure.

    A file that cannot be read fails with the same words by every method; it says nothing about them.
    """
    messages = {row.message for row in rows}
    if len(rows) > 1 and len(messages) == 1 and all(row.status == "failed" for row in rows):
        return messages.pop()
    return ""


def _is_failed(row: MetricsRow, coverage_limit: float) -> bool:
    """Whether the method failed on this image."""
    coverage = row.values.get("coverage", np.nan)
    return not row.has_cord or (row.status == "partial" and bool(coverage < coverage_limit))
