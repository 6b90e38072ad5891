"""Kept masks that a person has changed: from then on they are the study's masks of their images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spineseg.bids import sidecar_path
from spineseg.provenance import sha256_file
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry
from spineseg.studyfolder.sidecars import read_sidecar


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
    author, date = read_author(mask)
    return Correction(
        folder.relative(mask),
        sha256_file(mask),
        sidecar.method if sidecar else "",
        str(sidecar.more.get("KeptFrom", "")) if sidecar else "",
        author,
        date,
    )


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
