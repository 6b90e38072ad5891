"""Copy the decided method's masks to where other tools of the field look for them, without touching corrections."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.methods.declared import MANUAL, manual_masks
from spineseg.provenance import sha256_file
from spineseg.study.choices import find_exceptions
from spineseg.study.configuration import StudyConfig
from spineseg.study.corrected import corrected_entry
from spineseg.study.segment import except_entry, segment_images
from spineseg.studyfolder.corrections import find_correction, find_saved_again, is_corrected, record_kept
from spineseg.studyfolder.decisions import Decision, KeptRow, read_exceptions, read_kept, read_membership
from spineseg.studyfolder.images import StudyImage, read_images, read_included
from spineseg.studyfolder.layout import Stage, StudyFolder, stage_images
from spineseg.studyfolder.locks import KeptMethods, find_lock
from spineseg.studyfolder.manifests import ManifestEntry, read_entries
from spineseg.studyfolder.marks import Mark, word_fails
from spineseg.studyfolder.sidecars import read_sidecar, write_sidecar
from spineseg.version import find_version
from spineseg.writing import all_or_none, write_bytes, write_json, write_text

CORRECTED = "corrected"
"""Status of a kept mask that a person has changed."""


def keep_masks(
    folder: StudyFolder, stage: Stage, decision: Decision, config: StudyConfig | None = None
) -> list[KeptRow]:
    """Copy the decided method's masks to ``derivatives/labels``, or those of the methods that the study is held to.

    A kept mask that a person has changed is not overwritten: its checksum differs from that in its sidecar. Kept masks
    of images that are no longer in the study are removed unless a person has changed them.

    Parameters
    ----------
    folder : StudyFolder
    stage : {Stage.ALL, Stage.STUDY}
    decision : Decision
    config : StudyConfig, optional
        With the exceptions, which are kept by another method.

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
    kept = lock.kept if lock else decision.kept  # a new decision does not change a study that has started
    entries = _kept_entries(folder, stage, config, kept, images)
    failed = marked_failed(config, stage)
    rows = []
    for image_id, image in images.items():
        entry = entries.get(image_id)
        if entry is None:
            rows.append(_row(image, message="no method was good enough to keep"))
            continue
        row = _keep(folder, image, entry, decision, failed.get((image_id, entry.method), ()))
        untested = ""
        if decision.count_unseen([image]) and entry.method != MANUAL and not is_corrected(folder.kept_mask(image)):
            untested = f"no image of the pilot was {image.contrast}: {entry.method} is not tested on such images"
        notes = (_now_decided(image, kept, decision), row.message, untested)
        rows.append(replace(row, message="; ".join(filter(None, notes))))
    copies = {folder.relative(folder.kept_mask(images[row.image_id])) for row in rows if row.source}
    _remove_stale(folder, copies | {row.mask for row in rows})
    record_kept(folder, images.values())
    _describe(folder, kept)
    return rows


def _now_decided(image: StudyImage, kept: KeptMethods, decision: Decision) -> str:
    """Say that the decision would now keep another method than the one that the study is held to; empty if not."""
    held, now = kept.of(image.contrast), decision.kept.of(image.contrast)
    if held == now:
        return ""
    return f"the study is held to {held}; the decision would now keep {now or 'no method'}"


def _kept_entries(
    folder: StudyFolder,
    stage: Stage,
    config: StudyConfig | None,
    kept: KeptMethods,
    images: dict[str, StudyImage],
) -> dict[str, ManifestEntry]:
    """Return the entry of each image's kept mask; no entry if no method is kept for it."""
    chunk_of = read_membership(folder).chunks
    own = {image_id: method for image_id, image in images.items() if (method := kept.of(image.contrast))}
    entries: dict[str, ManifestEntry] = {}
    for method in sorted(set(own.values())):
        of_method = [image_id for image_id in own if own[image_id] == method]
        entries |= read_entries(folder, method, of_method, chunk_of, check=True)
    chosen = find_exceptions(config, kept, images.values()) if config else {}
    chosen = {image_id: choice for image_id, choice in chosen.items() if image_id in own}
    if stage == Stage.STUDY and chosen:
        return entries | {i: e for i, e in read_exceptions(folder.exceptions).entries.items() if i in chosen}
    for image_id, choice in chosen.items():
        if choice.method == MANUAL:
            image = images[image_id]
            found, _ = segment_images([image], folder, manual_masks(image.reference_label).prepare())
            entry = found[0]
        else:
            entry = read_entries(folder, choice.method, [image_id], chunk_of, check=True)[image_id]
        entries[image_id] = except_entry(entry, choice, own[image_id])
    return entries


