"""Measure the masks of one chunk of images: each mask by itself, against its reference, and between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineseg.errors import InputError
from spineseg.file_digests import absent_content
from spineseg.measures import AGREEMENT, METRICS, SLICE_SHAPE, PlausibleLimits
from spineseg.methods.declared import MANUAL
from spineseg.metrics.compare import compare_masks, compare_with_reference
from spineseg.metrics.intrinsic import compute_intrinsic, slice_hull
from spineseg.metrics.overlap import binarise
from spineseg.metrics.shape import SliceShape, compute_shape
from spineseg.quality.features import PreparedImage
from spineseg.study.corrected import corrected_entry
from spineseg.study.predict import NOTHING_FOUND, guess_contrast, predict_dice, prepare_for_masks, read_image
from spineseg.studyfolder.corrections import find_correction
from spineseg.studyfolder.decisions import Exceptions, Perturbed
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.locks import KeptMethods
from spineseg.studyfolder.manifests import ManifestEntry, check_mask, read_manifest
from spineseg.studyfolder.marks import Mark, word_fails
from spineseg.studyfolder.sidecars import read_sidecar
from spineseg.studyfolder.tables import AgreementRow, ChunkTables, Identity, MetricsRow, SliceRow
from spineseg.volume import NativeGrid, Volume, load_mask


@dataclass(frozen=True)
class MeasuredMask:
    """A method's mask of one image according to its manifest; `mask` is None if there is none.

    `uncertainty` is the method's own uncertainty by slice, (K,), 0 sure to 1 a guess; None if it gives none.
    """

    entry: ManifestEntry
    grid: NativeGrid | None = None
    volume: Volume | None = None
    mask: NDArray[np.bool_] | None = None
    shape: SliceShape | None = None
    problem: str = ""
    uncertainty: NDArray[np.float64] | None = None

    @property
    def status(self) -> str:
        """Status in the manifest, or failed if the mask is not on the image's grid."""
        return "failed" if self.problem else self.entry.status


@dataclass(frozen=True)
class Reference:
    """The reference mask of an image, (I, J, K), not empty, and its shape."""

    mask: NDArray[np.bool_]
    shape: SliceShape


def measure_chunk(
    folder: StudyFolder,
    chunk: str,
    methods: Sequence[str],
    limits: PlausibleLimits | None,
    exceptions: Exceptions | None = None,
    perturbed: Sequence[Perturbed] = (),
    *,
    corrected: bool = False,
    failed: Mapping[tuple[str, str], Sequence[Mark]] | None = None,
    kept: KeptMethods | None = None,
) -> ChunkTables:
    """Measure every image of a chunk by every method.

    Parameters
    ----------
    folder : StudyFolder
        With the chunk's manifests and masks.
    chunk : str
    methods : sequence of str
        Methods, in the order of rows and pairs.
    limits : PlausibleLimits or None
        None switches the measure of plausible slices off.
    exceptions : Exceptions, optional
        Images that are measured by another method than `methods`.
    perturbed : sequence of Perturbed
        Agreement of the methods with themselves on changed copies.
    corrected : bool
        Whether corrected masks are measured in place of the methods', as in the stage study; never in the comparison
        of methods.
    failed : mapping, optional
        Image and method to raters' fails. A mask that one of them is about has no numbers.
    kept : KeptMethods, optional
        If given, each image is measured only by the method that is kept for its contrast; by default by all.

    Returns
    -------
    ChunkTables
        One metrics row for each image and method, whatever its status; one agreement row for each image and pair.

    Raises
    ------
    InputError
        If a manifest is missing, has other images than another method's, or does not fit a mask.
    """
    images = {image.image_id: image for image in read_images(folder.images)}
    manifests = {method: read_manifest(folder.manifest(method, chunk)).entries for method in methods}
    _check_same_images(manifests, images, folder, chunk)
    again = {(image, each.method): values for each in perturbed for image, values in each.images.items()}
    excepted = exceptions.entries if exceptions else {}
    by_people: set[str] = set()
    tables = ChunkTables()
    for image_id in next(iter(manifests.values()), {}):
        one = kept.of(images[image_id].contrast) if kept else None
        entries = {method: manifest[image_id] for method, manifest in manifests.items() if one in (None, method)}
        if image_id in excepted:
            entries = {excepted[image_id].method: excepted[image_id]}
        found = find_correction(folder, images[image_id]) if corrected else None
        if found:
            by_people.add(image_id)
            entries = {m: corrected_entry(folder, images[image_id], entry, found) for m, entry in entries.items()}
        for method, entry in entries.items():
            fails = (failed or {}).get((image_id, method), ())
            words = word_fails(fails, entry.mask_sha256 or "", corrected=found is not None)
            if entry.mask and words:
                words = f"{words}; {entry.message}" if found else words
                entries[method] = ManifestEntry(image_id, "failed", method, words, exception=entry.exception)
                by_people.add(image_id)
        _measure_image(images[image_id], entries, folder, chunk, limits, tables)
        if image_id in by_people:  # a failed mask was not measured: no values, in place of those of no cord found
            tables.metrics[-len(entries) :] = [
                row if entries[row.method].mask else replace(row, values={}) for row in tables.metrics[-len(entries) :]
            ]
    for position, row in enumerate(tables.metrics):
        own = again.get((row.image.image_id, row.method))
        if own and row.image.image_id not in by_people:
            known = {name: value for name, value in own.items() if value is not None}
            tables.metrics[position] = replace(row, values=dict(row.values) | known)
    return tables


