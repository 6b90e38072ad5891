"""Compare two runs of one study: have the measures changed between versions, machines or settings?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spineseg.decision.bland_altman import bland_altman
from spineseg.errors import InputError
from spineseg.metrics.compare import compare_masks
from spineseg.metrics.overlap import binarise
from spineseg.metrics.shape import compute_shape
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.sidecars import Sidecar, read_sidecar
from spineseg.volume import load_mask

DRIFT_COLUMNS = (
    *("image_id", "subject", "contrast", "method", "status_a", "status_b", "dice", "hd95_mm", "assd_mm"),
    *("csa_a_mm2", "csa_b_mm2", "csa_difference_mm2", "csa_difference_pct", "identical", "changed", "message"),
)
_NUMBERS = DRIFT_COLUMNS[6:13]

N_SHOWN = 10
"""Most images that a summary lists; the table has all."""

Row = dict[str, Any]


def compare_runs(run_a: str | Path, run_b: str | Path, methods: Sequence[str] | None = None) -> list[Row]:
    """Compare the masks of two results folders, image by image.

    Parameters
    ----------
    run_a, run_b : path
        Results folders of one study, each with images.tsv.
    methods : sequence of str, optional
        By default every method with a sidecar in both runs.

    Returns
    -------
    list of dict
        One row for each image and method, with the keys `DRIFT_COLUMNS`; differences are b minus a, over the slices
        where both have cord. ``identical`` says whether the masks are equal in every voxel. ``changed`` names what may
        have caused a difference, with both values: version, parameters, weights, contrast. An image that is only in one
        run has a row that says so.

    Raises
    ------
    InputError
        If a folder has no images.tsv, or the runs share no result.
    """
    folders = (StudyFolder(Path(run_a)), StudyFolder(Path(run_b)))
    images_a, images_b = ({image.image_id: image for image in read_images(run.images)} for run in folders)
    shared = find_methods(folders[0]) & find_methods(folders[1])
    if methods and (missing := [name for name in methods if name not in shared]):
        listed = ", ".join(sorted(shared)) or "none"
        raise InputError(f"-methods: expected methods with results in both runs ({listed}), found {missing[0]}")
    methods = list(methods or sorted(shared))
    rows = []
    for image_id in sorted(images_a.keys() | images_b.keys()):
        image = images_a.get(image_id) or images_b[image_id]
        rows += [_compare_image(image, method, folders) for method in methods]
    rows = [row for row in rows if row["status_a"] or row["status_b"]]
    if not any(row["status_a"] and row["status_b"] for row in rows):
        raise InputError(f"{run_b}: expected results of the images of {run_a}, found none; give two runs of one study")
    return rows


def find_methods(folder: StudyFolder) -> set[str]:
    """Return the methods that have results in the run."""
    return {
        path.name.partition("_desc-")[2].partition("_label-")[0]
        for path in folder.root.glob("sub-*/**/*_desc-*_label-SC_seg.json")
    }


def summarise_drift(rows: Sequence[Row]) -> dict[str, Row]:
    """Summarise the rows by method.

    Returns
    -------
    dict
        By method: n_images (in both runs), n_identical, n_status_changed, dice_mean, dice_min and its image; bias and
        limits of agreement of the area (mm², %) by participant, each with its 95 % interval; changed (what differs
        between the runs); images (the ten that differ most, lowest Dice first).
    """
    summary = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        both = [row for row in mine if row["status_a"] and row["status_b"]]
        scored = [row for row in both if np.isfinite(row["dice"])]
        worst = min(scored, key=lambda row: (row["dice"], row["image_id"]), default=None)
        summary[method] = {
            "n_images": len(both),
            "n_only_a": sum(not row["status_b"] for row in mine),
            "n_only_b": sum(not row["status_a"] for row in mine),
            "n_identical": sum(row["identical"] == "true" for row in both),
            "n_status_changed": sum(row["status_a"] != row["status_b"] for row in both),
            "dice_mean": float(np.mean([row["dice"] for row in scored])) if scored else float("nan"),
            "dice_min": worst["dice"] if worst else float("nan"),
            "dice_min_image": worst["image_id"] if worst else "",
            "csa_difference_mm2": bland_altman(_by_participant(both, "csa_difference_mm2")),
            "csa_difference_pct": bland_altman(_by_participant(both, "csa_difference_pct")),
            "changed": sorted({what for row in both for what in row["changed"].split("; ") if what}),
            "images": _most_different(both),
        }
    return summary


def _most_different(rows: Sequence[Row]) -> list[Row]:
    """Return the images whose masks differ, those without a common measure first, then by Dice."""
    differ = [row for row in rows if row["identical"] != "true" and (np.isfinite(row["dice"]) or row["message"])]
    differ.sort(key=lambda row: (row["dice"] if np.isfinite(row["dice"]) else -1, row["image_id"]))
    names = ("image_id", "status_a", "status_b", "dice", "csa_difference_mm2", "message")
    return [{name: row[name] for name in names} for row in differ[:N_SHOWN]]


def _by_participant(rows: Sequence[Row], column: str) -> list[float]:
    """Average a column within each participant."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if np.isfinite(row[column]):
            values.setdefault(row["subject"], []).append(row[column])
    return [float(np.mean(v)) for v in values.values()]


