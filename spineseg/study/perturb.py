"""Measure how much a method's result depends on tiny changes of the image: its precision, without a rescan."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.code_digest import digest_code
from spineseg.errors import InputError, ModelError, find_shortage
from spineseg.methods.placeholders import image_names
from spineseg.methods.protocol import ImageInput, Method
from spineseg.metrics.overlap import binarise, compute_dice
from spineseg.metrics.shape import compute_shape
from spineseg.perturbation import draw_perturbations, map_back, perturb_volume
from spineseg.progress import Progress
from spineseg.provenance import sha256_json
from spineseg.study.segment import chunk_images
from spineseg.studyfolder.decisions import Perturbed
from spineseg.studyfolder.files import read_record
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry, read_manifest
from spineseg.volume import load_image, load_mask, save_volume
from spineseg.writing import write_json

Agreement = Mapping[str, float | None]
"""``perturb_dice`` and ``perturb_csa_cv``."""

NOTHING: Agreement = {"perturb_dice": None, "perturb_csa_cv": None}

DIGITS = 6
"""Decimals of the results; further ones are rounding errors of sums."""


def perturb_chunk(folder: StudyFolder, method: Method, chunk: str, n: int) -> Perturbed:
    """Run a method again on changed copies of a chunk's images and compare. Finished images are not repeated.

    Parameters
    ----------
    folder : StudyFolder
        With the chunk's manifest and masks.
    method : Method
    chunk : str
    n : int
        Number of changed copies of each image.
    """
    entries = read_manifest(folder.manifest(method.name, chunk)).entries
    images = chunk_images(folder, chunk)
    progress = Progress(len(images))
    code = digest_code("spineseg.study.perturb")
    found: dict[str, Agreement] = {}
    for image in images:
        entry = entries[image.image_id]
        path = folder.perturbed_image(method.name, image.image_id)
        key = sha256_json([entry.key, entry.mask_sha256, n, code])
        values = _read_finished(path, key)
        if values is None:
            values = _perturb_image(image, entry, folder, method, n, progress)
            write_json(path, {"key": key, **values})
        found[image.image_id] = values
    return Perturbed(method.name, chunk, n, found)


def _read_finished(path: Path, key: str) -> Agreement | None:
    """Return an image's result if it is finished and its key is still the same."""

    def parse(content: Mapping[str, object]) -> Agreement | None:
        return {name: content[name] for name in NOTHING} if content["key"] == key else None  # type: ignore[misc]

    try:
        return read_record(path, parse, "the agreement of one image") if path.is_file() else None
    except InputError:  # damaged; it is computed again
        return None


def _perturb_image(
    image: StudyImage, entry: ManifestEntry, folder: StudyFolder, method: Method, n: int, progress: Progress
) -> Agreement:
    """Segment the changed copies of one image; without a mask of the image there is no agreement."""
    if entry.mask is None:
        return NOTHING
    try:
        volume, grid = load_image(image.path, contrast=image.contrast, bval=image.bval_path)
        mask = binarise(load_mask(folder.inside(entry.mask), like=grid)[0].data)
    except InputError:  # the segmentation has already reported the error
        return NOTHING
    whole = ImageInput(Path(image.path), volume, grid, image.contrast, image_names(image))
    masks, mapped = [], []
    progress.start_image(image.image_id)
    for number, change in enumerate(draw_perturbations(image.image_id, n), start=1):
        progress.stage(f"perturbation {number} of {n}")
        again = _segment(replace(whole, volume=perturb_volume(volume, change)), method)
        masks.append(again)
        mapped.append(map_back(again, volume, change))
    progress.end_image("done")
    return agree_with_perturbed(mask, masks, mapped, volume.zooms)


def _segment(image: ImageInput, method: Method) -> NDArray[np.bool_]:
    """Return the method's mask of a changed image; empty where it fails."""
    try:
        if not method.reads_file:
            return method.segment(image).cord_mask
        with tempfile.TemporaryDirectory(prefix="spineseg-") as folder:
            path = Path(folder) / f"{image.names['image_id']}.nii.gz"
            save_volume(path, image.volume.data, image.grid, np.float32)
            return method.segment(replace(image, path=path)).cord_mask
    except ModelError:
        raise
    except Exception as error:  # as in the segmentation, one image must not stop the study
        if shortage := find_shortage(error):
            raise shortage from error
        if not isinstance(error, InputError):
            traceback.print_exc(file=sys.stderr)
        return np.zeros(image.volume.shape, dtype=bool)


def agree_with_perturbed(
    mask: NDArray[np.bool_],
    perturbed: Sequence[NDArray[np.bool_]],
    mapped_back: Sequence[NDArray[np.bool_]],
    zooms: NDArray[np.float64],
) -> Agreement:
    """Compute how far a method agrees with itself on changed copies of an image.

    Parameters
    ----------
    mask : (I, J, K) ndarray of bool
        Mask of the image.
    perturbed, mapped_back : sequence of (I, J, K) ndarray of bool
        Masks of the changed copies, as segmented, and mapped back to the image's voxels.
    zooms : (3,) ndarray, mm

    Returns
    -------
    dict
        perturb_dice: mean Dice of `mask` with each of `mapped_back`, where an empty one counts 0; None if `mask` is
        empty.
        perturb_csa_cv: SD divided by mean of the mean areas of all n + 1 masks, percent, over the slices in which all
        have cord; None if there is no such slice.
    """
    if not mask.any():
        return NOTHING
    dice = [compute_dice(mask, other) for other in mapped_back]
    areas = np.array([compute_shape(one, zooms).csa_mm2 for one in (mask, *perturbed)])
    common = np.isfinite(areas).all(axis=0)
    means = areas[:, common].mean(axis=1) if common.any() else None
    cv = None if means is None else round(float(100 * means.std(ddof=1) / means.mean()), DIGITS)
    return {"perturb_dice": round(float(np.mean(dice)), DIGITS), "perturb_csa_cv": cv}
