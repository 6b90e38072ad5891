"""The tables of a pilot as arrays: images by methods, with failures and people."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError

FAILED_STATUSES = ("failed", "empty", "crash", "timeout")

VALUE_COLUMNS = (
    *("n_slices", "coverage", "n_components", "csa_mean_mm2", "csa_roughness", "centre_roughness", "plausible"),
    *("seconds", "peak_mb", "dice", "nsd", "hd95_mm", "assd_mm", "csa_error_pct", "perturb_dice", "perturb_csa_cv"),
    *("predicted_dice", "predicted_dice_low", "predicted_dice_high", "flagged", "uncertainty"),
)
"""Columns of metrics.tsv that are numbers; tables of older versions may lack the last."""

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
    agreement : tuple of dict
        Rows of agreement.tsv.
    slices : tuple of dict, optional
        Rows of slices.tsv.gz.
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
    agreement: tuple[dict[str, str], ...] = ()
    slices: tuple[dict[str, str], ...] = ()
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

    def pair_dice(self, a: int, b: int) -> float:
        """Mean Dice between the masks of two methods over participants; NaN where it is not known."""
        pair = {self.methods[a], self.methods[b]}
        found = {
            row["image_id"]: _number(row["dice"])
            for row in self.agreement
            if {row["method_a"], row["method_b"]} == pair
        }
        dice = np.array([found.get(name, np.nan) for name in self.image_id.tolist()], np.float64)
        means = self.person_mean(dice[:, None])
        return float(np.nanmean(means)) if np.isfinite(means).any() else float("nan")

    def area_gap(self, a: int, b: int) -> float:
        """Mean over participants of how much two methods' areas differ, relative to them; NaN if unknown."""
        pair = {self.methods[a], self.methods[b]}
        rows = [row for row in self.agreement if {row["method_a"], row["method_b"]} == pair]
        found = {row["image_id"]: abs(_number(row.get("csa_difference_mm2", ""))) for row in rows}
        gap = np.array([found.get(name, np.nan) for name in self.image_id.tolist()], np.float64)
        means = self.person_mean((gap / self.values["csa_mean_mm2"][:, [a, b]].mean(axis=1))[:, None])
        return float(np.nanmean(means)) if np.isfinite(means).any() else float("nan")

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


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read a TSV (``.gz`` too) as one dict per row; ``n/a`` becomes an empty string.

    Raises
    ------
    InputError
        If the file is missing or has no header.
    """
    import gzip

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table; run spineseg measure and spineseg gather first")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        rows = [{key: "" if value in ("n/a", None) else value for key, value in row.items()} for row in reader]
    if not reader.fieldnames:
        raise InputError(f"{path}: expected a table with a header, found an empty file")
    return rows


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
    rows = read_rows(metrics)
    table: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if missing := [c for c in ("image_id", "subject", "method", "status") if c not in row]:
            raise InputError(f"{metrics}: expected the column {missing[0]}, found {', '.join(row)}")
        by_method = table.setdefault(row["image_id"], {})
        if row["method"] in by_method:
            raise InputError(f"{metrics}: two rows for image {row['image_id']} by {row['method']}; gather anew")
        by_method[row["method"]] = row
    for method in methods:
        if rows and not any(method in by_method for by_method in table.values()):
            found = ", ".join(sorted({row["method"] for row in rows}))
            raise InputError(f"{metrics}: no row for method {method}, found {found}; measure it first")
    kept, excluded = _choose_images(table, methods, {str(s).removeprefix("sub-") for s in training_subjects})
    return Evidence(
        methods=tuple(methods),
        image_id=np.array(kept, dtype=str),
        failed=np.array([[_is_failed(table[i][m], coverage_limit) for m in methods] for i in kept], bool).reshape(
            len(kept), len(methods)
        ),
        values={column: _numbers(table, kept, methods, column) for column in VALUE_COLUMNS},
        agreement=tuple(row for row in read_rows(agreement) if row["image_id"] in set(kept)) if agreement else (),
        slices=tuple(row for row in read_rows(slices) if row["image_id"] in set(kept)) if slices else (),
        excluded=tuple(excluded),
        **{
            name: np.array([table[i][methods[0]].get(name, "") for i in kept], dtype=str)
            for name in ("subject", "session", "contrast")
        },
    )


def _choose_images(
    table: dict[str, dict[str, dict[str, str]]], methods: Sequence[str], training: set[str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Split image names into those that take part and those that do not, with reasons."""
    kept, excluded = [], []
    for image_id in sorted(table):
        missing = [method for method in methods if method not in table[image_id]]
        subject = next(iter(table[image_id].values()))["subject"]
        fault = _image_fault([table[image_id][method] for method in methods if method in table[image_id]])
        if missing:
            excluded.append({"image_id": image_id, "reason": f"no result by {', '.join(missing)}"})
        elif subject.removeprefix("sub-") in training:
            excluded.append({"image_id": image_id, "reason": "a method was trained on this person"})
        elif fault:
            excluded.append({"image_id": image_id, "reason": fault})
        else:
            kept.append(image_id)
    return kept, excluded


def _image_fault(rows: list[dict[str, str]]) -> str:
    """Return why no method could use an image, or nothing where that may be a method's failure.

    A file that cannot be read fails with the same words by every method; it says nothing about them.
    """
    messages = {row.get("message", "") for row in rows}
    if len(rows) > 1 and len(messages) == 1 and all(row["status"] == "failed" for row in rows):
        return messages.pop()
    return ""


def _is_failed(row: dict[str, str], coverage_limit: float) -> bool:
    """Whether the method failed on this image."""
    if row["status"] in FAILED_STATUSES:
        return True
    coverage = _number(row.get("coverage", ""))
    return row["status"] == "partial" and coverage < coverage_limit


def _numbers(
    table: dict[str, dict[str, dict[str, str]]], kept: list[str], methods: Sequence[str], column: str
) -> NDArray[np.float64]:
    """Read one column as (N, M); NaN where it is missing."""
    values = [[_number(table[image][method].get(column, "")) for method in methods] for image in kept]
    return np.array(values, np.float64).reshape(len(kept), len(methods))


def _number(text: str) -> float:
    """Read a cell; NaN for what is no number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")
