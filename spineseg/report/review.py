"""What there is to review of a study: each image with its masks, measures and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineseg.report import tables

METRIC_COLUMNS = (
    "n_slices", "coverage", "n_gaps", "longest_gap_mm", "n_components", "largest_fraction", "csa_mean_mm2",
    "csa_sd_mm2", "csa_roughness", "centre_roughness", "plausible", "dice", "hd95_mm", "assd_mm", "nsd",
    "csa_error_pct", "perturb_dice", "perturb_csa_cv",
    "predicted_dice", "predicted_dice_low", "predicted_dice_high", "flagged", "uncertainty",
)  # fmt: skip
AGREEMENT_COLUMNS = ("dice", "hd95_mm", "assd_mm", "csa_difference_mm2", "min_slice_dice")


@dataclass(frozen=True)
class MethodResult:
    """What one method made of one image.

    Parameters
    ----------
    name : str
    status : {"ok", "partial", "empty", "failed"}
    message : str
    mask : Path or None
    mask_sha256 : str
    seconds, peak_mb : float or None
    warnings : tuple of str
    metrics : dict
        Columns of metrics.tsv to numbers.
    csa_mm2 : dict
        Canonical slice to cross-sectional area; empty when no table tells.
    csa_corrected : bool
        Whether the areas are corrected for the cord's angle, as the study's tables are.
    """

    name: str
    status: str
    message: str = ""
    mask: Path | None = None
    mask_sha256: str = ""
    seconds: float | None = None
    peak_mb: float | None = None
    warnings: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    csa_mm2: dict[int, float] = field(default_factory=dict)
    csa_corrected: bool = True


@dataclass(frozen=True)
class ReviewImage:
    """One image, ready to be rendered.

    Parameters
    ----------
    row : dict
        Row of images.tsv: image_id, subject, session, run, suffix, contrast, path, bval, reference, chunk ...
    methods : tuple of MethodResult
    agreement : tuple of dict
        ``method_a``, ``method_b`` and the numbers of agreement.tsv.
    exception : str
        Why another method's mask is kept than the study's; empty where it is not.
    contrast_doubt : str
        Why the image seems to have another contrast than it is taken for; empty where it does not.
    """

    row: dict[str, str]
    methods: tuple[MethodResult, ...]
    agreement: tuple[dict[str, Any], ...] = ()
    exception: str = ""
    contrast_doubt: str = ""


def select_rows(results: Path, stage: str, chunks: list[str] | None = None) -> list[dict[str, str]]:
    """Return the included images of a stage, optionally of some chunks only, in the table's order."""
    rows = [row for row in tables.read_rows(results / "images.tsv") if row["included"] == "true"]
    if stage == "pilot":
        rows = [row for row in rows if row["pilot"] == "true"]
    return rows if chunks is None else [row for row in rows if row["chunk"] in chunks]


def stage_methods(results: Path, stage: str) -> list[str]:
    """Return the methods that a stage shows: in stage study the decided one alone."""
    methods = tables.list_methods(results)
    if stage == "study":
        decision = tables.read_decision(results / "decision.json") or {}
        methods = [name for name in methods if name == decision.get("method")] or methods
    return methods


def collect_reviews(results: Path, stage: str, chunks: list[str] | None = None) -> list[ReviewImage]:
    """Join images.tsv, manifests and tables into one record per image.

    Parameters
    ----------
    results : Path
        Results folder of the dataset.
    stage : {"all", "pilot", "study"}
    chunks : list of str, optional
        Only the images of these chunks.
    """
    rows = select_rows(results, stage, chunks)
    ids = {row["image_id"] for row in rows}
    methods = stage_methods(results, stage)
    manifests = {name: tables.read_manifests(results, name, (r["chunk"] for r in rows)) for name in methods}
    measured = _by_key(_all_measures(results, stage, "metrics.tsv", chunks), ids)
    areas = _areas(_all_measures(results, stage, "slices.tsv.gz", chunks), ids)
    agreement: dict[str, list[dict[str, Any]]] = {}
    for row in _all_measures(results, stage, "agreement.tsv", chunks):
        agreement.setdefault(row["image_id"], []).append(_agreement(row))
    reviews = []
    exceptions = tables.read_exceptions(results)
    for name, image, entry in tables.read_excepted(results, stage):
        # of a study by one method, an excepted image shows its own method's mask alone
        for entries in manifests.values():
            entries.pop(image, None)
        manifests.setdefault(name, {})[image] = entry
    for row in rows:
        image = row["image_id"]
        made = [
            _method_result(results, name, entries[image], measured.get((image, name), {}), areas.get((image, name), {}))
            for name, entries in manifests.items()
            if image in entries
        ]
        pairs = [p for p in agreement.get(image, []) if {p["method_a"], p["method_b"]} <= set(methods)]
        doubts = [measured[image, name].get("contrast_doubt", "") for name in manifests if (image, name) in measured]
        reviews.append(
            ReviewImage(row, tuple(made), tuple(pairs), exceptions.get(image, ""), next(filter(None, doubts), ""))
        )
    return reviews


def _all_measures(results: Path, stage: str, name: str, chunks: list[str] | None) -> list[dict[str, str]]:
    """Return a table's rows for all chunks named, or the gathered table."""
    if chunks is None:
        return tables.read_measures(results, stage, name)
    return [row for chunk in chunks for row in tables.read_measures(results, stage, name, chunk)]


def _by_key(rows: list[dict[str, str]], ids: set[str]) -> dict[tuple[str, str], dict[str, str]]:
    """Return rows by image and method."""
    return {(row["image_id"], row["method"]): row for row in rows if row["image_id"] in ids}


def _areas(rows: list[dict[str, str]], ids: set[str]) -> dict[tuple[str, str], dict[int, float]]:
    """Return the area of every slice, by image and method."""
    areas: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        value = tables.number(row.get("csa_mm2"))
        if row["image_id"] in ids and value is not None:
            areas.setdefault((row["image_id"], row["method"]), {})[int(float(row["slice"]))] = value
    return areas


def _agreement(row: dict[str, str]) -> dict[str, Any]:
    """Return one pair's agreement as numbers."""
    values = {name: tables.number(row.get(name)) for name in AGREEMENT_COLUMNS}
    return {"method_a": row["method_a"], "method_b": row["method_b"]} | values


def _method_result(
    results: Path, name: str, entry: dict[str, Any], metrics: dict[str, str], areas: dict[int, float]
) -> MethodResult:
    """Join what the manifest and the tables say of one mask."""
    values = {column: tables.number(metrics.get(column)) for column in METRIC_COLUMNS}
    return MethodResult(
        name,
        metrics.get("status") or entry["status"],  # the measures have seen whether the mask fits the image
        metrics.get("message") or entry.get("message") or "",
        results / entry["mask"] if entry.get("mask") else None,
        entry.get("mask_sha256") or "",
        entry.get("seconds"),
        entry.get("peak_mb"),
        tuple(entry.get("warnings") or ()),
        {column: value for column, value in values.items() if value is not None},
        areas,
    )