def _row(image: StudyImage, **values: str) -> KeptRow:
    """Return a row of kept.tsv."""
    return KeptRow(image.image_id, image.subject, image.session, image.contrast, **values)


def note_gone(folder: StudyFolder, note: Path) -> None:
    """Write to a file that kept masks are gone, or were saved again unchanged, so that they are copied again.

    The file is an input of the rules that keep masks. Its content and time change only in these cases.
    """
    named: set[str] = set()
    for stage in (Stage.ALL, Stage.STUDY):
        with suppress(InputError):  # not written yet, or about to be written again
            named |= {row.mask for row in read_kept(folder.kept(stage)) if row.mask}
    is_gone = any(not folder.inside(mask).is_file() for mask in named)
    if is_gone or (named and find_saved_again(folder, read_included(folder.images))):
        write_text(note, str(time.time_ns()))
    elif not note.is_file():
        write_text(note, "")
        os.utime(note, (0, 0))


def marked_failed(config: StudyConfig | None, stage: Stage) -> dict[tuple[str, str], list[Mark]]:
    """Return image and method to the marks of masks that a rater has failed; only for the stage study.

    In the comparison of methods a fail counts against its method (`spineseg.decision`), and the image stays.
    """
    if config is None or stage != Stage.STUDY:
        return {}
    return config.marks.failed_masks()


def _keep(
    folder: StudyFolder, image: StudyImage, entry: ManifestEntry, decision: Decision, fails: Sequence[Mark]
) -> KeptRow:
    """Copy one mask and its sidecar, unless there is a correction in its place.

    A mask that a rater has failed is also copied, so that a person can correct it; its status says that it does not
    count.
    """
    target = folder.kept_mask(image)
    kept = folder.relative(target)
    message = "; ".join(" ".join(text.split()) for text in (entry.exception, entry.message) if text)
    if found := find_correction(folder, image):
        drawn = corrected_entry(folder, image, entry, found)
        origin = {"method": found.method or entry.method, "source": found.source or entry.mask or ""}
        origin["sha256"] = found.sha256  # also for a correction that does not count, because a mark may refer to it
        if drawn.mask is None:
            return _row(image, status="failed", message=drawn.message, **origin)
        if failed := word_fails(fails, found.sha256, corrected=True):
            return _row(image, status="failed", message=f"{failed}; {drawn.message}", **origin)
        return _row(image, status=CORRECTED, mask=kept, message=drawn.message, **origin)
    made = {"method": entry.method, "status": entry.status, "message": message}
    if entry.mask is None or entry.mask_sha256 is None:
        _remove(target)
        return _row(image, **made)
    source = folder.inside(entry.mask)
    sidecar = read_sidecar(source)
    if sidecar is None:
        raise InputError(f"{sidecar_path(source)}: expected a sidecar by spineseg, found none; delete the mask")
    more = {
        "KeptFrom": entry.mask,
        "Decision": {"method": decision.kept.of(image.contrast)}
        | {key: decision.document.get(key) for key in ("verdict", "override")},
    } | ({"Exception": entry.exception} if entry.exception else {})
    with all_or_none():
        if not target.is_file() or sha256_file(target) != entry.mask_sha256:
            write_bytes(target, source.read_bytes())
        write_sidecar(target, replace(sidecar, mask_sha256=entry.mask_sha256, more=more))
    if failed := word_fails(fails, entry.mask_sha256):  # copied for a person to correct, but it does not count
        words = "; ".join(filter(None, (failed, message)))
        made |= {"status": "failed", "message": words}
        return _row(image, **made, source=entry.mask, sha256=entry.mask_sha256)
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


def _describe(folder: StudyFolder, kept: KeptMethods) -> None:
    """Write the dataset_description.json of the kept masks."""
    write_json(
        folder.labels / "dataset_description.json",
        {
            "Name": f"{folder.name}: spinal cord masks",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [
                {"Name": "spineseg", "Version": find_version(), "Description": f"kept method: {kept.words()}"}
            ],
        },
    )