def _check_same_images(
    manifests: Mapping[str, Mapping[str, ManifestEntry]],
    images: Mapping[str, StudyImage],
    folder: StudyFolder,
    chunk: str,
) -> None:
    """Refuse manifests that do not have the same images, or that have images which are not in the table."""
    expected: set[str] | None = None
    for method, manifest in manifests.items():
        mend = f"rm {folder.manifest(method, chunk)}, then run the study again"
        if missing := sorted(set(manifest) - set(images)):
            raise InputError(f"{folder.images}: no row for image {missing[0]} of {method}'s chunk {chunk}; {mend}")
        if expected is not None and set(manifest) != expected:
            odd = sorted(set(manifest) ^ expected)[0]
            raise InputError(f"chunk {chunk}: image {odd} is in one method's manifest only; {mend}")
        expected = set(manifest)


def _measure_image(
    image: StudyImage,
    entries: Mapping[str, ManifestEntry],
    folder: StudyFolder,
    chunk: str,
    limits: PlausibleLimits | None,
    tables: ChunkTables,
) -> None:
    """Measure one image by all methods and add its rows."""
    masks = load_masks(entries, folder, chunk)
    reference, problem = _load_reference(image, masks)
    hulls = [slice_hull(m.mask) for m in masks.values() if m.mask is not None]
    common = np.logical_or.reduce(hulls) if hulls else None
    volume, trouble = read_image(image)
    guess, doubt = ("", "") if volume is None else guess_contrast(volume, image.contrast)
    prepared, like = None, next((m.volume for m in masks.values() if m.volume is not None), None)
    if like is None:
        trouble = ""  # without masks nothing is predicted
    elif volume is not None:
        prepared, trouble = prepare_for_masks(volume, image.contrast, like)
    problem = "; ".join(text for text in (problem, trouble) if text)
    identity = Identity.of(image)
    for method, measured in masks.items():
        entry = measured.entry
        messages = (entry.exception, entry.message, measured.problem, problem)
        truth = None if method == MANUAL else reference  # a manual mask is the reference itself
        values = _measure_mask(measured, common, limits, truth, prepared)
        message = "; ".join(text for text in messages if text)
        tables.metrics.append(MetricsRow(identity, method, measured.status, values, guess, doubt, message))
        tables.slices.extend(_slice_rows(image.image_id, method, measured))
    for a, b in combinations(masks, 2):
        tables.agreement.append(AgreementRow(identity, a, b, _agreement(masks[a], masks[b])))


def load_masks(entries: Mapping[str, ManifestEntry], folder: StudyFolder, chunk: str) -> dict[str, MeasuredMask]:
    """Load and measure the masks of one image by method, checking each against its manifest entry.

    Raises
    ------
    InputError
        If a mask is missing or has another checksum than in the manifest.
    """
    masks: dict[str, MeasuredMask] = {}
    grid = None
    for method, entry in entries.items():
        path = check_mask(folder, entry, folder.manifest(method, chunk))
        if path is None:
            masks[method] = MeasuredMask(entry)
            continue
        try:
            volume, own_grid = load_mask(path, like=grid)
        except InputError as error:  # another grid, or not NIfTI: a failure of this method that does not stop the study
            masks[method] = MeasuredMask(entry, problem=str(error))
            continue
        grid = grid or own_grid
        masks[method] = MeasuredMask(
            entry,
            own_grid,
            volume,
            binarise(volume.data),
            compute_shape(volume.data, volume.zooms),
            uncertainty=_read_uncertainty(path, entry, volume.shape[2]),
        )
    return masks


