"""Corrected masks: kept masks that a person has changed. They are then the study's masks of their images."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.file_digests import FileDigests, stamp_of
from spineseg.provenance import sha256_file
from spineseg.studyfolder.files import read_record
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry
from spineseg.studyfolder.sidecars import SHOWN_DIGITS, read_sidecar
from spineseg.writing import write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


REFUSED = "a corrected mask cannot be used, so its image has no numbers until it is corrected or deleted"


DRAWN_ON = "ImageSHA256"
"""Key of the JSON beside a corrected mask: the first digits of the checksum of the image that it was drawn on."""


IMAGE_NAME = re.compile(r"[.](?:nii|nii[.]gz|mha|mhd|nrrd|mgz)$", re.IGNORECASE)
"""End of the names of files that may hold a mask saved by a person."""

OTHER_LABEL = re.compile(r"_label-(?!SC)|_dlabel|_labels[-_.]|_labeled|_centerline|_lesion", re.IGNORECASE)
"""Part of the names of other files beside masks: discs, levels, centerlines, other structures."""


@dataclass(frozen=True)
class KeptRecord:
    """Checksums of an image and its kept mask when masks were last kept; empty where there was no such file.

    Parameters
    ----------
    image : str
        Checksum of the image at that time.
    written : str
        Checksum of the mask that spineseg last wrote.
    drawn, drawn_on : str
        Checksum of the corrected mask, and of the image when that mask was first seen.
    """

    image: str
    written: str = ""
    drawn: str = ""
    drawn_on: str = ""


@dataclass(frozen=True)
class Correction:
    """A kept mask that a person has changed."""

    mask: str  # path below the results folder
    sha256: str
    method: str = ""  # whose mask was changed, and where it lies; empty where our sidecar is gone
    source: str = ""
    author: str = ""  # as the sidecar beside the mask says
    date: str = ""
    replaced: bool = False  # whether the image is another now than the one that it was drawn on

    @property
    def words(self) -> str:
        """Description in a few words: corrected by hand, by whom and when."""
        origin = f" from {self.method}" if self.method else ""
        author = f" by {self.author}" if self.author else ""
        return f"corrected by hand{origin}{author}{f' on {self.date}' if self.date else ''}"


@dataclass(frozen=True)
class CorrectedMask:
    """A corrected mask, canonical (I, J, K) bool, and the mask before the correction, None where that is not known."""

    drawn: NDArray[np.bool_]
    before: NDArray[np.bool_] | None


def is_corrected(mask: Path) -> bool:
    """Whether a kept mask differs from what spineseg wrote; one without a sidecar by spineseg counts as a person's."""
    if not mask.is_file():
        return False
    sidecar = read_sidecar(mask)
    return sidecar is None or sidecar.mask_sha256 != sha256_file(mask)


def find_correction(folder: StudyFolder, image: StudyImage) -> Correction | None:
    """Return the correction of an image's kept mask, or None where the mask is as spineseg wrote it.

    A mask that was saved again with the same value in every voxel is not a correction.
    """
    mask, _, unpacked = correction_files(folder, image)
    if unpacked.is_file() and not _is_packed(unpacked, mask):
        return Correction(folder.relative(unpacked), sha256_file(unpacked))
    if not is_corrected(mask):
        return None
    content, record = sha256_file(mask), _record(folder, image)
    if content == record.written or (content != record.drawn and is_saved_again(folder, image)):
        return None
    sidecar = read_sidecar(mask)
    author, date = read_author(mask)
    drawn_on = _drawn_on(folder, image, content)
    return Correction(
        folder.relative(mask),
        content,
        sidecar.method if sidecar else "",
        str(sidecar.more.get("KeptFrom", "")) if sidecar else "",
        author,
        date,
        bool(drawn_on) and not _digest_image(folder, image).startswith(drawn_on),
    )


def correction_files(folder: StudyFolder, image: StudyImage) -> tuple[Path, Path, Path]:
    """Return the files that show whether a mask was corrected: kept mask, its sidecar, the uncompressed mask."""
    mask = folder.kept_mask(image)
    return mask, sidecar_path(mask), mask.with_suffix("")


def _is_packed(unpacked: Path, mask: Path) -> bool:
    """Whether a mask holds the same bytes as an uncompressed one, so that somebody has only unpacked it."""
    try:
        return gzip.decompress(mask.read_bytes()) == unpacked.read_bytes()
    except (OSError, EOFError, ValueError):
        return False


