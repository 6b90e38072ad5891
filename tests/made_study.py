"""Synthetic results of a study, written only through `spineseg.studyfolder`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from spineseg.provenance import sha256_file
from spineseg.studyfolder.decisions import DECISION_KEYS, Decision, Membership, read_decision, write_membership
from spineseg.studyfolder.decisions import write_decision as write_decision_record
from spineseg.studyfolder.images import StudyImage, write_images
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import Manifest, ManifestEntry, Timing, write_manifest, write_timings
from spineseg.studyfolder.sidecars import MadeBy, Sidecar, write_sidecar
from spineseg.writing import write_bytes

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
CHUNK = "pilot-0001"
SECONDS, PEAK_MB = 2.5, 100.0
MADE_BY = MadeBy("0.1.0", "c" * 64, {"thr": 0.5}, {"net.safetensors": "1" * 64}, {"numpy": "2.0"})


def study_folder(root: Path, name: str = "demo") -> StudyFolder:
    """Return a results folder without writing it."""
    return StudyFolder(root / "results" / name)


def study_image(subject: str, suffix: str = "T2w", **values: Any) -> StudyImage:
    """Return an image that is part of the study and of its pilot."""
    chosen = {"suffix": suffix, "contrast": "t2", "included": True, "pilot": True} | values
    return StudyImage(chosen.pop("image_id", f"sub-{subject}_{suffix}"), subject, **chosen)


def write_index(
    folder: StudyFolder, images: Sequence[StudyImage], chunks: Mapping[str, str] | None = None, pilot: Any = None
) -> StudyFolder:
    """Write ``images.tsv`` and which image is in which chunk; by default all included ones are in `CHUNK`."""
    write_images(folder.images, images)
    own = {image.image_id: CHUNK for image in images if image.included} if chunks is None else chunks
    write_membership(folder, Membership(own, pilot or {}))
    return folder


def save_nifti(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, dtype: type = np.uint8) -> Path:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(dtype), affine), path)
    return path


def write_result(
    folder: StudyFolder,
    image: StudyImage,
    method: str,
    mask: np.ndarray | bytes | None,
    *,
    affine: np.ndarray = AFFINE,
    status: str = "",
    message: str = "",
    made_by: MadeBy = MADE_BY,
    **sidecar: Any,
) -> ManifestEntry:
    """Write a method's mask of an image, an array or any bytes, with its sidecar; None is a failed image."""
    path = folder.mask(image, method)
    status = status or ("failed" if mask is None else "ok")
    if isinstance(mask, np.ndarray):
        save_nifti(path, mask, affine)
        status = status if mask.any() else "empty"
    elif mask is not None:
        write_bytes(path, mask)
    digest = "" if mask is None else sha256_file(path)
    notes = (message,) if message else ()
    own = {"notes": notes, "mask_sha256": digest, "seconds": SECONDS, "peak_mb": PEAK_MB} | sidecar
    write_sidecar(path, Sidecar(method, image.contrast, status, made_by, **own))
    if mask is None:
        return ManifestEntry(image.image_id, status, method, message)
    return ManifestEntry(image.image_id, status, method, message, folder.relative(path), digest)


def write_chunk(
    folder: StudyFolder,
    method: str,
    entries: Sequence[ManifestEntry],
    chunk: str = CHUNK,
    made_by: MadeBy = MADE_BY,
) -> Path:
    """Write the manifest of a chunk and how long it took; return the manifest."""
    path = folder.manifest(method, chunk)
    write_manifest(path, Manifest(folder.name, method, chunk, made_by, tuple(entries)))
    write_timings(folder.chunk_timings(method, chunk), [Timing(e.image_id, method, SECONDS, PEAK_MB) for e in entries])
    return path


def write_decision(
    folder: StudyFolder, method: str | None, verdict: str = "clear", computed: str | None = None, **more: Any
) -> Decision:
    """Write a decision with the keys that the study's steps read; return it as they do."""
    nothing = {key: None if isinstance(None, kind) else kind() for key, kind in DECISION_KEYS.items()}
    document = nothing | {
        "method": method,
        "verdict": verdict,
        "computed": {"method": computed or method},
        "override": None,
    }
    write_decision_record(folder.decision, document | more)
    return read_decision(folder.decision)
