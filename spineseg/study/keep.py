"""Put the masks of the decided method where the field's tools look for them, and leave people's corrections alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.study.configuration import StudyConfig
from spineseg.study.segment import except_entry
from spineseg.studyfolder.corrections import find_correction, is_corrected
from spineseg.studyfolder.decisions import Decision, KeptRow, find_lock, read_exceptions, read_membership
from spineseg.studyfolder.images import StudyImage, read_images
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.manifests import ManifestEntry, read_entries
from spineseg.studyfolder.sidecars import read_sidecar, write_sidecar
from spineseg.version import find_version
from spineseg.writing import all_or_none, write_bytes, write_json

CORRECTED = "corrected"
"""Status of a kept mask that a person has changed since."""


def keep_masks(
    folder: StudyFolder, stage: Stage, decision: Decision, config: StudyConfig | None = None
) -> list[KeptRow]:
    """Copy the decided method's masks to ``derivatives/labels``, or those of the method that the study is held to.

    A kept mask that a person has changed is not overwritten: it has another checksum than its sidecar
    says. Kept masks of images that are no longer in the study are removed unless they were changed.

    Parameters
    ----------
    folder : StudyFolder
    stage : {Stage.ALL, Stage.STUDY}
    decision : Decision
    config : StudyConfig, optional
        Whose exceptions are kept by another method.

    Returns
    -------
    rows : list of KeptRow

    Raises
    ------
    InputError
        If a mask differs from its manifest.
    """
    images = {image.image_id: image for image in stage_images(read_images(folder.images), stage)}
    lock = find_lock(folder)
    method = lock.method if lock else decision.method  # what a study is held to is not replaced in passing
    if method is None:
        rows = [_row(image, message="no method was good enough to be kept") for image in images.values()]
    else:
        chunk_of = read_membership(folder).chunks
        entries = read_entries(folder, method, images, chunk_of, check=True)
        entries |= _excepted(folder, stage, config, method, images)
        failed = marked_failed(config, stage)
        rows = [
            _keep(folder, image, entry, decision, failed.get((image_id, entry.method), ""))
            for image_id, image in images.items()
            if (entry := entries[image_id])
        ]
        if decision.method != method:
            words = f"the study is held to {method}; the decision would now keep {decision.method or 'no method'}"
            rows = [replace(row, message="; ".join(filter(None, (words, row.message)))) for row in rows]
    kept = {folder.relative(folder.kept_mask(images[row.image_id])) for row in rows if row.source}
    _remove_stale(folder, kept | {row.mask for row in rows})
    _describe(folder, method)
    return rows


def _excepted(
    folder: StudyFolder, stage: Stage, config: StudyConfig | None, method: str, images: dict[str, StudyImage]
) -> dict[str, ManifestEntry]:
    """Return the entries of images that another method's mask is kept of."""
    chosen = {i: choice for i, choice in config.exceptions_to(method).items() if i in images} if config else {}
    if not chosen:
        return {}
    if stage == Stage.STUDY:
        return read_exceptions(folder.exceptions).entries
    chunk_of = read_membership(folder).chunks
    return {
        image: except_entry(read_entries(folder, choice.method, [image], chunk_of, check=True)[image], choice, method)
        for image, choice in chosen.items()
    }


def _row(image: StudyImage, **values: str) -> KeptRow:
    """Return a row of kept.tsv."""
    return KeptRow(image.image_id, image.subject, image.session, image.contrast, **values)


def marked_failed(config: StudyConfig | None, stage: Stage) -> dict[tuple[str, str], str]:
    """Return image and method of the masks that a rater has failed, with the words; of the study by one method only.

    In the comparison a fail counts against its method (`spineseg.decision`); it takes no image away.
    """
    if config is None or stage != Stage.STUDY:
        return {}
    return {key: "; ".join(mark.words() for mark in marks) for key, marks in config.marks.failed_masks().items()}


def _keep(folder: StudyFolder, image: StudyImage, entry: ManifestEntry, decision: Decision, failed: str) -> KeptRow:
    """Copy one mask and its sidecar, unless a person's correction is in its place.

    A mask that a rater has failed is copied too, for a person to correct; its status says that it does not count.
    """
    target = folder.kept_mask(image)
    kept = folder.relative(target)
    message = "; ".join(" ".join(text.split()) for text in (entry.exception, entry.message) if text)
    if found := find_correction(folder, image):
        origin = {"method": found.method or entry.method, "source": found.source or entry.mask or ""}
        return _row(image, status=CORRECTED, mask=kept, sha256=found.sha256, message=found.words, **origin)
    made = {"method": entry.method, "status": entry.status, "message": message}
    if entry.mask is None or entry.mask_sha256 is None:
        _remove(target)
        return _row(image, **made)
    source = folder.inside(entry.mask)
    sidecar = read_sidecar(source)
    if sidecar is None:
        raise InputError(f"{sidecar_path(source)}: expected the sidecar of a mask, found none of ours; delete the mask")
    more = {
        "KeptFrom": entry.mask,
        "Decision": {key: decision.document.get(key) for key in ("method", "verdict", "override")},
    } | ({"Exception": entry.exception} if entry.exception else {})
    with all_or_none():
        if not target.is_file() or sha256_file(target) != entry.mask_sha256:
            write_bytes(target, source.read_bytes())
        write_sidecar(target, replace(sidecar, mask_sha256=entry.mask_sha256, more=more))
    if failed:  # no mask of it counts
        words = "; ".join(filter(None, (failed, message)))
        return _row(image, **made | {"status": "failed", "message": words}, source=entry.mask)
    return _row(image, **made, mask=kept, source=entry.mask, sha256=entry.mask_sha256)


def _remove(mask: Path) -> None:
    """Remove a kept mask with its sidecar."""
    mask.unlink(missing_ok=True)
    sidecar_path(mask).unlink(missing_ok=True)


def _remove_stale(folder: StudyFolder, kept: Collection[str]) -> None:
    """Remove the masks that an earlier run kept and this one does not."""
    for mask in sorted(folder.labels.glob("sub-*/**/*_label-SC_seg.nii.gz")):
        if folder.relative(mask) not in kept and not is_corrected(mask):
            _remove(mask)


def _describe(folder: StudyFolder, method: str | None) -> None:
    """Write the dataset_description.json of the kept masks."""
    write_json(
        folder.labels / "dataset_description.json",
        {
            "Name": f"{folder.name}: spinal cord masks",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "spineseg", "Version": find_version(), "Description": f"kept method: {method}"}],
        },
    )