def record_kept(folder: StudyFolder, images: Iterable[StudyImage]) -> None:
    """Record the present state of the kept masks of some images, after masks were kept."""
    records = dict(read_records(folder))
    for image in images:
        now, mask = _digest_image(folder, image), folder.kept_mask(image)
        if correction := find_correction(folder, image):
            drawn_on = _drawn_on(folder, image, correction.sha256) or now
            record = KeptRecord(now, _record(folder, image).written, correction.sha256, drawn_on)
        else:
            record = KeptRecord(now, sha256_file(mask) if mask.is_file() else "")
        records[image.image_id] = record
    write_json(folder.kept_records, {name: asdict(record) for name, record in sorted(records.items())})


def read_records(folder: StudyFolder) -> Mapping[str, KeptRecord]:
    """Return image to the record of its kept mask; empty before masks were kept.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    stamp = stamp_of(folder.kept_records)
    return _read_records(folder.kept_records, str(stamp)) if stamp else {}


@lru_cache(maxsize=2)  # asked for each image
def _read_records(path: Path, stamp: str) -> Mapping[str, KeptRecord]:
    """Read the file, once as long as its stamp stays the same."""
    mend = "look whether the masks in derivatives/labels fit their images, then delete it"
    return read_record(
        path, lambda content: {n: KeptRecord(**one) for n, one in content.items()}, "what masks were kept", mend
    )


def _record(folder: StudyFolder, image: StudyImage) -> KeptRecord:
    """Return the record of an image."""
    return read_records(folder).get(image.image_id, KeptRecord(""))


def _drawn_on(folder: StudyFolder, image: StudyImage, content: str) -> str:
    """Return the checksum, or its first digits, of the image that a corrected mask was drawn on; empty where not known.

    The JSON beside the mask comes first. A mask that has appeared since masks were last kept was made from the one kept
    then, so it belongs to the image of that time.
    """
    said, record = _read_json(folder.kept_mask(image)).get(DRAWN_ON), _record(folder, image)
    if isinstance(said, str) and len(said) >= SHOWN_DIGITS:
        return said.lower()
    return record.drawn_on if record.drawn == content else record.image


def _digest_image(folder: StudyFolder, image: StudyImage) -> str:
    """Return the checksum of an image as it is now."""
    return _digests(folder.file_digests, str(stamp_of(folder.file_digests))).digest(image.path)


@lru_cache(maxsize=2)
def _digests(path: Path, stamp: str) -> FileDigests:
    """Return the checksums stored by the index, read once as long as the file's stamp stays the same."""
    return FileDigests(path)


def is_saved_again(folder: StudyFolder, image: StudyImage) -> bool:
    """Whether a kept mask with other bytes than spineseg wrote has the values of the method's mask in every voxel.

    An editor may write other bytes for the same mask. Nobody has changed it then, so a rater's fail still holds.
    Without a sidecar by spineseg it may be the mask of any method.
    """
    mask = folder.kept_mask(image)
    sidecar, pattern = read_sidecar(mask), folder.mask(image, "*")
    origin = str(sidecar.more.get("KeptFrom", "")) if sidecar else ""
    made = [folder.inside(origin)] if origin else sorted(pattern.parent.glob(pattern.name))
    content = sha256_file(mask)
    return any(path.is_file() and (sha256_file(path) == content or _has_same_values(mask, path)) for path in made)


def _has_same_values(mask: Path, made: Path) -> bool:
    """Whether two masks have the same grid and the same values; false if one cannot be read."""
    from spineseg.volume import load_mask

    try:
        before, grid = load_mask(made)
        return bool((load_mask(mask, like=grid)[0].data == before.data).all())
    except InputError:
        return False


