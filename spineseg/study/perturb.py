"""How much each method's result depends on tiny changes of the image: its precision, without a rescan."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineseg import __version__
from spineseg.errors import InputError, ModelError
from spineseg.methods import PreparedMethod
from spineseg.metrics.overlap import compute_dice
from spineseg.metrics.shape import compute_shape
from spineseg.perturbation import draw_perturbations, map_back, perturb_volume
from spineseg.progress import Progress
from spineseg.provenance import sha256_json
from spineseg.study.images import read_included
from spineseg.study.measure import read_manifest
from spineseg.templates import image_names
from spineseg.volume import NativeGrid, Volume, load_image, load_mask, save_volume
from spineseg.writing import write_json

PERTURBED = Path("chunks") / "perturbed"
"""Folder of the results below the dataset's: ``<method>/<chunk>.json``, and ``images/`` for what is finished."""

DIGITS = 6
"""Decimals of the results: beyond them lies the rounding of sums."""


def perturb_chunk(
    table: str | Path, results: str | Path, method: PreparedMethod, chunk: str, n: int
) -> dict[str, dict[str, Any]]:
    """Run a method again on changed copies of a chunk's images and compare.

    Finished images are not done again.

    Parameters
    ----------
    table : path
        images.tsv of the study.
    results : path
        The dataset's results folder, with the chunk's manifest and masks.
    method : PreparedMethod
    chunk : str
    n : int
        Changed copies per image.

    Returns
    -------
    dict
        Image to ``perturb_dice`` and ``perturb_csa_cv``, see `agree_with_perturbed`.
    """
    results = Path(results)
    entries = read_manifest(results, method.name, chunk)
    rows = [row for row in read_included(table) if row["chunk"] == chunk]
    progress = Progress(len(rows))
    found = {}
    for row in rows:
        entry = entries[row["image_id"]]
        path = results / PERTURBED / method.name / "images" / f"{row['image_id']}.json"
        key = sha256_json([entry["mask_sha256"], method.parameters, method.weights, n, __version__])
        found[row["image_id"]] = _read_finished(path, key)
        if found[row["image_id"]] is None:
            found[row["image_id"]] = _perturb_image(row, entry, results, method, n, progress)
            write_json(path, {"key": key, **found[row["image_id"]]})
    return found


def read_perturbed(paths: Sequence[str | Path]) -> dict[tuple[str, str], dict[str, float | None]]:
    """Return image and method to the numbers of `perturb_chunk`, from the files that ``spineseg perturb`` wrote.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    found = {}
    for path in paths:
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            found |= {(image, content["method"]): numbers for image, numbers in content["images"].items()}
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: expected what spineseg perturb writes; delete it and run snakemake") from error
    return found


def _read_finished(path: Path, key: str) -> dict[str, Any] | None:
    """Return an image's result where it is finished and still good."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {name: value for name, value in content.items() if name != "key"} if content.get("key") == key else None


def _perturb_image(
    row: dict[str, str], entry: dict[str, Any], results: Path, method: PreparedMethod, n: int, progress: Progress
) -> dict[str, float | None]:
    """Segment the changed copies of one image; an image without a mask says nothing."""
    nothing = {"perturb_dice": None, "perturb_csa_cv": None}
    if entry["mask"] is None:
        return nothing
    bval = Path(row["bval"]) if row["bval"] else None
    try:
        volume, grid = load_image(row["path"], contrast=row["contrast"], bval=bval)
        mask = load_mask(results / entry["mask"], like=grid)[0].data >= 0.5
    except InputError:  # the segmentation has said what is wrong with it
        return nothing
    changes = draw_perturbations(row["image_id"], n)
    masks, mapped = [], []
    progress.start_image(row["image_id"])
    for number, change in enumerate(changes, start=1):
        progress.stage(f"perturbation {number} of {n}")
        again = _segment(row, method, perturb_volume(volume, change), grid)
        masks.append(again)
        mapped.append(map_back(again, volume, change))
    progress.end_image("done")
    return agree_with_perturbed(mask, masks, mapped, volume.zooms)


def _segment(row: dict[str, str], method: PreparedMethod, volume: Volume, grid: NativeGrid) -> NDArray[np.bool_]:
    """Return the method's mask of a changed image; empty where it fails."""
    try:
        if method.foreign is None:
            return method.segment(volume, row["contrast"]).cord_mask
        with tempfile.TemporaryDirectory(prefix="spineseg-") as folder:
            image = Path(folder) / f"{row['image_id']}.nii.gz"
            save_volume(image, volume.data, grid, np.float32)
            return method.segment(image, image_names(row), volume, grid).cord_mask
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # as in the segmentation: one image must not stop the study
        if not isinstance(error, InputError):
            traceback.print_exc(file=sys.stderr)
        return np.zeros(volume.shape, dtype=bool)


def agree_with_perturbed(
    mask: NDArray[np.bool_],
    perturbed: Sequence[NDArray[np.bool_]],
    mapped_back: Sequence[NDArray[np.bool_]],
    zooms: NDArray[np.float64],
) -> dict[str, float | None]:
    """Say how far a method agrees with itself on changed copies of an image.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
        Of the image.
    perturbed, mapped_back : sequence of (I, J, K) ndarray of bool
        Of the changed copies, as segmented and on the image's voxels.
    zooms : (3,) ndarray, mm

    Returns
    -------
    dict
        perturb_dice: mean Dice of `mask` with each of `mapped_back`; 0 for one that is empty, None where `mask` is.
        perturb_csa_cv: SD over mean of the mean areas of all n + 1 masks, percent, over the slices in which all
        have cord; None where there is no such slice.
    """
    if not mask.any():
        return {"perturb_dice": None, "perturb_csa_cv": None}
    dice = [compute_dice(mask, other) for other in mapped_back]
    areas = np.array([compute_shape(one, zooms).csa_mm2 for one in (mask, *perturbed)])
    common = np.isfinite(areas).all(axis=0)
    means = areas[:, common].mean(axis=1) if common.any() else None
    cv = None if means is None else round(float(100 * means.std(ddof=1) / means.mean()), DIGITS)
    return {"perturb_dice": round(float(np.mean(dice)), DIGITS), "perturb_csa_cv": cv}
