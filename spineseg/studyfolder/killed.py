"""Let the next run try images again whose process the system killed, although their chunk is finished."""

from __future__ import annotations

import time
from pathlib import Path

from spineseg.errors import InputError
from spineseg.studyfolder.decisions import read_exceptions
from spineseg.studyfolder.files import read_record
from spineseg.studyfolder.layout import StudyFolder
from spineseg.studyfolder.manifests import ManifestEntry, read_manifest
from spineseg.studyfolder.sidecars import KILLED, is_killed
from spineseg.writing import write_json


def note_killed(folder: StudyFolder, note: Path) -> None:
    """Write to a file which manifests hold images to be tried again, and when that was found.

    The entry of a manifest is a parameter of the job that makes it, so that a new entry makes the job run again. The
    file stays as it is while no image has to be tried again.

    Parameters
    ----------
    folder : StudyFolder
    note : Path
        The file; it may not exist yet.
    """
    found = [path for path in (*folder.chunks.glob("*/*.json"), folder.exceptions) if _holds_killed(path, folder)]
    if found:
        now = str(time.time_ns())
        write_json(note, read_note(note) | {folder.relative(path): now for path in found})


def read_note(note: Path) -> dict[str, str]:
    """Return the content of the file of `note_killed`: manifest (path below the results folder) to time."""
    try:
        return read_record(note, lambda content: {name: str(when) for name, when in content.items()}, "a note")
    except InputError:  # missing or damaged: it is not known which manifests were tried again
        return {}


def _holds_killed(path: Path, folder: StudyFolder) -> bool:
    """Whether a manifest has an image whose process the system killed; a damaged one is computed again anyway."""
    try:
        if KILLED.encode() not in path.read_bytes():
            return False
        images: tuple[ManifestEntry, ...]
        images = (read_exceptions if path == folder.exceptions else read_manifest)(path).images
    except (OSError, InputError):
        return False
    return any(map(is_killed, images))