def check_correction(folder: StudyFolder, image: StudyImage, correction: Correction, source: str = "") -> CorrectedMask:
    """Read a corrected mask and the mask that it was made from.

    Parameters
    ----------
    folder : StudyFolder
    image : StudyImage
    correction : Correction
    source : str
        The method's mask, below the results folder, where the correction does not name it.

    Raises
    ------
    InputError
        If the corrected mask cannot be read, is not a mask, is not on the image's grid, was drawn on an image that has
        been replaced since, or is in another file than the kept mask.
    """
    from spineseg.volume import load_image, load_mask

    mask, sidecar, unpacked = correction_files(folder, image)
    if folder.inside(correction.mask) == unpacked:
        raise InputError(
            f"{unpacked}: expected a corrected mask as {mask.name}, found it uncompressed; run gzip -f {unpacked.name}"
            f" to replace {mask.name}, or delete it"
        )
    if correction.replaced:
        now = _digest_image(folder, image)[:SHOWN_DIGITS]
        raise InputError(
            f"{mask}: was drawn on another image than the present {image.path}; correct it on this one, or delete it;"
            f' if it fits as it is, write "{DRAWN_ON}": "{now}" into {sidecar.name}'
        )
    path = folder.inside(correction.source or source)
    try:
        before = load_mask(path) if path.is_file() else None
        grid = before[1] if before else load_image(image.path, contrast=image.contrast, bval=image.bval_path)[1]
    except InputError:  # without the method's mask, or the image, the corrected mask is used without comparison
        before = grid = None
    drawn, _ = load_mask(folder.inside(correction.mask), like=grid)
    return CorrectedMask(drawn.data >= 0.5, before[0].data >= 0.5 if before else None)


def find_refused(folder: StudyFolder, images: Iterable[StudyImage]) -> list[str]:
    """Return one line for each corrected mask that cannot be used."""
    lines = []
    for image in images:
        if correction := find_correction(folder, image):
            try:
                check_correction(folder, image, correction)
            except InputError as error:
                lines.append(f"{REFUSED}: {error}")
    return lines


def find_saved_again(folder: StudyFolder, images: Iterable[StudyImage]) -> list[str]:
    """Return the images whose kept mask was saved again with the same value in every voxel."""
    found = []
    for image in images:
        mask = folder.kept_mask(image)
        if _is_saved_later(mask) and is_corrected(mask) and find_correction(folder, image) is None:
            found += [image.image_id] if sha256_file(mask) != _record(folder, image).written else []
    return found


def find_strange_masks(folder: StudyFolder, images: Iterable[StudyImage]) -> list[str]:
    """Return the names of masks among the kept ones that belong to no image; they may be misnamed corrections."""
    known = {path for image in images for path in correction_files(folder, image)}
    found = (path for path in folder.labels.rglob("*") if IMAGE_NAME.search(path.name) and path not in known)
    return sorted(folder.relative(path) for path in found if not OTHER_LABEL.search(path.name))


def find_changed_masks(folder: StudyFolder, images: Iterable[StudyImage], methods: Iterable[str]) -> list[str]:
    """Return the names of methods' masks that somebody has changed; only kept masks should be corrected."""
    masks = [folder.mask(image, method) for method in methods for image in images]
    return [folder.relative(mask) for mask in masks if _is_saved_later(mask) and is_corrected(mask)]


def _is_saved_later(mask: Path) -> bool:
    """Whether a mask was saved after its sidecar, which spineseg writes last; cheaper than reading the mask."""
    stamps = [path.stat().st_mtime_ns if path.is_file() else 0 for path in (mask, sidecar_path(mask))]
    return stamps[0] > stamps[1] > 0


def refuse_entry(entry: ManifestEntry, error: InputError) -> ManifestEntry:
    """Return an entry without a mask, because the corrected mask in place of the method's cannot be used."""
    return ManifestEntry(entry.image_id, "failed", entry.method, f"{REFUSED}: {error}", exception=entry.exception)


def correct_entry(entry: ManifestEntry, correction: Correction, *, is_empty: bool = False) -> ManifestEntry:
    """Return an entry with the corrected mask in place of the method's."""
    words = correction.words if correction.method else f"{correction.words} in place of {entry.method}"
    return ManifestEntry(
        entry.image_id,
        "empty" if is_empty else "ok",
        entry.method,
        words,
        correction.mask,
        correction.sha256,
        warnings=(words,),
        exception=entry.exception,
    )


def read_author(mask: Path) -> tuple[str, str]:
    """Return author and date from the JSON beside a mask, at its top level or in GeneratedBy; empty where missing."""
    content = _read_json(mask)
    generated = content.get("GeneratedBy", [])
    # the last entry is that of the last person or program that changed the mask
    named: list[Any] = [content, *(generated if isinstance(generated, list) else [generated])]
    found = [one for one in named if isinstance(one, dict) and isinstance(one.get("Author"), str)]
    if not found:
        return "", ""
    return " ".join(found[-1]["Author"].split()), " ".join(str(found[-1].get("Date", "")).split())


def _read_json(mask: Path) -> dict[str, Any]:
    """Return the JSON beside a mask, whoever wrote it; empty where none can be read."""
    try:
        content = json.loads(sidecar_path(mask).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