def _compare_image(image: StudyImage, method: str, folders: tuple[StudyFolder, StudyFolder]) -> Row:
    """Compare one method's masks of one image in both runs."""
    masks = [folder.mask(image, method) for folder in folders]
    a, b = (read_sidecar(mask) for mask in masks)
    row: Row = {name: getattr(image, name) for name in ("image_id", "subject", "contrast")}
    row |= {"method": method, "status_a": a.status if a else "", "status_b": b.status if b else ""}
    row |= dict.fromkeys(_NUMBERS, float("nan"))
    row |= {"identical": "", "changed": "; ".join(_what_changed(a, b)), "message": ""}
    if not all(mask.is_file() for mask in masks):
        if row["status_a"] == row["status_b"] == "failed":
            return row | {"identical": "true", "message": "failed in both runs"}
        missing = [str(mask) for mask in masks if not mask.is_file()]
        return row | {"message": f"no mask: {', '.join(missing)}"}
    try:
        first, second = (load_mask(mask)[0] for mask in masks)
        if first.shape != second.shape or not np.allclose(first.affine, second.affine, atol=1e-2):
            return row | {"message": "the two masks lie on different grids"}
    except InputError as error:
        return row | {"message": str(error)}
    same = "true" if np.array_equal(first.data, second.data) else "false"
    return row | _numbers(first.data, second.data, first.zooms) | {"identical": same}


def _numbers(a: np.ndarray, b: np.ndarray, zooms: np.ndarray) -> Row:
    """Distances and areas of two masks; areas over the slices where both have cord."""
    shapes = [compute_shape(mask, zooms) for mask in (a, b)]
    pair = compare_masks(binarise(b), shapes[1], binarise(a), shapes[0], zooms)
    both = np.isfinite(shapes[0].csa_mm2) & np.isfinite(shapes[1].csa_mm2)
    mean_a, mean_b = (float(s.csa_mm2[both].mean()) if both.any() else float("nan") for s in shapes)
    return {
        **{name: pair[name] for name in ("dice", "hd95_mm", "assd_mm", "csa_difference_mm2")},
        "csa_a_mm2": mean_a,
        "csa_b_mm2": mean_b,
        "csa_difference_pct": 100.0 * (mean_b / mean_a - 1.0) if mean_a else float("nan"),
    }


def _what_changed(a: Sidecar | None, b: Sidecar | None) -> list[str]:
    """Name what differs between the two sidecars, with both values: code, parameters, weights, version, contrast."""
    if a is None or b is None:
        return []
    changes = a.made_by.changes_to(b.made_by)
    for name, before, now in (("version", a.maker, b.maker), ("contrast", a.contrast, b.contrast)):
        changes += [] if before == now else [f"{name} {before}, now {now}"]
    return changes