def _read_uncertainty(mask: Path, entry: ManifestEntry, n_slices: int) -> NDArray[np.float64] | None:
    """Read the method's uncertainty by slice; None if the sidecar has none, or belongs to another mask."""
    sidecar = read_sidecar(mask)
    if sidecar is None or sidecar.slice_uncertainty is None or len(sidecar.slice_uncertainty) != n_slices:
        return None
    if sidecar.mask_sha256 != entry.mask_sha256:  # a corrected mask, which has no such uncertainty
        return None
    return np.array([np.nan if value is None else float(value) for value in sidecar.slice_uncertainty])


def _load_reference(image: StudyImage, masks: Mapping[str, MeasuredMask]) -> tuple[Reference | None, str]:
    """Load and measure the image's reference on the masks' grid; return also notes on it, or why there is none."""
    if not image.reference:
        return None, ""
    if why := absent_content(image.reference):
        return None, f"reference not used: {image.reference}: {why}"
    grid = next((m.grid for m in masks.values() if m.grid is not None), None)
    try:
        volume, own_grid = load_mask(image.reference, like=grid, label=image.reference_label)
    except InputError as error:
        return None, f"reference not used: {error}"
    reference, notes = binarise(volume.data), "; ".join(f"reference {note}" for note in own_grid.notes)
    if not reference.any():
        return None, f"reference not used: it is empty{'; ' if notes else ''}{notes}"
    zooms = next((m.volume for m in masks.values() if m.volume is not None), volume).zooms
    return Reference(reference, compute_shape(reference, zooms)), notes


def _measure_mask(
    measured: MeasuredMask,
    common: NDArray[np.bool_] | None,
    limits: PlausibleLimits | None,
    reference: Reference | None,
    prepared: PreparedImage | None,
) -> dict[str, float]:
    """Return the measures of one image by one method."""
    if measured.mask is None or measured.volume is None or measured.shape is None:
        # without a mask, what was missed is known, but no measure of shape is
        values = {"n_slices": 0.0} | NOTHING_FOUND
        if common is not None and common.any():
            values["coverage"] = 0.0
        return values if reference is None else values | {"dice": 0.0, "nsd": 0.0}
    zooms = measured.volume.zooms
    quality = compute_intrinsic(measured.mask, zooms, measured.shape, common, limits)
    values = asdict(quality) | predict_dice(prepared, measured.mask, measured.shape, quality)
    if measured.uncertainty is not None and np.isfinite(measured.uncertainty).any():
        values["uncertainty"] = float(np.nanmean(measured.uncertainty))
    csa = measured.shape.csa_mm2[np.isfinite(measured.shape.csa_mm2)]
    if csa.size:
        values |= {"csa_mean_mm2": float(csa.mean()), "csa_sd_mm2": float(csa.std())}
    if reference is not None:
        values |= compare_with_reference(measured.mask, measured.shape, reference.mask, zooms, reference.shape)
    return {name: float(values[name]) for name in METRICS if name in values}


def _agreement(a: MeasuredMask, b: MeasuredMask) -> dict[str, float]:
    """Compare two methods' masks of one image; empty if one method has no mask."""
    if a.mask is None or b.mask is None or a.volume is None or a.shape is None or b.shape is None:
        return {}
    values = compare_masks(a.mask, a.shape, b.mask, b.shape, a.volume.zooms)
    return {name: values[name] for name in AGREEMENT}


def _slice_rows(image_id: str, method: str, measured: MeasuredMask) -> list[SliceRow]:
    """Return the rows of slices.tsv.gz from the mask's first to its last slice, including empty slices in between."""
    shape, volume = measured.shape, measured.volume
    if measured.mask is None or shape is None or volume is None or not measured.mask.any():
        return []
    found = np.flatnonzero(shape.has_cord)
    world = shape.centroid_vox @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    zoom = float(volume.zooms[2])
    doubt = np.full(volume.shape[2], np.nan) if measured.uncertainty is None else measured.uncertainty
    return [
        SliceRow(
            image_id,
            method,
            k,
            {
                "position_mm": k * zoom,
                **{name: float(getattr(shape, name)[k]) for name in SLICE_SHAPE},
                **{f"centroid_{axis}_mm": float(world[k, n]) for n, axis in enumerate("xyz")},
                "uncertainty": float(doubt[k]),
            },
        )
        for k in range(int(found[0]), int(found[-1]) + 1)
    ]
