"""Segment a chunk of a study's images with one method, and write the result of each to a manifest.

Every image has a result: it is finished, or it has failed with a reason. The chunk stops only for causes other than an
image (no disk space, no memory, no weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spineseg.methods.placeholders import image_names
from spineseg.methods.protocol import Method
from spineseg.progress import Progress
from spineseg.provenance import sha256_file, sha256_json
from spineseg.study.choices import PersonsChoice
from spineseg.studyfolder.decisions import read_membership
from spineseg.studyfolder.images import StudyImage, read_included
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import Manifest, ManifestEntry, Timing
from spineseg.studyfolder.sidecars import MadeBy, Sidecar, read_sidecar
from spineseg.writing import sweep


def chunk_images(folder: StudyFolder, chunk: str) -> list[StudyImage]:
    """Return the included images of a chunk, in the order of ``images.tsv``.

    Raises
    ------
    InputError
        If ``images.tsv`` or the membership of chunks is missing or damaged.
    """
    members = set(read_membership(folder).images_of(chunk))
    return [image for image in read_included(folder.images) if image.image_id in members]


def segment_chunk(
    folder: StudyFolder, method: Method, chunk: str, progress: Progress | None = None
) -> tuple[Manifest, list[Timing]]:
    """Segment the included images of one chunk; finished images are not segmented again.

    Parameters
    ----------
    folder : StudyFolder
        Masks are written below it.
    method : Method
    chunk : str
    progress : Progress, optional

    Returns
    -------
    manifest : Manifest
    timings : list of Timing
    """
    entries, timings = segment_images(chunk_images(folder, chunk), folder, method, progress)
    return Manifest(folder.name, method.name, chunk, method.made_by, tuple(entries)), timings


def segment_images(
    images: Sequence[StudyImage], folder: StudyFolder, method: Method, progress: Progress | None = None
) -> tuple[list[ManifestEntry], list[Timing]]:
    """Segment images of a study, except finished ones; return entry and timing of each."""
    progress = progress or Progress(len(images))
    entries, timings = [], []
    for image in images:
        mask = folder.mask(image, method.name)
        sweep(mask.parent)
        sidecar = _segment_image(image, mask, method, progress)
        entries.append(_entry(image, sidecar, mask, folder))
        timings.append(Timing(image.image_id, method.name, sidecar.seconds, sidecar.peak_mb))
    return entries, timings


def record_failure(image: StudyImage, folder: StudyFolder, method: Method, reason: str) -> tuple[ManifestEntry, Timing]:
    """Record that an image failed for a reason beside its content; it is tried again with its chunk."""
    from spineseg.methods.segment_file import ImageTask, explain_failure

    mask = folder.mask(image, method.name)
    task = ImageTask(Path(image.path), mask, image.contrast, bval=image.bval_path, names=image_names(image))
    sidecar = explain_failure(task, method, reason).sidecar
    return _entry(image, sidecar, mask, folder), Timing(image.image_id, method.name, sidecar.seconds, sidecar.peak_mb)


def except_entry(entry: ManifestEntry, choice: PersonsChoice, instead_of: str) -> ManifestEntry:
    """Return an entry marked as an exception, kept by another method than the study's."""
    return ManifestEntry(**{**vars(entry), "exception": choice.words(instead_of)})


def content_key(image: StudyImage, method_name: str, made_by: MadeBy, sources: Sequence[Path]) -> str:
    """Return a digest of everything that the result depends on; empty if a file cannot be read.

    It covers the content (not names or dates) of the image, its b-values and the other `sources`, and the contrast,
    parameters, weights and code.
    """
    if not Path(image.path).is_file():
        return ""
    bval = image.bval_path
    try:
        content = {
            "image": sha256_file(image.path),
            "bval": sha256_file(bval) if bval and bval.is_file() else None,
            "sources": [sha256_file(path) for path in sources],
        }
    except PermissionError:  # reported when the file is read
        return ""
    return sha256_json(
        content
        | {
            "contrast": image.contrast,
            "method": method_name,
            "parameters": dict(made_by.parameters),
            "weights": dict(made_by.weights),
            "code": made_by.code,
        }
    )


def _segment_image(image: StudyImage, mask: Path, method: Method, progress: Progress) -> Sidecar:
    """Segment one image, or use its finished result; return the mask's sidecar."""
    from spineseg.methods.segment_file import ImageTask, segment_or_explain  # the waiting process does not need it

    names = image_names(image)
    key = content_key(image, method.name, method.made_by, method.sources(names))
    done = read_sidecar(mask)
    if done is not None and key and done.key == key and _is_whole(done, mask):
        progress.start_image(image.image_id)
        progress.end_image(f"{done.status}, already done")
        return done
    task = ImageTask(Path(image.path), mask, image.contrast, bval=image.bval_path, key=key, names=names)
    return segment_or_explain(task, method, progress).sidecar


def _is_whole(sidecar: Sidecar, mask: Path) -> bool:
    """Whether the mask has the checksum in its sidecar; a failed image needs none."""
    return sidecar.status == "failed" or (mask.is_file() and sha256_file(mask) == sidecar.mask_sha256)


def _entry(image: StudyImage, sidecar: Sidecar, mask: Path, folder: StudyFolder) -> ManifestEntry:
    """Return the manifest entry of one image."""
    has_mask = sidecar.status != "failed"
    return ManifestEntry(
        image_id=image.image_id,
        status=sidecar.status,
        method=sidecar.method,
        message=sidecar.message,
        mask=folder.relative(mask) if has_mask else None,
        mask_sha256=sidecar.mask_sha256 if has_mask else None,
        key=sidecar.key,
        warnings=sidecar.notes,
    )
