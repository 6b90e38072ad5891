"""Kept masks that a person has changed: from then on they are the study's masks of their images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spineseg.bids import sidecar_path
from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry
from spineseg.studyfolder.sidecars import read_sidecar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


REFUSED = "a corrected mask cannot be used, so its image has no numbers until it is mended or deleted"


@dataclass(frozen=True)
class Correction:
    """A kept mask that a person has changed."""

    mask: str  # below the results folder
    sha256: str
    method: str = ""  # whose mask was changed, and where it lies; empty where our sidecar is gone
    source: str = ""
    author: str = ""  # as the sidecar beside the mask says
    date: str = ""

    @property
    def words(self) -> str:
        """Say in a few words that the mask is a person's, and whose."""
        origin = f" from {self.method}" if self.method else ""
        author = f" by {self.author}" if self.author else ""
        return f"corrected by hand{origin}{author}{f' on {self.date}' if self.date else ''}"


@dataclass(frozen=True)
class CorrectedMask:
    """A mask that a person has changed, canonical, (I, J, K) bool, and what it was before; None where not known."""

    drawn: NDArray[np.bool_]
    before: NDArray[np.bool_] | None


def is_corrected(mask: Path) -> bool:
    """Tell whether a kept mask has other content than we wrote; without our sidecar it is a person's."""
    if not mask.is_file():
        return False
    sidecar = read_sidecar(mask)
    return sidecar is None or sidecar.mask_sha256 != sha256_file(mask)


def find_correction(folder: StudyFolder, image: StudyImage) -> Correction | None:
    """Return what a person has made of the kept mask of an image, or None where it is as we wrote it."""
    mask = folder.kept_mask(image)
    if not is_corrected(mask):
        return None
    sidecar = read_sidecar(mask)
    if sidecar is None and _is_a_method_s(folder, image, mask):
        return None
    author, date = read_author(mask)
    return Correction(
        folder.relative(mask),
        sha256_file(mask),
        sidecar.method if sidecar else "",
        str(sidecar.more.get("KeptFrom", "")) if sidecar else "",
        author,
        date,
    )


def _is_a_method_s(folder: StudyFolder, image: StudyImage, mask: Path) -> bool:
    """Whether a kept mask whose sidecar is gone is a method's mask as it was made: nobody has changed it."""
    pattern = folder.mask(image, "*")
    content = sha256_file(mask)
    return any(sha256_file(path) == content for path in pattern.parent.glob(pattern.name))


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
        If the corrected mask cannot be read, is no mask, or does not lie on the image's grid.
    """
    from spineseg.volume import load_image, load_mask

    path = folder.inside(correction.source or source)
    try:
        before = load_mask(path) if path.is_file() else None
        grid = before[1] if before else load_image(image.path, contrast=image.contrast, bval=image.bval_path)[1]
    except InputError:  # the method's own mask, or the image, cannot be read: what is drawn must speak for itself
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


def refuse_entry(entry: ManifestEntry, error: InputError) -> ManifestEntry:
    """Return an entry without a mask, for a corrected mask that cannot be used lies in place of the method's."""
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
    """Return author and date that the JSON beside a mask names, at its top or in GeneratedBy; empty where none."""
    try:
        content = json.loads(sidecar_path(mask).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "", ""
    generated = content.get("GeneratedBy", []) if isinstance(content, dict) else []
    # the last one who worked on it stands last
    named: list[Any] = [content, *(generated if isinstance(generated, list) else [generated])]
    found = [one for one in named if isinstance(one, dict) and isinstance(one.get("Author"), str)]
    if not found:
        return "", ""
    return " ".join(found[-1]["Author"].split()), " ".join(str(found[-1].get("Date", "")).split())
