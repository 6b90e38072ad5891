"""Results of a method for a chunk of images: the manifest, and the table of times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spineseg.errors import InputError
from spineseg.provenance import sha256_file
from spineseg.studyfolder.files import listed, parse_numbers, read_record, read_rows, write_table
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.sidecars import STATUSES, MadeBy
from spineseg.writing import write_json


@dataclass(frozen=True)
class ManifestEntry:
    """Result of one image by one method.

    Parameters
    ----------
    image_id, status : str
    method : str
    message : str
        Why the status is not ok.
    mask : str or None
        Path below the results folder; None where there is none.
    mask_sha256 : str or None
    key : str
        Digest of everything that the result depends on.
    warnings : tuple of str
    exception : str
        Why this method's mask is kept in place of the study's; empty if it is not an exception.
    """

    image_id: str
    status: str
    method: str
    message: str = ""
    mask: str | None = None
    mask_sha256: str | None = None
    key: str = ""
    warnings: tuple[str, ...] = ()
    exception: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"expected a status among {', '.join(STATUSES)}, found {self.status!r}")
        if (self.mask is None) != (self.mask_sha256 is None) or (self.mask is None) != (self.status == "failed"):
            raise ValueError(f"{self.image_id}: expected a mask with its checksum unless the image failed")
        if self.mask is not None and (self.mask.startswith("/") or ".." in Path(self.mask).parts):
            raise ValueError(f"{self.image_id}: the mask lies outside of the results folder: {self.mask}")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ManifestEntry:
        """Make a record from a file's content."""
        return cls(**{**content, "warnings": listed(content["warnings"])})


@dataclass(frozen=True)
class Manifest:
    """Results of a method for the images of a chunk.

    Parameters
    ----------
    dataset, method, chunk : str
    made_by : MadeBy
    images : tuple of ManifestEntry
    """

    dataset: str
    method: str
    chunk: str
    made_by: MadeBy
    images: tuple[ManifestEntry, ...]

    @property
    def entries(self) -> dict[str, ManifestEntry]:
        """Image to entry."""
        return {entry.image_id: entry for entry in self.images}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """Make a record from a file's content."""
        images = tuple(ManifestEntry.from_json(entry) for entry in listed(content["images"]))
        made_by = MadeBy.from_json(content["made_by"])
        return cls(content["dataset"], content["method"], content["chunk"], made_by, images)


def read_manifest(path: str | Path) -> Manifest:
    """Read a chunk's manifest.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_record(path, Manifest.from_json, "the manifest of a chunk", mend_manifest(path))


def write_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write a chunk's manifest."""
    write_json(path, asdict(manifest))


def read_entries(
    folder: StudyFolder, method: str, images: Iterable[str], chunk_of: Mapping[str, str], *, check: bool = False
) -> dict[str, ManifestEntry]:
    """Return image to manifest entry, in the order of `images`.

    Parameters
    ----------
    folder : StudyFolder
    method : str
    images : iterable of str
    chunk_of : mapping
        Image to chunk (`Membership.chunks`).
    check : bool
        Whether to check that every mask has the checksum in its manifest.

    Raises
    ------
    InputError
        If a manifest is missing or damaged or has no entry for an image, or if a mask is gone or has changed. The
        message has the command that repairs it.
    """
    entries: dict[str, dict[str, ManifestEntry]] = {}
    found = {}
    for image in images:
        chunk = chunk_of.get(image, "")
        path = folder.manifest(method, chunk)
        if chunk not in entries:
            entries[chunk] = read_manifest(path).entries
        if image not in entries[chunk]:
            raise InputError(f"{path}: has no entry for {image}; {mend_manifest(path)}")
        found[image] = entries[chunk][image]
        if check:
            check_mask(folder, found[image], path)
    return found


def check_mask(folder: StudyFolder, entry: ManifestEntry, manifest: str | Path) -> Path | None:
    """Return the mask of an entry after checking that it has the checksum in the manifest.

    Raises
    ------
    InputError
        If it is gone or has changed. The message has the command that repairs it.
    """
    if entry.mask is None:
        return None
    mask = folder.inside(entry.mask)
    if not mask.is_file():
        raise InputError(f"{mask}: the mask is in {manifest} but the file is gone; {mend_manifest(manifest)}")
    if not mask.resolve().is_relative_to(folder.root.resolve()):
        raise InputError(f"{mask}: the mask is a link out of the results folder; {mend_manifest(manifest)}")
    if sha256_file(mask) != entry.mask_sha256:
        raise InputError(
            f"{mask}: the mask has changed since it was made (a corrected mask belongs in derivatives/labels);"
            f" {mend_manifest(manifest)}"
        )
    return mask


def mend_manifest(manifest: str | Path) -> str:
    """Return advice about a manifest that is damaged or no longer fits its masks."""
    return f"to redo what is missing: rm {manifest}, then run the study again"


@dataclass(frozen=True)
class Timing:
    """Time and memory of the segmentation of one image; None where not known."""

    image_id: str
    method: str
    seconds: float | None
    peak_mb: float | None


TIMING_COLUMNS = ("image_id", "method", "seconds", "peak_mb")


def read_timings(path: str | Path) -> list[Timing]:
    """Read a table of timings.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """

    def parse(cells: dict[str, str]) -> Timing:
        numbers = parse_numbers(cells, TIMING_COLUMNS[2:])
        return Timing(cells["image_id"], cells["method"], numbers.get("seconds"), numbers.get("peak_mb"))

    return read_rows(path, parse, TIMING_COLUMNS)


def write_timings(path: str | Path, timings: Iterable[Timing]) -> None:
    """Write a table of timings."""
    write_table(path, TIMING_COLUMNS, map(vars, timings))
